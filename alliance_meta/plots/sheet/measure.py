"""What all drawings share: colours, how long texts of any script are, where values stand on an axis."""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError, MissingFontWarning
from alliance_meta.tables.format import MINUS, brief, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

BOX = "\N{WHITE SQUARE}"
# Marks that keep letters apart or join them: part of how a Persian name is written.
JOINERS = "\u200c\u200d"
READ = "_alliance_meta_words"
# Hebrew, Arabic and their kin, with the forms for display of either.
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# These, and the scripts of South and South East Asia: letters change with their neighbours.
JOINED = re.compile("[\u0590-\u109f\u1780-\u17ff\ufb1d-\ufdff\ufe70-\ufefc]")


def shapes_itself() -> bool:
    """Return whether this matplotlib orders and joins letters, as it does since 3.11."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


def shaped(text: str) -> str:
    """Return a text as it is given to matplotlib: older ones draw letters as they come, from left to right."""
    if not RIGHT_TO_LEFT.search(text) or shapes_itself():
        return text
    from arabic_reshaper import ArabicReshaper  # type: ignore[import-untyped]
    from bidi import get_display  # type: ignore[import-untyped]

    # DejaVu Sans has the other ligatures.
    joined = ArabicReshaper({"delete_harakat": False, "ARABIC LIGATURE ALLAH": False}).reshape(text)
    return "\n".join(str(get_display(line)) for line in joined.split("\n"))


def put(artist: Text, words: str, **looks: Any) -> Text:
    """Write words on a text of matplotlib, dollar signs as such, and remember the order that they are read in."""
    artist.set(text=shaped(words), parse_math=False, **looks)
    setattr(artist, READ, words)
    return artist


def texts_of(figure: Figure) -> Iterator[Text]:
    """Yield every text of a figure, those of a `Lettering` too."""
    from matplotlib.text import Text

    for artist in figure.findobj():
        if isinstance(artist, Text):
            yield artist
        elif hasattr(artist, "as_texts"):
            yield from artist.as_texts()


@contextmanager
def as_read(figure: Figure) -> Iterator[None]:
    """Give texts back the order that they are read in: programs that show the text of an SVG order it themselves."""
    texts = [] if shapes_itself() else [(one, one.get_text()) for one in texts_of(figure)]
    changed = [(one, drawn) for one, drawn in texts if shaped(words := getattr(one, READ, "")) == drawn != words]
    for one, _ in changed:
        one.set_text(getattr(one, READ))
    try:
        yield
    finally:
        for one, drawn in changed:
            one.set_text(drawn)


def stand_ins(text: str, has: Callable[[str], bool]) -> str:
    """Return a text with the name of their script for letters that no font has: "[Thai] 2004"."""
    shown: list[str] = []
    for character in text:
        mark = character if character.isspace() or has(character) else _name(character)
        if mark is character or not shown or shown[-1] != mark:
            shown.append(mark)
    return re.sub(r"(\[\w+\])(?:\s+\1)+", r"\1", "".join(shown))


def _name(character: str) -> str:
    """Return the script of a letter in brackets, and a box for a sign."""
    script = unicodedata.name(character, "").partition(" ")[0]
    if not script or unicodedata.category(character)[0] not in "LM":
        return BOX
    return f"[{script if script == 'CJK' else script.capitalize()}]"


INK = "#1a1a1a"
SUMMARY = "#14304f"
PREDICTION = "#6f8fb3"
GREY = "#8c8c8c"
WARNING = "#9b1c1c"
# Judgements of risk of bias, told apart by their letters as well.
ROB_COLOURS = {"L": "#3aa58a", "S": "#e6b422", "H": "#d4674d"}
ROB_OTHER = "#bdbdbd"

SYNTHETIC = "SYNTHETIC DATA"
SYNTHETIC_REST = "made up for teaching; not evidence"


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of `ax`."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi


# Capital height of DejaVu Sans as a share of its size; text is centred on it.
CAP_HEIGHT = 0.729
LINE_SPACING = 1.25

POINTS_PER_INCH = 72.0
_EM = 100.0


@cache
def font_path(bold: bool = False) -> Path:
    """Return the DejaVu Sans that ships with matplotlib, so that the system's fonts do not matter."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


