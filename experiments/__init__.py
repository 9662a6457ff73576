"""What the scripts tell their story with; docs/architecture.md says where what is."""
