"""What the holder of a lease is told: how long it is good, and whether to go on."""

from dataclasses import dataclass
from enum import StrEnum

from backlane.operations.lease import LeaseTerms
from backlane.operations.operation import Operation, State
from backlane.operations.store import RenewalReply


class Action(StrEnum):
    """What a holder must do."""

    CONTINUE = "CONTINUE"
    CANCEL = "CANCEL"
    ABANDON = "ABANDON"


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease as its holder knows it.

    `ttl_s` counts from before the holder sent the request that granted or renewed it, on the
    holder's own monotonic clock.
    """

    operation: str
    epoch: int
    ttl_s: float
    renew_interval_s: float


@dataclass(frozen=True, slots=True)
class Directive:
    """What a holder must do with one operation.

    CONTINUE: go on, the hold is good. CANCEL: stop, and complete as cancelled within `grace_s`.
    ABANDON: the hold is lost, stop at once and write nothing more.
    """

    operation: str
    action: Action
    hold: Hold | None = None
    grace_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Work that a worker was given."""

    hold: Hold
    operation: Operation


def hold_of(operation: Operation, terms: LeaseTerms) -> Hold:
    """Returns the hold that the operation's newest lease gives."""
    return Hold(operation.name, operation.epoch, terms.ttl_s, terms.renew_interval_s)


def directive_for(operation: Operation, terms: LeaseTerms) -> Directive:
    """Returns what the holder of an operation must do."""
    hold = hold_of(operation, terms)
    if operation.state is State.CANCELLING:
        return Directive(
            operation.name, Action.CANCEL, hold, terms.grace_s, operation.cancel_reason
        )
    return Directive(operation.name, Action.CONTINUE, hold)


def answer_to(reply: RenewalReply, terms: LeaseTerms) -> Directive:
    """Returns what a worker is told that wanted to keep a lease."""
    if reply.operation is None:
        return Directive(reply.renewal.operation, Action.ABANDON, reason=reply.problem)
    return directive_for(reply.operation, terms)
