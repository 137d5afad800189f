import pytest

from backlane.errors import InvalidRequestError
from backlane.market.symbol import checked_symbol


@pytest.mark.parametrize("symbol", ["EURUSD", "BRK.B", "BTC-USDT", "6E_c1", "a", "x" * 64])
def test_a_plain_name_is_a_symbol(symbol):
    assert checked_symbol(symbol) == symbol


@pytest.mark.parametrize(
    "symbol",
    ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "EUR USD", "x" * 65, "EURUSD\n", "Ä"],
)
def test_what_could_leave_its_folder_is_refused(symbol):
    with pytest.raises(InvalidRequestError) as refused:
        checked_symbol(symbol, field="spec.symbol")

    assert refused.value.violations[0].field == "spec.symbol"
