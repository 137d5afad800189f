"""Target weights: which share of the capital each signal gets."""

import numpy as np
from numpy.typing import NDArray

from backlane.signals.signal import Direction, Signals


def long_weights(
    signals: Signals, *, top_n: int | None = None, equal: bool = False
) -> NDArray[np.float64]:
    """Returns the weights of those LONG, shape (times, symbols): of each bar they sum to 1, or 0.

    Only LONG with a score >= 0 counts, and with `top_n` only the best scores of a bar (of equal
    ones, those that stand first). Weights follow the scores; they are equal with `equal`, and where
    all scores are 0. Scores 0.3 and 0.1 give 0.75 and 0.25. Everything else has weight 0: SHORT
    too (SPEC B3), and an instrument without a bar, as it has no target. Raises ValueError for
    `top_n` below 1.
    """
    if top_n is not None and top_n < 1:
        raise ValueError(f"top_n {top_n}: at least 1, or None for all of them")
    wanted = (signals.direction == Direction.LONG) & (signals.score >= 0.0)
    if top_n is not None:
        ranking = np.argsort(np.where(wanted, -signals.score, np.inf), axis=1, kind="stable")
        best = np.zeros(wanted.shape, dtype=bool)
        np.put_along_axis(best, ranking[:, :top_n], True, axis=1)
        wanted &= best
    score = np.where(wanted, signals.score, 0.0)
    total = score.sum(axis=1, keepdims=True)
    count = wanted.sum(axis=1, keepdims=True)
    share: NDArray[np.float64] = wanted / np.maximum(count, 1)
    if not equal:
        np.divide(score, total, out=share, where=total > 0.0)
    return share


def long_short_weights(
    direction: NDArray[np.int8], gross: NDArray[np.float64], net: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns weights equal within a side: gross/2 + net/2 for the longs, gross/2 - net/2 short.

    `direction` is (times, symbols); `gross` and `net` are (times,), sums of absolute and of signed
    weights. Gross 1, net 0.2 with two longs and one short: 0.3, 0.3, -0.4. A side without an
    instrument stays empty: its share is not given to the other (SPEC B3).
    """
    weights = np.zeros(direction.shape)
    for side, total in ((Direction.LONG, (gross + net) / 2), (Direction.SHORT, (gross - net) / 2)):
        members = direction == side
        count = np.maximum(members.sum(axis=1), 1)
        weights += np.where(members, (int(side) * total / count)[:, None], 0.0)
    return weights


def only_at(weights: NDArray[np.float64], is_decided: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the weights with NaN, no decision, at every bar that is not marked."""
    return np.where(is_decided[:, None], weights, np.nan)
