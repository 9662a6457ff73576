"""GPT-2 checkpoints: from `.safetensors` files to the book's arrays.

A checkpoint is taken for what its headers and its `config.json` say once names, shapes and types
are those of a GPT-2, and its function is the book's. Nothing in it is ever executed: the format
holds numbers only, and no other format is read.

Sources: the checkpoints of huggingface.co/openai-community (GPT-2, Radford et al. 2019) and the
layout of safetensors (github.com/huggingface/safetensors).
"""
