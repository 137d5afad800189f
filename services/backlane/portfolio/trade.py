"""Trades and fills as the loop records them: flat records of fixed size."""

import numpy as np

TRADE_DTYPE = np.dtype(
    (
        np.record,
        [
            ("number", "<i8"),
            ("entry_time_ns", "<i8"),
            ("exit_time_ns", "<i8"),
            ("holding_end_ns", "<i8"),
            ("entry_index", "<i8"),
            ("exit_index", "<i8"),
            ("side", "<i8"),
            ("exit_reason", "<i8"),
            ("quantity", "<f8"),
            ("entry_price", "<f8"),
            ("exit_price", "<f8"),
            ("gross_pnl", "<f8"),
            ("net_pnl", "<f8"),
            ("commission", "<f8"),
            ("slippage", "<f8"),
            ("financing", "<f8"),
            ("mae", "<f8"),
            ("mfe", "<f8"),
        ],
    )
)
"""One closed round trip. Money in the quote currency; `mae` <= 0 <= `mfe`."""

FILL_DTYPE = np.dtype(
    (
        np.record,
        [
            ("bar_index", "<i8"),
            ("time_ns", "<i8"),
            ("is_buy", "<i8"),
            ("is_entry", "<i8"),
            ("exit_reason", "<i8"),
            ("quantity", "<f8"),
            ("reference_price", "<f8"),
            ("price", "<f8"),
            ("commission", "<f8"),
            ("cash_after", "<f8"),
        ],
    )
)
"""One execution. `reference_price` is before slippage, `price` after."""
