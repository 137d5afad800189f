"""The registry of long-running operations: what was accepted, who runs it, how it ended.

Reads: calls of clients and workers, and its own SQLite file. Produces: operations, leases, watches.
Never: looks into what an operation is about, or runs one.
"""
