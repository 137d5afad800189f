"""The figures of "operations that cannot be lost": real processes, real sockets, full sync."""
