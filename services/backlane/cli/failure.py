"""How a command says what went wrong, and what to do about it."""

import os
import traceback
from typing import TYPE_CHECKING, Any

from backlane.cli.exit_codes import ExitCode, exit_code_of
from backlane.cli.output import print_json, say_aside

if TYPE_CHECKING:
    from backlane.errors import BacklaneError

TRACEBACK_VARIABLE = "BACKLANE_TRACEBACK"

_EXTRAS = {
    "engine": ("numba", "numpy", "pandas", "pyarrow"),
    "model": ("torch",),
    "report": ("jinja2", "markupsafe", "plotly"),
    "server": (
        "grpc_health",
        "grpc_reflection",
        "pydantic_settings",
        "sqlalchemy",
        "structlog",
    ),
}


def report_error(
    error: "BacklaneError", *, as_json: bool, code: ExitCode | None = None
) -> ExitCode:
    """Writes the message, every violation and what to do.

    Returns `code`, or without one that of the error.
    """
    code, advice = exit_code_of(error) if code is None else code, _advice(error)
    if as_json:
        print_json({"error": error_document(error, code, advice)})
        return code
    if error.violations:
        say_aside(f"error: {_headline(error)}")
        for violation in error.violations:
            say_aside(f"  - {violation.field}: {violation.description}")
    else:
        say_aside(f"error: {error.message}")
    # Many a message says it itself.
    if advice and "backlane " not in error.message and not error.violations:
        say_aside(f"try: {advice}")
    return code


def error_document(error: "BacklaneError", code: ExitCode, advice: str) -> dict[str, Any]:
    """Returns what `--json` says of an error."""
    return {
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "violations": [{"field": v.field, "description": v.description} for v in error.violations],
        "advice": advice,
        "exit_code": int(code),
    }


def report_usage(error: Exception, *, as_json: bool) -> ExitCode:
    """Writes a usage error of typer's: what is wrong, and which help to read."""
    context: Any = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", error.__str__)())
    path = context.command_path if context is not None else "backlane"
    if as_json:
        print_json({"error": _plain_document("USAGE", message, ExitCode.USAGE)})
    elif type(error).__name__ == "NoArgsIsHelpError":
        if message:
            say_aside(message)
    else:
        say_aside(f"error: {message}")
        say_aside(f"try: {path} --help")
    return ExitCode.USAGE


def report_missing_module(error: ModuleNotFoundError, *, as_json: bool) -> ExitCode:
    """Writes which extra to install; a module that belongs to none is a defect."""
    name = (error.name or "").split(".")[0]
    extra = next((extra for extra, modules in _EXTRAS.items() if name in modules), None)
    if extra is None:
        return report_unforeseen(error, as_json=as_json)
    message = (
        f"This needs {name}, which is not installed: pip install 'backlane[{extra}]'. "
        "Commands that only talk to the services work without (docs/install.md)."
    )
    return report_plain("EXTRA_MISSING", message, ExitCode.FAILED, as_json=as_json)


def report_plain(reason: str, message: str, code: ExitCode, *, as_json: bool) -> ExitCode:
    """Writes what is wrong in one line."""
    if as_json:
        print_json({"error": _plain_document(reason, message, code)})
    else:
        say_aside(f"error: {message}")
    return code


def report_unforeseen(error: BaseException, *, as_json: bool) -> ExitCode:
    """Writes that this is a defect, with the traceback when it is asked for."""
    if os.environ.get(TRACEBACK_VARIABLE):
        say_aside("".join(traceback.format_exception(error)).rstrip())
    message = (
        f"{type(error).__name__}: {error}. This is a defect in backlane; "
        f"{TRACEBACK_VARIABLE}=1 shows where."
    )
    return report_plain("INTERNAL_ERROR", message, ExitCode.INTERNAL, as_json=as_json)


def _plain_document(reason: str, message: str, code: ExitCode) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "metadata": {},
        "violations": [],
        "advice": "",
        "exit_code": int(code),
    }


def _headline(error: "BacklaneError") -> str:
    """The first sentence; the violations, listed below it, say the rest."""
    if len(error.violations) == 1 and error.violations[0].description == error.message:
        return "The request is not valid."
    return error.message.partition(". ")[0].rstrip(".") + "."


def _advice(error: "BacklaneError") -> str:
    from backlane.rpc.error_catalog import CATALOG

    entry = CATALOG.get(type(error))
    return entry.help if entry else ""
