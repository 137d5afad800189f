"""`backlane gate`: whether a result is worse than the baseline that it is compared with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.options import Json
from backlane.cli.output import print_json, print_table, say
from backlane.errors import BacklaneError, FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backlane.metrics.gate_rules import GateRules
    from backlane.metrics.regression_gate import GateInput, GateReport, MetricTolerance
    from backlane.sources.gate_inputs import GateResult

app = typer.Typer(name="gate")

Baseline = Annotated[
    Path, typer.Argument(metavar="BASELINE", help="A result directory, or its result.json.")
]
Current = Annotated[Path, typer.Argument(metavar="CURRENT", help="Likewise: what is judged.")]
Rules = Annotated[
    Path | None,
    typer.Option("--rules", help="Tolerances, YAML or JSON (default: those of docs/gate.md)."),
]
_REFUSALS = {
    "too_few_trades": "the baseline has {trades} trades, fewer than {least}: it proves nothing",
    "data_changed": "the two ran on other data (same_data: false compares them all the same)",
    "config_changed": (
        "the two have other configurations (same_config: false compares them all the same)"
    ),
}


@app.command("gate")
def gate(baseline: Baseline, current: Current, rules: Rules = None, as_json: Json = False) -> None:
    """Compare a result with a baseline, metric by metric; improvements pass.

    Ends with 0 when nothing got worse by more than it may, with 1 when something did, and with 2
    when the two cannot be compared: a file is damaged, the baseline has too few trades, or data or
    configuration are others.
    """
    from backlane.cli.failure import report_error, report_plain

    try:
        document = _compare(baseline, current, rules)
    except BacklaneError as error:
        raise typer.Exit(report_error(error, as_json=as_json, code=ExitCode.USAGE)) from None
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
        raise typer.Exit(
            report_plain("OS_ERROR", message, ExitCode.USAGE, as_json=as_json)
        ) from None
    if as_json:
        print_json(document)
    else:
        _show(document)
    raise typer.Exit(document["exit_code"])


def _compare(baseline: Path, current: Path, rules_path: Path | None) -> dict[str, Any]:
    from backlane.metrics.regression_gate import compare_with_baseline
    from backlane.sources.gate_inputs import read_gate_result

    rules = _read_rules(rules_path)
    before = read_gate_result(baseline, field="baseline")
    after = read_gate_result(current, field="current")
    if before.kind != after.kind:
        message = f"{before.path} is a {before.kind} run, {after.path} a {after.kind} one."
        raise InvalidRequestError(message, violations=(FieldViolation("current", message),))
    tolerances = _known(rules, before, after)
    report = compare_with_baseline(
        _judged(before.values, rules),
        _judged(after.values, rules),
        tolerances,
        trade_count_min=rules.trade_count_min,
    )
    return _document(before, after, rules, tolerances, report)


def _judged(values: "GateInput", rules: "GateRules") -> "GateInput":
    """Returns one side without the digests that the rules do not ask about."""
    from dataclasses import replace

    return replace(
        values,
        data_digest=values.data_digest if rules.same_data else "",
        config_digest=values.config_digest if rules.same_config else "",
    )


def _read_rules(path: Path | None) -> "GateRules":
    from backlane.cli.request_options import read_request_file
    from backlane.metrics.gate_rules import GateRules, parse_gate_rules

    return GateRules() if path is None else parse_gate_rules(read_request_file(path))


def _known(
    rules: "GateRules", before: "GateResult", after: "GateResult"
) -> "tuple[MetricTolerance, ...]":
    """Returns what is compared; a metric that neither result knows is a mistake of the rules."""
    sides = (before.values.metrics, after.values.metrics)
    known = set[str]().union(*sides)
    tolerances = rules.tolerances(before.kind)
    absent = [each.metric for each in tolerances if each.metric not in known]
    if absent and rules.metrics is not None:
        listed = ", ".join(sorted(known))
        violations = tuple(
            FieldViolation(f"metrics.{name}", f"is in neither result; they have {listed}")
            for name in absent
        )
        raise InvalidRequestError("The rules name metrics that there are not.",
                                  violations=violations)  # fmt: skip
    found = tuple(each for each in tolerances if each.metric in known)
    if all(side.get(each.metric) is None for each in found for side in sides):
        message = "Neither result has a value for any metric that is compared."
        raise InvalidRequestError(message, violations=(FieldViolation("current", message),))
    return found


def _document(
    before: "GateResult",
    after: "GateResult",
    rules: "GateRules",
    tolerances: "Sequence[MetricTolerance]",
    report: "GateReport",
) -> dict[str, Any]:
    verdict = "unusable" if report.refusals else "pass" if report.is_passed else "regression"
    code = {"pass": ExitCode.OK, "regression": ExitCode.FAILED, "unusable": ExitCode.USAGE}
    return {
        "verdict": verdict,
        "exit_code": int(code[verdict]),
        "baseline": _side(before),
        "current": _side(after),
        "trade_count_min": rules.trade_count_min,
        "refusals": [
            {
                "code": each.value,
                "message": _REFUSALS[each.value].format(
                    trades=before.values.trade_count, least=rules.trade_count_min
                ),
            }
            for each in report.refusals
        ],
        "is_same_model": before.model_digest == after.model_digest,
        "metrics": [
            {
                "metric": tolerance.metric,
                "verdict": deviation.code.value,
                "baseline": before.values.metrics.get(tolerance.metric),
                "current": after.values.metrics.get(tolerance.metric),
                "change": deviation.change,
                "relative_change": deviation.relative_change,
                "direction": tolerance.direction.value,
                "absolute": tolerance.absolute,
                "relative": tolerance.relative,
            }
            for tolerance, deviation in zip(tolerances, report.deviations, strict=True)
        ],
    }


def _side(result: "GateResult") -> dict[str, Any]:
    return {
        "file": str(result.path),
        "kind": result.kind,
        "trade_count": result.values.trade_count,
        "data_digest": result.values.data_digest,
        "config_digest": result.values.config_digest,
        "model_digest": result.model_digest,
    }


def _show(document: dict[str, Any]) -> None:
    columns = ("metric", "better", "baseline", "current", "change", "%", "may lose", "")
    print_table(
        columns,
        [
            (
                row["metric"],
                row["direction"],
                _number(row["baseline"]),
                _number(row["current"]),
                _number(row["change"], sign="+"),
                "" if row["relative_change"] is None else f"{100 * row['relative_change']:+.2f}",
                _allowed(row),
                row["verdict"],
            )
            for row in document["metrics"]
        ],
        right=("baseline", "current", "change", "%", "may lose"),
    )
    for refusal in document["refusals"]:
        say(f"cannot be compared: {refusal['message']}")
    if not document["is_same_model"]:
        say("note: another model ran than in the baseline")
    say(
        {
            "pass": "PASS: nothing got worse by more than it may.",
            "regression": "REGRESSION: metrics got worse by more than they may.",
            "unusable": "UNUSABLE: this comparison says nothing.",
        }[document["verdict"]]
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign},.6g}"


def _allowed(row: dict[str, Any]) -> str:
    if row["baseline"] is None:
        return ""
    return f"{row['absolute'] + row['relative'] * abs(row['baseline']):.6g}"
