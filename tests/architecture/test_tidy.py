"""The house rules, run over every file; and over planted offences, so that no rule sleeps."""

import re
import tomllib

import pytest

from backlane import jit
from tests.architecture import rules
from tests.architecture.rules import RULES, Rule
from tests.architecture.source import PIPELINE, ROOT, SERVICES, Source, read_sources

SOURCES = tuple(read_sources())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_is_tidy(rule: Rule):
    offences = [
        f"{source.path}:{line}: {what}" for source in SOURCES for line, what in rule(source)
    ]
    assert not offences, f"{rule.__doc__}\n" + "\n".join(offences)


LONG_BODY = "\n".join(f"    x{i} = {i}" for i in range(70))
STAGE = "services/backlane/risk/sizing.py"
SERVICER = "services/model_service/servicer.py"
PLANTED = [
    (rules.short_functions, STAGE, f"def f():\n{LONG_BODY}"),
    (rules.short_modules, STAGE, "x = 1\n" * 501),
    (
        rules.thin_servicers,
        SERVICER,
        "class ModelServicer:\n    async def Predict(self):\n        '''Doc.'''\n"
        + "        pass\n" * 15,
    ),
    (rules.no_print, SERVICER, "print(1)"),
    *[
        (rules.no_clock_or_chance_in_the_pipeline, STAGE, text)
        for text in (
            "import time\ntime.time()",
            "import time as t\nx = t.perf_counter_ns()",
            "from time import monotonic\nf(default=monotonic)",
            "import datetime\ndatetime.datetime.now(datetime.UTC)",
            "from datetime import datetime\ndatetime.now()",
            "from datetime import date\ndate.today()",
            "import random\nrandom.random()",
            "import random\nrandom.Random()",
            "from random import shuffle\nshuffle([])",
            "import numpy as np\nnp.random.rand(3)",
            "import numpy as np\nnp.random.seed(3)",
            "import numpy as np\nnp.random.default_rng()",
            "from numpy.random import default_rng\ndefault_rng()",
            "import uuid\nuuid.uuid4()",
            "import os\nos.urandom(3)",
        )
    ],
    (rules.no_clock_or_chance_in_the_pipeline, "services/backlane/operations/lease.py",
     "import time\ntime.time()"),
    (rules.no_world_in_the_pipeline, STAGE, "from pathlib import Path"),
    (rules.no_world_in_the_pipeline, STAGE, "def f():\n    import os.path"),
    (rules.no_world_in_the_pipeline, STAGE, "open('x')"),
    (rules.no_way_back_from_a_view, "services/backlane/signals/momentum.py",
     "def f(panel):\n    return panel.close.base[-1]"),
    (rules.torch_in_its_place, "services/backlane/cli/data.py", "def f():\n    import torch.nn"),
    (rules.documented_public_names, STAGE, "x = 1"),
    (rules.documented_public_names, STAGE, "'''A b c d.'''\ndef f(): pass"),
    (rules.documented_public_names, STAGE,
     "'''A b c d.'''\nclass A:\n  '''A b c d.'''\n  def f(self): pass"),
    (rules.telling_docstrings, STAGE, "'''To be written.'''"),
    (rules.telling_docstrings, STAGE, "def f():\n    '''Does f.'''"),
    (rules.no_services_import, "tests/unit/test_x.py", "from services.backlane import errors"),
    (rules.no_services_import, "tests/unit/test_x.py", "def f():\n    import services"),
    (rules.nothing_unfinished, STAGE, "x = 1  # TO" + "DO: more"),
    (rules.nothing_unfinished, "tests/unit/test_x.py", "# FIX" + "ME"),
    (rules.empty_packages, "services/backlane/risk/__init__.py", "'''A.'''\nimport os"),
    (rules.packages_say_what_flows, "services/backlane/risk/__init__.py",
     "'''Reads a.\nProduces b.'''"),
    (rules.telling_names, "services/backlane/risk/utils.py", ""),
    (rules.telling_names, STAGE, "class RiskManager: pass"),
    (rules.bounded_queues, SERVICER, "import asyncio\nasyncio.Queue()"),
    (rules.bounded_queues, SERVICER, "from queue import SimpleQueue\nSimpleQueue()"),
    (rules.spawn_never_fork, SERVICER, "import os\nos.fork()"),
    (rules.spawn_never_fork, SERVICER, "from multiprocessing import Process\nProcess()"),
    (rules.spawn_never_fork, SERVICER, "import multiprocessing as m\nm.get_context('fork')"),
    (
        rules.spawn_never_fork,
        SERVICER,
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()",
    ),
    (rules.no_fast_math, STAGE, "njit(fastmath=True)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "path", "text"), PLANTED, ids=[f"{p[0].__name__}-{i}" for i, p in enumerate(PLANTED)]
)
def test_a_planted_offence_is_found(rule: Rule, path: str, text: str):
    assert len(list(rule(Source(path, text)))) == 1


def test_every_rule_has_a_planted_offence():
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nnp.random.default_rng(7)",
        "import numpy as np\nrandom = np.random.default_rng(seed=7)\nrandom.normal()",
        "import numpy as np\ndef f(random: np.random.Generator) -> np.random.Generator: ...",
        "import random\nrandom.Random(7)",
        "from datetime import time\ntime(3)",
        "from datetime import UTC, datetime\ndatetime(2020, 1, 1, tzinfo=UTC)",
        "def f(clock): clock.time(); clock.now_ns()",
    ],
)
def test_seeds_and_clocks_that_are_handed_in_are_fine(text: str):
    assert not list(rules.no_clock_or_chance_in_the_pipeline(Source(STAGE, text)))


def test_the_edge_may_read_the_clock():
    source = Source("services/backlane/clock.py", "import time\ntime.time_ns()")
    assert not list(rules.no_clock_or_chance_in_the_pipeline(source))


def test_a_servicer_method_of_fifteen_lines_is_fine():
    text = "class ModelServicer:\n    async def Predict(self):\n" + "        pass\n" * 14
    assert not list(rules.thin_servicers(Source(SERVICER, text)))


def _layers() -> list[str]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configuration["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    return [name for layer in reversed(layers["layers"]) for name in layer.split(" | ")]


def test_the_import_contract_states_the_pipeline_in_the_same_order():
    assert [name for name in _layers() if name in PIPELINE] == list(PIPELINE)


def test_the_library_docstring_states_the_pipeline_in_the_same_order():
    text = (SERVICES / "backlane" / "__init__.py").read_text(encoding="utf-8")
    assert re.findall(r"\w+", text.split("\n\n")[2]) == list(PIPELINE)


def test_every_part_of_the_library_has_its_place_among_the_layers():
    library = SERVICES / "backlane"
    folders = {path.parent.name for path in library.glob("*/__init__.py")}
    modules = {path.stem for path in library.glob("*.py")}
    assert folders | modules - {"__init__"} == {*_layers(), "api", "testing"}


def test_every_stage_with_compiled_functions_counts_for_the_cache_of_compiled_code():
    library = SERVICES / "backlane"
    users = {
        path.parent.name
        for path in library.glob("*/*.py")
        if "from backlane.jit import" in path.read_text()
    }
    assert users <= set(jit._COMPILED_STAGES)
