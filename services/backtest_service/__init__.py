"""backtest_service: takes requests, runs each in a process of its own, keeps the results."""
