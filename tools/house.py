"""Measure the house: size, rooms, circles and long functions of the package (`make house`).

``--trace`` also counts the files of the package that a few analyses enter. ``--root`` measures another checkout.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAME = "alliance_meta"
LONG = 40


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)


def _nodes(node: ast.AST, *, typing: bool = True) -> Iterator[ast.AST]:
    """Yield a node and all below it, with or without what only a type checker reads."""
    yield node
    if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield from _nodes(child, typing=typing)


def _module(path: Path, package: Path) -> str:
    parts = (NAME, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST, *, typing: bool) -> Iterator[str]:
    for node in _nodes(tree, typing=typing):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _graph(trees: dict[str, ast.Module], *, typing: bool) -> dict[str, set[str]]:
    """Return which module imports which, wherever in it the import stands."""

    def home(name: str) -> str:
        while name not in trees and "." in name:
            name = name.rpartition(".")[0]
        return name

    found = {}
    for module, tree in trees.items():
        homes = {home(name) for name in _imports(tree, typing=typing) if name.startswith(f"{NAME}.")}
        found[module] = homes - {module, NAME}
    return found


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module, the largest first (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            cut = stack.index(module)
            found.append(sorted(stack[cut:]))
            del stack[cut:]

    for module in graph:
        if module not in number:
            visit(module)
    return sorted((circle for circle in found if len(circle) > 1), key=lambda circle: (-len(circle), circle))


def _docstring(node: Any) -> ast.stmt | None:
    first = node.body[0] if node.body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return first if text else None


def _function_lengths(trees: dict[str, ast.Module]) -> Iterator[tuple[int, str]]:
    """Yield how many lines the body of each function has, without its docstring, and where it is."""
    for module, tree in trees.items():
        for node in _nodes(tree):
            if isinstance(node, FUNCTIONS):
                body = node.body[1:] if _docstring(node) else node.body
                if body:
                    yield int(body[-1].end_lineno or 0) - body[0].lineno + 1, f"{module}.{node.name}"


def _docstring_lines(tree: ast.Module) -> set[int]:
    found = [_docstring(node) for node in _nodes(tree) if isinstance(node, DOCUMENTED)]
    return {line for text in found if text is not None for line in range(text.lineno, int(text.end_lineno or 0) + 1)}


def measure(root: Path) -> Iterator[tuple[str, str]]:
    """Yield every figure as its name and its value."""
    package = root / NAME
    texts = {path: path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {_module(path, package): ast.parse(text) for path, text in texts.items()}
    lines = sum(text.count("\n") for text in texts.values())
    yield "files, lines", f"{len(texts)}, {lines:,}"
    faces = {_module(path, package) for path in texts if path.name == "__init__.py"}
    rooms = Counter(str(path.parent.relative_to(root)) for path in texts if path.name != "__init__.py")
    yield "modules per folder", ", ".join(f"{room} {count}" for room, count in rooms.most_common())
    typed = _graph(trees, typing=True)
    for title, graph in (("typing included", typed), ("at run time", _graph(trees, typing=False))):
        circles = _circles(graph)
        sizes = ", ".join(str(len(circle)) for circle in circles)
        value = f"{len(circles)} ({sum(map(len, circles))} files: {sizes})" if circles else "0"
        yield f"import circles, {title}", value
    importers: dict[str, set[str]] = defaultdict(set)
    for module, others in typed.items():
        for other in others:
            importers[other].add(module)
    single = sum(len(found) == 1 and not found & faces for found in importers.values())
    yield "modules with a single importer that is no __init__", f"{single}"
    lengths = sorted(_function_lengths(trees))
    long = [f"{where} ({length})" for length, where in reversed(lengths) if length > LONG]
    yield f"functions over {LONG} lines", f"{len(long)}" + "".join(f"\n    {one}" for one in long)
    documented = {module: _docstring_lines(tree) for module, tree in trees.items()}
    comments = sum(
        line.lstrip().startswith("#") and number not in documented[_module(path, package)]
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
    )
    shares = 100 * sum(map(len, documented.values())) / lines, 100 * comments / lines
    yield "docstrings, comments, % of lines", "{:.1f}, {:.1f}".format(*shares)


def _entered(action: Callable[[], Any], package: Path) -> set[str]:
    """Return the files of the package whose functions run in an action, importing aside."""
    action()
    files: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return {str(Path(file).relative_to(package)) for file in files if file.startswith(f"{package}/")}


def trace(root: Path) -> Iterator[tuple[str, str]]:
    """Yield how many files of the package each of a few analyses enters; imports and caches are warm."""
    sys.path.insert(0, str(root))
    import alliance_meta as am
    from alliance_meta.reporting import build_report

    effects = am.escalc(am.load_dataset("kolden2011_congruence"))
    many = am.escalc(am.load_dataset("relationship_dependent_effects").query("study != 'Jones 1982'"))
    V = am.impute_V(many, rho=0.6)
    nested = "~ 1 | study_id/es_id"
    fit = am.RandomEffectsModel(effects).fit()
    with tempfile.TemporaryDirectory() as folder:
        actions: dict[str, Callable[[], Any]] = {
            "REML tau2": lambda: am.RandomEffectsModel(effects).fit().tau2,
            "V to sigma2": lambda: am.MultilevelModel(many, random=nested, V=V).fit().sigma2,
            "exact Bayes, two levels": lambda: (
                am.BayesianModel(effects, tau_prior=am.priors.HalfNormal(0.3)).fit().tidy()
            ),
            "exact Bayes, three levels": lambda: am.BayesianModel(many, random=nested, V=V).fit().tidy(),
            "forest": lambda: am.plots.forest(fit),
            "report": lambda: build_report(root / "reports" / "relationship-2011.toml", out=folder),
        }
        for name, action in actions.items():
            yield f"files entered, {name}", f"{len(_entered(action, root / NAME))}"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", action="store_true", help="also count the files that analyses enter")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout to measure")
    given = parser.parse_args()
    root = given.root.resolve()
    for name, value in [*measure(root), *(trace(root) if given.trace else ())]:
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
