"""Training, evaluation, baselines, metrics, and how much memory they need."""
