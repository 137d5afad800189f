"""The life of `backlane portfolio run` through the services: upload, start, follow, show."""

import json
from pathlib import Path
from typing import Any

from backlane.cli.exit_codes import ExitCode
from backlane.cli.out_folder import RESULT_MARK
from backlane.cli.portfolio_outcome import show_document
from backlane.cli.remote_run import follow_started
from backlane.client.connection import Addresses
from backlane.client.portfolios import PortfoliosClient
from backlane.client.run_options import RunOptions
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.wire.portfolio_runs import CONFIG_FIELD


def start_and_follow(
    addresses: Addresses,
    content: dict[str, Any],
    folder: Path,
    out: Path | None,
    *,
    request_id: str | None,
    queueing: RunOptions,
    detach: bool,
    as_json: bool,
) -> ExitCode:
    """Starts the run, follows it to the end unless it is to be left alone, and shows the result."""
    with PortfoliosClient(addresses.backtests) as portfolios:
        request = portfolios.upload(content, folder)
        try:
            name = portfolios.run(request, request_id=request_id, options=queueing).name
        except InvalidRequestError as error:
            raise as_local_error(error) from error
        return follow_started(
            addresses,
            name,
            lambda: show_result(portfolios, name, out, as_json=as_json),
            detach=detach,
            as_json=as_json,
        )


def show_result(client: PortfoliosClient, name: str, out: Path | None, *, as_json: bool) -> None:
    """Fetches the result of a finished run, its files too when `out` is given, and shows it."""
    if out is not None:
        client.download_result(name, out)
        content = (out / RESULT_MARK).read_bytes()
    else:
        content = b"".join(client.read_file(name, RESULT_MARK))
    show_document(json.loads(content), out, operation=name, as_json=as_json)


def as_local_error(error: InvalidRequestError) -> InvalidRequestError:
    """Returns the error of a service with the fields as the configuration file has them."""
    prefix = f"{CONFIG_FIELD}."
    renamed = tuple(
        FieldViolation(found.field.removeprefix(prefix), found.description)
        for found in error.violations
    )
    return InvalidRequestError(
        error.message.replace(prefix, ""), metadata=error.metadata, violations=renamed
    )
