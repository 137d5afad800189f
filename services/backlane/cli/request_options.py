"""From the options of a command, and the request file under them, to a BacktestRequest."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.backtest.request import BacktestRequest

REQUEST_BYTES_MAX = 1 << 20
"""Size of a request file; a larger one is surely another file."""

REQUEST_VALUES_MAX = 100_000
"""Values in a request file; a few lines of aliases can make a billion."""

BUNDLE_MARK = "metadata_v3.json"
"""The file by which a folder is known for a bundle."""

_WHAT, _MONEY, _RULES = "What to run", "Money", "Rules of the simulation"


def _option(*names: str, panel: str, help: str) -> Any:  # noqa: A002 - as typer calls it
    return typer.Option(*names, help=help, rich_help_panel=panel)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options that make a request; None leaves the file's word, or the default."""

    model: Annotated[
        str | None,
        _option("--model", "-m", panel=_WHAT, help="NAME, NAME/VERSION, or a folder (in process)."),
    ] = None
    symbol: Annotated[
        str | None, _option("--symbol", "-s", panel=_WHAT, help="The instrument, such as EURUSD.")
    ] = None
    timeframe: Annotated[
        str | None,
        _option("--timeframe", "-t", panel=_WHAT, help="Base timeframe (default: the first)."),
    ] = None
    start: Annotated[
        str | None,
        _option("--start", panel=_WHAT, help="First bar, ISO 8601, UTC."),
    ] = None
    end: Annotated[
        str | None,
        _option(
            "--end",
            panel=_WHAT,
            help="Last bar; a bare date is the whole day.",
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        _option(
            "--data",
            panel=_WHAT,
            help="TIMEFRAME=FILE: bars from a file, in process (default: catalog).",
        ),
    ] = None
    request: Annotated[
        Path | None,
        _option("--request", panel=_WHAT, help="YAML or JSON; options override what it says."),
    ] = None
    cash: Annotated[
        float | None, _option("--cash", panel=_MONEY, help="Initial cash (default: 100000).")
    ] = None
    commission: Annotated[
        float | None,
        _option("--commission", panel=_MONEY, help="Of each side (default: 0.001, 0.1 %)."),
    ] = None
    slippage: Annotated[
        float | None,
        _option("--slippage", panel=_MONEY, help="Of the price of each side (default: 0.0005)."),
    ] = None
    fraction: Annotated[
        float | None,
        _option("--fraction", panel=_MONEY, help="Share of the cash to trade (default: 0.25)."),
    ] = None
    profile: Annotated[
        str | None,
        _option("--profile", panel=_RULES, help="default, ktrdr-head or ktrdr-m3."),
    ] = None
    switch: Annotated[
        list[str] | None,
        _option("--switch", panel=_RULES, help="NAME=VALUE: one switch on top of the profile."),
    ] = None
    set: Annotated[
        list[str] | None,
        _option(
            "--set",
            panel=_RULES,
            help="FIELD=VALUE: any field of the request, as in exits.stop_loss=0.02.",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        _option(
            "--threshold",
            panel=_RULES,
            help="Least confidence (default: the bundle's).",
        ),
    ] = None
    min_separation: Annotated[
        float | None,
        _option(
            "--min-separation",
            panel=_RULES,
            help="Hours between fills (default: the bundle's).",
        ),
    ] = None
    allow_short: Annotated[
        bool | None,
        _option(
            "--allow-short/--no-allow-short",
            panel=_RULES,
            help="Whether SELL opens a short position (default: the bundle's).",
        ),
    ] = None
    position_awareness: Annotated[
        bool | None,
        _option(
            "--position-awareness/--no-position-awareness",
            panel=_RULES,
            help="Whether BUY is dropped when LONG, SELL when SHORT (default: the bundle's).",
        ),
    ] = None


Command = Callable[..., None]


def takes_request(command: Command) -> Command:
    """Gives a command whose first parameter is a RequestOptions the options themselves."""
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)
    ours = get_type_hints(RequestOptions, include_extras=True)
    asked = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=ours[field.name],
        )
        for field in fields(RequestOptions)
    ]
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in own
    ]

    def wrapped(**values: Any) -> None:
        options = RequestOptions(**{field.name: values.pop(field.name) for field in asked})
        command(options, **values)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__signature__ = inspect.Signature([*asked, *rest])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in (*asked, *rest)}
    return wrapped


def build_request(options: RequestOptions, *, is_local: bool) -> "BacktestRequest":
    """Returns the request of the file with the options on top.

    Paths in a file are relative to the file's folder, paths in options to the current one; the
    request has them absolute. Raises InvalidRequestError with a violation for each mistake.
    """
    from backlane.backtest.request import parse_request

    document = {} if options.request is None else read_request_file(options.request)
    _override(document, options, is_local=is_local)
    missing = [name for name in ("model", "symbol") if name not in document]
    if missing:
        raise InvalidRequestError(
            f"The request lacks {' and '.join(missing)}. Give the options, or a file with "
            "--request.",
            violations=tuple(FieldViolation(name, f"give --{name}") for name in missing),
        )
    request = parse_request(document)
    if not is_local:
        _refuse_paths(request)
    return request


