"""SIGTERM and SIGINT: the first asks for a drain, a second one for the end at once."""

import asyncio
import signal

from backlane.clock import Clock

SAME_SIGNAL_S = 0.5
"""A second signal within this time is the first one again: Ctrl-C reaches a child from the
terminal and once more from its parent."""

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Receives the signals of this process, for the event loop that it is made in."""

    def __init__(self, clock: Clock) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._clock = clock
        self._first_s = 0.0
        self._loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            self._loop.add_signal_handler(number, self._receive)

    def ignore(self) -> None:
        """Ignores both from here on: the process ends anyway, and its exit code is settled.

        Without this, the default action would come back while the interpreter shuts down, and a
        late copy of the signal would turn a clean end into one by signal.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
        for number in _NUMBERS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)

    def _receive(self) -> None:
        if not self.first.is_set():
            self._first_s = self._clock.monotonic_s()
            self.first.set()
        elif self._clock.monotonic_s() - self._first_s > SAME_SIGNAL_S:
            self.second.set()
