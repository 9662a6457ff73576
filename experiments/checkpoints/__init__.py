"""From GPT-2 checkpoints to the book's arrays; start with `weights.py`.

A checkpoint is accepted if its headers and its `config.json` show that it is a GPT-2 and that the
book's GPT computes the same function. Only safetensors are read: nothing in them can run code.
"""
