"""The repository's Python files, parsed, for the rules that read them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"

PIPELINE = (
    "market",
    "panel",
    "indicators",
    "fuzzy",
    "features",
    "inference",
    "signals",
    "decisions",
    "execution",
    "portfolio",
    "risk",
    "cycle",
    "metrics",
    "backtest",
    "audit",
)
"""The stages, in the order that bars flow through them."""


@dataclass(frozen=True)
class Source:
    """One file: its path from the repository's root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @property
    def is_shipped(self) -> bool:
        """Whether it is part of what users install, and written by hand."""
        return self.path.startswith("services/")

    @property
    def is_test(self) -> bool:
        """Whether it is a test, or stands beside tests."""
        return self.path.startswith("tests/")

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__.py` of a package."""
        return self.path.endswith("/__init__.py")

    @property
    def is_pure(self) -> bool:
        """Whether it belongs to a stage of the pipeline or to the operations' state machine."""
        parts = self.path.split("/")
        return parts[:2] == ["services", "backlane"] and parts[2] in (*PIPELINE, "operations")

    @cached_property
    def imports(self) -> dict[str, str]:
        """Local name -> full dotted name, for each import anywhere in the file."""
        names = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return names

    @cached_property
    def imported_modules(self) -> tuple[tuple[int, str], ...]:
        """(line, module) for each import anywhere in the file."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.append((node.lineno, str(node.module)))
        return tuple(found)

    def full_name(self, node: ast.AST) -> str:
        """The dotted name that an expression stands for, such as "numpy.random.rand", or ""."""
        if isinstance(node, ast.Attribute):
            owner = self.full_name(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return self.imports.get(node.id, "") if isinstance(node, ast.Name) else ""


def read_sources() -> Iterator[Source]:
    """Every Python file that people write; generated ones are left out."""
    for folder in ("services", "tests", "scripts", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(SERVICES / "backlane" / "api"):
                yield Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
