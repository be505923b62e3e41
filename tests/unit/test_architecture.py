"""Data flows one way: a module imports only from its own package or from a layer before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import alliance_meta

PACKAGE = Path(alliance_meta.__file__).parent

# Packages on one line do not import one another, but for the first line, which all may use.
LAYERS = (
    (
        "errors",
        "notes",
        "encoding",
        "result",
        "files",
        "tables",
        "expressions",
        "formulas",
        "conditions",
        "_typing",
        "_lazy",
    ),
    ("core",),
    ("effects",),
    ("design",),
    ("results",),
    ("models", "bayes"),
    ("bias", "moderators", "planning", "evidence"),
    # `match` looks for the routes to published numbers.
    ("sensitivity",),
    ("plots",),
    ("reporting",),
    ("cli",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# What `import alliance_meta` and `alliance-meta --help` must not wait for.
HEAVY = (
    "arviz",
    "formulaic",
    "frictionless",
    "jinja2",
    "matplotlib",
    "numba",
    "numpy",
    "openpyxl",
    "pandas",
    "pydantic",
    "pymc",
    "scipy",
    "statsmodels",
    "typst",
)


def module_name(path: Path) -> str:
    parts = ("alliance_meta", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield every import as a dotted name, wherever in the module it stands."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield from imported_names(child)


def as_module(name: str) -> str:
    """Cut a dotted name back to the module it lies in."""
    while name not in PATHS and "." in name:
        name = name.rpartition(".")[0]
    return name


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [module for module in PATHS if module != "alliance_meta"]


@cache
def imports() -> dict[str, list[str]]:
    """Return what every module imports."""
    return {module: sorted(set(imported_names(ast.parse(path.read_text("utf-8"))))) for module, path in PATHS.items()}


def may_import(importer: str, imported: str) -> bool:
    if imported == importer or LAYER[imported] < LAYER[importer]:
        return True
    return LAYER[imported] == LAYER[importer] == 0


def modules_in(folder: Path) -> int:
    return sum(path.name != "__init__.py" for path in folder.glob("*.py"))


FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
MOST_MODULES = 20


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    assert [folder for folder in FOLDERS if modules_in(folder) > MOST_MODULES] == []


def test_no_module_is_called_as_a_test_is() -> None:
    assert [module for module in MODULES if module.endswith("_test") or ".test_" in module] == []


def test_no_module_hides_a_public_name_of_its_package() -> None:
    """Importing `bias/worst_case.py` would put the module where `bias.worst_case` is looked for."""
    faces = [import_module(module) for module, path in PATHS.items() if path.name == "__init__.py"]
    hidden = {f"{face.__name__}.{name}" for face in faces for name in getattr(face, "__all__", ())} & set(PATHS)
    assert {name for name in hidden if PATHS[name].name != "__init__.py"} == set()


def test_every_module_belongs_to_a_layer() -> None:
    assert {module.split(".")[1] for module in MODULES} <= set(LAYER)
    assert {"core", "effects", "models", "plots", "reporting"} <= {module.split(".")[1] for module in MODULES}


def test_imports_only_from_earlier_layers() -> None:
    wrong = []
    for module in MODULES:
        for name in imports()[module]:
            package, _, rest = name.partition(".")
            if package == "alliance_meta" and rest != "__version__":
                part = rest.split(".")[0]
                if part not in LAYER or not may_import(module.split(".")[1], part):
                    wrong.append((module, name))
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Not even for a type checker: whoever reads a module can read what it rests on first."""
    graph = {}
    for module in MODULES:
        ours = {as_module(name) for name in imports()[module] if name.startswith("alliance_meta.")}
        graph[module] = {one for one in ours if PATHS[one].name != "__init__.py"} - {module}
    graph = {module: found for module, found in graph.items() if PATHS[module].name != "__init__.py"}
    TopologicalSorter(graph).prepare()


def test_core_knows_only_numpy_and_scipy() -> None:
    core = [module for module in MODULES if module.split(".")[1] == "core"]
    roots = {(module, name.split(".")[0]) for module in core for name in imports()[module]}
    known = {*sys.stdlib_module_names, "numpy", "scipy", "alliance_meta"}
    assert {one for one in roots if one[1] not in known} == set()


def test_no_module_draws_through_global_state() -> None:
    found = [(module, name) for module in MODULES for name in imports()[module]]
    assert [one for one in found if one[1].startswith(("matplotlib.pyplot", "pylab"))] == []


def test_arviz_is_behind_one_module() -> None:
    knowing = {module for module in MODULES if any(name.split(".")[0] == "arviz" for name in imports()[module])}
    assert knowing <= {"alliance_meta.bayes.arviz_bridge"}


@pytest.mark.parametrize("module", ["alliance_meta", "alliance_meta.cli", "alliance_meta.cli.app"])
def test_import_is_light(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_names_for_type_checkers_are_the_names_at_run_time() -> None:
    top = ast.parse(PATHS["alliance_meta"].read_text("utf-8"))
    block = next(node for node in top.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*typed, "__version__"} == set(alliance_meta.__all__)
    for name, home in typed.items():
        own = import_module(f"{home}.{name}") if home == "alliance_meta" else getattr(import_module(str(home)), name)
        assert getattr(alliance_meta, name) is own


def asks_for_the_name_of_a_structure(tree: ast.AST) -> list[int]:
    """Return the lines that compare a `struct` with a name; whether there is one at all is another question."""
    comparisons = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    return sorted(
        node.lineno
        for node in comparisons
        if not isinstance(node.ops[0], ast.Is | ast.IsNot)
        and any(getattr(part, "attr", getattr(part, "id", "")) == "struct" for part in ast.walk(node))
    )


def test_asking_for_the_name_of_a_structure_is_found() -> None:
    code = "if term.struct == 'CS' or struct is None: pass\nx = struct in ('UN', 'GEN')"
    assert asks_for_the_name_of_a_structure(ast.parse(code)) == [1, 2]


def test_only_structures_know_their_names() -> None:
    """What is true of a covariance structure is an attribute or a method of it."""
    texts = {module: path.read_text("utf-8") for module, path in PATHS.items()}
    named = {module: ast.parse(text) for module, text in texts.items() if "struct" in text}
    asking = {module for module, tree in named.items() if asks_for_the_name_of_a_structure(tree)}
    assert asking == {"alliance_meta.core.mixed.covariance"}
