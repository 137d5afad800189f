"""Money moves in one function: nothing else of the book writes to the cash."""

import ast
from pathlib import Path

from backlane.portfolio import book

FOLDER = Path(book.__file__).parent
MOVERS = {"book.apply_book_fill"}


def test_only_apply_book_fill_moves_money():
    found = {
        f"{path.stem}.{function.name}"
        for path in sorted(FOLDER.glob("*book*.py"))
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and _writes_cash(function)
    }
    assert found == MOVERS


def _writes_cash(function: ast.FunctionDef) -> bool:
    for node in ast.walk(function):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            is_cell = isinstance(target, ast.Subscript)
            # The array itself is made once, and copied for a checkpoint.
            if is_cell and _name(target.value) == "cash":
                return True
    return False


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
