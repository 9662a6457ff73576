"""The published rows, the settings of a run, and which of them fit together."""
