"""The bytes of a checkpoint: they come back as they were, or are refused with the reason."""

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from backlane.backtest.checkpoint import CURVES, FORMAT, Binding, Checkpoint, decode, encode
from backlane.backtest.checkpointing import checkpoint_of
from backlane.cycle.loop import Outputs, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.errors import CheckpointCorruptError, CheckpointForeignError
from tests.builders import make_inputs, make_rules, random_bars

BINDING = Binding("ab" * 32, "sha256:model", {"1h": "sha256:bars"}, {"numba": "0.62"})
BAR_COUNT, CUT, FIRST = 90, 55, 7


def a_checkpoint() -> Checkpoint:
    rng = np.random.default_rng(5)
    raw = rng.choice(np.array([-1, 0, 1], dtype=np.int8), BAR_COUNT)
    state, outputs = new_state(FIRST, 1000.0), Outputs.empty(BAR_COUNT)
    inputs = make_inputs(random_bars(3, BAR_COUNT), raw)
    run_until(state, make_rules(commission_rate=0.001), inputs, outputs, new_slot(), CUT)
    scores = rng.normal(size=(BAR_COUNT, 3)).astype(np.float32)
    scores[:3] = np.nan
    return checkpoint_of(scores, FIRST, state, outputs)


CHECKPOINT = a_checkpoint()
CONTENT = b"".join(encode(CHECKPOINT, BINDING))


def signed(content: bytes) -> bytes:
    """The bytes with a CRC that fits them: what a program would write, not an accident."""
    return content[:-4] + struct.pack("<I", zlib.crc32(content[:-4]))


def with_header(**changes: object) -> bytes:
    length = struct.unpack_from("<Q", CONTENT, 8)[0]
    header = json.dumps(json.loads(CONTENT[16 : 16 + length]) | changes).encode()
    return signed(CONTENT[:8] + struct.pack("<Q", len(header)) + header + CONTENT[16 + length :])


def test_everything_comes_back_to_the_bit() -> None:
    found = decode(CONTENT, BINDING)
    assert found.bar_count == BAR_COUNT
    assert found.scores.tobytes() == CHECKPOINT.scores.tobytes()
    assert found.progress is not None
    assert CHECKPOINT.progress is not None
    assert (found.progress.first_index, found.progress.next_index) == (FIRST, CUT)
    assert found.simulated_bars == CUT - FIRST
    assert len(found.progress.trades) > 3
    for name in ("state", "trades", "fills"):
        there, here = getattr(found.progress, name), getattr(CHECKPOINT.progress, name)
        assert there.dtype == here.dtype
        assert there.tobytes() == here.tobytes()
    for name in CURVES:
        assert found.progress.curves[name].tobytes() == CHECKPOINT.progress.curves[name].tobytes()


def test_scores_alone_come_back_too() -> None:
    half = Checkpoint(BAR_COUNT, CHECKPOINT.scores[:40])
    found = decode(b"".join(encode(half, BINDING)), BINDING)
    assert found.progress is None
    assert found.simulated_bars == 0
    assert found.scores.tobytes() == CHECKPOINT.scores[:40].tobytes()


def test_the_same_checkpoint_has_the_same_bytes() -> None:
    assert b"".join(encode(a_checkpoint(), BINDING)) == CONTENT


def test_a_change_of_any_byte_is_noticed() -> None:
    for index in range(0, len(CONTENT), 13):
        damaged = bytearray(CONTENT)
        damaged[index] ^= 0x10
        with pytest.raises(CheckpointCorruptError):
            decode(bytes(damaged), BINDING)


def test_an_end_that_is_missing_is_noticed() -> None:
    for length in (0, 5, 15, 19, 200, len(CONTENT) - 1):
        with pytest.raises(CheckpointCorruptError):
            decode(CONTENT[:length], BINDING)
    with pytest.raises(CheckpointCorruptError):
        decode(CONTENT + b"\x00", BINDING)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrays": "none"}, "are not those of a checkpoint"),
        ({"arrays": []}, "belong to no array"),
        ({"arrays": [{"name": "scores", "dtype": "<f4", "shape": [-1, 3]}]}, "checkpoint"),
        ({"arrays": [{"name": "scores", "dtype": "<f4", "shape": [10**9, 3]}]}, "checkpoint"),
        ({"arrays": [{"name": "other", "dtype": "<f4", "shape": [1]}]}, "checkpoint"),
        ({"bar_count": "many"}, "how many bars"),
        ({"bar_count": 10}, "one row for each bar"),
        ({"first_index": FIRST + 1}, "contradict"),
    ],
)
def test_a_header_that_lies_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointCorruptError, match=message):
        decode(with_header(**changes), BINDING)


def test_a_header_that_is_none_is_refused() -> None:
    for header in (b"[1]", b"{nonsense"):
        content = CONTENT[:8] + struct.pack("<Q", len(header)) + header + b"\x00" * 4
        with pytest.raises(CheckpointCorruptError, match="header"):
            decode(signed(content), BINDING)
    with pytest.raises(CheckpointCorruptError, match="header would have"):
        decode(signed(CONTENT[:8] + struct.pack("<Q", 2**60) + CONTENT[16:]), BINDING)


@pytest.mark.parametrize(
    ("binding", "field"),
    [
        (replace(BINDING, spec_sha256="cd" * 32), "spec_sha256"),
        (replace(BINDING, model_digest="sha256:other"), "model_digest"),
        (replace(BINDING, dataset_digests={"1h": "sha256:x"}), "dataset_digests.1h"),
        (replace(BINDING, dataset_digests={"1h": "sha256:bars", "5m": "s"}), "dataset_digests.5m"),
        (replace(BINDING, versions={"numba": "0.63"}), "versions.numba"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_and_says_why(
    binding: Binding, field: str
) -> None:
    with pytest.raises(CheckpointForeignError, match=field) as caught:
        decode(CONTENT, binding)
    assert caught.value.metadata["field"] == field


def test_another_format_is_foreign() -> None:
    with pytest.raises(CheckpointForeignError, match=r"checkpoint\.v9") as caught:
        decode(with_header(format="backlane.checkpoint.v9"), BINDING)
    assert caught.value.metadata == {
        "field": "format",
        "found": "backlane.checkpoint.v9",
        "expected": FORMAT,
    }


def test_another_layout_of_the_state_is_foreign() -> None:
    length = struct.unpack_from("<Q", CONTENT, 8)[0]
    arrays = json.loads(CONTENT[16 : 16 + length])["arrays"]
    arrays[1]["dtype"] = arrays[1]["dtype"][:-1]
    with pytest.raises(CheckpointForeignError, match="layout of state"):
        decode(with_header(arrays=arrays), BINDING)
