from backlane.execution.fill_price import fill_price


def test_slippage_is_against_the_buyer() -> None:
    assert fill_price(200.0, True, 0.25) == 250.0  # 200 x 1.25


def test_slippage_is_against_the_seller() -> None:
    assert fill_price(200.0, False, 0.25) == 150.0  # 200 x 0.75


def test_without_slippage_the_reference_price_fills() -> None:
    assert fill_price(1.2345, True, 0.0) == fill_price(1.2345, False, 0.0) == 1.2345
