"""The classifier: a GPT with a new head and LoRA, saved in one file, and its predictions.

Start with `classifier.py`.
"""
