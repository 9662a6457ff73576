"""Training and evaluation, metrics, baselines, and the memory that a run needs.

Start with `loop.py`.
"""