@cache
def font(size: float, bold: bool = False, others: tuple[str, ...] = ()) -> FontProperties:
    """Return the drawing font, and after it the families of `others` for letters that it lacks."""
    from matplotlib.font_manager import FontProperties

    weight = "bold" if bold else "normal"
    if others:
        return FontProperties(family=["DejaVu Sans", *others], weight=weight, size=size)
    return FontProperties(family="DejaVu Sans", weight=weight, fname=str(font_path(bold)), size=size)


@lru_cache(maxsize=10_000)
def _lacking(text: str) -> tuple[str, ...]:
    """Return the letters of a text that the drawing font lacks."""
    return tuple(one for one in dict.fromkeys(text) if not (one.isspace() or has(font_path(), one)))


def font_of(text: str, size: float, bold: bool = False) -> FontProperties:
    """Return the drawing font of a text, with others for the letters that it lacks."""
    return font(size, bold, tuple(dict.fromkeys(family for family, _ in _others(text))))


def _others(text: str) -> list[tuple[str, Path]]:
    """Return family and file of the fonts for the letters that the drawing font lacks."""
    found = [fallback(character) for character in _lacking(text)]
    return list(dict.fromkeys(one for one in found if one is not None))


def drawable(text: str) -> str:
    """Return a text as it can be drawn: for letters that no installed font has stands the name of their script.

    Warns
    -----
    MissingFontWarning
        Names the letters.
    """
    lost = [one for one in dict.fromkeys(text) if not writable(one)]
    if not lost:
        return text
    drawn = stand_ins(text, writable)
    shown = ", ".join(f"{character} (U+{ord(character):04X})" for character in lost[:4])
    message = f"No installed font has {shown}{' ...' if len(lost) > 4 else ''}; a figure shows {cut_at(drawn, 60)!r}."
    warnings.warn(MissingFontWarning(message), stacklevel=2)
    return drawn


def cut_at(text: str, most: int) -> str:
    """Return at most so many letters of a text."""
    return text if len(text) <= most else f"{text[:most]}…"


def writable(character: str) -> bool:
    """Return whether an installed font has a character."""
    return character.isspace() or has(font_path(), character) or fallback(character) is not None


def letters_notes(frame: pd.DataFrame) -> list[str]:
    """Return what a figure of a frame says below it of letters that no installed font has."""
    cells = "".join(str(value) for name in frame.select_dtypes(object) for value in set(frame[name]))
    lost = sorted({one for one in set(cells) if not writable(one)})
    marks = dict.fromkeys(stand_ins(one, writable) for one in lost)
    if not marks:
        return []
    return [f"{', '.join(marks)} stand{'s' * (len(marks) == 1)} for letters that no font of this computer has"]


@cache
def fallback(character: str) -> tuple[str, Path] | None:
    """Return family and file of an installed font that has the character, one made for its script if there is any."""
    from matplotlib.font_manager import fontManager

    script = unicodedata.name(character, "?").split()[0].casefold()
    wanted = "cjk" if script in ("hiragana", "katakana", "hangul", "ideographic") else script
    _know_fonts()
    fonts = [entry for entry in fontManager.ttflist if not any(word in entry.name for word in ("Last Resort", "Emoji"))]
    for entry in sorted(fonts, key=lambda entry: (wanted not in entry.name.casefold(), "Sans" not in entry.name)):
        if has(Path(entry.fname), character):
            return entry.name, Path(entry.fname)
    return None


@cache
def _know_fonts() -> None:
    """Let matplotlib know fonts that were installed since it made its list."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        # It cannot read every font.
        with suppress(Exception):
            fontManager.addfont(path)


@cache
def has(path: Path, character: str) -> bool:
    """Return whether a font has a character."""
    return bool(_face(path).get_char_index(ord(character)))


@cache
def _face(path: Path) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(path))
    face.set_size(_EM, POINTS_PER_INCH)
    return face


@cache
def _advance(character: str, bold: bool) -> float:
    """Return the unhinted advance in ems; hinted ones are too narrow and columns would touch."""
    from matplotlib.ft2font import LoadFlags

    own, path = font_path(), font_path(bold)
    if not has(own, character):
        other = fallback(character)
        character, path = (BOX, path) if other is None else (character, other[1])
    glyph = _face(path).load_char(ord(character), flags=LoadFlags.NO_HINTING)
    return float(glyph.linearHoriAdvance) / 65536 / _EM


@lru_cache(maxsize=10_000)
def _ems(text: str, bold: bool) -> float:
    text = text if text.isascii() else stand_ins(text, writable)
    return _joined(text, bold) if JOINED.search(text) else sum(_advance(character, bold) for character in text)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in inches of `text` at `size` points (kerning, which only narrows, is left out)."""
    return _ems(text, bold) * size / POINTS_PER_INCH


