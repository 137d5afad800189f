"""What the cycles of a run came to, in counts."""

from dataclasses import dataclass, field
from typing import Any

from backlane.cycle.cycle_result import CycleResult
from backlane.market.spacing import stamp_text


@dataclass(slots=True)
class CycleCounts:
    """What the cycles of a run came to: how many, how many failed, and what was refused."""

    cycles: int = 0
    failed: int = 0
    first_failure: str = ""
    no_trade: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)

    def add(self, result: CycleResult) -> None:
        """Counts one more cycle, and everything that it refused."""
        self.cycles += 1
        if result.failure is not None:
            self.failed += 1
            said = f"{stamp_text(result.as_of_ns)} {result.failure.stage}: {result.failure.message}"
            self.first_failure = self.first_failure or said
        if result.no_trade is not None:
            reason = str(result.no_trade)
            self.no_trade[reason] = self.no_trade.get(reason, 0) + 1
        for code in (code for refusal in result.refusals for code in refusal.codes):
            self.refusals[str(code)] = self.refusals.get(str(code), 0) + 1

    def document(self) -> dict[str, Any]:
        """Returns the same as plain data, for a result file; counts are sorted by their names."""
        return {
            "count": self.cycles,
            "failed": self.failed,
            "first_failure": self.first_failure,
            "no_trade": dict(sorted(self.no_trade.items())),
            "refusals": dict(sorted(self.refusals.items())),
        }
