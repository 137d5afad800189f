"""The configuration of a portfolio run: one record, as its YAML file holds it."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from backlane.backtest.execution_config import (
    CostsConfig,
    ExecutionConfig,
    MarginConfig,
    book_rules,
)
from backlane.backtest.meta_model import MetaModelConfig
from backlane.backtest.mode_config import ReplayConfig, StressConfig
from backlane.backtest.portfolio_bars import book_bars
from backlane.backtest.portfolio_simulator import FillTime
from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.cycle.risk_config import RiskConfig
from backlane.cycle.universe_stage import UniverseConfig
from backlane.panel.panel import Panel
from backlane.panel.stress import stressed_panel
from backlane.portfolio.book_full_loop import BookBars
from backlane.portfolio.book_rules import BookRules

OPTIONAL_SECTIONS = (
    "execution",
    "margin",
    "strategy",
    "strategies",
    "universe",
    "risk",
    "failed_cycles_max",
    "replay",
    "stress",
    "meta_model",
)


class RunMode(StrEnum):
    """How the cycle is driven: where its bars come from, and who waits for them."""

    BACKTEST = "backtest"
    REPLAY = "replay"
    STRESS = "stress"
    PAPER = "paper"
    END_OF_DAY = "end_of_day"


class StrategyConfig(ConfigRecord):
    """Which strategy, and its parameters; the strategy itself checks those."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    parameters: dict[str, Any] = Field(default_factory=dict)


class SharedStrategyConfig(StrategyConfig):
    """One of several strategies: its share of the book, and its budget in one cycle.

    Target weights and sizes of proposals are multiplied by `weight`. The budget is of proposals to
    trade: how many, and the share of equity that they may ask for together.
    """

    weight: Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=100)]
    trades_per_cycle_max: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    at_risk_max: Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=10)] | None = None


class DataConfig(ConfigRecord):
    """Files: the panel, and the events by source; relative to the file of the configuration."""

    panel: Annotated[str, Field(min_length=1)]
    events: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)


class PortfolioConfig(ConfigRecord):
    """Everything that decides the outcome of a portfolio run.

    Either `strategy` or `strategies` names what decides. A run ends when more than
    `failed_cycles_max` of its cycles fail.
    """

    strategy: StrategyConfig | None = None
    strategies: Annotated[tuple[SharedStrategyConfig, ...], Field(max_length=100)] = ()
    data: DataConfig
    initial_cash: Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=1e15)] = 100_000.0
    costs: CostsConfig = CostsConfig()
    fill: FillTime = FillTime.NEXT_OPEN
    execution: ExecutionConfig = ExecutionConfig()
    margin: MarginConfig = MarginConfig()
    compounding: Annotated[bool, Field(strict=True)] = True
    mode: RunMode = RunMode.BACKTEST
    replay: ReplayConfig = ReplayConfig()
    stress: StressConfig = StressConfig()
    universe: UniverseConfig = UniverseConfig()
    risk: RiskConfig = RiskConfig()
    failed_cycles_max: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0
    meta_model: MetaModelConfig | None = None

    @model_validator(mode="after")
    def _stress_does_something(self) -> Self:
        if self.mode is RunMode.STRESS and self.stress.is_harmless:
            raise ValueError("mode stress needs a section stress that says what is done")
        return self

    @model_validator(mode="after")
    def _sized_where_it_fills(self) -> Self:
        if self.execution.sized_at == "open" and self.fill is FillTime.THIS_CLOSE:
            raise ValueError("execution.sized_at open needs fill next_open")
        return self

    def fed(self, panel: Panel) -> Panel:
        """Returns the panel that the cycle is fed with: in mode stress a worse one."""
        if self.mode is not RunMode.STRESS:
            return panel
        return stressed_panel(panel, self.stress.rules)

    @property
    def rules(self) -> BookRules:
        """How orders fill and what that costs, for the book."""
        at_close = self.fill is FillTime.THIS_CLOSE
        costs = self.costs
        if self.mode is RunMode.STRESS:
            costs = self.stress.widened(costs)
        return book_rules(costs, self.execution, self.margin, fills_this_close=at_close)

    @property
    def lot_when_placed(self) -> float:
        """Units of a lot by which a cycle rounds; 0 for none, or where the book does it later."""
        return 0.0 if self.execution.sized_at == "open" else self.execution.lot_size or 0.0

    def bars(self, panel: Panel) -> BookBars:
        """Returns the bars of a panel for the book, with its sessions and delistings.

        Raises InvalidRequestError for a delisting of an instrument that the panel does not have.
        """
        execution = self.execution
        delistings = [each.delisting for each in execution.delistings]
        return book_bars(panel, self.rules, execution.session, delistings)

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the sections that say nothing: a plain configuration stays a plain one."""
        document: dict[str, Any] = serialize(self)
        for name in OPTIONAL_SECTIONS:
            if getattr(self, name) == type(self).model_fields[name].default:
                document.pop(name, None)
        return document
