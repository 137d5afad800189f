"""What a strategy is: a name, parameters, and a causal function of a panel and events.

One that decides targets maps them to one row of target weights for each bar. One that must see the
book, because it proposes trades, maps them to one row of signals for each bar, and makes proposals
of a row and what is held. Both are computed for all bars at once; causal means that the row of a
bar is the same whatever comes after it. In a cycle the last row counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.context import Context
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.risk.proposal import TradeProposal

Features = Mapping[str, NDArray[np.float64]]
"""Grids (times, symbols) by name; the last row is that of the cycle."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What a strategy decided: arrays of shape (times, symbols).

    `weights` are signed shares of the capital: NaN is no decision, 0 is flat. `direction` is +1
    long, 0 flat, -1 short; `score` is the strategy's own strength, NaN where it has none.
    """

    direction: NDArray[np.int8]
    score: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StrategyInput:
    """What a strategy may read: bars, events by source, and the features that it asked for."""

    panel: Panel
    events: Mapping[str, Events]
    features: Features


class SignalRows(Protocol):
    """The signals of a strategy that proposes trades, for every bar."""

    def row(self, bar: int) -> Sequence[Any]:
        """Returns the signals of a bar; they hold nothing that was not known at its close."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ProposalInput:
    """What proposals are made of: the signals of the bar, the context, and the members.

    `is_member` (symbols,) marks the instruments of the universe.
    """

    signals: Sequence[Any]
    context: Context
    is_member: NDArray[np.bool_]


def no_features(_panel: Panel, _events: Mapping[str, Events], _parameters: Any) -> Features:
    """Returns no features: those of a strategy that computes what it needs by itself."""
    return {}


@dataclass(frozen=True, slots=True)
class TargetStrategy:
    """A strategy that decides targets: its parameters, the events it needs, and its functions.

    `features` may name grids that are kept beside the decisions, so that an audit can name them.
    """

    parameters: type[ConfigRecord]
    decide: Callable[[StrategyInput, Any], Targets]
    sources: tuple[str, ...] = ()
    features: Callable[[Panel, Mapping[str, Events], Any], Features] = no_features


@dataclass(frozen=True, slots=True)
class TradeStrategy:
    """A strategy that proposes trades: signals for all bars, and proposals for one of them."""

    parameters: type[ConfigRecord]
    signals: Callable[[StrategyInput, Any], SignalRows]
    propose: Callable[[ProposalInput, Any], Sequence[TradeProposal]]
    sources: tuple[str, ...] = ()
    features: Callable[[Panel, Mapping[str, Events], Any], Features] = no_features


Strategy = TargetStrategy | TradeStrategy
Registry = Mapping[str, Strategy]
"""Strategies by the names that a configuration writes."""
