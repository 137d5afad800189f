"""What a simulated book leaves behind: its orders, its fills and its trades."""

import numpy as np

BOOK_ORDER_DTYPE = np.dtype(
    (
        np.record,
        [
            ("time_index", "<i8"),  # the bar at whose close it was decided
            ("symbol", "<i8"),
            ("quantity", "<f8"),  # signed units
            ("price", "<f8"),  # the last close known at the decision
            ("outcome", "<i8"),  # BookOrderOutcome
        ],
    )
)

BOOK_FILL_DTYPE = np.dtype(
    (
        np.record,
        [
            ("order", "<i8"),  # index of the order
            ("time_index", "<i8"),  # the bar that filled it
            ("symbol", "<i8"),
            ("quantity", "<f8"),  # signed units
            ("price", "<f8"),
            ("cost", "<f8"),  # money, all components
            ("cash_after", "<f8"),
        ],
    )
)

BOOK_TOTALS_DTYPE = np.dtype(
    (
        np.record,
        [
            ("next_bar", "<i8"),  # the bar to open next
            ("order_count", "<i8"),  # records that count; the rest of each array is room
            ("fill_count", "<i8"),
            ("open_count", "<i8"),  # orders that are open: the first of `open_orders`
            ("equity", "<f8"),  # at the last mark, before what filled at that close
            ("peak_equity", "<f8"),  # the highest of them, and of the initial cash
        ],
    )
)

BOOK_TRADE_DTYPE = np.dtype(
    (
        np.record,
        [
            ("symbol", "<i8"),
            ("side", "<i8"),  # +1 long, -1 short
            ("entry_index", "<i8"),
            ("exit_index", "<i8"),  # of the last bar for a trade still open
            ("is_open", "<i8"),
            ("quantity", "<f8"),  # units that entered, over all its entries
            ("entry_price", "<f8"),  # mean of its entries, by quantity
            ("exit_price", "<f8"),  # mean of its exits; what is still open counts at its last close
            ("gross_pnl", "<f8"),
            ("cost", "<f8"),
            ("net_pnl", "<f8"),
        ],
    )
)
