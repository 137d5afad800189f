"""Leases and directives on the wire: as messages, and back."""

from backlane.api.operations.v1 import operation_pb2 as pb
from backlane.api.operations.v1 import worker_service_pb2 as worker_pb
from backlane.operations.directives import Action, Directive, Hold
from backlane.wire.times import duration_from_proto, duration_to_proto

_ACTIONS = {action: worker_pb.Directive.Action.Value(f"ACTION_{action.value}") for action in Action}
_ACTIONS_BACK = {number: action for action, number in _ACTIONS.items()}


def hold_to_proto(hold: Hold) -> pb.Lease:
    """Returns the message for a lease."""
    return pb.Lease(
        operation=hold.operation,
        epoch=hold.epoch,
        ttl=duration_to_proto(hold.ttl_s),
        renew_interval=duration_to_proto(hold.renew_interval_s),
    )


def hold_from_proto(message: pb.Lease) -> Hold:
    """Returns the lease of a message."""
    return Hold(
        operation=message.operation,
        epoch=message.epoch,
        ttl_s=duration_from_proto(message.ttl),
        renew_interval_s=duration_from_proto(message.renew_interval),
    )


def directive_to_proto(directive: Directive) -> worker_pb.Directive:
    """Returns the message for a directive."""
    is_cancel = directive.action is Action.CANCEL
    return worker_pb.Directive(
        operation=directive.operation,
        action=_ACTIONS[directive.action],
        lease=hold_to_proto(directive.hold) if directive.hold else None,
        grace=duration_to_proto(directive.grace_s) if is_cancel else None,
        reason=directive.reason,
    )


def directive_from_proto(message: worker_pb.Directive) -> Directive:
    """Returns the directive of a message."""
    return Directive(
        operation=message.operation,
        action=_ACTIONS_BACK[message.action],
        hold=hold_from_proto(message.lease) if message.HasField("lease") else None,
        grace_s=duration_from_proto(message.grace),
        reason=message.reason,
    )
