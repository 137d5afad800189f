"""The audit that asks whether anything of a portfolio run depends on what came later.

The run is repeated as if the world ended at a bar t: with bars and events cut to what was known
then, and, apart from each other, with the later bars and the later disclosures in another order.
At t and before, everything must be the same to the bit: features, signals, targets, orders, fills,
the account. A shuffle says which data was read early; only a cut finds what depends on there being
a later bar at all.
"""

from collections.abc import Callable, Mapping

import numpy as np

from backlane.audit.lookahead import DEFAULT_BAR_COUNT, chosen_rows
from backlane.audit.portfolio_findings import BARS, EVENTS, PREFIX, PortfolioFindings, kept
from backlane.audit.portfolio_future import known_events, shuffled_events, shuffled_panel
from backlane.audit.portfolio_recording import Recording, compare_recordings, record_run
from backlane.audit.portfolio_stamp import PortfolioStamp, verdict_on
from backlane.audit.stamp import AuditKind
from backlane.backtest.digest import digest_config
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.panel.events import Events
from backlane.panel.panel import Panel


def audit_portfolio_lookahead(
    plan: RunPlan,
    panel: Panel,
    events: Mapping[str, Events],
    *,
    bar_count: int = DEFAULT_BAR_COUNT,
    seed: int = 0,
    dataset_digests: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PortfolioStamp:
    """Cuts at the first bar and at `bar_count` - 1 seeded ones, and compares.

    Raises what `run_plan` raises of the whole run, and NotEnoughBarsError for fewer than two bars.
    A strategy that cannot run on less, or on another future, has a finding.
    """
    random = np.random.default_rng(seed)
    rows = chosen_rows(len(panel), bar_count, random)
    whole = record_run(plan, panel, events)
    audit = _Replays(plan, panel, events, whole)
    for done, row in enumerate(rows, start=1):
        audit.replay_at(row, random)
        if on_progress is not None:
            on_progress(done, len(rows))
    every = audit.found.findings()
    findings, notes = kept(every)
    return PortfolioStamp(
        kind=AuditKind.LOOKAHEAD,
        verdict=verdict_on(every),
        seed=seed,
        bar_count=len(panel),
        instrument_count=len(panel.symbols),
        replay_count=audit.replay_count,
        checked_ns=tuple(int(panel.time_ns[row]) for row in rows),
        columns=whole.columns(),
        findings=findings,
        notes=notes,
        strategies=tuple(each.label for each in plan.strategies),
        config_digest=digest_config(plan.config.model_dump(mode="json")),
        dataset_digests=dict(dataset_digests or {}),
        versions=dict(versions or {}),
    )


class _Replays:
    """The replays of one audit, and what they found."""

    def __init__(
        self, plan: RunPlan, panel: Panel, events: Mapping[str, Events], whole: Recording
    ) -> None:
        self._plan, self._panel, self._events, self._whole = plan, panel, events, whole
        self.found = PortfolioFindings()
        self.replay_count = 0

    def replay_at(self, row: int, random: np.random.Generator) -> None:
        """Replays with the future of a bar gone, and with another one."""
        panel, events = self._panel, self._events
        as_of_ns = int(panel.known_ns[row])
        self._replay(PREFIX, row, panel.until(as_of_ns), known_events(events, as_of_ns))
        self._replay(BARS, row, shuffled_panel(panel, as_of_ns, random), events)
        if events:
            self._replay(EVENTS, row, panel, shuffled_events(events, as_of_ns, random))

    def _replay(self, kind: str, row: int, panel: Panel, events: Mapping[str, Events]) -> None:
        self.replay_count += 1
        try:
            replay = record_run(self._plan, panel, events)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            self.found.failed(kind, int(self._panel.time_ns[row]), error)
            return
        self.found.note(kind, compare_recordings(self._whole, replay, row))
