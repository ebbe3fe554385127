"""Runs: the records of calls, the files that they produced, and the audit chain over them."""
