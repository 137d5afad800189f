"""The state of a session as bytes, bound to what it is a state of."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.checkpoint_file import Binding, corrupt, decode_arrays, encode_arrays
from backlane.backtest.portfolio_checkpoint import record_dtype_of
from backlane.backtest.portfolio_session import SessionState

SESSION_FORMAT = "backlane.portfolio_session.v1"
"""Kind and version of the bytes. A change of the layout makes it the next version."""
_MEMORY = "memory"


def encode_session(state: SessionState, binding: Binding) -> bytes:
    """Returns the bytes of a state; how they lie is told in `checkpoint_file`."""
    memory = json.dumps(state.memory, sort_keys=True).encode()
    arrays: dict[str, NDArray[Any]] = {_MEMORY: np.frombuffer(memory, np.uint8), **state.arrays}
    plain = {name: np.ascontiguousarray(rows.view(np.ndarray)) for name, rows in arrays.items()}
    return b"".join(encode_arrays(SESSION_FORMAT, binding, {}, plain))


def decode_session(content: bytes, binding: Binding) -> SessionState:
    """Returns the state that the bytes hold.

    Raises CheckpointCorruptError for damaged bytes, CheckpointForeignError for a state of another
    session or version.
    """
    _, arrays = decode_arrays(content, SESSION_FORMAT, binding, record_dtype_of)
    try:
        memory = json.loads(arrays.pop(_MEMORY).tobytes())
    except (KeyError, ValueError) as error:
        raise corrupt("what its cycles remember is no JSON") from error
    return SessionState(arrays, memory)
