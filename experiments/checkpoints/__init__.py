"""From GPT-2 checkpoints to the book's arrays; start with `weights.py`.

Headers and `config.json` must show a GPT-2 whose function the book's GPT computes. Only
safetensors are read: nothing in them can run code.
"""
