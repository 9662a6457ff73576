"""What the scripts use, in nine folders by subject; docs/reference.md describes them.

A Python that is too old is reported here, before any import fails on it: this file and the scripts
have no syntax that it cannot read.
"""

import sys
from importlib.util import find_spec

NEEDED = (3, 11)
PACKAGES = "torch tiktoken pandas huggingface_hub safetensors filelock psutil tqdm"

if sys.version_info < NEEDED:
    sys.exit(
        f"error: Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, and this is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: set up the environment with a newer one"
    )
missing = [name for name in PACKAGES.split() if not find_spec(name)]
if missing:
    sys.exit(
        f"error: not installed for {sys.executable}: {', '.join(missing)}; activate the "
        "environment (. .venv/bin/activate), or run pip install -r requirements.txt"
    )
