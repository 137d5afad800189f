from backlane.execution.fill_price import fill_price


def test_slippage_is_against_the_buyer() -> None:
    assert fill_price(200.0, True, 0.25, 0.0) == 250.0  # 200 x 1.25


def test_slippage_is_against_the_seller() -> None:
    assert fill_price(200.0, False, 0.25, 0.0) == 150.0  # 200 x 0.75


def test_each_side_pays_half_of_the_spread() -> None:
    assert fill_price(200.0, True, 0.0, 0.5) == 250.0  # 200 x (1 + 0.5 / 2)
    assert fill_price(200.0, False, 0.25, 0.5) == 100.0  # 200 x (1 - 0.25 - 0.5 / 2)


def test_without_costs_the_reference_price_fills() -> None:
    assert fill_price(1.2345, True, 0.0, 0.0) == fill_price(1.2345, False, 0.0, 0.0) == 1.2345
