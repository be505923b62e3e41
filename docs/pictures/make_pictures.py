"""Draw the pictures of README and pages, and write what each shows into its alternative text.

``PYTHONPATH=. python docs/pictures/make_pictures.py``. All come from shipped data or from the sheet that the tutorial
makes up; the same bytes each time.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

import alliance_meta as am
from alliance_meta.files import write_bytes

FOLDER = Path(__file__).resolve().parent
PAGES = [FOLDER.parents[1] / "README.md", *sorted(FOLDER.parent.glob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
PICTURE = re.compile(r"!\[[^\]]*\]\((?P<path>(?:docs/)?pictures/(?P<name>[\w-]+)\.png)\)")
DPI, COLOURS = 96, 48


def tutorial() -> dict[str, Any]:
    """Return the variables of the tutorial."""
    space: dict[str, Any] = {}
    code = "\n".join(CODE.findall((FOLDER.parent / "tutorial.md").read_text("utf-8")))
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), quiet:
        exec(compile(code, "tutorial.md", "exec"), space)
    return space


def frames() -> dict[str, tuple[Any, pd.DataFrame]]:
    """Return the function that draws each picture, and the frame it draws."""
    plots, made_up = am.plots, tutorial()
    fit = am.RandomEffectsModel(am.escalc(am.load_dataset("kolden2011_congruence"))).fit()
    rows = am.load_dataset("relationship_dependent_effects").query("study != 'Jones 1982'")
    dependent = am.che(am.escalc(rows))
    return {
        "forest": (plots.forest, plots.forest_data(fit)),
        "bias": (plots.bias_panel, plots.bias_panel_data(am.bias.panel(dependent))),
        "funnel": (plots.funnel, plots.funnel_data(dependent)),
        "tutorial-forest": (plots.forest, plots.forest_data(made_up["fit"])),
        "tutorial-moderators": (plots.moderators, plots.moderators_data(made_up["table"])),
        "tutorial-bias": (plots.bias_panel, plots.bias_panel_data(made_up["panel"])),
    }


def alternative(frame: pd.DataFrame) -> str:
    """Return what a picture shows, as Markdown takes it between square brackets."""
    words = " ".join(str(frame.attrs["description"]).split())
    return words.replace("[", "(").replace("]", ")")


def small(png: bytes) -> bytes:
    """Return a picture in few colours, a third as large."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(out, format="png", optimize=True)
    return out.getvalue()


def main() -> None:
    """Write the pictures and their alternative texts."""
    found = frames()
    for name, (draw, frame) in found.items():
        write_bytes(FOLDER / f"{name}.png", small(am.plots.figure_bytes(draw(frame), format="png", dpi=DPI)))
    for page in PAGES:
        text = page.read_text("utf-8")
        page.write_text(PICTURE.sub(lambda m: f"![{alternative(found[m['name']][1])}]({m['path']})", text), "utf-8")


if __name__ == "__main__":
    main()
