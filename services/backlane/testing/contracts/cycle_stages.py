"""What the stages of a cycle must do: subclass a suite and give it a fixture called `stage`.

Each is asked about the contexts of `contexts()`: an empty book and one that holds something on both
sides, with an instrument that has no bar at the end.
"""

# pytest asserts; ruff forbids it elsewhere.
# ruff: noqa: S101

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from backlane.cycle.context import BookFacts, Context, Surroundings, context_at
from backlane.cycle.cycle_result import CycleUniverse, Drafts, ProposalBook, RiskVerdict
from backlane.cycle.run_cycle import reducing_part
from backlane.cycle.stages import (
    FeatureStage,
    OrderStage,
    ProposalStage,
    RiskStage,
    SignalStage,
    SizingStage,
    UniverseStage,
)
from backlane.panel.panel import Panel

DAY_NS = 86_400_000_000_000
BAR_COUNT = 30
SYMBOLS = ("S0", "S1", "S2", "S3")


def contract_panel() -> Panel:
    """Returns bars of four instruments; the last has no bar at the end."""
    random = np.random.default_rng(11)
    steps = random.normal(0.0, 0.02, (BAR_COUNT, len(SYMBOLS)))
    close = 50.0 * np.exp(np.cumsum(steps, axis=0))
    close[-1, -1] = np.nan
    time_ns = np.arange(1, BAR_COUNT + 1) * DAY_NS
    volume = np.where(np.isnan(close), np.nan, 1_000.0)
    return Panel(SYMBOLS, time_ns, time_ns, close, close * 1.01, close * 0.99, close, volume)


def contexts() -> Iterator[Context]:
    """Yields the contexts that every stage is asked about."""
    panel = contract_panel()
    flat = BookFacts.of_cash(len(SYMBOLS), 10_000.0)
    for quantity in ([0.0, 0.0, 0.0, 0.0], [10.0, -5.0, 0.0, 3.0]):
        last_close = np.array([column[np.isfinite(column)][-1] for column in panel.close.T])
        book = replace(flat, quantity=np.array(quantity), last_close=last_close)
        yield context_at(panel, {}, int(panel.known_ns[-1]), book=book, around=Surroundings())


def everyone(context: Context) -> CycleUniverse:
    """Returns the universe of all that have a bar."""
    return CycleUniverse(context.has_bar)


def some_drafts(context: Context) -> Drafts:
    """Returns orders that enter, reduce, and turn a position around."""
    return Drafts(np.array([-25.0, 2.0, 7.0, -3.0]), context.book.last_close)


class UniverseContract:
    """The promises of the universe."""

    def test_members_have_a_bar(self, stage: UniverseStage) -> None:
        """Who has no bar now cannot be entered, and is told why."""
        for context in contexts():
            found = stage(context)
            assert found.is_member.shape == (len(SYMBOLS),)
            assert not (found.is_member & ~context.has_bar).any()
            others = {SYMBOLS[each] for each in np.flatnonzero(~found.is_member)}
            assert others == set(found.excluded)

    def test_it_is_the_same_again(self, stage: UniverseStage) -> None:
        """A stage has no memory."""
        for context in contexts():
            assert stage(context).is_member.tolist() == stage(context).is_member.tolist()


class FeatureContract:
    """The promises of the features."""

    def test_grids_end_with_the_bar_of_the_cycle(self, stage: FeatureStage) -> None:
        """Every feature has the shape of the panel, and the same values however long it goes on."""
        for context in contexts():
            found = stage(context, everyone(context))
            earlier = context.until(int(context.panel.known_ns[-2]))
            before = stage(earlier, everyone(earlier))
            assert set(before) == set(found)
            for name, values in found.items():
                assert values.shape == context.panel.close.shape
                assert values[:-1].tobytes() == before[name].tobytes()


class SignalContract:
    """The promises of the signals; `features` computes what they read."""

    def test_rows_have_a_value_for_each_instrument(
        self, stage: SignalStage, features: FeatureStage
    ) -> None:
        """Every row has the shape (symbols,), and nothing in it is infinite."""
        for context in contexts():
            universe = everyone(context)
            for said in stage(context, universe, features(context, universe)):
                for row in (said.direction, said.score, said.weights, said.standing):
                    assert row is None or row.shape == (len(SYMBOLS),)
                assert said.weights is None or not np.isinf(said.weights).any()
                assert said.standing is None or np.isfinite(said.standing).all()

    def test_it_is_the_same_again(self, stage: SignalStage, features: FeatureStage) -> None:
        """A strategy answers a context, not how often it was asked."""
        for context in contexts():
            universe = everyone(context)
            answers = [stage(context, universe, features(context, universe)) for _ in range(2)]
            for one, other in zip(*answers, strict=True):
                assert one.strategy == other.strategy
                np.testing.assert_array_equal(one.weights, other.weights)
                assert one.triggers == other.triggers


