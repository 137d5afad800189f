"""The filters of one bar, in the order in which they were asked, with what they compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from backlane.audit.stamp import iso_time
from backlane.audit.story import FilterState, FilterStep, HeldPosition
from backlane.decisions.decision import DecisionReason as Reason

_HOUR_NS = 3_600_000_000_000

_FIRES = {
    "features": (Reason.NO_FEATURES, Reason.FEATURE_NAN, Reason.SCORE_NAN),
    "model": (Reason.MODEL_HOLD,),
    "confidence": (Reason.BELOW_CONFIDENCE,),
    "separation": (Reason.MIN_SEPARATION,),
    "position": (Reason.ALREADY_LONG, Reason.ALREADY_SHORT, Reason.SHORT_NOT_ALLOWED),
}


class _Asked(NamedTuple):
    """One filter with what it compares, and whether that makes it fire (None: cannot be told)."""

    name: str
    numbers: str
    fires: bool | None
    is_off: bool = False


def filter_steps(
    config: Mapping[str, Any],
    *,
    raw_decision: str,
    confidence: float | None,
    reason: str,
    features: Mapping[str, float | None],
    held: HeldPosition,
    time_ns: int,
    last_fill_ns: int | None,
) -> tuple[tuple[FilterStep, ...], tuple[str, ...]]:
    """Returns the filters, and a note where the numbers do not bear out the recorded reason.

    The recorded reason says which one fired; the numbers are those in the result directory.
    """
    rules = config["decisions"]
    asked = (
        _features(features, confidence),
        _Asked("model", f"it says {raw_decision}", raw_decision == "HOLD"),
        _confidence(confidence, float(rules["confidence_threshold"])),
        _separation(time_ns, last_fill_ns, float(rules["min_signal_separation_hours"])),
        _position(raw_decision, held.side, rules),
    )
    steps, doubts, has_fired = [], [], False
    for each in asked:
        fires = Reason[reason] in _FIRES[each.name]
        if has_fired:
            state = FilterState.NOT_ASKED
        elif fires:
            state = FilterState.FIRED
        else:
            state = FilterState.OFF if each.is_off else FilterState.PASSED
        if not has_fired and each.fires is not None and each.fires != fires:
            doubts.append(
                f"The recorded reason is {reason}, and by the files the filter {each.name} would "
                f"{'fire' if each.fires else 'pass'}: {each.numbers}."
            )
        steps.append(FilterStep(each.name, state, each.numbers))
        has_fired = has_fired or fires
    return tuple(steps), tuple(doubts)


def _features(features: Mapping[str, float | None], confidence: float | None) -> _Asked:
    unknown = [name for name, value in features.items() if value is None]
    if unknown:
        return _Asked("features", f"not known: {', '.join(unknown)}", True)
    if confidence is None:
        return _Asked("features", "all known, and the model gave no number", True)
    return _Asked("features", f"all {len(features)} known", False)


def _confidence(confidence: float | None, threshold: float) -> _Asked:
    if confidence is None:
        return _Asked("confidence", "there is none", None)
    fires = confidence < threshold
    return _Asked("confidence", f"{confidence:.9g} {'<' if fires else '>='} {threshold:g}", fires)


def _separation(time_ns: int, last_fill_ns: int | None, minimum_hours: float) -> _Asked:
    if last_fill_ns is None:
        return _Asked("separation", "no fill before", False)
    hours = (time_ns - last_fill_ns) / _HOUR_NS
    fires = hours < minimum_hours
    comparison = f"{hours:g} h {'<' if fires else '>='} {minimum_hours:g} h"
    return _Asked("separation", f"{comparison} since the fill at {iso_time(last_fill_ns)}", fires)


def _position(raw_decision: str, side: str, rules: Mapping[str, Any]) -> _Asked:
    numbers = f"{raw_decision} while {side}"
    if not rules["position_awareness"]:
        return _Asked("position", f"{numbers}; position awareness is off", False, is_off=True)
    is_blocked = (raw_decision, side) in (("BUY", "LONG"), ("SELL", "SHORT"))
    if (raw_decision, side) == ("SELL", "FLAT"):
        is_blocked = not rules["allow_short_from_flat"]
        numbers += f"; shorts are {'not ' if is_blocked else ''}allowed"
    return _Asked("position", numbers, is_blocked)
