"""Labels of any script: in reading order and joined where they should be, or a note says what stands for them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import pytest
from matplotlib.font_manager import get_font
from matplotlib.ft2font import LoadFlags
from matplotlib.text import Text

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.errors import MissingFontWarning
from alliance_meta.plots import figure_bytes, forest, forest_data
from alliance_meta.plots.sheet import figures, measure
from alliance_meta.plots.sheet.figures import NotebookFigure
from tests.plots.geometry import texts

ARABIC, HEBREW, PERSIAN = (
    "\u0645\u062d\u0645\u062f 2019",
    "\u05db\u05d4\u05df 2015",
    "\u0634\u06cc\u062e\u200c\u0627\u0644",
)
CHINESE, KOREAN = "\u5f20\u4f1f 2019", "\uae40\ucca0\uc218"
THAI, DEVANAGARI = "\u0e2a\u0e21 \u0e0a\u0e32\u0e22", "\u0936\u0930\u094d\u092e\u093e"
LABELS = [
    CHINESE,
    KOREAN,
    THAI,
    DEVANAGARI,
    "\u0418\u0432\u0430\u043d\u043e\u0432",
    "M\u00fcller",
    ARABIC,
    HEBREW,
    PERSIAN,
]


def foreign() -> NotebookFigure:
    es = EffectSizes.from_arrays([0.1, 0.5, 0.2] * 3, [0.01] * 9, slab=LABELS, measure="ZCOR")
    return forest(RandomEffectsModel(es).fit())


def shown(figure: NotebookFigure) -> list[str]:
    return [one.get_text() for one in texts(figure)]


@pytest.fixture
def _only_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No font but the one that ships with matplotlib."""
    _forget()
    monkeypatch.setattr(measure, "fallback", lambda character: None)
    yield
    _forget()


def _forget() -> None:
    for kept in (measure._joined, measure._ems, measure._lacking, figures.simple):
        kept.cache_clear()


def test_every_letter_is_drawn_or_a_typed_warning_and_a_note_say_what_stands_for_it() -> None:
    lost = {c for label in LABELS for c in label if not measure.writable(c)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = foreign()
        assert figure_bytes(figure, format="png", dpi=50)
    assert {one.category for one in caught} <= {MissingFontWarning}
    assert bool(lost) == bool(caught)
    text = shown(figure)
    assert {"M\u00fcller", LABELS[4], ARABIC, HEBREW, PERSIAN} <= set(text)
    assert any("for letters that no font of this computer has" in line for line in text) == bool(lost)


@pytest.mark.usefixtures("_only_ours")
def test_without_another_font_the_script_is_named() -> None:
    with pytest.warns(
        MissingFontWarning, match=r"No installed font has \u5f20 \(U\+5F20\).* a figure shows '\[CJK\] 2019'"
    ):
        assert measure.drawable(CHINESE) == "[CJK] 2019"
    assert measure.drawable("Plain text, \u03c4\u00b2 = .1") == "Plain text, \u03c4\u00b2 = .1"
    with pytest.warns(MissingFontWarning):
        drawn = [measure.drawable(one) for one in (KOREAN, THAI, DEVANAGARI, "\U0001f9e0 2020", ARABIC)]
    assert drawn == ["[Hangul]", "[Thai]", "[Devanagari]", f"{measure.BOX} 2020", ARABIC]
    assert measure.text_width(CHINESE, 9) == measure.text_width("[CJK] 2019", 9)
    with pytest.warns(MissingFontWarning):
        text = shown(foreign())
    note = "[Devanagari], [Thai], [CJK], [Hangul] stand for letters that no font of this computer has"
    assert note in text


def test_columns_are_as_wide_as_joined_letters_are() -> None:
    face = get_font([str(measure.font_path())])
    face.set_size(100, 72)
    for text in (ARABIC, HEBREW):
        face.set_text(measure.shaped(text), 0.0, flags=LoadFlags.NO_HINTING)
        assert measure.text_width(text, 72) == pytest.approx(face.get_width_height()[0] / 6400)
    name = PERSIAN.partition(measure.JOINERS[0])[0]
    assert measure.text_width(name, 72) < 0.8 * sum(measure._advance(letter, False) for letter in name)


def test_an_older_matplotlib_is_given_letters_in_their_order_on_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure.shapes_itself() == (measure.shaped(ARABIC) == ARABIC)
    monkeypatch.setattr(measure, "shapes_itself", lambda: False)
    # Initial meem, medial hah, medial meem, final dal, from right to left.
    assert measure.shaped(ARABIC) == "2019 \ufeaa\ufee4\ufea4\ufee3"
    assert measure.shaped(HEBREW) == f"2015 {HEBREW[2::-1]}"
    assert measure.shaped("A (2019)") == "A (2019)"
    text = Text()
    figure = NotebookFigure(figsize=(2, 1))
    figure.texts.append(measure.put(text, ARABIC))
    assert text.get_text() != ARABIC
    with measure.as_read(figure):
        assert text.get_text() == ARABIC
    assert text.get_text() == measure.shaped(ARABIC)
    text.set_text("Mine")
    with measure.as_read(figure):
        assert text.get_text() == "Mine"


def test_text_in_an_svg_keeps_the_order_in_which_it_is_read() -> None:
    es = EffectSizes.from_arrays([0.1, 0.5], [0.01] * 2, slab=[ARABIC, HEBREW], measure="ZCOR")
    drawing = figure_bytes(forest(RandomEffectsModel(es).fit()), text="text").decode()
    assert f">{ARABIC}</text>" in drawing
    assert f">{HEBREW}</text>" in drawing


def test_marks_that_join_or_part_letters_stay() -> None:
    es = EffectSizes.from_arrays([0.1, 0.5], [0.01] * 2, slab=[PERSIAN, "A\u200bB\u202e"], measure="ZCOR")
    assert forest_data(RandomEffectsModel(es).fit())["label"].tolist()[:2] == [PERSIAN, "AB"]


def test_plain_labels_load_nothing_for_other_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "shapes_itself", lambda: False)
    for name in ("bidi", "arabic_reshaper"):
        monkeypatch.setitem(sys.modules, name, None)
    assert measure.shaped("M\u00fcller \u5f20\u4f1f \u0e2a\u0e21") == "M\u00fcller \u5f20\u4f1f \u0e2a\u0e21"
    with pytest.raises(ImportError):
        measure.shaped(ARABIC)