def read_request_file(path: Path) -> dict[str, Any]:
    """Returns the content of a YAML or JSON file, its paths made absolute."""
    import yaml

    if path.stat().st_size > REQUEST_BYTES_MAX:
        raise InvalidRequestError(f"{path} is over {REQUEST_BYTES_MAX} bytes: no request is.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = f"{path} is neither YAML nor JSON: {_yaml_mistake(error)}."
        raise InvalidRequestError(problem) from error
    if _holds_more_than(REQUEST_VALUES_MAX, document):
        raise InvalidRequestError(
            f"{path} holds more than {REQUEST_VALUES_MAX} values, as when aliases multiply each "
            "other: no request does."
        )
    if not isinstance(document, dict):
        raise InvalidRequestError(f"{path} holds no request: write `name: value` lines.")
    folder = path.absolute().parent
    model, data = document.get("model"), document.get("data")
    if isinstance(model, dict) and isinstance(model.get("path"), str):
        model["path"] = _absolute(model["path"], folder)
    if isinstance(data, dict) and isinstance(data.get("files"), dict):
        files = data["files"]
        data["files"] = {
            label: _absolute(file, folder) if isinstance(file, str) else file
            for label, file in files.items()
        }
    return document


def _holds_more_than(limit: int, document: object) -> bool:
    """Says whether whoever walks the document meets more values; aliases count as often as used."""
    waiting, count = [document], 0
    while waiting and count <= limit:
        value = waiting.pop()
        inner = list(value.values()) if isinstance(value, dict) else value
        waiting += inner if isinstance(inner, list) else []
        count += 1
    return count > limit


def _yaml_mistake(error: Exception) -> str:
    """Returns what is wrong and where, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"its byte {error.start + 1} is no text in UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{problem}{where}"


def parse_model(text: str, *, is_local: bool) -> dict[str, str]:
    """Returns the model of `NAME`, `NAME/VERSION`, a resource name, or, locally, a folder."""
    parts = text.removeprefix("models/").replace("/versions/", "/").split("/")
    folder = Path(text).expanduser()
    looks_like_path = text.startswith((".", "/", "~")) or len(parts) > 2
    if looks_like_path or (is_local and (folder / BUNDLE_MARK).is_file()):
        return {"path": _absolute(text, Path.cwd())}
    name, _, version = "/".join(parts).partition("/")
    return {"name": name, "version": version} if version else {"name": name}


def _override(document: dict[str, Any], options: RequestOptions, *, is_local: bool) -> None:
    plain = {
        "symbol": options.symbol,
        "timeframe": options.timeframe,
        "start": options.start,
        "end": options.end,
        "initial_cash": options.cash,
        "commission_rate": options.commission,
        "slippage_rate": options.slippage,
        "profile": options.profile,
        "sizing.fraction": options.fraction,
        "decisions.confidence_threshold": options.threshold,
        "decisions.position_awareness": options.position_awareness,
        "decisions.allow_short_from_flat": options.allow_short,
        "decisions.filters.min_signal_separation": options.min_separation,
    }
    if options.model is not None:
        document["model"] = parse_model(options.model, is_local=is_local)
    for path, value in plain.items():
        if value is not None:
            _put(document, path.split("."), value)
    for text in options.switch or []:
        name, value = _pair(text, "switch", "NAME=VALUE, as in fill=this_close")
        _put(document, ["switches", name], _plain_value(value))
    for text in options.set or []:
        field, value = _pair(text, "set", "FIELD=VALUE, as in exits.stop_loss=0.02")
        _put(document, field.split("."), _plain_value(value))
    for text in options.data or []:
        label, file = _pair(text, "data", "TIMEFRAME=FILE, as in 1h=EURUSD.csv")
        _put(document, ["data", "files", label], _absolute(file, Path.cwd()))


def _put(document: dict[str, Any], path: list[str], value: object) -> None:
    """Sets a value deep inside; what a file wrote as no section at all is left for the parser."""
    *sections, name = path
    for section in sections:
        inner = document.setdefault(section, {})
        if inner is None:
            inner = document[section] = {}
        if not isinstance(inner, dict):
            return
        document = inner
    document[name] = value


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        message = f"{text!r} does not read {form}."
        raise InvalidRequestError(message, violations=(FieldViolation(f"--{option}", message),))
    return name, value


def _plain_value(text: str) -> object:
    """Reads true, false and numbers as what they are; everything else stays text."""
    if text in ("true", "false"):
        return text == "true"
    if text.isdecimal():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / Path(path).expanduser())


def _refuse_paths(request: "BacktestRequest") -> None:
    violations = []
    if request.model.path is not None:
        violations.append(
            FieldViolation(
                "model.path", "the services know models by name; give a name, or add --local"
            )
        )
    if request.data.files:
        violations.append(
            FieldViolation(
                "data.files",
                "the services read the catalog; import the files with `backlane data import`, "
                "or add --local",
            )
        )
    if violations:
        raise InvalidRequestError(
            "Files serve runs with --local alone.", violations=tuple(violations)
        )
