"""The SDK: typed calls to the three services, for threads and for asyncio.

Reads addresses from arguments, the environment or what `backlane up` wrote; speaks over `wire`.
Produces domain values and the very errors that the services raised, as BacklaneError.
Never imports torch, pandas, numpy or numba to be imported itself, and knows no service's code.
"""
