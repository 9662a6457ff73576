"""The same training with nothing computed twice, and nothing on which the logits do not depend.

    model, datasets, *_ = cache_frozen_prefix(plain, datasets)  # then train as before

`OptimizedClassifier` has the parameters, `state_dict`, logits and gradients of `GPTClassifier`, the
definition, but for the order of sums:

1. *Frozen prefix.* Blocks that are never trained give an example the same activations every time:
   they are computed once (`prefix.py`), cached (`storage.py`), and training starts from them.
2. *Causal trimming.* Under the causal mask nothing after the position that is read matters
   (`prefix.py`, by `Design.needed_tokens`).
3. *One query.* Of the last block only the output at that position is read: it needs one query,
   and no keys or values (`layers.py`).
4. *Kernels.* Fused attention, norm and GELU replace the written-out formulas (`layers.py`).

Start reading at `cache_frozen_prefix`. Shapes: B examples, T tokens, C width, K classes.
"""
