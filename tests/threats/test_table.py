"""docs/threats.md and the tests name each other: no row without a test, no play without a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "threats.md").read_text("utf-8")
NAMED = re.findall(r"`(test_\w+\.py)::([\w:]+)`", TEXT)


def names_in(path: Path) -> set[str]:
    """ "test_x" and "TestX::test_y" of a file, as they stand in it."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (each.name for each in node.body if isinstance(each, ast.FunctionDef))
            found |= {f"{node.name}::{name}" for name in methods if name.startswith("test_")}
    return found


def test_every_row_has_its_test() -> None:
    rows = [line for line in TEXT.split("## Every bit")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 40
    assert all(len(re.findall(r"`test_\w+\.py::[\w:]+`", row)) == 1 for row in rows)
    for file, name in NAMED:
        (path,) = TESTS.rglob(file)
        assert name in names_in(path), f"docs/threats.md names {file}::{name}, which there is not"


def test_every_play_has_its_row() -> None:
    plays = {name for name in names_in(Path(__file__).parent / "test_threats.py") if "::" in name}
    assert plays == {name for file, name in NAMED if file == "test_threats.py"}


def test_every_play_says_who_and_how() -> None:
    tree = ast.parse((Path(__file__).parent / "test_threats.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            words = ast.get_docstring(node) or ""
            assert all(each in words for each in ("Attacker:", "How:", "Noticed by:", "By:")), node.name
