"""The notebooks run from top to bottom, and each .ipynb is its .py without outputs, to the byte."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import nbformat

FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
LONGEST_CELL, LONGEST_LINE = 30, 95
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
READER_PATH = [
    "01_first_meta_analysis",
    "02_from_coding_sheet_to_report",
    "03_several_effects_per_study",
    "04_what_the_studies_make_probable",
    "05_is_the_literature_telling_us_everything",
    "06_would_you_have_concluded_the_same",
]

each = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])


@cache
def pair() -> dict[str, Any]:
    """Run the tool that pairs notebooks only when a test asks: what it imports takes seconds."""
    return runpy.run_path(str(FOLDER / "tools" / "pair.py"))


def cells(script: Path, kind: str) -> list[Any]:
    return [cell for cell in pair()["as_notebook"](script.read_text("utf-8")).cells if cell.cell_type == kind]


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Execute the percent script `text` in `folder`; the executed notebook is ``folder/run/notebook.ipynb``."""
    path = folder / "run" / "notebook.ipynb"
    path.parent.mkdir()
    path.write_text(pair()["as_ipynb"](text), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("execute.py")), str(path), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def images(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_is_a_notebook_for_each_reader() -> None:
    assert [script.stem for script in SCRIPTS] == READER_PATH
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == READER_PATH


@each
def test_the_ipynb_is_the_py_without_outputs(script: Path) -> None:
    import nbformat  # seven seconds

    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == pair()["as_ipynb"](script.read_text(encoding="utf-8")), "run: python notebooks/tools/pair.py"
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)
    assert "/" not in notebook.metadata.kernelspec.name + notebook.metadata.kernelspec.display_name


@each
def test_code_cells_are_short_and_define_nothing(script: Path) -> None:
    for cell in cells(script, "code"):
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not [node for node in nodes if isinstance(node, DEFINITIONS)], cell.source
        typed = [line for line in cell.source.split('"""')[0::2] for line in line.splitlines()]
        assert len(typed) <= LONGEST_CELL, cell.source
        assert max(map(len, cell.source.splitlines())) <= LONGEST_LINE, cell.source


@each
def test_a_notebook_is_read_before_it_is_run(script: Path) -> None:
    assert cells(script, "markdown")[0].source.startswith("# ")
    assert len(cells(script, "markdown")) >= 0.6 * len(cells(script, "code"))


@each
@pytest.mark.notebook
def test_the_notebook_runs_and_shows_every_plot(script: Path, tmp_path: Path) -> None:
    import nbformat

    done = run(script.read_text("utf-8"), tmp_path)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "run" / "notebook.ipynb", as_version=4)
    drawn = sum(bool(re.search(r"plots\.(?!save_)\w+\(|Image\(", cell.source)) for cell in cells(script, "code"))
    assert images(notebook) == drawn >= 2
    text = nbformat.writes(notebook)
    if script.stem.startswith("02"):
        made = {path.name for path in (tmp_path / "build" / "from_coding_sheet" / "report").iterdir()}
        assert {"report.html", "report.pdf", "results.json", "methods.txt", "figures", "tables"} <= made
        assert "SYNTHETIC DATA" in text


@pytest.mark.notebook
def test_a_failing_cell_fails_the_test(tmp_path: Path) -> None:
    done = run("# %%\nassert 1 == 2, 'one is not two'\n", tmp_path)
    assert done.returncode != 0
    assert "one is not two" in done.stderr
