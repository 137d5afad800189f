"""What goes wrong arrives as the error that was raised, not as a status code."""

from backlane.backtest.request import parse_request
from backlane.client.backlane_client import Client
from backlane.errors import InvalidRequestError, ModelNotFoundError

with Client() as backlane:
    try:
        backlane.backtests.run(parse_request({"model": {"name": "nope"}, "symbol": "EURUSD"}))
    except ModelNotFoundError as error:
        print(error.message)

try:
    parse_request({"model": {"name": "rsi_bb"}, "symbol": "EURUSD", "initial_cash": -1})
except InvalidRequestError as error:
    for violation in error.violations:
        print(violation.field, violation.description)
