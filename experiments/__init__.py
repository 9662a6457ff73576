"""What the scripts use, in nine folders by subject; docs/reference.md describes them.

A Python that is too old is reported here, before any import fails on it: this file and the scripts
have no syntax that it cannot read.
"""

import sys

NEEDED = (3, 11)

if sys.version_info < NEEDED:
    sys.exit(
        f"error: Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, and this is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: set up the environment with a newer one"
    )
