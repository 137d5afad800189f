"""What the log of a service leaves out."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from backlane.rpc.log import configure_logging


@pytest.fixture
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("untouched")
def test_a_reader_that_goes_away_in_mid_write_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The texts are those of grpc 1.85, aio/server.pyx.pxi, `_handle_exceptions`."""
    configure_logging("warning", "console")
    core = logging.getLogger("grpc._cython.cygrpc")
    core.error("ExecuteBatchError raised in core by servicer method [/a.B/Watch]")
    core.error("Unexpected [ValueError] raised by servicer method [/a.B/Watch]")
    logging.getLogger("a").error("ExecuteBatchError raised in core by another")
    told = capsys.readouterr().err
    assert "Unexpected [ValueError]" in told
    assert "by another" in told
    assert "ExecuteBatchError raised in core by servicer method" not in told
