"""One suite per port: every implementation of it must pass the same tests.

Reads what the subclass of a suite makes. Produces tests, for pytest to collect in that subclass.
Never knows which implementation it tests.
"""
