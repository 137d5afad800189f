"""Digests of what must be identical when a run is repeated."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def digest_config(config: Mapping[str, object]) -> str:
    """Returns sha256:<hex> of plain data as canonical JSON: sorted keys, shortest numbers."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """Returns sha256:<hex> over the name, dtype, shape and little-endian bytes of each array."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(f"{name}:{little.dtype.str}:{little.shape};".encode())
        # reshape leaves contiguous rows where they are: nothing is copied.
        digest.update(little.reshape(-1).view(np.uint8).data)
    return "sha256:" + digest.hexdigest()
