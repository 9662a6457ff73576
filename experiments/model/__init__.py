"""The classifier, LoRA, saved files, predictions; see `classifier.py`."""
