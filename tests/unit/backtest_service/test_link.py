"""What binds a worker process to its rules; each is tried in a process of its own."""

import subprocess
import sys

FORKS = """
import os, subprocess, sys
from backlane.errors import ForkRefusedError
from backtest_service.link import refuse_forks
refuse_forks()
subprocess.run([sys.executable, "-c", "pass"], check=True)  # starting a program is no such fork
for fork in (os.fork, os.forkpty):
    try:
        fork()
    except ForkRefusedError as error:
        print(error.reason)
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=print)
try:
    process.start()
except ForkRefusedError as error:
    print(error.reason)
"""
NAMES = """
import psutil
from backtest_service.link import show_as
show_as("backlane-run")
print(psutil.Process().name())
"""


def printed(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_a_fork_is_refused_with_a_clear_error():
    assert printed(FORKS) == ["FORK_REFUSED"] * 3


def test_a_process_is_shown_by_what_it_does():
    assert printed(NAMES) == ["backlane-run"]
