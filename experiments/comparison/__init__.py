"""Comparisons of recorded runs: statistics, tables, figures and the report.

Start with `evidence.py`, which compares two groups of runs, and `statistics.py`, its method.
"""
