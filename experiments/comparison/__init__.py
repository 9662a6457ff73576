"""What follows from many runs: statistics, tables and figures of their records."""
