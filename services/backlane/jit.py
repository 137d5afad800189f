"""The one way in which functions are compiled.

The same function runs compiled and, with NUMBA_DISABLE_JIT=1, as plain Python, and gives the same
bits: `fastmath` would break that and is never used. `error_model="numpy"` leaves out checks for a
division by zero, which gives infinity or NaN in both.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

_COMPILED_STAGES = (
    "indicators",
    "fuzzy",
    "features",
    "signals",
    "decisions",
    "execution",
    "portfolio",
    "risk",
    "cycle",
)
"""The stages that hold compiled functions; tests/architecture finds one that is missing here."""

Record = Any
"""One element of a structured numpy array, whose fields are attributes."""


def _cache_folder() -> str:
    """Returns a folder for compiled code that belongs to exactly these sources.

    numba looks only at the file of a function itself to see whether its compiled form is stale, not
    at the files of the functions that it calls: after a change in `decide`, an old `step` would be
    used on. So every state of the sources has a folder of its own.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for stage in _COMPILED_STAGES:
        for path in sorted((Path(__file__).parent / stage).glob("*.py")):
            digest.update(path.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "backlane" / "numba" / digest.hexdigest()[:16])


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = _cache_folder()


def compiled(function: Function) -> Function:
    """Compiles a function on its first call, releases the GIL in it, and caches it on disk."""
    decorator = njit(cache=True, nogil=True, error_model="numpy")
    return cast(Function, decorator(function))


def kernel(function: Function) -> Function:
    """Compiles a function that allocates nothing, as `compiled` does, and faster for it.

    Without numba's runtime (NRT) nobody counts references to the arrays that are passed from
    function to function, which otherwise takes most of the time of the loop: 137 ns a bar with it,
    43 ns without (`make bench`, 1M bars, everything on). A function that does allocate fails to
    compile.
    """
    decorator = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
    return cast(Function, decorator(function))


def inner_kernel(function: Function) -> Function:
    """Compiles a kernel that only kernels call: nothing is compiled to call it from Python.

    Such a wrapper takes apart every array that it is given, which is most of the machine code of a
    small function: the 35 kernels of the full book compile in 12 s without it, 19 s with it.
    """
    decorator = njit(
        cache=True,
        nogil=True,
        error_model="numpy",
        _nrt=False,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )
    return cast(Function, decorator(function))
