"""Which operations a list or a watch is about."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backlane.operations.events import OperationEvent, StateChanged
from backlane.operations.operation import Operation, State


class ListOrder(StrEnum):
    """Order of a list: that in which operations were accepted, which never changes."""

    NEWEST_FIRST = "NEWEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of operations; what is empty does not narrow it.

    An operation is chosen when its name is one of `names`, its state one of `states`, its kind one
    of `kinds`, and it has all of `labels`.
    """

    names: frozenset[str] = frozenset()
    states: frozenset[State] = frozenset()
    kinds: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Returns 16 hex digits that are the same for the same choice, in whatever order."""
        text = json.dumps(
            [
                sorted(self.names),
                sorted(self.states),
                sorted(self.kinds),
                sorted(self.labels.items()),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def chooses(self, operation: Operation) -> bool:
        """Whether the operation is chosen as it stands."""
        return (not self.states or operation.state in self.states) and self._names_it(operation)

    def chooses_event(self, event: OperationEvent, operation: Operation) -> bool:
        """Whether a watch delivers the event; `operation` is as it was right after it.

        A change of state is delivered when either side of it is chosen, so that a watch of the
        RUNNING also sees how each one ends.
        """
        states = {operation.state}
        if isinstance(event.body, StateChanged) and event.body.from_state is not None:
            states.add(event.body.from_state)
        return bool(not self.states or states & self.states) and self._names_it(operation)

    def _names_it(self, operation: Operation) -> bool:
        return (
            (not self.names or operation.name in self.names)
            and (not self.kinds or operation.kind in self.kinds)
            and self.labels.items() <= operation.labels.items()
        )
