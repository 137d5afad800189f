"""The three services over one home, as processes, on free ports, and what they take."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from backlane.client.connection import Addresses
from backlane.testing.servers import ServiceProcess

MODELS = Path(__file__).resolve().parents[1] / "models"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ThreeServices:
    """Started on entering, drained on leaving. One worker, which is kept from run to run.

    `more` is added to the environment of all three.
    """

    def __init__(self, home: Path, more: Mapping[str, str] | None = None) -> None:
        everywhere = {**os.environ, "BACKLANE_HOME": str(home)}
        own = {
            "BACKLANE_OPERATIONS_DATA_DIR": str(home / "registry"),
            "BACKLANE_MODELS_MODELS_DIR": str(MODELS),
            "BACKLANE_BACKTESTS_WORKERS": "1",
        }
        self._env = {**everywhere, **own, **(more or {})}
        self._folder = home
        self._started: list[ServiceProcess] = []

    def __enter__(self) -> Self:
        """Starts them, one after the other, and waits until each serves."""
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        operations = self._start("operations_service", "BACKLANE_OPERATIONS_")
        models = self._start("model_service", "BACKLANE_MODELS_")
        self._env["BACKLANE_BACKTESTS_OPERATIONS_ADDRESS"] = operations
        self._env["BACKLANE_BACKTESTS_MODELS_ADDRESS"] = models
        backtests = self._start("backtest_service", "BACKLANE_BACKTESTS_")
        self.addresses = Addresses(operations, models, backtests)

    def _start(self, module: str, prefix: str) -> str:
        process = ServiceProcess(
            module, env_prefix=prefix, folder=self._folder, env={**self._env, f"{prefix}PORT": "0"}
        )
        process.__enter__()
        self._started.append(process)
        return process.address

    def __exit__(self, *_: object) -> None:
        """Drains them, the last one first."""
        for process in reversed(self._started):
            process.__exit__(None, None, None)

    @property
    def backtests_pid(self) -> int:
        """The process id of backtest_service, whose children carry out the runs."""
        return self._started[-1].pid

    @property
    def cpu_s(self) -> float:
        """Processor time of the services and their workers so far, in steps of 10 ms."""
        return sum(_cpu_s(pid) for pid in self._pids())

    @property
    def peak_bytes(self) -> int:
        """The most memory that each process had resident, summed: at least what all had at once."""
        return sum(_peak_bytes(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        """Returns the services, and all that they started and that still runs."""
        found = [process.pid for process in self._started]
        parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
        for pid in found:  # grows while it is gone through: children of children too
            found += [child for child, parent in parents.items() if parent == pid]
        return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended meanwhile


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / _TICKS_PER_S


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no VmHWM")
