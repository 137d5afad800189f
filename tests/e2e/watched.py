"""What a watch of one operation brought, taken apart, and checked for gaps and repeats."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from backlane.client.backlane_client import Client
from backlane.client.operations import watch_request
from backlane.operations.events import MetricPoint, MetricsAppended, StateChanged, TradesAppended
from backlane.operations.operation import Progress, State
from backlane.operations.watching import StartAt, WatchMessage
from backlane.portfolio.records import TradeRecord
from backlane.wire.portfolio import trade_from_bytes


@dataclass
class Watched:
    sequences: list[int] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    trades: list[TradeRecord] = field(default_factory=list)
    points: list[MetricPoint] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    resume_token: str = ""

    def take(self, message: WatchMessage) -> "Watched":
        for event in message.events:
            self.sequences.append(event.sequence)
            self.revisions.append(event.revision)
            match event.body:
                case StateChanged(to_state=state):
                    self.states.append(state)
                case TradesAppended(trades=trades):
                    self.trades += map(trade_from_bytes, trades)
                case MetricsAppended(points=points):
                    self.points += points
        self.progress += message.progress.values()
        self.resume_token = message.resume_token
        return self

    def take_all(self, messages: Iterable[WatchMessage]) -> "Watched":
        for message in messages:
            self.take(message)
        return self

    def is_whole(self) -> bool:
        """Whether every event of the operation came, once and in order."""
        return (
            self.sequences == list(range(1, len(self.sequences) + 1))
            and self.revisions == sorted(set(self.revisions))
            and [point.index for point in self.points] == list(range(1, len(self.points) + 1))
        )


def watch_from_begin(client: Client, name: str) -> Iterable[WatchMessage]:
    return client.operations.watch(watch_request(name, start=StartAt.OLDEST))


def until_trades(client: Client, name: str) -> Watched:
    """Watches until the run has closed its first trades, and goes away."""
    watched = Watched()
    for message in watch_from_begin(client, name):
        if watched.take(message).trades:
            break
    return watched
