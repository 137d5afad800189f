"""result.json, checked once: what the report may rely on."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from backlane.errors import FieldViolation, InvalidRequestError

VIOLATIONS_SHOWN_MAX = 10


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class ModelReference(_Record):
    """Which bundle it was."""

    name: str
    digest: str


class FunnelEntry(_Record):
    """One stage: `entered` = `passed` + the sum of `dropped`, which names the losses."""

    stage: str
    entered: int
    passed: int
    dropped: dict[str, int]


class ResultDocument(_Record):
    """The content of result.json; keys that a later version adds are kept in `model_extra`."""

    format: Literal["backlane.result.v1"]
    result_digest: str
    order_digest: str
    config_digest: str
    model: ModelReference
    datasets: dict[str, str]
    metrics: dict[str, float | None]
    undefined_metrics: dict[str, str]
    annualization: dict[str, str]
    sample_counts: dict[str, int]
    funnel: tuple[FunnelEntry, ...]
    no_trades_because: str
    first_bar: str
    last_bar: str
    bar_count: int
    final_cash: float
    config: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float] = {}

    @classmethod
    def parse(cls, content: Mapping[str, Any], *, source: str) -> Self:
        """Checks a document; raises InvalidRequestError that names `source` and every bad key."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = tuple(
                FieldViolation(".".join(map(str, each["loc"])), each["msg"])
                for each in error.errors()[:VIOLATIONS_SHOWN_MAX]
            )
            raise InvalidRequestError(
                f"{source} is no result of a backtest: {found[0].field}: {found[0].description}. "
                "Run the backtest again.",
                metadata={"file": source},
                violations=found,
            ) from None

    @property
    def symbol(self) -> str:
        """The symbol that was traded."""
        return str(self.config.get("symbol", ""))

    @property
    def timeframe(self) -> str:
        """The timeframe that was simulated."""
        return str(self.config.get("timeframe", ""))

    @property
    def initial_cash(self) -> float | None:
        """The cash at the start; None where the configuration does not say."""
        value = self.config.get("initial_cash")
        return float(value) if isinstance(value, int | float) else None

    def switch(self, name: str) -> object:
        """Returns the value of a switch; None where the configuration does not have it."""
        switches = self.config.get("switches")
        return switches.get(name) if isinstance(switches, Mapping) else None
