"""Structured logs on standard error: lines for people, or JSON for a collector."""

import logging
import sys

import structlog
from structlog.typing import Processor

GRPC_CORE = "grpc._cython.cygrpc"
LOST_READER = "ExecuteBatchError raised in core"


def configure_logging(level: str, log_format: str) -> None:
    """Sends the logs of Backlane and of every library one way; called once per process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.addFilter(_is_no_lost_reader)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level.upper())


def _is_no_lost_reader(record: logging.LogRecord) -> bool:
    """Leaves out the error that grpc logs when a reader's connection breaks in mid-write.

    It is what a reader that goes away looks like, and the handler has ended as it should; its
    twenty lines for each would hide the errors that matter.
    """
    return not (record.name == GRPC_CORE and str(record.msg).startswith(LOST_READER))


def _rendering(log_format: str) -> list[Processor]:
    # Tracebacks without local variables: those hold requests, and take the loop 300 ms to print.
    if log_format == "json":
        traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(traceback),
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