@lru_cache(maxsize=4096)
def _joined(text: str, bold: bool) -> float:
    """Return the width in ems of a text whose letters change with their neighbours."""
    from matplotlib.font_manager import get_font
    from matplotlib.ft2font import LoadFlags

    face = get_font([font_path(bold), *(path for _, path in _others(text))])
    face.set_size(_EM, POINTS_PER_INCH)
    face.set_text(shaped(text), 0.0, flags=LoadFlags.NO_HINTING)
    return float(face.get_width_height()[0]) / 64 / _EM


# Of DejaVu Sans to an em.
UNITS = 2048


@cache
def _unscaled(bold: bool) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(font_path(bold)))
    face.set_size(UNITS, POINTS_PER_INCH)
    return face


def glyph_outline(character: str, bold: bool) -> tuple[Any, Any, float]:
    """Return vertices and codes of a letter's path, and its advance, in units of the drawing font."""
    from matplotlib.ft2font import LoadFlags

    face = _unscaled(bold)
    glyph = face.load_char(ord(character), flags=LoadFlags.NO_HINTING)
    vertices, codes = face.get_path()
    return vertices, codes, float(glyph.linearHoriAdvance) / 65536


@cache
def kerning(left: str, right: str, bold: bool) -> float:
    """Return by how much two letters stand closer or wider than their advances say, in units of the drawing font."""
    from matplotlib.ft2font import Kerning

    face = _unscaled(bold)
    first, second = (face.get_char_index(ord(one)) for one in (left, right))
    return float(face.get_kerning(first, second, Kerning.UNFITTED)) / 64


def line_height(size: float) -> float:
    """Return the distance of two baselines in inches."""
    return LINE_SPACING * size / POINTS_PER_INCH


def wrap(text: str, size: float, width: float, *, bold: bool = False) -> tuple[str, ...]:
    """Break `text` at spaces so that no line is wider than `width` inches, unless one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines) or ("",)


def cut(text: str, size: float, width: float) -> str:
    """Return `text`, without its end where it is wider than `width` inches."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text}…"


MOST_R = 0.95
WIDEST_R = 0.999
STEPS, MOST_TICKS = (1, 2, 2.5, 5, 10), 9
# Of r, for ticks beyond the last equal step.
STEEP = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
NEAR = 1e-9
# By what share of its length an axis may grow to end at a tick, and may go on after the last one.
FURTHER, BARE = 0.12, 0.07
LEAST_TICKS = 4
# Of r; on longer axes no tick has three decimals.
FINE = 0.06
GAP = 0.07
PAD = 0.03
LEAST_SPAN = 0.1

SHOWN_KINDS = ("study", "cluster", "effect", "subgroup", "fitted", "summary", "prediction")
BOUNDS = ("yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub", "fit_lb", "fit_ub")


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits and ticks; `lo`, `hi` and tick positions are on the analysis scale."""

    measure: str
    lo: float
    hi: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Return where `value` lies between the limits, 0 to 1 inside."""
        return (value - self.lo) / (self.hi - self.lo)


def is_correlation(measure: str) -> bool:
    """Return whether the reader's scale is r."""
    return measure in ("ZCOR", "COR", "UCOR")


def to_reader(value: float, measure: str) -> float:
    """Return the value on the reader's scale: r for Fisher z, else the value itself."""
    return math.tanh(value) if measure == "ZCOR" else value


def to_analysis(value: float, measure: str) -> float:
    """Return the value on the analysis scale."""
    return math.atanh(value) if measure == "ZCOR" else value


def make_axis(frame: pd.DataFrame, *, width: float, size: float, xlim: tuple[float, float] | None = None) -> Axis:
    """Return the axis for all rows of `frame`, `width` inches wide with labels of `size` points.

    `xlim` is on the reader's scale; by default the limits are the frame's own, or hold every interval, as far as
    |r| = .95.
    """
    measure = str(frame.attrs["measure"])
    shown = frame.loc[frame["kind"].isin(SHOWN_KINDS), list(BOUNDS)].to_numpy(dtype=float)
    lim = frame.attrs.get("xlim") if xlim is None else xlim
    return value_axis(shown, measure=measure, length=width, room=lambda label: text_width(label, size) + GAP, lim=lim)


