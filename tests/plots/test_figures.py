"""Saved figures: the same bytes in every run, readable without eyes, written whole."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.errors import CannotRunError, InputError, SmallLettersWarning
from alliance_meta.plots import figure_bytes, forest, forest_data, forest_pages, save_figure
from alliance_meta.plots.forests.parts import make_frame
from alliance_meta.plots.sheet.figures import NotebookFigure, Pages
from tests.plots.cases import extremes, fitted, molloy, row
from tests.plots.charts import draw

SVG = "{http://www.w3.org/2000/svg}"
FORMATS = ["svg", "pdf", "png"]
PROGRAM = """
import hashlib, sys
import alliance_meta.plots
assert "matplotlib" not in sys.modules
from alliance_meta.plots import figure_bytes, forest
from tests.plots.cases import extremes
import matplotlib
before = dict(matplotlib.rcParams)
figure = forest(extremes())
for kind in ("svg", "pdf", "png"):
    print(hashlib.sha256(figure_bytes(figure, format=kind)).hexdigest())
from tests.plots import charts
# Posteriors of PyMC models need ArviZ, which imports pyplot itself.
charts.smooth_charts = dict
for name in ("bubble of levels", "means", "resampled rows"):
    print(hashlib.sha256(figure_bytes(charts.draw(name))).hexdigest())
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
"""


@cache
def drawn(kind: str) -> bytes:
    return figure_bytes(forest(extremes()), format=kind)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_another_process_writes_the_same_bytes_and_leaves_pyplot_and_the_settings_alone() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=root)
    others = [digest(figure_bytes(draw(name))) for name in ("bubble of levels", "means", "resampled rows")]
    assert done.stdout.split() == [digest(drawn(kind)) for kind in FORMATS] + others


@pytest.mark.parametrize("kind", FORMATS)
def test_the_users_settings_change_nothing(kind: str) -> None:
    expected = drawn(kind)
    settings = {
        "font.size": 20,
        "font.family": "serif",
        "savefig.bbox": "tight",
        "savefig.dpi": 30,
        "savefig.transparent": True,
        "figure.facecolor": "black",
        "figure.constrained_layout.use": True,
        "axes.facecolor": "red",
        "axes.unicode_minus": False,
        "text.color": "green",
        "lines.linewidth": 5,
        "lines.marker": "o",
        "patch.linewidth": 4,
        "svg.fonttype": "none",
        "svg.hashsalt": None,
    }
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert figure_bytes(forest(extremes()), format=kind) == expected
        assert dict(matplotlib.rcParams) == before


def test_an_svg_tells_what_it_shows() -> None:
    root = ElementTree.fromstring(figure_bytes(forest(molloy(), title="Molloy & others <2014>")))
    assert root.get("role") == "img"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert title.text == "Molloy & others <2014>"
    assert description.text == (
        "Forest plot of 16 studies with confidence intervals at 95%. Pooled r = .15 [.08, .22] (REML, HK). "
        "95% prediction interval [−.05, .34]."
    )
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert list(root)[:2] == [title, description]


def test_labels_cannot_break_the_file() -> None:
    awkward = 'A -- <b>&\x00\x07 ]]> "B" \u200b(2001)\n\tC'
    frame = make_frame([row(awkward, 0.1, 0.2, weight=1.0)], {"measure": "ZCOR", "title": awkward})
    assert frame["label"].tolist() == ['A -- <b>& ]]> "B" (2001) C']
    for text in ("path", "text"):
        assert ElementTree.fromstring(figure_bytes(forest(frame), text=text)).get("role") == "img"


def test_ids_of_two_figures_do_not_meet() -> None:
    found = []
    for figure in (forest(molloy()), forest(extremes())):
        text = figure_bytes(figure).decode()
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
        assert set(used) <= set(ids)
        found.append(set(ids))
    assert not found[0] & found[1]
    named = figure_bytes(forest(molloy()), id_prefix="my figure").decode()
    assert 'id="my-figure-title"' in named


@pytest.mark.parametrize("kind", FORMATS)
def test_no_date_program_or_path_is_written(kind: str) -> None:
    data = figure_bytes(forest(molloy()), format=kind)
    for word in (b"Matplotlib", b"CreationDate", b"Software", b"dc:date", b".ttf", str(Path.home()).encode()):
        assert word not in data


def test_letters_may_stay_text() -> None:
    outlines = figure_bytes(forest(molloy())).decode()
    text = figure_bytes(forest(molloy()), text="text").decode()
    assert "<text" not in outlines
    assert "Pooled effect (REML, HK)</text>" in text
    assert text == figure_bytes(forest(molloy()), text=True).decode()
    assert len(text) < len(outlines)


def test_files_are_what_their_ending_says(tmp_path: Path) -> None:
    figure = forest(fitted(2))
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "tiff": b"II*", "tif": b"II*", "eps": b"%!PS"}
    for kind, start in starts.items():
        path = save_figure(figure, tmp_path / "new" / f"forest.{kind}", title="T", description="D", dpi=50)
        same = figure_bytes(figure, format="tiff" if kind == "tif" else kind, title="T", description="D", dpi=50)
        assert path.read_bytes() == same
        assert path.read_bytes().startswith(start)
        # Fonts are embedded: as TrueType in PDF, as outlines of each letter in EPS.
        assert (b"/FontFile2" in same, b"/FontType 3" in same) == (kind == "pdf", kind == "eps")
    assert sorted(p.suffix for p in (tmp_path / "new").iterdir()) == sorted(f".{kind}" for kind in starts)


def test_pages_are_one_pdf_and_no_other_file() -> None:
    pages = Pages(NotebookFigure.for_plot(1, 1, {"title": f"Forest, page {i} of 2"}) for i in (1, 2))
    data = figure_bytes(pages, format="pdf")
    assert data == figure_bytes(pages, format="pdf")
    assert re.findall(rb"/Type /Pages .*?/Count (\d+)", data, re.DOTALL) == [b"2"]
    assert b"page 1 of" not in data
    with pytest.raises(InputError, match="holds one page: save each of the 2 pages, or all as a PDF"):
        figure_bytes(pages, format="svg")


def test_an_unknown_ending_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"forest\.jpg: give the file one of the endings \.svg, \.pdf, \.png"):
        save_figure(forest(molloy()), tmp_path / "forest.jpg")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotRunError, match="cannot write"):
        save_figure(forest(molloy()), tmp_path / "file" / "forest.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = forest(molloy())
    assert isinstance(figure, NotebookFigure)
    data, meta = figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert meta["alt"] == figure.plot_description
    pages = forest_pages(forest_data(fitted(80)))
    assert isinstance(pages, tuple)
    shown = pages._repr_html_()
    assert shown.count("<img ") == len(pages) == 2
    assert pages[1].plot_title.endswith(", page 2 of 2")


@pytest.mark.parametrize(("width", "dpi"), [(84.0, 300.0), (174.0, 150.0), (60.5, 97.0)])
def test_a_picture_has_the_width_in_print_that_is_asked_for(width: float, dpi: float) -> None:
    figure = Figure(figsize=(3.3, 2.0))
    figure.subplots().plot([0, 1])
    for kind in ("png", "tiff"):
        data = figure_bytes(figure, format=kind, width_mm=width, dpi=dpi)
        assert data == figure_bytes(figure, format=kind, width_mm=width, dpi=dpi)
        with Image.open(io.BytesIO(data)) as image:
            assert image.width == round(width / 25.4 * dpi)
            assert image.width / image.height == pytest.approx(3.3 / 2.0, rel=0.01)
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)
            assert kind == "png" or image.info["compression"] == "tiff_lzw"
    root = ElementTree.fromstring(figure_bytes(figure, width_mm=width))
    high = root.get("height", "")
    assert root.get("width") == f"{width:.3f}mm"
    assert float(high.removesuffix("mm")) == pytest.approx(width * 2.0 / 3.3, abs=1e-3)


def test_letters_that_print_would_make_too_small_are_warned_of() -> None:
    with pytest.warns(SmallLettersWarning, match=r"smallest letters have 3.7 points at 84 mm"):
        figure_bytes(forest(molloy()), format="png", width_mm=84, dpi=50)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width_mm": 84.0, "format": "pdf"}, "width_mm is for svg, png, tiff: a PDF is as wide as"),
        ({"width_mm": 0.0, "format": "png"}, "width_mm=0.0 must be a number above 0"),
        ({"dpi": float("nan"), "format": "png"}, "dpi=nan must be a number above 0"),
        ({"dpi": 0, "format": "tiff"}, "dpi=0 must be a number above 0"),
        ({"dpi": 90_000.0, "format": "png"}, "more than 400,000,000 pixels"),
        ({"format": "jpg"}, "format='jpg' is not one of 'svg'"),
        ({"text": "words"}, "text='words' is not one of 'path', 'text'"),
    ],
)
def test_sizes_and_names_that_are_none_are_refused(options: dict[str, Any], said: str) -> None:
    figure = Figure(figsize=(2, 2))
    with pytest.raises(InputError, match=said):
        figure_bytes(figure, **options)
    with pytest.raises(InputError, match="figure=tuple is no figure; save each of its pages"):
        figure_bytes((figure, figure), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"figure=Axes is no figure; that of an axes is ax\.figure"):
        figure_bytes(figure.subplots())  # type: ignore[arg-type]


def test_any_matplotlib_figure_can_be_saved() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    root = ElementTree.fromstring(figure_bytes(figure))
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title") is None


def test_columns_that_are_no_names_are_refused_in_words() -> None:
    fit = fitted(6)
    with pytest.raises(InputError, match=r"rob=True must name columns of the effects"):
        forest_data(fit, rob=True)


def test_an_unclear_risk_of_bias_stays_unclear() -> None:
    fit = fitted(6)
    es = EffectSizes.from_arrays(
        fit.effects.yi, fit.effects.vi, mods={"rob": ["low", "unclear", "high", "Unclear", "low", "some concerns"]}
    )
    frame = forest_data(RandomEffectsModel(es).fit(), rob=["rob"])
    assert frame["rob"].tolist()[:6] == ["L", "?", "H", "?", "L", "S"]
    assert frame.attrs["bottom"][-1].endswith("H high, ? unclear")
