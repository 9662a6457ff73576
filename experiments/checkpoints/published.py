"""The four GPT-2 checkpoints that OpenAI published, as the Hugging Face hub stores them.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from typing import NamedTuple


class Published(NamedTuple):
    """The `model.safetensors` of one GPT-2 on the hub."""

    repository: str
    revision: str  # Git commit
    sha256: str
    size: int | None  # bytes


GPT2 = {  # by model size
    "124M": Published(
        "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", 548_105_171,
    ),
    "355M": Published(
        "openai-community/gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd", 1_519_984_962,
    ),
    "774M": Published(
        "openai-community/gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce", None,
    ),
    "1558M": Published(
        "openai-community/gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a", None,
    ),
}  # fmt: skip
CHECKPOINT_SHA256 = {size: published.sha256 for size, published in GPT2.items()}
