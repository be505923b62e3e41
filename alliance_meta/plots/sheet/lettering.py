"""All texts of a sheet as one artist: thousands of lines, which matplotlib's own texts would draw one by one.

In an SVG of ours each letter's outline is written once and then placed, without asking matplotlib for the layout.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from alliance_meta.plots.sheet.measure import (
    POINTS_PER_INCH,
    UNITS,
    drawable,
    font_of,
    font_path,
    glyph_outline,
    has,
    kerning,
    text_width,
)
from alliance_meta.plots.sheet.scripts import put
from alliance_meta.tables.format import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = {"left": 0.0, "center": 0.5, "right": 1.0}
GROUP = "lettering"


class Line(NamedTuple):
    """One line of text: where its baseline begins, ends or has its middle, and how it looks."""

    x: float
    y: float
    text: str
    align: str
    size: float
    bold: bool
    colour: str


@dataclass
class Ink:
    """What is written into an SVG instead of the letterings that it names."""

    groups: list[str] = field(default_factory=list)
    glyphs: dict[str, str] = field(default_factory=dict)


_ink: ContextVar[Ink | None] = ContextVar("ink", default=None)


class Lettering(Artist):
    """Lines of text in the units of an axes."""

    def __init__(self, ax: Axes) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.made: list[Text] = []
        self.set_zorder(5)
        self.set_clip_on(False)
        ax.add_artist(self)
        self.set_clip_path(None)
        self.set_transform(ax.transData)

    def add(self, line: Line) -> None:
        """Add one line of text."""
        self.lines.append(line._replace(text=drawable(line.text)))

    def draw(self, renderer: Any) -> None:
        """Draw all lines."""
        ink = _ink.get()
        if ink is not None and rcParams["svg.fonttype"] == "path":
            texts = [self.text(line) for line in self.lines if not simple(line.text)]
            renderer.open_group(GROUP, gid=f"{GROUP}-{len(ink.groups)}")
            renderer.close_group(GROUP)
            ink.groups.append(self.markup(ink.glyphs, renderer.get_canvas_width_height()[1]))
        else:
            texts = self.as_texts()
        for text in texts:
            text.draw(renderer)
        self.stale = False

    def markup(self, glyphs: dict[str, str], height: float) -> str:
        """Return the simple lines as SVG on a canvas of this height; the outlines that they use go to `glyphs`."""
        lines = [line for line in self.lines if simple(line.text)]
        places = self.get_transform().transform([line[:2] for line in lines] or [(0.0, 0.0)])
        found = []
        for line, (x, y) in zip(lines, places.tolist(), strict=False):
            uses, width = _run(line.text, line.bold)
            for name, outline in _outlines(line.text, line.bold):
                glyphs.setdefault(name, outline)
            scale = line.size / UNITS
            at = f"translate({brief(x - SHARES[line.align] * width * scale)} {brief(height - y)})"
            found.append(f'<g fill="{line.colour}" transform="{at} scale({brief(scale)} -{brief(scale)})">{uses}</g>')
        return "\n".join(found)

    def text(self, line: Line) -> Text:
        """Return one line as a text of matplotlib's."""
        text = Text(
            line.x, line.y, "", color=line.colour, ha=line.align, va="baseline", zorder=self.get_zorder()
        )  # fmt: skip
        put(text, line.text, fontproperties=font_of(line.text, line.size, line.bold))
        text.axes = self.axes
        figure = self.get_figure(root=False)
        assert figure is not None
        text.set_figure(figure)
        text.set_transform(self.get_transform())
        return text

    def as_texts(self) -> list[Text]:
        """Return all lines as texts of matplotlib's."""
        if len(self.made) != len(self.lines):
            self.made = [self.text(line) for line in self.lines]
        return self.made

    def get_window_extent(self, renderer: Any = None) -> Bbox:
        """Return about where the lines stand."""
        figure = self.get_figure(root=True)
        if figure is None or not self.lines:
            return Bbox.null()
        places = self.get_transform().transform([line[:2] for line in self.lines])
        boxes = []
        for line, (x, y) in zip(self.lines, places, strict=True):
            wide = text_width(line.text, line.size, bold=line.bold) * figure.dpi
            em = line.size / POINTS_PER_INCH * figure.dpi
            left = x - SHARES[line.align] * wide
            boxes.append(Bbox([[left, y - 0.25 * em], [left + wide, y + 0.8 * em]]))
        return Bbox.union(boxes)


@lru_cache(maxsize=10_000)
def simple(text: str) -> bool:
    """Return whether letters stand one after the other, in the drawing font."""
    return all(character < "\N{LATIN SMALL LETTER DOTLESS J WITH STROKE}" or _alone(character) for character in text)


@cache
def _alone(character: str) -> bool:
    plain = not unicodedata.combining(character) and unicodedata.bidirectional(character) not in ("R", "AL", "AN")
    return plain and unicodedata.category(character) not in ("Mn", "Mc", "Cf") and has(font_path(), character)


@lru_cache(maxsize=10_000)
def _run(text: str, bold: bool) -> tuple[str, float]:
    """Return the letters of a line as SVG, and its width, in units of the font."""
    uses, at, last = [], 0.0, ""
    for character in text:
        at += kerning(last, character, bold) if last else 0.0
        name, outline, advance = _letter(character, bold)
        if outline:
            uses.append(f'<use xlink:href="#{name}" x="{round(at)}"/>' if at else f'<use xlink:href="#{name}"/>')
        at, last = at + advance, character
    return "".join(uses), at


def _outlines(text: str, bold: bool) -> Iterator[tuple[str, str]]:
    for character in set(text):
        name, outline, _ = _letter(character, bold)
        if outline:
            yield name, outline


@cache
def _letter(character: str, bold: bool) -> tuple[str, str, float]:
    """Return name, outline and advance of a letter, in units of the font."""
    vertices, codes, advance = glyph_outline(character, bold)
    parts, i = [], 0
    letters, lengths = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}, {1: 1, 2: 1, 3: 2, 4: 3, 79: 1}
    while i < len(codes):
        code = int(codes[i])
        points = vertices[i : i + lengths[code]] if code != 79 else []
        parts.append(letters[code] + " ".join(f"{round(x)} {round(y)}" for x, y in points))
        i += lengths[code]
    return f"{'b' if bold else 'g'}{ord(character):x}", "".join(parts), advance


@contextmanager
def inked() -> Iterator[Ink]:
    """Gather what letterings write while a figure is saved as SVG."""
    ink = Ink()
    token = _ink.set(ink)
    try:
        yield ink
    finally:
        _ink.reset(token)


def with_ink(svg: str, ink: Ink) -> str:
    """Return the SVG with the gathered letters in the places of their letterings."""
    for i, group in enumerate(ink.groups):
        empty = f'<g id="{GROUP}-{i}"'
        start = svg.find(empty)
        if start < 0:
            continue
        end = svg.index("/>", start) if svg[start + len(empty)] == "/" else svg.index("</g>", start) + 2
        svg = f"{svg[:start]}{empty}>\n{group}\n</g>{svg[end + 2 :]}"
    if not ink.glyphs:
        return svg
    paths = "\n".join(f'<path id="{html.escape(name)}" d="{path}"/>' for name, path in sorted(ink.glyphs.items()))
    start = svg.index(">", svg.index("<svg")) + 1
    return f"{svg[:start]}\n<defs>\n{paths}\n</defs>{svg[start:]}"
