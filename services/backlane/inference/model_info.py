"""What a backtest must know of a model, without loading it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from backlane.features.strategy import Strategy


class ModelHead(Enum):
    """What the outputs of a model mean; `output_count` columns each."""

    CLASSIFICATION = "classification"  # logits of BUY, HOLD, SELL
    REGRESSION = "regression"  # one predicted return, as a fraction
    REGIME = "regime_classification"  # logits of four market regimes
    CONTEXT = "context_classification"  # logits of three market contexts

    @property
    def output_count(self) -> int:
        """Columns of the output."""
        return {"classification": 3, "regression": 1, "regime_classification": 4}.get(self.value, 3)

    @property
    def is_tradable(self) -> bool:
        """Whether its outputs are trading decisions."""
        return self in (ModelHead.CLASSIFICATION, ModelHead.REGRESSION)


@dataclass(frozen=True, slots=True)
class BundleDecisions:
    """How a bundle wants its outputs turned into decisions; None means: the default of the rule.

    `confidence_threshold` in [0, 1]; `min_signal_separation_hours` >= 0; `round_trip_cost` > 0 as a
    fraction and `min_edge_multiplier` > 0 for a regression head.
    """

    confidence_threshold: float | None = None
    position_awareness: bool | None = None
    allow_short_from_flat: bool | None = None
    min_signal_separation_hours: float | None = None
    round_trip_cost: float | None = None
    min_edge_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One immutable bundle, as GetModel describes it.

    `model` and `version` are the two parts of its resource name. `digest` is `sha256:<hex>` over
    every file that is read. `architecture` is mlp, lstm or gru. `features` are the names of the
    input columns, in order. `sequence_length` is 1 for an mlp. `created_at` is RFC 3339 in UTC
    (`2026-01-01T00:00:00Z`) or empty. `normalization` has, by feature name, the numbers that scale
    a raw input: min and max, or mean and std.
    """

    model: str
    version: str
    digest: str
    architecture: str
    head: ModelHead
    features: tuple[str, ...]
    sequence_length: int
    strategy: Strategy
    decisions: BundleDecisions
    runtime: Mapping[str, str]
    created_at: str = ""
    normalization: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Resource name, models/{model}/versions/{version}."""
        return f"models/{self.model}/versions/{self.version}"


class ModelState(Enum):
    """Where a bundle stands on a server."""

    UNLOADED = "unloaded"  # known, not in memory
    READY = "ready"  # in memory
    FAILED = "failed"  # it cannot be described or loaded


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One bundle as a list shows it, by its resource name.

    `info` is None when its files cannot even be described; `reason` says why it failed.
    """

    name: str
    state: ModelState
    info: ModelInfo | None = None
    reason: str = ""
