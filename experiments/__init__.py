"""What the scripts tell their story with; docs/architecture.md says where what is.

An older Python than is needed is told here, before any import fails on it; this file and the
scripts are written so that it can read them.
"""

import sys

NEEDED = (3, 11)

if sys.version_info < NEEDED:
    sys.exit(
        f"error: Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, and this is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: set up the environment with a newer one"
    )
