"""Run three backtests at once from one event loop, and compare them."""

import asyncio

from backlane.backtest.request import parse_request
from backlane.client.backlane_client import AsyncClient


async def sharpe_ratio(backlane: AsyncClient, threshold: float) -> float | None:
    request = parse_request(
        {
            "model": {"name": "rsi_bb"},
            "symbol": "SYNTHETIC_EURUSD",
            "decisions": {"confidence_threshold": threshold},
        }
    )
    operation = await backlane.backtests.run(request)
    await backlane.operations.wait(operation.name)
    summary = await backlane.backtests.get_result(operation.name)
    return summary.metric("sharpe_ratio")


async def main() -> None:
    thresholds = (0.4, 0.5, 0.6)
    async with AsyncClient() as backlane:
        ratios = await asyncio.gather(*(sharpe_ratio(backlane, each) for each in thresholds))
    for threshold, ratio in zip(thresholds, ratios, strict=True):
        print(f"confidence_threshold {threshold}: Sharpe ratio {ratio}")


asyncio.run(main())
