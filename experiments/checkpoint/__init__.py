"""GPT-2 checkpoints: from a `.safetensors` file of the hub's tensor names to the book's arrays.

A file is taken for what its header says once names, shapes and types are those of a GPT-2. Nothing
in it is ever executed: the format holds numbers only, and no other format is read.

Sources: the checkpoints of huggingface.co/openai-community (GPT-2, Radford et al. 2019) and the
layout of safetensors (github.com/huggingface/safetensors).
"""
