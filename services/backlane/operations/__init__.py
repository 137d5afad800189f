"""The state machine of long-running operations, their leases and their log.

Reads: what clients and workers ask, and the time. Produces: operations and durable events.
Never: files, clocks, sockets, randomness; a store keeps what these functions decide.
"""
