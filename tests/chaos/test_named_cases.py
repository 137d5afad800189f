"""Each named case has its tests, and these find the mutant that they are there for."""

import ast
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from backlane.testing import contracts
from tests.chaos.mutants import MUTANTS
from tests.chaos.named_cases import CASES

ROOT = Path(__file__).parents[2]
CONTRACTS = Path(contracts.__file__).parent
CONTRACT_SUITE = "tests/contract/test_operation_store.py"
FAILED = 1
"""pytest's exit code when tests ran, and some failed."""


@lru_cache
def functions_in(path: str) -> set[str]:
    files = [ROOT / path, *(CONTRACTS.glob("*.py") if path == CONTRACT_SUITE else ())]
    trees = [ast.parse(file.read_text()) for file in files]
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_all_26_are_there() -> None:
    assert list(CASES) == [f"F-{number:02d}" for number in range(1, 27)]
    assert {case.mutant for case in CASES.values() if case.mutant} == MUTANTS.keys()


@pytest.mark.parametrize("number", CASES)
def test_the_tests_of_a_case_exist(number: str) -> None:
    case = CASES[number]
    assert case.tests
    assert bool(case.mutant) != bool(case.why_none)
    for test in case.tests:
        path, _, function = test.partition("::")
        assert function in functions_in(path), test


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [number for number, case in CASES.items() if case.mutant])
def test_its_mutant_is_found(number: str) -> None:
    case = CASES[number]
    path, _, function = case.tests[0].partition("::")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.chaos.mutants"),
            *("-p", "no:cacheprovider", "--timeout", "100", "-m", "", "-k", function, path),
        ],
        cwd=ROOT,
        env={**os.environ, "CHAOS_MUTANT": case.mutant, "PYTHONPATH": "services:."},
        capture_output=True,
        text=True,
    )
    if " skipped" in done.stdout and " failed" not in done.stdout:
        pytest.skip(done.stdout[-300:])
    assert done.returncode == FAILED, done.stdout[-3000:] + done.stderr[-2000:]
