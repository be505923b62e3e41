"""The notebooks run from top to bottom, and each .ipynb is its .py without outputs, to the byte.

They run in this process, which has loaded what they import; one of them also runs as Jupyter runs it.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from alliance_meta.errors import AllianceMetaWarning

FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
LONGEST_CELL, LONGEST_LINE = 30, 95
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
DRAWS = re.compile(r"plots\.(?!save_)\w+\(|Image\(")
SYNTHETIC = ("02", "08")
WITNESS = "03_several_effects_per_study"
READER_PATH = [
    "01_first_meta_analysis",
    "02_from_coding_sheet_to_report",
    "03_several_effects_per_study",
    "04_what_the_studies_make_probable",
    "05_is_the_literature_telling_us_everything",
    "06_would_you_have_concluded_the_same",
    "07_what_makes_studies_differ",
    "08_what_the_simulated_truth_was",
    "09_drawing_from_the_posterior",
]

each = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
# Compiling its models takes longer than all other notebooks together.
RUN = [pytest.param(script, marks=[pytest.mark.slow] * script.stem.startswith("09")) for script in SCRIPTS]


def cells(script: Path, kind: str) -> list[str]:
    """Return the cells of a kind, from the .ipynb: Jupyter's packages take seconds to import."""
    notebook = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def drawing(script: Path) -> int:
    return sum(bool(DRAWS.search(source)) for source in cells(script, "code"))


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell among `names` and return what Jupyter would show below it: the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        return exec(compile(tree, "cell", "exec"), names)
    exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_there_is_a_notebook_for_each_reader() -> None:
    assert [script.stem for script in SCRIPTS] == READER_PATH
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == READER_PATH


def test_each_ipynb_is_the_py_without_outputs() -> None:
    import nbformat

    as_ipynb = runpy.run_path(str(FOLDER / "tools" / "pair.py"))["as_ipynb"]
    for script in SCRIPTS:
        text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
        assert text == as_ipynb(script.read_text(encoding="utf-8")), "run: python notebooks/tools/pair.py"
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)
        assert "/" not in notebook.metadata.kernelspec.name + notebook.metadata.kernelspec.display_name


@each
def test_code_cells_are_short_and_define_nothing(script: Path) -> None:
    for source in cells(script, "code"):
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS)], source
        typed = [line for line in source.split('"""')[0::2] for line in line.splitlines()]
        assert len(typed) <= LONGEST_CELL, source
        assert max(map(len, source.splitlines())) <= LONGEST_LINE, source


@each
def test_a_notebook_is_read_before_it_is_run(script: Path) -> None:
    assert cells(script, "markdown")[0].startswith("# ")
    assert len(cells(script, "markdown")) >= 0.6 * len(cells(script, "code"))


@pytest.mark.parametrize("script", RUN, ids=[script.stem for script in SCRIPTS])
@pytest.mark.notebook
def test_the_notebook_runs_and_shows_every_plot(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from IPython.display import Image
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        values = [shown(source, names) for source in cells(script, "code")]
        texts = [value._repr_html_() if hasattr(value, "_repr_html_") else repr(value) for value in values]
    assert sum(isinstance(value, Figure | Image) for value in values) == drawing(script) >= 2
    text = " ".join([*map(str, texts), capsys.readouterr().out])
    if script.stem.startswith("02"):
        made = {path.name for path in (tmp_path / "build" / "from_coding_sheet" / "report").iterdir()}
        assert {"report.html", "report.pdf", "results.json", "methods.txt", "figures", "tables"} <= made
    assert ("SYNTHETIC" in text) == script.stem.startswith(SYNTHETIC)


@pytest.mark.slow
@pytest.mark.notebook
def test_a_notebook_runs_in_jupyter_and_a_failing_cell_ends_it(tmp_path: Path) -> None:
    notebook = json.loads((FOLDER / f"{WITNESS}.ipynb").read_text("utf-8"))
    failing = {"cell_type": "code", "source": "assert 1 == 2, 'one is not two'", "id": "cell-99"}
    notebook["cells"].append(failing | {"metadata": {}, "outputs": [], "execution_count": None})
    path = tmp_path / "run" / "notebook.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(notebook), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("execute.py")), str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode != 0
    assert "one is not two" in done.stderr
    outputs = [output for cell in json.loads(path.read_text("utf-8"))["cells"] for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == drawing(FOLDER / f"{WITNESS}.py")
    assert [output["ename"] for output in outputs if output["output_type"] == "error"] == ["AssertionError"]
