import numpy as np
import pytest

from backlane.decisions.decision import Decision, DecisionReason
from backlane.decisions.scores import classification_scores, regression_scores


def test_softmax_of_ln_weights_gives_the_weights() -> None:
    # logits ln 1, ln 2, ln 5: softmax is 1/8, 2/8, 5/8
    logits = np.log(np.array([[1.0, 2.0, 5.0]], dtype=np.float32))
    scores = classification_scores(logits)
    # float32 has 24 bits: 1e-7 is about one unit in the last place of 0.625
    np.testing.assert_allclose(scores.values[0], [0.125, 0.25, 0.625], atol=1e-7)
    assert scores.raw_decision[0] == Decision.SELL
    assert scores.confidence[0] == pytest.approx(0.625, abs=1e-7)


def test_columns_are_buy_hold_sell_and_the_first_of_ties_wins() -> None:
    logits = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1]], dtype=np.float32)
    decisions = classification_scores(logits).raw_decision
    assert list(decisions) == [Decision.BUY, Decision.HOLD, Decision.SELL, Decision.BUY]


def test_nan_output_is_hold_with_a_reason_and_leaves_its_neighbours_alone() -> None:
    logits = np.array([[3, 0, 0], [np.nan, 0, 0], [0, 0, 3]], dtype=np.float32)
    scores = classification_scores(logits)
    assert list(scores.raw_decision) == [Decision.BUY, Decision.HOLD, Decision.SELL]
    assert np.isnan(scores.confidence[1])
    assert scores.reason[1] == DecisionReason.SCORE_NAN


def test_logits_that_sum_to_one_are_softmaxed_unless_told_otherwise() -> None:
    logits = np.array([[0.2, 0.2, 0.6]], dtype=np.float32)
    # e^0.6 / (2 e^0.2 + e^0.6) = 1.822119 / (2 x 1.221403 + 1.822119) = 0.427234
    assert classification_scores(logits).confidence[0] == pytest.approx(0.427234, abs=1e-6)
    quirk = classification_scores(logits, sum_one_is_probability=True)
    assert quirk.confidence[0] == np.float64(np.float32(0.6))


def test_huge_logits_do_not_overflow() -> None:
    scores = classification_scores(np.array([[1e30, 0, -1e30]], dtype=np.float32))
    assert scores.confidence[0] == 1.0


def test_regression_compares_strictly_with_the_edge() -> None:
    # edge 0.25, exact in binary: BUY above, SELL below -0.25, HOLD at either
    returns = np.array([[0.5], [0.25], [0.0], [-0.25], [-0.375], [np.nan]], dtype=np.float32)
    scores = regression_scores(returns, edge=0.25)
    assert list(scores.raw_decision) == [1, 0, 0, 0, -1, 0]
    # |r| / (3 x 0.25): 0.5 / 0.75 = 2/3, 0.375 / 0.75 = 1/2
    assert scores.confidence[0] == pytest.approx(2 / 3, rel=1e-15)
    assert scores.confidence[4] == 0.5
    assert scores.reason[5] == DecisionReason.SCORE_NAN


def test_regression_confidence_is_capped_at_one() -> None:
    assert regression_scores(np.array([[9.0]], dtype=np.float32), edge=0.25).confidence[0] == 1.0
