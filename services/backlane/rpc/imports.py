"""Importing a server without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Returns a context for the imports of a process: what they make stays until its end.

    The collector would look at it again and again while it grows, a tenth of the time of a start,
    and at each full collection afterwards, tens of milliseconds in which no call is answered.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