def value_axis(
    values: Any, *, measure: str, length: float, room: Callable[[str], float], lim: tuple[float, float] | None = None
) -> Axis:
    """Return the axis for an array of `values` on the analysis scale and 0, `length` inches long.

    `room` is the length that a label takes with the gap beside it. Limits that are not asked for move outwards to a
    tick that is near.
    """
    spacing = _Spacing(measure, *reader_limits(values, measure, lim), length, room)
    found = [_ended(places, spacing, moves=lim is None) for places in _places(spacing)]
    reaching = [one for one in found if len(one[0]) >= LEAST_TICKS and not any(one[1].bare(one[0]))]
    places, spacing = [*reaching, *found][0]
    ticks = zip((to_analysis(place, measure) for place in places), spacing.labels(places), strict=True)
    return Axis(measure, to_analysis(spacing.lo, measure), to_analysis(spacing.hi, measure), tuple(ticks))


@dataclass(frozen=True, slots=True)
class _Spacing:
    """Whether the labels of ticks touch on an axis of these limits and this length."""

    measure: str
    lo: float
    hi: float
    length: float
    room: Callable[[str], float]

    def labels(self, places: list[float]) -> list[str]:
        return tick_labels(places, leading_zero=not is_correlation(self.measure))

    def apart(self, left: float, right: float) -> bool:
        return self._fit([left, right], [*self.labels([left]), *self.labels([right])])

    def all_apart(self, places: list[float]) -> bool:
        labels = self.labels(places)
        wide = (
            is_correlation(self.measure)
            and self.hi - self.lo > FINE
            and max(len(one.strip(MINUS)) for one in labels) > 3
        )
        return not wide and self._fit(places, labels)

    def bare(self, places: list[float]) -> tuple[bool, bool]:
        """Return whether much of the axis is left before the first tick, and after the last."""
        ends = self._at([places[0], places[-1], self.hi])
        return ends[0] > BARE * ends[2], ends[2] - ends[1] > BARE * ends[2]

    def _at(self, places: list[float]) -> list[float]:
        start, stop, *found = (to_analysis(place, self.measure) for place in (self.lo, self.hi, *places))
        return [(place - start) / (stop - start) * self.length for place in found]

    def _fit(self, places: list[float], labels: list[str]) -> bool:
        at = self._at(places)
        half = [self.room(label) / 2 for label in labels]
        return all(at[i + 1] - at[i] >= half[i] + half[i + 1] for i in range(len(at) - 1))


def _places(spacing: _Spacing) -> list[list[float]]:
    """Return round places whose labels do not touch, the most first; they include 0 where it is inside."""
    from matplotlib.ticker import MaxNLocator

    lo, hi = spacing.lo, spacing.hi
    slack = NEAR * (hi - lo)
    found: list[list[float]] = []
    for most in range(MOST_TICKS, 0, -1):
        places = np.asarray(MaxNLocator(most, steps=STEPS, min_n_ticks=1).tick_values(lo, hi))
        shown: list[float] = places[(places >= lo - slack) & (places <= hi + slack)].clip(lo, hi).tolist()
        if shown not in found and (most == 1 or spacing.all_apart(shown)):
            found.append(shown)
    return found


def _ended(places: list[float], spacing: _Spacing, *, moves: bool) -> tuple[list[float], _Spacing]:
    """Return ticks that reach the ends of an axis; an end that `moves` may go to the next tick, if that is near."""
    if moves and len(places) > 1:
        lo, hi = _rounded(places, spacing)
        outer = replace(spacing, lo=lo, hi=hi)
        more = sorted({*places, *(end for end in (lo, hi) if end not in (spacing.lo, spacing.hi))})
        if outer.all_apart(more):
            places, spacing = more, outer
    if spacing.measure == "ZCOR":
        places = reach(places, spacing.lo, spacing.hi, spacing.apart)
    return places, spacing


