"""Operations as google.longrunning sees them: the same records, in the messages of its API."""

import re
from dataclasses import dataclass

from google.longrunning import operations_pb2 as lro_pb
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from backlane.api.operations.v1 import operation_pb2 as pb
from backlane.operations import limits
from backlane.operations.operation import TERMINAL_STATES, Operation, OperationError, State
from backlane.operations.selection import Selection
from backlane.wire.operation_checks import WAIT_S_MAX, check_kind, check_labels, check_name
from backlane.wire.operation_requests import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from backlane.wire.operations import error_to_proto, operation_to_proto, payload_to_proto
from backlane.wire.times import duration_from_proto
from backlane.wire.violations import Violations

COLLECTION = "operations"
"""The one collection that there is, as the name in a list."""

ERROR_DOMAIN = "backlane"

FILTER_CHARACTERS_MAX = 4_096

_TERM = re.compile(
    r"\s*(?P<field>done|state|kind|labels\.[A-Za-z0-9_.-]+)\s*=\s*"
    r'(?:"(?P<quoted>[^"]*)"|(?P<bare>[A-Za-z0-9_.-]+))\s*'
)
_AND = re.compile(r"AND\b|(?=\S)")
_HELP = (
    "accepted are terms joined by AND: done = true|false, state = RUNNING, kind = backtest.run, "
    'labels.KEY = "value"'
)


@dataclass(frozen=True, slots=True)
class LroListRequest:
    """A wish for one page of a list."""

    selection: Selection
    page_size: int
    page_token: str


def lro_to_proto(operation: Operation) -> lro_pb.Operation:
    """Returns the google.longrunning.Operation of an operation.

    `metadata` is an OperationMetadata with everything but the result and the error, which are
    `response` and `error`; one that was cancelled has the error code CANCELLED, 1.
    """
    known = operation_to_proto(operation)
    known.ClearField("result")
    known.ClearField("error")
    metadata = Any()
    metadata.Pack(pb.OperationMetadata(operation=known))
    message = lro_pb.Operation(
        name=operation.name, metadata=metadata, done=operation.state.is_terminal
    )
    if operation.state is State.SUCCEEDED and operation.result is not None:
        message.response.CopyFrom(payload_to_proto(operation.result))
    elif operation.state.is_terminal and operation.error is not None:
        message.error.CopyFrom(_status(operation.error))
    return message


def lro_list_from_proto(message: lro_pb.ListOperationsRequest) -> LroListRequest:
    """Returns a checked wish for a page; its size is made to fit."""
    found = Violations()
    found.check(
        message.name in ("", COLLECTION),
        "name",
        f"is {message.name[:64]!r}; accepted is {COLLECTION}, the only collection",
    )
    found.check(message.page_size >= 0, "page_size", f"is {message.page_size}, below 0")
    selection = _selection(found, message.filter)
    found.raise_if_any()
    size = min(message.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    return LroListRequest(selection, size, message.page_token)


def lro_wait_from_proto(message: lro_pb.WaitOperationRequest) -> tuple[str, float]:
    """Returns the checked name and seconds of a wish to wait; without a timeout the longest."""
    found = Violations()
    check_name(found, "name", message.name)
    wait_s = duration_from_proto(message.timeout) if message.HasField("timeout") else WAIT_S_MAX
    found.check(wait_s >= 0, "timeout", f"is {wait_s:g} s, below 0")
    found.raise_if_any()
    return message.name, min(wait_s, WAIT_S_MAX)


def _status(error: OperationError) -> status_pb2.Status:
    status = status_pb2.Status(code=error_to_proto(error).code or 2, message=error.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=ERROR_DOMAIN, metadata=dict(error.metadata)
        )
    )
    return status


def _selection(found: Violations, text: str) -> Selection:
    """Reads a filter: a subset of AIP-160, terms of equality that must all hold."""
    found.check(
        len(text) <= FILTER_CHARACTERS_MAX,
        "filter",
        f"has {len(text)} characters; at most {FILTER_CHARACTERS_MAX}",
    )
    states: frozenset[State] = frozenset()
    kinds: set[str] = set()
    labels: dict[str, str] = {}
    for field, value in _terms(found, text[:FILTER_CHARACTERS_MAX]):
        if field == "kind":
            check_kind(found, "filter", value)
            kinds.add(value)
        elif field.startswith("labels."):
            labels[field.removeprefix("labels.")] = value
        else:
            chosen = _states_of(field, value)
            if chosen is None:
                found.add("filter", f"holds {field} = {value[:64]}; {_HELP}")
            else:
                # All terms must hold: a second one narrows what the first one chose.
                states = states & chosen if states else chosen
                found.check(bool(states), "filter", "chooses no state at all")
    check_labels(found, "filter", labels)
    found.check(len(kinds) <= 1, "filter", "asks for two kinds at once, which nothing is")
    return Selection(states=states, kinds=frozenset(kinds), labels=labels)


def _terms(found: Violations, text: str) -> list[tuple[str, str]]:
    terms: list[tuple[str, str]] = []
    position = len(text) - len(text.lstrip())
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or len(terms) > limits.LABELS_MAX:
            found.add("filter", f"is not understood at position {position + 1}; {_HELP}")
            return []
        quoted, bare = term["quoted"], term["bare"]
        terms.append((term["field"], bare if quoted is None else quoted))
        join = _AND.match(text, term.end())
        position = term.end() if join is None else join.end()
    return terms


def _states_of(field: str, value: str) -> frozenset[State] | None:
    if field == "done":
        live = frozenset(State) - TERMINAL_STATES
        return {"true": TERMINAL_STATES, "false": live}.get(value.lower())
    name = value.removeprefix("STATE_")
    return frozenset({State(name)}) if name in State.__members__ else None
