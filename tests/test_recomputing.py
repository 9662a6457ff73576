from helpers import bytes_stored as bytes_kept  # noqa: F401 TEMPORARY STUB, for test_estimate.py
