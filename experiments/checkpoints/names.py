"""Names of tensors: the hub's and the book's, freed of what wrappers put around them."""

import re

WRAPPER = re.compile(  # torch.compile, DDP, FSDP, checkpointed activations, PEFT around a layer
    r"(?<![^.])(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer)\."
)
MODEL = re.compile(r"((base_model\.)?model\.|transformer\.)*")  # PEFT, and the hub's own
MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias|trf_blocks\.\d+\.att\.mask")  # causal, as a buffer
HEAD = re.compile(r"(lm_head|score|classifier|qa_outputs|multiple_choice_head|v_head|out_head)\..+")
ADAPTER = re.compile(r"(.*[._])?(lora|ia3|prompt_embeddings|prompt_encoder)([._].*)?")


def unwrapped(stored: str) -> str:
    """Returns a tensor's name in GPT-2 itself, or in the book's GPT."""
    return MODEL.sub("", WRAPPER.sub("", stored), count=1)


def hub_shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor of the hub's names; weights of linears are (in, out)."""
    C = sizes["n_embd"]
    weights = {"wte": (sizes["vocab_size"], C), "wpe": (sizes["n_positions"], C), "ln_f": (C,)}
    for i in range(sizes["n_layer"]):
        weights |= {
            f"h.{i}.ln_1": (C,),
            f"h.{i}.attn.c_attn": (C, 3 * C),
            f"h.{i}.attn.c_proj": (C, C),
            f"h.{i}.ln_2": (C,),
            f"h.{i}.mlp.c_fc": (C, 4 * C),
            f"h.{i}.mlp.c_proj": (4 * C, C),
        }
    biases = {f"{name}.bias": shape[-1:] for name, shape in weights.items() if name[0] != "w"}
    return {f"{name}.weight": shape for name, shape in weights.items()} | biases


def book_shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor of the book's names; weights of linears are (out, in)."""
    C = sizes["n_embd"]
    shapes = {
        "tok_emb.weight": (sizes["vocab_size"], C),
        "pos_emb.weight": (sizes["n_positions"], C),
    }
    norms = ["final_norm"]
    for i in range(sizes["n_layer"]):
        block = f"trf_blocks.{i}"
        norms += [f"{block}.norm1", f"{block}.norm2"]
        linears = {f"att.{name}": (C, C) for name in ("W_query", "W_key", "W_value", "out_proj")}
        linears |= {"ff.layers.0": (4 * C, C), "ff.layers.2": (C, 4 * C)}
        for name, shape in linears.items():
            shapes[f"{block}.{name}.weight"] = shape
            if sizes["qkv_bias"] or not name.startswith("att.W_"):
                shapes[f"{block}.{name}.bias"] = shape[:1]
    return shapes | {f"{norm}.{name}": (C,) for norm in norms for name in ("scale", "shift")}
