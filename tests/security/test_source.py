"""What the package's own source holds: nothing that runs text, and one way to formulaic."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import alliance_meta
from alliance_meta.evidence.routes import Route, code

PACKAGE = Path(alliance_meta.__file__).parent

FORBIDDEN = {"eval", "exec", "__import__"}
FORBIDDEN_ATTRIBUTES = {"eval", "read_pickle", "to_pickle", "system", "popen"}
# Two folders change places by a call of the system; `make reports` runs this very command, and by no shell.
ALLOWED = {"files.py": ["ctypes"], "reporting/made.py": ["subprocess"]}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "runpy", "code", "ctypes"}


def _dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN or (isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_ATTRIBUTES):
                yield name
            if any(word.arg == "shell" for word in node.keywords):
                yield f"{name}(shell=)"
            if name.endswith("rame.query"):
                yield name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            roots = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from (root for root in roots if root.split(".")[0] in FORBIDDEN_MODULES)
            if any(root.split(".")[0] == "subprocess" for root in roots):
                yield "subprocess"


def test_no_module_runs_text_as_code() -> None:
    assert list(_dangers(ast.parse("eval(x); frame.query(y); os.system(z); import pickle, subprocess"))) == [
        "pickle",
        "subprocess",
        "eval",
        "frame.query",
        "os.system",
    ]
    found = {
        str(path.relative_to(PACKAGE)): list(_dangers(ast.parse(path.read_text("utf-8"))))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert {name: dangers for name, dangers in found.items() if dangers} == ALLOWED


def test_formulaic_is_reached_through_the_gate_only() -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if "from formulaic" in path.read_text("utf-8")}
    assert users == {"design.py", "formulas.py"}
    text = (PACKAGE / "design.py").read_text("utf-8")
    assert text.count("model_matrix(") == 2
    assert "model_matrix(checked, _frame(used" in text


def test_the_code_that_is_printed_for_a_route_holds_what_it_says_and_no_more() -> None:
    odd = 'x"); open("CANARY", "w"); ("'
    tree = ast.parse(code(Route(odd, "n", mods=odd, model="multilevel", random=(odd, "es_id"), robust=odd, rho=0.5)))
    assert len(tree.body) == 1
    assert "open" not in {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert odd in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
