"""The messages: from a collection on the disk to batches of tokens and labels."""
