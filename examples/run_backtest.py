"""Run a backtest, follow it, read the result. Needs the services (`backlane up`) and bars."""

from backlane.backtest.request import parse_request
from backlane.client.backlane_client import Client
from backlane.client.operations import watch_request

request = parse_request(
    {
        "model": {"name": "rsi_bb"},
        "symbol": "SYNTHETIC_EURUSD",
        "timeframe": "1h",
        "decisions": {"confidence_threshold": 0.6},
    }
)

with Client() as backlane:
    operation = backlane.backtests.run(request)
    print(operation.name)
    for message in backlane.operations.watch(watch_request(operation.name)):
        for progress in message.progress.values():
            print(progress.phase, progress.completed_units, "of", progress.total_units)
    summary = backlane.backtests.get_result(operation.name)
    trades = list(backlane.backtests.trades(operation.name))

print("Sharpe ratio", summary.metric("sharpe_ratio"), "over", len(trades), "trades")
print(summary.result_digest)
