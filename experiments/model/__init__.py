"""A classifier to keep: saved in one file, found again with its base, and asked."""
