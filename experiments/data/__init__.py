"""Examples: from files to checked splits (start with `corpus.py`), and to batches of tokens."""
