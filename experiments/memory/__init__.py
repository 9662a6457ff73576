"""Memory, told before anything is loaded: what a run needs, what there is, and what would fit.

`workload.py` is what a run computes on, `estimate.py` what that takes, from numbers alone, and
`fitting.py` holds it against the machine.
"""
