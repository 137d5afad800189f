"""The parameters of trigger_rules, as a configuration writes them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.cycle.proposals import ProposalRules, TradableInstrument
from backlane.cycle.trigger_exits import ExitRules
from backlane.errors import InvalidRequestError
from backlane.signals.trigger_tables import ScanTables, scan_tables
from backlane.signals.triggers import TriggerRules
from backlane.signals.universe import Tier, UniverseRules

INSTRUMENTS_MAX = 10_000


def _listed(record: type[Any]) -> WrapValidator:
    """Returns a validator of a section that is a record of rules: it tells every mistake in it."""

    def validate(value: object, build: Any) -> Any:
        if not isinstance(value, Mapping):
            return build(value)
        found = dict(_misread(record, value))
        rules = None
        for _ in range(2):  # what is well formed is looked at even where another rule is not
            at_fault = {name.split(".")[0] for name in found}
            try:
                rules = build({name: each for name, each in value.items() if name not in at_fault})
            except InvalidRequestError as error:
                found |= {each.field: each.description for each in error.violations}
            except ValidationError as error:
                said = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
                found |= {name: each for name, each in said.items() if name not in found}
                continue
            break
        if not found:
            return rules
        details = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{said}", {"said": said}),
                loc=tuple(name.split(".")),
                input=None,
            )
            for name, said in found.items()
        ]
        raise ValidationError.from_exception_data(record.__name__, details)

    return WrapValidator(validate)


def _misread(record: type[Any], value: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yields what would be dropped, or taken for a number: unknown names, texts and switches."""
    defaults = {each.name: getattr(record(), each.name) for each in fields(record)}
    for name, given in value.items():
        if name not in defaults:
            close = get_close_matches(str(name), defaults, n=1)
            hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(defaults)}"
            yield str(name)[:80], f"is no rule; {hint}"
        elif type(defaults[name]) in (int, float) and isinstance(given, bool | str):
            yield name, f"is {given!r}; give a number"
        elif isinstance(defaults[name], bool) and not isinstance(given, bool):
            yield name, f"is {given!r}; write true or false"
        elif is_dataclass(defaults[name]) and isinstance(given, Mapping):
            for inner, said in _misread(type(defaults[name]), given):
                yield f"{name}.{inner}", said


_Amount = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=1e15)]


class InstrumentConfig(ConfigRecord):
    """What is known of an instrument: its tier (1 core, 2 rotational, 3 event) and its liquidity.

    `depth` is money resting near the price. `volume_24h` is money traded in 24 hours; None reads it
    from the bars, which is the only way that it is not told beforehand.
    """

    tier: Tier = Tier.ROTATIONAL
    spread_bps: Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=10_000)]
    depth: _Amount
    volume_24h: _Amount | None = None


class TriggerRulesConfig(ConfigRecord):
    """Parameters of trigger_rules.

    `leader` is the instrument by whose closes the regime is told. Only `instruments` are looked at.
    """

    leader: Annotated[str, Field(min_length=1, max_length=100)]
    instruments: Annotated[
        dict[str, InstrumentConfig], Field(min_length=1, max_length=INSTRUMENTS_MAX)
    ]
    triggers: Annotated[TriggerRules, _listed(TriggerRules)] = TriggerRules()
    universe: Annotated[UniverseRules, _listed(UniverseRules)] = UniverseRules()
    proposals: Annotated[ProposalRules, _listed(ProposalRules)] = ProposalRules()
    exits: Annotated[ExitRules, _listed(ExitRules)] = ExitRules()

    @cached_property
    def tradable(self) -> Mapping[str, TradableInstrument]:
        """The same for the rules of the proposals."""
        return {
            symbol: TradableInstrument(symbol, each.tier, each.spread_bps, each.depth)
            for symbol, each in self.instruments.items()
        }

    @cached_property
    def tables(self) -> ScanTables:
        """The rules of the triggers as the compiled scan reads them."""
        return scan_tables(self.triggers)
