"""Write `notebooks/<name>.ipynb`, without outputs, from each `notebooks/<name>.py`.

The .py file (percent format) is the one to edit; the .ipynb opens in Jupyter without any extension. The pair
carries no output, no path and no random id, so the same text always gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FOLDER = Path(__file__).resolve().parent.parent
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def as_notebook(text: str) -> nbformat.NotebookNode:
    """Return the notebook that the percent script `text` describes, its cells numbered."""
    cells = []
    for number, cell in enumerate(jupytext.reads(text, fmt="py:percent").cells, start=1):
        new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
        cells.append(new(cell.source, id=f"cell-{number:02d}"))
    notebook = new_notebook(cells=cells, metadata=METADATA)
    notebook.nbformat_minor = 5
    return notebook


def as_ipynb(text: str) -> str:
    """Return the .ipynb file that belongs to the percent script `text`."""
    return nbformat.writes(as_notebook(text), version=nbformat.NO_CONVERT) + "\n"


def main() -> None:
    """Write every pair that is not up to date."""
    for script in sorted(FOLDER.glob("*.py")):
        target = script.with_suffix(".ipynb")
        text = as_ipynb(script.read_text(encoding="utf-8"))
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            print(f"written {target.name}")


if __name__ == "__main__":
    main()
