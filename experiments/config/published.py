"""What was published, by digest: the weights of GPT-2, and the splits of the messages."""

import hashlib

CHECKPOINT_SHA256 = {  # of model.safetensors, by model size
    "124M": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    "355M": "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
    "774M": "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
    "1558M": "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
}
SPAM_CLASSES = ("ham", "spam")  # of the messages, labelled 0 and 1
SPLIT_SHA256 = {  # of the CSV files
    "train": "ec2895b026553ce06475815818c52cf44828af0605b07b257935a194e611195a",
    "validation": "f92996ef2ae2ed6d6937e96bc7a3f739f2bae59b07d1babd7f3725e473f2d2bd",
    "test": "f82216f37a6d785b52f99a84a3552dcc9835316018758c2117b2ca133e6c1409",
}


def digest_of_splits(digests: dict[str, str]) -> str:
    """Returns one SHA-256 that tells the splits of these digests apart from all others."""
    return hashlib.sha256("\n".join(digests[split] for split in SPLIT_SHA256).encode()).hexdigest()


DATA_SHA256 = digest_of_splits(SPLIT_SHA256)
