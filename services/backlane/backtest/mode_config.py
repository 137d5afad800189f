"""What a configuration says about the modes: the pace of a replay, and the stress on data."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from backlane.backtest.execution_config import MAX_COST_BPS, CostsConfig, SparseRecord
from backlane.cycle.config_record import plain_number
from backlane.panel.stress import Jump, Spell, StressRules, Way

SPELL_BARS_MAX = 100_000
_Number = Annotated[float, BeforeValidator(plain_number)]
_Probability = Annotated[_Number, Field(ge=0, le=1)]
_Pace = Annotated[_Number, Field(ge=0, le=1e9)]


class ReplayConfig(SparseRecord):
    """How fast recorded bars come: so many a second, or time so many times as fast as it went.

    Without either they come as fast as they can be traded on.
    """

    bars_per_second: _Pace = 0.0
    realtime_factor: _Pace = 0.0

    @model_validator(mode="after")
    def _one_pace(self) -> Self:
        if self.bars_per_second > 0 and self.realtime_factor > 0:
            raise ValueError("bars_per_second stands beside realtime_factor: give one of them")
        return self


class JumpConfig(SparseRecord):
    """Moves of prices that stay, by `size`, a fraction; see `panel.stress.Jump`."""

    probability: _Probability
    size: Annotated[_Number, Field(gt=0, lt=1)]
    way: Way = Way.DOWN
    is_market_wide: Annotated[bool, Field(strict=True)] = False

    @property
    def jump(self) -> Jump:
        """The same for the panel."""
        return Jump(self.probability, self.size, self.way, self.is_market_wide)


class SpellConfig(SparseRecord):
    """Bars that are missing, `bars` of them in a row."""

    probability: _Probability
    bars: Annotated[int, Field(ge=1, le=SPELL_BARS_MAX, strict=True)] = 1


class DroughtConfig(SpellConfig):
    """Bars whose volume is multiplied by `factor`."""

    factor: _Probability


class StressConfig(SparseRecord):
    """What mode stress does to the panel, and to the spread that is paid."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] = 0
    shock: JumpConfig | None = None
    gap: JumpConfig | None = None
    missing: SpellConfig | None = None
    volume_drought: DroughtConfig | None = None
    spread_multiplier: Annotated[_Number, Field(ge=1, le=1_000)] = 1.0

    @property
    def is_harmless(self) -> bool:
        """Whether nothing at all is asked for."""
        asked = (self.shock, self.gap, self.missing, self.volume_drought)
        return not any(asked) and self.spread_multiplier == 1.0

    @property
    def rules(self) -> StressRules:
        """The same for the panel."""
        missing, drought = self.missing, self.volume_drought
        return StressRules(
            self.seed,
            self.shock.jump if self.shock else Jump(),
            self.gap.jump if self.gap else Jump(),
            Spell(missing.probability, missing.bars) if missing else Spell(),
            Spell(drought.probability, drought.bars) if drought else Spell(),
            drought.factor if drought else 1.0,
        )

    def widened(self, costs: CostsConfig) -> CostsConfig:
        """Returns the costs with the spread multiplied, up to the whole notional."""

        def wide(bps: float) -> float:
            return min(bps * self.spread_multiplier, MAX_COST_BPS)

        spread = costs.spread
        if spread is not None:
            buckets = tuple(
                each.model_copy(update={"bps": wide(each.bps)}) for each in spread.buckets
            )
            update = {"buckets": buckets, "fallback_bps": wide(spread.fallback_bps)}
            return costs.model_copy(update={"spread": spread.model_copy(update=update)})
        return costs.model_copy(update={"half_spread_bps": wide(costs.half_spread_bps)})
