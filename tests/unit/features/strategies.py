"""Strategies in plain data, for tests to change."""

from typing import Any


def strategy_content() -> dict[str, Any]:
    """Returns a strategy of two timeframes that has no mistake; a new one at every call."""
    return {
        "name": "two_clocks",
        "version": "3.0",
        "training_data": {
            "symbols": {"mode": "single", "symbol": "EURUSD"},
            "timeframes": {
                "mode": "multi_timeframe",
                "list": ["5m", "1h"],
                "base_timeframe": "5m",
            },
            "history_required": 100,
        },
        "indicators": {
            "rsi": {"type": "rsi", "period": 3},
            "bb": {"type": "bbands", "period": 4, "multiplier": 2.0},
        },
        "fuzzy_sets": {
            "mood": {
                "indicator": "rsi",
                "low": [0, 20, 50],
                "high": {"type": "trapezoidal", "parameters": [50, 80, 100, 100]},
            },
            "floor": {"indicator": "bb.lower", "near": {"type": "gaussian", "parameters": [1, 1]}},
        },
        "nn_inputs": [
            {"fuzzy_set": "mood", "timeframes": "all"},
            {"fuzzy_set": "floor", "timeframes": ["1h"]},
            {"raw_indicator": "bb.middle", "timeframes": "5m", "normalization": "zscore"},
        ],
        "model": {"type": "mlp"},
        "decisions": {"output_format": "classification", "confidence_threshold": 0.5},
        "training": {"labels": {"source": "zigzag"}},
    }
