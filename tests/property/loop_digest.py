"""Prints a digest of a few hundred bars of simulation; run compiled and plain by a test."""

import hashlib
import sys

from backlane.cycle.loop import close_out
from tests.property.test_cycle_laws import Setup


def main() -> None:
    digest = hashlib.sha256()
    for seed in range(6):
        rules = {
            "commission_rate": 0.001,
            "slippage_rate": 0.0005,
            "min_separation_hours": 2.5 * seed,
            "allow_short_from_flat": seed % 2,
            "fill_this_close": seed // 3,
            "extreme_excursions": seed % 2,
            "position_awareness": int(seed != 4),
            "stop_loss": 0.004 * (seed % 2),
            "take_profit": 0.006 * (seed // 3),
            "trailing_stop": 0.005 * (seed % 3),
            "max_holding_bars": 9 * (seed // 4),
            "borrow_rate": 0.1,
            "overnight_rate_long": 0.02 * (seed % 2),
            "overnight_rate_short": -0.01,
            "spread_rate": 0.0002,
            "minimum_commission": 0.5 * (seed % 3),
            "leverage": 1.0 + seed // 2,
            "liquidation": 0.02 * (seed // 4),
            "units": 50.0 * (seed % 2),
            "lot_size": 1.0 - 0.5 * (seed // 3),
        }
        setup = Setup({"seed": seed, "bar_count": 300, "rules": rules})
        state, out = setup.run()
        close_out(state, setup.rules, setup.inputs, out)
        for array in (state, out.equity, out.cash, out.decision, out.reason, out.trades, out.fills):
            digest.update(array.tobytes())
    sys.stdout.write(digest.hexdigest())


if __name__ == "__main__":
    main()
