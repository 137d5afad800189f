"""Every indicator has an example that can be redone by hand."""

import ast
from pathlib import Path

import pytest

from backlane.indicators.registry import INDICATORS

FOLDER = Path(__file__).parent
OF_ALL = {"test_registry.py", "test_talib.py", "test_hand_examples.py"}
"""Tests that compare without an expected value of their own."""


def called_in_tests() -> set[str]:
    """Returns the functions that are called in a test which also asserts something."""
    names = set()
    for path in FOLDER.glob("test_*.py"):
        if path.name in OF_ALL:
            continue
        for test in ast.parse(path.read_text()).body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                nodes = list(ast.walk(test))
                calls = [node.func for node in nodes if isinstance(node, ast.Call)]
                asserts = any(isinstance(node, ast.Assert) for node in nodes) or any(
                    getattr(call, "attr", "").startswith("assert_") for call in calls
                )
                if asserts:
                    names |= {call.id for call in calls if isinstance(call, ast.Name)}
    return names


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
def test_its_function_is_redone_by_hand(kind):
    function = kind.function.split(".")[1]
    assert function in called_in_tests(), f"add a hand-computed example of {kind.function}"
