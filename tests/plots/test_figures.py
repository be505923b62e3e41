"""Saved figures: the same bytes in every run, readable without eyes, written whole."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.errors import CannotRunError, InputError, MissingFontWarning
from alliance_meta.plots import figure_bytes, forest, forest_data, forest_pages, save_figure
from alliance_meta.plots.forests.parts import make_frame
from alliance_meta.plots.sheet import measure as letters
from alliance_meta.plots.sheet.figures import NotebookFigure
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
    assert len(text) < len(outlines)


def test_files_are_what_their_ending_says(tmp_path: Path) -> None:
    figure = forest(fitted(2))
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "tiff": b"II*", "tif": b"II*", "eps": b"%!PS"}
    for kind, start in starts.items():
        path = save_figure(figure, tmp_path / "new" / f"forest.{kind}", title="T", description="D")
        same = figure_bytes(figure, format="tiff" if kind == "tif" else kind, title="T", description="D")
        assert path.read_bytes() == same
        assert path.read_bytes().startswith(start)
    assert sorted(p.suffix for p in (tmp_path / "new").iterdir()) == sorted(f".{kind}" for kind in starts)


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


def test_any_matplotlib_figure_can_be_saved() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    root = ElementTree.fromstring(figure_bytes(figure))
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title") is None


CHINESE, KOREAN = "\u5f20\u4f1f 2019", "\uae40\ucca0\uc218"
THAI, DEVANAGARI = "\u0e2a\u0e21\u0e0a\u0e32\u0e22", "\u0936\u0930\u094d\u092e\u093e"
LABELS = [CHINESE, KOREAN, THAI, DEVANAGARI, "\u0418\u0432\u0430\u043d\u043e\u0432", "M\u00fcller"]


def foreign() -> NotebookFigure:
    es = EffectSizes.from_arrays([0.1, 0.5, 0.2, 0.4, 0.3, 0.6], [0.01] * 6, slab=LABELS, measure="ZCOR")
    return forest(RandomEffectsModel(es).fit())


def test_letters_of_any_script_are_drawn_or_become_boxes_with_a_warning() -> None:
    """Chinese, Korean, Thai, Devanagari: by an installed font, or as boxes that a typed warning names."""
    lost = [c for label in LABELS for c in label if not (letters.has(letters.font_path(), c) or letters.fallback(c))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = [figure_bytes(foreign(), format=kind, dpi=50) for kind in ("png", "svg", "pdf")]
    assert all(files)
    assert {one.category for one in caught} <= {MissingFontWarning}
    assert bool(lost) == bool(caught)
    shown = "".join(label.get_text() for label in foreign_texts())
    assert shown.count(letters.BOX) == len(lost)
    assert "M\u00fcller" in shown


def foreign_texts() -> list[Text]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingFontWarning)
        return foreign().findobj(Text)


def test_without_any_other_font_foreign_letters_are_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "fallback", lambda character: None)
    with pytest.warns(MissingFontWarning, match=r"No installed font has \u5f20 \(U\+5F20\)"):
        assert letters.drawable("\u5f20\u4f1f 2019") == f"{letters.BOX}{letters.BOX} 2019"
    assert letters.drawable("Plain text, \u03c4\u00b2 = .1") == "Plain text, \u03c4\u00b2 = .1"


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