def _rounded(places: list[float], spacing: _Spacing) -> tuple[float, float]:
    """Return limits at the next tick where the last one is not near, and that makes the axis hardly longer."""
    step, measure = places[1] - places[0], spacing.measure
    start, stop = (to_analysis(end, measure) for end in (spacing.lo, spacing.hi))
    most = MOST_R if measure == "ZCOR" else 1.0 if is_correlation(measure) else math.inf
    ends = []
    for side, end, at, bare in zip((-1, 1), (spacing.lo, spacing.hi), (start, stop), spacing.bare(places), strict=True):
        outer = float(brief(side * math.floor(side * end / step + 1 - NEAR) * step, 10))
        near = abs(outer) <= most and abs(to_analysis(outer, measure) - at) <= FURTHER * (stop - start)
        ends.append(outer if bare and near else end)
    return ends[0], ends[1]


def band(smallest_effect: float, measure: str) -> float:
    """Return the half-width of the band of effects too small to matter, on the analysis scale."""
    most = 1.0 if is_correlation(measure) else math.inf
    if not 0 < smallest_effect < most:
        inside = " and below 1" if is_correlation(measure) else ""
        raise InputError(f"smallest_effect={smallest_effect!r} must be a number above 0{inside}")
    return to_analysis(smallest_effect, measure)


def reader_limits(
    values: Any, measure: str, lim: tuple[float, float] | None, *, zero: bool = True
) -> tuple[float, float]:
    """Return the limits asked for, or such as hold all values (and 0) of the analysis scale, as labels read."""
    if lim is not None:
        return _asked_limits(lim, measure)
    shown = np.asarray(values, dtype=float).ravel()
    shown = shown[np.isfinite(shown)]
    if zero or not shown.size:
        shown = np.append(shown, 0.0)
    most = _most(measure)
    lo, hi = max(float(shown.min()), -most), min(float(shown.max()), most)
    pad = PAD * (max(hi - lo, LEAST_SPAN) if zero else hi - lo)
    if hi - lo < LEAST_SPAN and is_correlation(measure):
        lo, hi = (lo + hi - LEAST_SPAN) / 2, (lo + hi + LEAST_SPAN) / 2
    if hi == lo:
        lo, hi = lo - 1, hi + 1
    else:
        lo, hi = max(lo - pad, -most), min(hi + pad, most)
    return to_reader(lo, measure), to_reader(hi, measure)


def _most(measure: str) -> float:
    return {"ZCOR": math.atanh(MOST_R), "COR": 1.0, "UCOR": 1.0}.get(measure, math.inf)


def _asked_limits(xlim: tuple[float, float], measure: str) -> tuple[float, float]:
    lo, hi = (float(limit) for limit in xlim)
    bound = 1.0 if is_correlation(measure) else math.inf
    if not (lo < hi and -bound <= lo and hi <= bound and math.isfinite(hi - lo)):
        inside = " between -1 and 1" if is_correlation(measure) else ""
        raise InputError(f"xlim={xlim!r} must be two rising limits{inside}, on the scale of the axis labels")
    if measure == "ZCOR":
        lo, hi = max(lo, -WIDEST_R), min(hi, WIDEST_R)
    return lo, hi


def reach(places: list[float], lo: float, hi: float, apart: Callable[[float, float], bool]) -> list[float]:
    """Return correlations for ticks with more at both ends, where equal steps of r leave much of an axis of z bare."""
    found = sorted(places)
    for r in STEEP:
        sides = [side for side in (-1, 1) if lo - NEAR <= side * r <= hi + NEAR]
        ends = {side: found[0] if side < 0 else found[-1] for side in sides}
        if all(r - side * end > NEAR and apart(*sorted((end, side * r))) for side, end in ends.items()):
            found = sorted([*found, *(side * r for side in sides)])
    return found


def tick_labels(places: Any, *, leading_zero: bool) -> list[str]:
    """Return the labels of ticks, with as many decimals as they need: all alike where their steps are equal."""
    found = np.asarray(places, dtype=float)
    near = 1e-6 * float(np.abs(found).max(initial=0.0))
    steps = np.diff(found)
    if len(found) > 2 and np.ptp(steps) > 1e-6 * float(np.abs(steps).max()):
        return [tick_labels([place], leading_zero=leading_zero)[0] for place in found]
    decimals = next((d for d in range(12) if np.abs(np.round(found, d) - found).max(initial=0.0) <= near), 12)
    return [
        "0" if abs(place) <= near else format_number(place, decimals, leading_zero=leading_zero)
        for place in found.tolist()
    ]
