"""The loop over runs, and their records."""
