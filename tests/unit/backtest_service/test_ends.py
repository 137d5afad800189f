"""Which ends of an attempt count, and which let another one do better."""

import pytest

from backlane import errors
from backlane.operations.commands import Failed
from backtest_service.ends import Released, end_of


@pytest.mark.parametrize(
    "error",
    [
        errors.WorkerLostError,
        errors.RunStalledError,
        errors.AttemptTimeoutError,
        errors.CallTimeoutError,
    ],
)
def test_what_another_attempt_may_do_better(error: type[errors.BacklaneError]):
    end = end_of(error("why"))
    assert isinstance(end, Failed)
    assert end.is_retryable
    assert end.error.reason == error.reason


@pytest.mark.parametrize(
    "error",
    [
        errors.OutOfMemoryError,
        errors.InvalidRequestError,
        errors.DatasetChangedError,
        errors.ModelDigestMismatchError,
        errors.NanFeaturesError,
        errors.ForkRefusedError,
        errors.InternalError,
    ],
)
def test_what_would_fail_again(error: type[errors.BacklaneError]):
    end = end_of(error("why"))
    assert isinstance(end, Failed)
    assert not end.is_retryable


@pytest.mark.parametrize(
    "error",
    [errors.ServiceUnavailableError, errors.ServerDrainingError, errors.LimitExceededError],
)
def test_what_is_away_for_a_while_is_no_fault_of_the_run(error: type[errors.BacklaneError]):
    assert end_of(error("why" * 1_000)) == Released(("why" * 1_000)[:512], is_out_of_reach=True)
