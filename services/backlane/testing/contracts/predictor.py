"""What every `Predictor` must do; subclass it and give it a fixture called `predictor`."""

# pytest asserts; ruff forbids it elsewhere.
# ruff: noqa: S101

import numpy as np
import pytest

from backlane.errors import TensorMismatchError
from backlane.inference.predictor import Predictor, Rows

# Enough for several messages of a stream and several slices of the network.
LONG_ROW_COUNT = 40_000


def random_rows(predictor: Predictor, row_count: int, seed: int = 0) -> Rows:
    """Seeded normal features, float32 of shape (rows, features)."""
    shape = (row_count, len(predictor.info.features))
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def same_bits(left: Rows, right: Rows) -> bool:
    """Whether two arrays are equal to the last bit, NaN included."""
    return left.shape == right.shape and left.tobytes() == right.tobytes()


class PredictorContract:
    """The promises of the port, as tests."""

    def test_outputs_are_float32_with_a_column_for_each_output(self, predictor: Predictor) -> None:
        """Shape and type follow from the head."""
        outputs = predictor.predict(random_rows(predictor, 50))
        assert outputs.dtype == np.float32
        assert outputs.shape == (50, predictor.info.head.output_count)

    def test_no_rows_give_no_outputs(self, predictor: Predictor) -> None:
        """An empty matrix is no error."""
        assert len(predictor.predict(random_rows(predictor, 0))) == 0

    def test_asking_twice_gives_the_same_bits(self, predictor: Predictor) -> None:
        """A predictor has no state that a caller could see."""
        features = random_rows(predictor, 300)
        assert same_bits(predictor.predict(features), predictor.predict(features))

    def test_what_follows_changes_nothing(self, predictor: Predictor) -> None:
        """The outputs of a row do not depend on later rows."""
        features = random_rows(predictor, 400)
        whole = predictor.predict(features)
        for count in (1, 2, 3, 17, 128, 129, 399):
            assert same_bits(predictor.predict(features[:count]), whole[:count])

    def test_what_lies_before_the_window_changes_nothing(self, predictor: Predictor) -> None:
        """The outputs of a row depend on the last sequence_length rows alone."""
        features = random_rows(predictor, 400)
        whole = predictor.predict(features)
        length = predictor.info.sequence_length
        for start in (1, 5, 64, 127, 200):
            later = predictor.predict(features[start:])
            assert same_bits(later[length - 1 :], whole[start + length - 1 :])

    def test_a_row_without_a_full_window_is_nan(self, predictor: Predictor) -> None:
        """The first sequence_length - 1 rows have no answer; all others have one."""
        outputs = predictor.predict(random_rows(predictor, 200))
        first = predictor.info.sequence_length - 1
        assert np.isnan(outputs[:first]).all()
        assert np.isfinite(outputs[first:]).all()

    def test_a_nan_spoils_its_own_windows_alone(self, predictor: Predictor) -> None:
        """A row that holds a NaN makes the rows that look at it NaN, and leaves all others."""
        length = predictor.info.sequence_length
        features = random_rows(predictor, 300)
        whole = predictor.predict(features)
        features[100, 0] = np.nan
        outputs = predictor.predict(features)
        assert np.isnan(outputs[100 : 100 + length]).all()
        assert same_bits(outputs[:100], whole[:100])
        assert same_bits(outputs[100 + length :], whole[100 + length :])

    def test_progress_grows_to_the_number_of_rows(self, predictor: Predictor) -> None:
        """It is told in order, and to the end."""
        seen: list[int] = []
        predictor.predict(random_rows(predictor, LONG_ROW_COUNT), seen.append)
        assert seen == sorted(set(seen))
        assert len(seen) > 1
        assert seen[-1] == LONG_ROW_COUNT

    def test_progress_may_stop_it_and_nothing_breaks(self, predictor: Predictor) -> None:
        """What on_progress raises reaches the caller, and the predictor predicts on."""

        def stop(_: int) -> None:
            raise InterruptedError

        features = random_rows(predictor, LONG_ROW_COUNT)
        with pytest.raises(InterruptedError):
            predictor.predict(features, stop)
        assert same_bits(predictor.predict(features[:10]), predictor.predict(features[:10]))

    def test_a_wrong_number_of_columns_is_refused_with_both(self, predictor: Predictor) -> None:
        """The error says what the model takes and what it was given."""
        count = len(predictor.info.features)
        with pytest.raises(TensorMismatchError) as caught:
            predictor.predict(np.zeros((3, count + 1), dtype=np.float32))
        assert caught.value.metadata["expected_features"] == str(count)
        assert caught.value.metadata["got_features"] == str(count + 1)

    def test_a_view_is_read_right(self, predictor: Predictor) -> None:
        """Rows need not be contiguous in memory."""
        features = random_rows(predictor, 90)
        assert same_bits(predictor.predict(features[::3]), predictor.predict(features[::3].copy()))
