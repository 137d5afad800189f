"""The bits of a row depend on nothing but the row."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backlane.errors import TensorMismatchError
from backlane.inference.torch_predictor import (
    MLP_PROGRESS_ROWS,
    MLP_SLICE_ROWS,
    SEQUENCE_SLICE_ROWS,
    TorchPredictor,
    one_thread,
)
from backlane.sources.bundle import load_predictor, read_bundle
from tests.bundle_maker import BundleMaker

MAKERS = {
    "mlp relu": BundleMaker(feature_count=7, hidden_layers=(33, 16)),
    "mlp tanh": BundleMaker(feature_count=20, hidden_layers=(24, 12), activation="tanh"),
    "mlp sigmoid": BundleMaker(feature_count=13, hidden_layers=(84, 118, 65), activation="sigmoid"),
    "mlp leaky": BundleMaker(feature_count=3, hidden_layers=(5,), activation="leaky_relu"),
    "mlp of odd widths": BundleMaker(feature_count=5, hidden_layers=(6, 9), activation="tanh"),
    "mlp without layers": BundleMaker(feature_count=60, hidden_layers=()),
    "lstm": BundleMaker(architecture="lstm", feature_count=8, hidden_size=16, sequence_length=20),
    "gru": BundleMaker(architecture="gru", feature_count=5, hidden_size=9, sequence_length=7),
    "gru of odd widths": BundleMaker(architecture="gru", feature_count=13, hidden_size=3),
    "gru of one row": BundleMaker(architecture="gru", layer_count=1, sequence_length=1),
}


@pytest.fixture(scope="module", params=MAKERS)
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return made(MAKERS[request.param], tmp_path_factory.mktemp("bundle"))


def made(maker: BundleMaker, folder: Path) -> TorchPredictor:
    return load_predictor(read_bundle(maker.write(folder / "made" / "1")))


def matrix(predictor: TorchPredictor, row_count: int, seed: int = 0) -> NDArray[np.float32]:
    shape = (row_count, len(predictor.info.features))
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def same_bits(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(left.view(np.uint32), right.view(np.uint32)))


@settings(max_examples=12)
@given(data=st.data())
def test_any_cut_into_chunks_gives_the_same_bits(
    predictor: TorchPredictor, data: st.DataObject
) -> None:
    slice_rows = MLP_SLICE_ROWS if predictor.info.architecture == "mlp" else SEQUENCE_SLICE_ROWS
    row_count = data.draw(st.integers(1, slice_rows + 300))
    cuts = data.draw(st.lists(st.integers(0, row_count), max_size=6))
    features = matrix(predictor, row_count)
    whole = predictor.predict(features)
    session = predictor.session()
    edges = [0, *sorted(cuts), row_count]
    chunks = [session.predict(features[start:stop]) for start, stop in pairwise(edges)]
    assert same_bits(np.concatenate(chunks), whole)


def test_row_after_row_gives_the_same_bits(predictor: TorchPredictor) -> None:
    features = matrix(predictor, 40)
    session = predictor.session()
    single = np.concatenate([session.predict(features[row : row + 1]) for row in range(40)])
    assert same_bits(single, predictor.predict(features))


def test_a_row_gives_the_same_bits_at_any_place_among_any_neighbours(
    predictor: TorchPredictor,
) -> None:
    length = predictor.info.sequence_length
    window = matrix(predictor, length, seed=1)
    alone = predictor.predict(window)[-1]
    for before_count in (0, 1, 2, 3, 15, 16, 17, 100, 127, 128, 129):
        before = matrix(predictor, before_count, seed=2) * 50
        after = matrix(predictor, 37, seed=3) / 50
        outputs = predictor.predict(np.concatenate([before, window, after]))
        assert same_bits(outputs[before_count + length - 1], alone)


def test_the_threads_of_the_process_do_not_change_the_bits(predictor: TorchPredictor) -> None:
    features = matrix(predictor, 500)
    expected = predictor.predict(features)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert same_bits(predictor.predict(features), expected)
        assert torch.get_num_threads() == 2
        with one_thread():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_rows_without_a_full_window_are_nan(predictor: TorchPredictor) -> None:
    length = predictor.info.sequence_length
    outputs = predictor.predict(matrix(predictor, length + 2))
    assert np.isnan(outputs[: length - 1]).all()
    assert np.isfinite(outputs[length - 1 :]).all()
    assert np.isnan(predictor.predict(matrix(predictor, length - 1))).all()


def test_a_nan_makes_the_rows_that_look_at_it_nan_and_no_other(predictor: TorchPredictor) -> None:
    length = predictor.info.sequence_length
    features = matrix(predictor, 200)
    whole = predictor.predict(features)
    holed = features.copy()
    holed[77, -1] = np.nan
    outputs = predictor.predict(holed)
    touched = np.zeros(200, dtype=bool)
    touched[77 : 77 + length] = True  # windows that end at row 77 and the length - 1 rows after it
    assert np.isnan(outputs[touched]).all()
    assert same_bits(outputs[~touched], whole[~touched])


def test_no_rows_give_no_rows(predictor: TorchPredictor) -> None:
    outputs = predictor.predict(matrix(predictor, 0))
    assert outputs.shape == (0, predictor.info.head.output_count)
    assert outputs.dtype == np.float32


def test_a_matrix_that_is_not_contiguous_is_read_right(predictor: TorchPredictor) -> None:
    features = matrix(predictor, 150)
    assert same_bits(predictor.predict(np.asfortranarray(features)), predictor.predict(features))
    assert same_bits(
        predictor.predict(features[::3]), predictor.predict(np.ascontiguousarray(features[::3]))
    )


def test_the_features_are_left_as_they_were(predictor: TorchPredictor) -> None:
    features = matrix(predictor, 50)
    features.flags.writeable = False
    predictor.predict(features)


@pytest.mark.parametrize(
    ("features", "got"),
    [
        (np.zeros((4, 8), np.float32), "8"),
        (np.zeros((4, 7), np.float64), "7"),
        (np.zeros(7, np.float32), "none"),
    ],
)
def test_a_tensor_that_does_not_fit_shows_what_does(
    tmp_path: Path, features: NDArray[np.float32], got: str
) -> None:
    predictor = made(BundleMaker(feature_count=7), tmp_path)
    with pytest.raises(TensorMismatchError, match=r"float32 of shape \(rows, 7\)") as caught:
        predictor.predict(features)
    assert caught.value.metadata["expected_features"] == "7"
    assert caught.value.metadata["got_features"] == got


def test_progress_counts_rows_and_may_stop_the_prediction(tmp_path: Path) -> None:
    predictor = made(BundleMaker(), tmp_path)
    features = matrix(predictor, 2 * MLP_PROGRESS_ROWS + 5)
    seen: list[int] = []
    predictor.predict(features, seen.append)
    assert seen == [MLP_PROGRESS_ROWS, 2 * MLP_PROGRESS_ROWS, 2 * MLP_PROGRESS_ROWS + 5]

    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        predictor.predict(features, stop)


@pytest.mark.slow
def test_a_million_rows_need_no_more_memory_than_their_outputs(tmp_path: Path) -> None:
    predictor = made(BundleMaker(feature_count=20, hidden_layers=(32, 16)), tmp_path)
    features = np.zeros((1_000_000, 20), dtype=np.float32)
    features[:] = 0.5
    predictor.predict(features[:50_000])
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    peak_bytes = 0

    def look(_: int) -> None:
        nonlocal peak_bytes
        peak_bytes = max(peak_bytes, process.memory_info().rss)

    predictor.predict(features, look)
    # The outputs are 12 MB; slices and what the allocator keeps may add as much again, not 80 MB.
    assert peak_bytes - before_bytes < 40 * 2**20
