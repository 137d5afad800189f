"""What is checked of a portfolio before an operation is opened: its configuration, its files."""

import asyncio

from backlane.backtest.portfolio_config import PortfolioConfig, RunMode
from backlane.backtest.portfolio_request import PortfolioRequest, file_roles
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.errors import InvalidRequestError, UploadNotFoundError
from backlane.operations.operation import Payload
from backlane.sources.uploads import UploadedFiles
from backlane.wire.portfolio_runs import (
    CONFIG_FIELD,
    as_config_error,
    file_field,
    request_to_payload,
)
from backlane.wire.violations import Violations
from backtest_service.portfolio_models import check_served, served_strategies

RUN_MODES = (RunMode.BACKTEST, RunMode.STRESS)
"""Modes of operations that run by themselves; the others wait for somebody."""


class PortfolioValidator:
    """Checks requests against the strategies that there are and the files that were uploaded."""

    def __init__(self, uploads: UploadedFiles) -> None:
        self._uploads = uploads

    async def validate(self, request: PortfolioRequest) -> PortfolioConfig:
        """Returns the configuration of a request that can be run; its files count as used.

        Raises InvalidRequestError, with the field by its path in the proto, for each mistake in the
        configuration and each file without a digest, and UploadNotFoundError.
        """
        try:
            strategies = served_strategies()
            config = parse_portfolio_config(request.config, strategies)
            check_served(plan_run(config, tuple(config.data.events), strategies))
        except InvalidRequestError as error:
            raise as_config_error(error) from error
        named = set(file_roles(request.config).values())
        found = Violations()
        for name in sorted(named - set(request.files)):
            found.add(file_field(name), "is missing: upload the file, and give its digest here")
        for name in sorted(set(request.files) - named):
            found.add(file_field(name), "is not named in config.data: leave it out")
        found.raise_if_any()
        for name, digest in request.files.items():
            await asyncio.to_thread(self._find, name, digest)
        return config

    async def settle(self, request: PortfolioRequest) -> Payload:
        """Returns what the operation of a request carries.

        Raises what `validate` raises, and InvalidRequestError for a mode that is no operation.
        """
        config = await self.validate(request)
        found = Violations()
        found.check(
            config.mode in RUN_MODES,
            f"{CONFIG_FIELD}.mode",
            f"{config.mode} runs where you are, not here: use --local, or `backlane paper`",
        )
        found.raise_if_any()
        return request_to_payload(request)

    def _find(self, name: str, digest: str) -> None:
        try:
            self._uploads.find(digest)
        except UploadNotFoundError as error:
            raise UploadNotFoundError(
                f"{name} ({digest}) was not uploaded, or is no longer kept: upload it, then ask "
                "again.",
                metadata={"upload": digest, "file": name},
            ) from error
