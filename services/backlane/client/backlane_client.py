"""The three clients in one: what most programs import.

with Client() as backlane:
    operation = backlane.backtests.run(request)
    backlane.operations.wait(operation.name)
    summary = backlane.backtests.get_result(operation.name)
"""

import asyncio
from typing import Self

from backlane.client.backtests import AsyncBacktestsClient, BacktestsClient
from backlane.client.connection import Addresses
from backlane.client.models import AsyncModelsClient, ModelsClient
from backlane.client.operations import AsyncOperationsClient, OperationsClient
from backlane.client.portfolios import AsyncPortfoliosClient, PortfoliosClient


class Client:
    """Calls all three services from threads; connects with the first call to each.

    Without addresses, those of the environment, or of what `backlane up` runs. `client_name` is
    what the services know this program by, and count its limits by; user@host without one.
    """

    def __init__(
        self, addresses: Addresses | None = None, *, client_name: str | None = None
    ) -> None:
        self.addresses = addresses or Addresses.resolve()
        self.models = ModelsClient(self.addresses.models)
        self.operations = OperationsClient(self.addresses.operations, client_name=client_name)
        self.backtests = BacktestsClient(self.addresses.backtests, client_name=client_name)
        self.portfolios = PortfoliosClient(self.addresses.backtests, client_name=client_name)

    def close(self) -> None:
        """Closes the connections to all three."""
        self.models.close()
        self.operations.close()
        self.backtests.close()
        self.portfolios.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the connections to all three."""
        self.close()


class AsyncClient:
    """Calls all three services from one event loop; otherwise as Client."""

    def __init__(
        self, addresses: Addresses | None = None, *, client_name: str | None = None
    ) -> None:
        self.addresses = addresses or Addresses.resolve()
        self.models = AsyncModelsClient(self.addresses.models)
        self.operations = AsyncOperationsClient(self.addresses.operations, client_name=client_name)
        self.backtests = AsyncBacktestsClient(self.addresses.backtests, client_name=client_name)
        self.portfolios = AsyncPortfoliosClient(self.addresses.backtests, client_name=client_name)

    async def close(self) -> None:
        """Closes the connections to all three."""
        clients = (self.models, self.operations, self.backtests, self.portfolios)
        await asyncio.gather(*(client.close() for client in clients))

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connections to all three."""
        await self.close()
