"""Batch jobs: what is to be done, and the ledger that says what has been."""