class ProposalContract:
    """The promises of proposals; `signals` and `features` are what they are made of."""

    def test_one_target_or_trade_for_each_instrument(
        self, stage: ProposalStage, signals: SignalStage, features: FeatureStage
    ) -> None:
        """Who is no member is not entered; nobody is proposed twice."""
        for context in contexts():
            nobody = CycleUniverse(np.zeros(len(SYMBOLS), dtype=bool))
            for universe in (everyone(context), nobody):
                said = signals(context, universe, features(context, universe))
                found = stage(context, universe, said)
                names = [trade.symbol for trade in found.trades]
                assert len(names) == len(set(names))
                if found.weights is not None:
                    assert found.weights.shape == (len(SYMBOLS),)
                    wanted = ~np.isnan(found.weights) & (found.weights != 0.0)
                    assert not (wanted & ~universe.is_member).any()


class SizingContract:
    """The promises of sizing."""

    def test_no_decision_is_no_order(self, stage: SizingStage) -> None:
        """NaN leaves everything as it is."""
        for context in contexts():
            undecided = ProposalBook(np.full(len(SYMBOLS), np.nan))
            assert not stage(context, everyone(context), undecided).quantity.any()

    def test_flat_closes_everything(self, stage: SizingStage) -> None:
        """A weight of 0 sells or buys back what is held, with or without a bar."""
        for context in contexts():
            flat = stage(context, everyone(context), ProposalBook(np.zeros(len(SYMBOLS))))
            assert (flat.quantity + context.book.quantity).tolist() == [0.0] * len(SYMBOLS)

    def test_nothing_is_entered_without_a_bar(self, stage: SizingStage) -> None:
        """There is no price to size by."""
        for context in contexts():
            wanted = ProposalBook(np.full(len(SYMBOLS), 0.2))
            drafts = stage(context, everyone(context), wanted)
            assert np.isfinite(drafts.quantity).all()
            assert not drafts.quantity[~context.has_bar].any()


class RiskContract:
    """The promises of risk."""

    def test_it_only_cuts(self, stage: RiskStage) -> None:
        """No order becomes larger or turns around, and what vanishes has a reason."""
        for context in contexts():
            drafts = some_drafts(context)
            verdict = stage(context, everyone(context), drafts)
            assert (np.abs(verdict.quantity) <= np.abs(drafts.quantity)).all()
            assert (verdict.quantity * drafts.quantity >= 0.0).all()
            gone = {
                SYMBOLS[each]
                for each in np.flatnonzero((verdict.quantity == 0.0) & (drafts.quantity != 0.0))
            }
            assert gone <= {refusal.symbol for refusal in verdict.refusals}

    def test_what_reduces_passes(self, stage: RiskStage) -> None:
        """Exits are never blocked by a limit; the halt and bad data are no limits."""
        for context in contexts():
            drafts = some_drafts(context)
            verdict = stage(context, everyone(context), drafts)
            reducing = reducing_part(context.book.quantity, drafts.quantity)
            assert (np.abs(verdict.quantity) >= np.abs(reducing)).all()


class OrderContract:
    """The promises of orders."""

    def test_they_are_what_risk_left(self, stage: OrderStage) -> None:
        """One order for each instrument that something is left of, in the order of the panel."""
        for context in contexts():
            drafts = some_drafts(context)
            left = np.where(np.arange(len(SYMBOLS)) == 1, 0.0, drafts.quantity)
            orders = stage(context, drafts, RiskVerdict(left))
            assert [each.symbol for each in orders] == ["S0", "S2", "S3"]
            assert orders.quantity.tolist() == left.tolist()
            assert [each.quantity for each in orders] == left[left != 0.0].tolist()
            identifiers = [each.id for each in orders]
            assert identifiers == sorted(set(identifiers))

    def test_nothing_left_is_no_order(self, stage: OrderStage) -> None:
        """An empty verdict gives an empty answer, not None."""
        for context in contexts():
            assert (
                len(stage(context, some_drafts(context), RiskVerdict(np.zeros(len(SYMBOLS))))) == 0
            )
