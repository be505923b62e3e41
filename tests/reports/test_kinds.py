"""What kinds of analysis differ in is said by their classes and asked nowhere."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

from alliance_meta import reporting
from alliance_meta.reporting.kinds import KEYS, KINDS
from alliance_meta.reporting.spec import Analysis, AnalysisKind
from tests.unit.test_architecture import as_module, imports

SOURCES = sorted(Path(reporting.__file__).parent.glob("*.py"))


def asked_kinds(source: str) -> list[str]:
    """Return every comparison of the kind of an analysis with a word, and every test of its class."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.Is | ast.IsNot):
            sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
            words = {repr(kind) for kind in get_args(AnalysisKind)}
            if any(side.endswith("spec.kind") for side in sides) or words & set(sides):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and "Fitted" in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_asks_for_the_kind(path: Path) -> None:
    assert asked_kinds(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["fitted.spec.kind == BAYES", "spec.kind not in (RANDOM, RVE)", "one.get('kind') == 'rve'", "'bayes' != kind"],
)
def test_asking_is_found(line: str) -> None:
    assert asked_kinds(f"if {line}:\n    pass") != []


def test_every_kind_that_may_be_declared_has_a_class() -> None:
    assert list(KINDS) == list(get_args(AnalysisKind))
    assert all(name == one.kind for name, one in KINDS.items())


def test_the_keys_of_kinds_are_keys_of_an_analysis() -> None:
    assert set(KEYS) <= set(Analysis.model_fields)
    for kind in KINDS.values():
        assert set(kind.usual) | set(kind.options) <= set(kind.keys)


def test_modules_of_reports_know_each_other_one_way_even_in_their_types() -> None:
    modules = [module for module in imports() if module.startswith("alliance_meta.reporting.")]
    assert "alliance_meta.reporting.kinds" in modules
    TopologicalSorter({one: {as_module(name) for name in imports()[one]} & set(modules) for one in modules}).prepare()
