"""When an operation whose attempt ended badly is tried again."""

FIRST_DELAY_S = 0.2
"""Pause after the first failed attempt: a dead process is replaced at once."""

DELAY_FACTOR = 4.0
"""By how much each pause is longer than the one before."""

DELAY_S_MAX = 60.0
"""The longest pause."""


def retry_delay_s(failure_count: int) -> float:
    """Returns the pause after so many failed attempts, at least one: 0.2, 0.8, 3.2, ... 60 s."""
    if failure_count < 1:
        raise ValueError(f"{failure_count} failed attempts")
    # Beyond ten the power would soon be no float any more, and the answer is the same.
    return min(DELAY_S_MAX, FIRST_DELAY_S * DELAY_FACTOR ** min(failure_count - 1, 10))
