"""Watchers of the whole log, each with its own way of reading, and each with a checker.

live: reads what comes; one for each proxy, so for each replica. filtered: backtests alone. sleepy:
stops reading for a while, goes away, and comes back with its token. cold: begins from the oldest
event again and again, over many pages, while others write.
"""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from backlane.client.operations import OperationsClient, watch_request
from backlane.client.watching import Reconnected
from backlane.errors import BacklaneError
from backlane.operations.selection import Selection
from backlane.operations.watching import StartAt, WatchMessage, WatchRequest
from tests.chaos.calls import is_passing
from tests.proofs.checker import WatchChecker

BACKTESTS = "backtest.run"
RECONNECT_DEADLINE_S = 180.0
PAUSE_S = 0.1


class Goal:
    """The revision that every watcher is to reach; unknown until the storm is over."""

    def __init__(self) -> None:
        self.revision: int | None = None
        self.is_given_up = threading.Event()

    def is_reached(self, revision: int) -> bool:
        """Whether a watcher that stands there is done."""
        return self.is_given_up.is_set() or (
            self.revision is not None and revision >= self.revision
        )


class Watcher(threading.Thread):
    """Reads until the goal; `checker` has what it saw, `latencies_s` when."""

    def __init__(self, name: str, address: str, goal: Goal, *, kind: str = "") -> None:
        super().__init__(name=name, daemon=True)
        self.checker = WatchChecker(name, is_filtered=bool(kind))
        self.latencies_s: list[float] = []
        self.reconnects = 0
        self.last_error = "without an error"
        self._address = address
        self._goal = goal
        self._selection = Selection(kinds=frozenset({kind})) if kind else Selection()

    def run(self) -> None:
        """Reads to the end."""
        try:
            self.follow()
        except Exception as error:  # noqa: BLE001 - it is what the storm is about
            self.checker.problems.add(f"{self.name} ended with {type(error).__name__}: {error}")

    def follow(self) -> None:
        """Reads everything as it comes."""
        self.checker.connected(with_token=False)
        for message in self.messages(self.request()):
            self.take(message)
            if self._goal.is_reached(message.through_revision):
                return

    def request(self) -> WatchRequest:
        """From the oldest event, with a sign of life each second."""
        return watch_request(
            selection=self._selection, start=StartAt.OLDEST, bookmark_interval_s=1.0
        )

    def messages(self, request: WatchRequest) -> Iterator[WatchMessage]:
        """Watches, over reconnects of the client's own."""

        def came_back(_: Reconnected) -> None:
            self.reconnects += 1
            self.checker.connected(with_token=True)

        with OperationsClient(self._address, client_name="chaos") as client:
            while True:
                try:
                    for message in client.watch(
                        request,
                        on_reconnect=came_back,
                        reconnect_deadline_s=RECONNECT_DEADLINE_S,
                    ):
                        yield message
                        request = replace(request, resume_token=message.resume_token)
                except BacklaneError as error:
                    # A first connection has 3 s, and the service may be away for longer.
                    if not is_passing(error) or self._goal.is_given_up.is_set():
                        raise
                    self.last_error = f"last {type(error).__name__}: {error}"
                    self.checker.connected(with_token=bool(request.resume_token))
                    time.sleep(PAUSE_S)
                else:
                    return

    def take(self, message: WatchMessage) -> None:
        """Checks a message, and notes how old its events are."""
        now_ns = time.time_ns()
        self.latencies_s += [(now_ns - event.time_ns) / 1e9 for event in message.events]
        self.checker.accept(message)


class SleepyWatcher(Watcher):
    """Stops in the middle of the stream, then leaves and comes back later."""

    def __init__(self, name: str, address: str, goal: Goal, chance: random.Random) -> None:
        super().__init__(name, address, goal)
        self._chance = chance

    def follow(self) -> None:
        """Reads a few messages, sleeps, leaves, sleeps, and comes back."""
        self.checker.connected(with_token=False)
        while not self._goal.is_given_up.is_set():
            request = replace(self.request(), resume_token=self.checker.token)
            left = self._chance.randint(1, 60)
            for message in self.messages(request):
                self.checker.accept(message)
                if self._goal.is_reached(message.through_revision):
                    return
                left -= 1
                if left == 0:
                    break
                if self._chance.random() < 0.1:
                    time.sleep(self._chance.uniform(0.0, 1.0))
            time.sleep(self._chance.uniform(0.0, 2.0))
            self.checker.connected(with_token=bool(self.checker.token))


class ColdWatcher(Watcher):
    """Begins from the oldest event each time; the last time reads to the goal."""

    reads = 0

    def follow(self) -> None:
        """Reads the whole log, again and again."""
        while not self._goal.is_given_up.is_set():
            with OperationsClient(self._address, client_name="chaos") as client:
                newest = _newest_revision(client)
            self.checker.connected(with_token=False)
            for message in self.messages(self.request()):
                self.checker.accept(message)
                if self._goal.is_reached(message.through_revision):
                    self.reads += 1
                    return
                if self._goal.revision is None and message.through_revision >= newest:
                    break
            self.reads += 1
            time.sleep(PAUSE_S * 20)


def _newest_revision(client: OperationsClient) -> int:
    try:
        return max((one.revision for one in client.list_operations(limit=1)), default=0)
    except BacklaneError as error:
        if not is_passing(error):
            raise
        return 0
