"""The house rules that can be read off the source: each yields (line, what is wrong).

Each rule says in its docstring what it asks for; tests/architecture/test_tidy.py runs them over
every file, and over a planted offence each.
"""

import ast
import re
from collections.abc import Callable, Iterator

from tests.architecture.source import Source

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
SERVICER_METHOD_LINES_MAX = 15
DOCSTRING_WORDS_MIN = 4

Offences = Iterator[tuple[int, str]]
Rule = Callable[[Source], Offences]

# A reading of these differs from one run to the next.
CLOCKS_AND_CHANCE = re.compile(
    r"""time\.(time|monotonic|perf_counter|process_time|thread_time|sleep|localtime|gmtime
            |strftime|ctime)(_ns)?
      | datetime\.(datetime\.(now|utcnow|today)|date\.today)
      | uuid\.uuid[14] | os\.urandom | secrets\..+ | random\..+ | numpy\.random\..+""",
    re.VERBOSE,
)
SEEDED_WITH_ARGUMENTS = re.compile(
    r"random\.Random|numpy\.random\.(default_rng|SeedSequence|PCG64|Philox|Generator)"
)
WORLD_MODULES = {
    *("glob", "http", "logging", "multiprocessing", "os", "pathlib", "shutil", "socket"),
    *("sqlite3", "subprocess", "tempfile", "threading", "urllib"),
}
CUT_PLACES = ("services/backlane/signals/", "services/backlane/cycle/")
TORCH_PLACES = (
    "services/backlane/inference/",
    "services/backlane/sources/bundle.py",
    "services/backlane/sources/weights_file.py",
    "services/model_service/",
)
VAGUE_WORDS = re.compile(r"manager|helper|utils?|common|misc|handler", re.IGNORECASE)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _line_count(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_line_count(node: Function) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def short_functions(source: Source) -> Offences:
    """A function fits on a screen."""
    for node in source.nodes:
        if isinstance(node, Function) and _line_count(node) > FUNCTION_LINES_MAX:
            count = _line_count(node)
            yield node.lineno, f"{node.name} has {count} lines, at most {FUNCTION_LINES_MAX}"


def short_modules(source: Source) -> Offences:
    """A module is about one thing."""
    count = len(source.text.splitlines())
    if count > MODULE_LINES_MAX:
        yield 1, f"the module has {count} lines, at most {MODULE_LINES_MAX}"


def thin_servicers(source: Source) -> Offences:
    """An RPC converts in, makes one call, converts out; the docstring is not counted."""
    if not (source.is_shipped and source.path.endswith("servicer.py")):
        return
    for owner in source.nodes:
        if not (isinstance(owner, ast.ClassDef) and owner.name.endswith("Servicer")):
            continue
        for method in owner.body:
            if isinstance(method, Function) and not method.name.startswith("_"):
                count = _line_count(method) - _docstring_line_count(method)
                if count > SERVICER_METHOD_LINES_MAX:
                    limit = (
                        f"at most {SERVICER_METHOD_LINES_MAX}: convert in, one call, convert out"
                    )
                    yield method.lineno, f"{method.name} has {count} lines, {limit}"


def no_print(source: Source) -> Offences:
    """What is said to people goes through the CLI's console; what is logged, through structlog."""
    if not source.is_shipped:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield node.lineno, "print: use the console of the command line, or the log"


def no_clock_or_chance_in_the_pipeline(source: Source) -> Offences:
    """Time, identity and chance are arguments of the stages, so that a run can be repeated."""
    if not source.is_pure:
        return
    seeded = {
        node.func
        for node in source.nodes
        if isinstance(node, ast.Call)
        and SEEDED_WITH_ARGUMENTS.fullmatch(source.full_name(node.func))
        and (node.args or node.keywords)
    }
    # In an annotation a generator is named, not made.
    types = {part for node in source.nodes for part in _annotation_parts(node)}
    for node in source.nodes:
        name = source.full_name(node)
        if CLOCKS_AND_CHANCE.fullmatch(name) and node not in seeded and node not in types:
            yield node.lineno, f"{name}: take a Clock, an id or a seeded generator as an argument"


def _annotation_parts(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("annotation", "returns"):
        annotation = getattr(node, field, None)
        if annotation is not None:
            yield from ast.walk(annotation)


def no_world_in_the_pipeline(source: Source) -> Offences:
    """The stages touch no files, environment, processes, threads or network."""
    if not source.is_pure:
        return
    for line, module in source.imported_modules:
        if module.split(".")[0] in WORLD_MODULES:
            yield line, f"{module}: a stage is pure; do this in sources, client, cli or a service"
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "open":
            yield node.lineno, "open: a stage reads no files; do this in sources"


def no_way_back_from_a_view(source: Source) -> Offences:
    """What was cut at a time is a view; its `base` is the whole, later bars and all."""
    if not source.path.startswith(CUT_PLACES):
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr == "base":
            yield node.lineno, f"{ast.unparse(node)}: read what the context holds"


def torch_in_its_place(source: Source) -> Offences:
    """Only what reads and runs networks knows torch; everything else knows the Predictor port."""
    if not source.is_shipped or source.path.startswith(TORCH_PLACES):
        return
    for line, module in source.imported_modules:
        if module.split(".")[0] == "torch":
            yield line, f"{module}: go through backlane.inference.predictor"


def documented_public_names(source: Source) -> Offences:
    """Every public module, class, function and method says what it does."""
    if not source.is_shipped:
        return
    if ast.get_docstring(source.tree) is None:
        yield 1, "the module has no docstring"
    for node in _public_definitions(source.tree):
        if ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} has no docstring"


def telling_docstrings(source: Source) -> Offences:
    """A docstring of fewer than four words says nothing that the name does not."""
    if not source.is_shipped:
        return
    for node in (source.tree, *_public_definitions(source.tree)):
        words = re.findall(r"\w+", ast.get_docstring(node) or "")
        if 0 < len(words) < DOCSTRING_WORDS_MIN:
            line = 1 if isinstance(node, ast.Module) else node.lineno
            yield line, f'the docstring "{" ".join(words)}" tells too little'


def _public_definitions(owner: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    for node in owner.body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        if any(ast.unparse(each).endswith(("overload", ".setter")) for each in node.decorator_list):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from _public_definitions(node)


def no_services_import(source: Source) -> Offences:
    """`services` is a folder, not a package: importing it gives each class a second identity."""
    for line, module in source.imported_modules:
        if module.split(".")[0] == "services":
            yield line, f"{module}: leave out `services.`"


def nothing_unfinished(source: Source) -> Offences:
    """What is left to do stands in an issue, not in the code."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        mark = UNFINISHED.search(line)
        if mark:
            yield number, f"{mark[0]}: finish it, or open an issue"


def empty_packages(source: Source) -> Offences:
    """A package's `__init__.py` is a docstring alone, so that each module loads alone."""
    if source.is_shipped and source.is_package:
        for node in source.tree.body[1:]:
            yield node.lineno, "code in an __init__.py: import from the module that defines it"


def packages_say_what_flows(source: Source) -> Offences:
    """The `__init__.py` of each part of the library says what it Reads, Produces and Never does."""
    parts = source.path.split("/")
    if parts[:2] == ["services", "backlane"] and len(parts) == 4 and source.is_package:
        text = ast.get_docstring(source.tree) or ""
        for word in ("Reads", "Produces", "Never"):
            if not re.search(rf"\b{word}\b", text, re.IGNORECASE):
                yield 1, f'the docstring does not say what it "{word}"'


def telling_names(source: Source) -> Offences:
    """Modules and classes are named for what they are (docs/glossary.md), not for being there."""
    if not source.is_shipped:
        return
    module = source.path.removesuffix(".py").rsplit("/", maxsplit=1)[-1]
    classes = [node for node in source.nodes if isinstance(node, ast.ClassDef)]
    for line, name in [(1, module), *((node.lineno, node.name) for node in classes)]:
        if VAGUE_WORDS.search(name):
            yield line, f"{name}: name the thing itself (docs/glossary.md)"


def bounded_queues(source: Source) -> Offences:
    """Every queue has a named limit."""
    if not source.is_shipped:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call):
            name = source.full_name(node.func)
            is_queue = re.fullmatch(
                r"(asyncio|queue|multiprocessing)\.(Lifo|Priority)?Queue", name
            ) and not (node.args or node.keywords)
            if is_queue or name.endswith(".SimpleQueue"):
                yield node.lineno, f"{name}: give it a named maximum"


def spawn_never_fork(source: Source) -> Offences:
    """A forked child of a process that speaks gRPC hangs: processes are spawned."""
    if not source.is_shipped:
        return
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = source.full_name(node.func)
        has_context = any(keyword.arg == "mp_context" for keyword in node.keywords)
        if (
            re.fullmatch(r"os\.fork(pty)?|multiprocessing\.(Process|Pool)", name)
            or (name == "multiprocessing.get_context" and "spawn" not in ast.unparse(node))
            or (name.endswith(".ProcessPoolExecutor") and not has_context)
        ):
            yield node.lineno, f'{name}: use multiprocessing.get_context("spawn")'


def no_fast_math(source: Source) -> Offences:
    """`fastmath` changes results in the last bits, and from one machine to the next."""
    for node in source.nodes:
        if isinstance(node, ast.keyword) and node.arg == "fastmath":
            yield node.value.lineno, "fastmath: results must be equal to the bit"


RULES: tuple[Rule, ...] = (
    short_functions,
    short_modules,
    thin_servicers,
    no_print,
    no_clock_or_chance_in_the_pipeline,
    no_world_in_the_pipeline,
    no_way_back_from_a_view,
    torch_in_its_place,
    documented_public_names,
    telling_docstrings,
    no_services_import,
    nothing_unfinished,
    empty_packages,
    packages_say_what_flows,
    telling_names,
    bounded_queues,
    spawn_never_fork,
    no_fast_math,
)
