"""The same experiment with nothing computed twice, and nothing that the logits do not depend on.

    model, datasets, *_ = take_shortcuts(plain_model, datasets)  # then train as before

`GPTClassifier` is the definition. The module here has its very parameters and `state_dict`, and
gives the same logits and gradients but for the order of sums:

1. *Frozen prefix.* Blocks that are never trained give a message the same hidden states every time:
   they are computed once (`hidden_states.py`, kept by `disk.py`), and what is trained starts from
   them.
2. *Causal trimming.* Under the causal mask nothing after the chosen position matters
   (`needed.py`).
3. *One query.* Of the last block only the output at the chosen position is read: it needs one
   query, and no keys or values (`layers.py`).
4. *Kernels.* PyTorch's fused attention, norm and GELU take the place of the written-out formulas
   (`layers.py`).

`switch.py` is the one switch. Shapes: B messages, T tokens, C width, H heads of width D, K classes.
"""
