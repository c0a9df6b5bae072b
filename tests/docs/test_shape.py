"""The shape budget: what separates good houses from bad ones is the tail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "playhead"
FILES = sorted(SRC.rglob("*.py"))
LINES_MAX, FUNCTION_MAX, METHODS_MAX, PARAMETERS_MAX = 400, 60, 15, 6
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# click hands over each option as a parameter, and a decorated Topic is one call with four options.
WIDE = {("core/declare.py", "topic"), ("core/declare.py", "pipeline")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_file_keeps_the_shape_budget(path: Path) -> None:
    assert list(violations(path)) == []


def violations(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > LINES_MAX:
        yield f"{lines} lines"
    name = str(path.relative_to(SRC))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DEFINITIONS):
            length = (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)
            if length > FUNCTION_MAX:
                yield f"{node.name} has {length} lines"
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(a.arg not in {"self", "cls"} for a in given)
            if count > PARAMETERS_MAX and (name, node.name) not in WIDE:
                yield f"{node.name} has {count} parameters"
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(n, DEFINITIONS) for n in node.body)
            if methods > METHODS_MAX:
                yield f"{node.name} has {methods} methods"


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return (first.end_lineno or 0) - first.lineno + 1
    return 0
