"""Terminal, files, downloads, devices and processes: what knows nothing of experiments."""
