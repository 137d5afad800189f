"""The findings of the replays of one audit: merged, explained, and in their order."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from backlane.audit.portfolio_recording import PortfolioDifference
from backlane.audit.portfolio_stamp import (
    FEATURES,
    FINDINGS_MAX,
    RUN,
    SIGNALS,
    STAGES,
    TARGETS,
    PortfolioFinding,
)

PREFIX, BARS, EVENTS = "prefix", "shuffled bars", "shuffled events"
NAMES_SHOWN_MAX = 4
CAUSE_LENGTH_MAX = 300


class PortfolioFindings:
    """Collects what differs, replay after replay."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], PortfolioFinding] = {}

    def note(self, kind: str, differences: Sequence[PortfolioDifference], said: str = "") -> None:
        """Adds what differed in a replay of a kind; `said` is the cause, where it is known."""
        for each in differences:
            key = (each.stage, each.column, each.instrument)
            before = self._found.get(key)
            if before is None:
                cause = said or _cause(each, differences, kind)
                self._found[key] = PortfolioFinding(
                    *key, each.first_ns, each.size, {kind: 1}, cause
                )
                continue
            sizes = [size for size in (before.size, each.size) if size is not None]
            counts = {**before.replays, kind: before.replays.get(kind, 0) + 1}
            merged = replace(before, size=max(sizes, default=None), replays=counts)
            if each.first_ns < before.first_ns:
                cause = said or _cause(each, differences, kind)
                merged = replace(merged, first_ns=each.first_ns, cause=cause)
            self._found[key] = merged

    def failed(self, kind: str, time_ns: int, error: Exception) -> None:
        """Adds a replay that could not be made, where the whole run could."""
        difference = PortfolioDifference(RUN, type(error).__name__, "", time_ns, None)
        self.note(
            kind,
            [difference],
            f"the run fails when later data is gone or other: {error}"[:CAUSE_LENGTH_MAX],
        )

    def findings(self) -> tuple[PortfolioFinding, ...]:
        """Returns all of them, by stage, then by bar, column and instrument."""
        return in_order(self._found.values())


def in_order(findings: Iterable[PortfolioFinding]) -> tuple[PortfolioFinding, ...]:
    """Returns findings by stage, then by bar, column and instrument."""
    return tuple(
        sorted(
            findings,
            key=lambda each: (
                STAGES.index(each.stage), each.first_ns, each.column, each.instrument,
            ),
        )
    )  # fmt: skip


def kept(
    findings: tuple[PortfolioFinding, ...],
) -> tuple[tuple[PortfolioFinding, ...], tuple[str, ...]]:
    """Returns at most FINDINGS_MAX of them, and a note about the others."""
    if len(findings) <= FINDINGS_MAX:
        return findings, ()
    note = f"{len(findings)} columns of instruments differ; the first {FINDINGS_MAX} are kept."
    return findings[:FINDINGS_MAX], (note,)


def _cause(difference: PortfolioDifference, found: Sequence[PortfolioDifference], kind: str) -> str:
    """Returns why it differs; `found` is everything that differed in the same replay."""
    place = STAGES.index(difference.stage)
    earlier = [
        each
        for each in found
        if STAGES.index(each.stage) < place and each.first_ns <= difference.first_ns
    ]
    if earlier:
        stage = min((each.stage for each in earlier), key=STAGES.index)
        names = list(dict.fromkeys(each.column for each in earlier if each.stage == stage))
        more = len(names) - NAMES_SHOWN_MAX
        said = ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        return f"follows from {stage}: {said}"
    if difference.stage not in (FEATURES, SIGNALS, TARGETS):
        return "what it is computed from is the same: the simulation itself reads what comes later"
    return {
        PREFIX: "it changes when bars after its own and events not disclosed by then are gone",
        BARS: "it reads bars after its own",
        EVENTS: "it reads events before they were disclosed",
    }[kind]
