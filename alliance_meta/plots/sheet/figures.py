"""Figures that show themselves in a notebook, and files that are the same in every run.

All texts of a sheet as one artist: thousands of lines, which matplotlib's own texts would draw one by one.

In an SVG of ours each letter's outline is written once and then placed, without asking matplotlib for the layout.
"""

from __future__ import annotations

import html
import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from alliance_meta.errors import InputError, SmallLettersWarning
from alliance_meta.files import sha256, write_bytes
from alliance_meta.plots.sheet.measure import (
    JOINERS,
    POINTS_PER_INCH,
    UNITS,
    as_read,
    drawable,
    font_of,
    font_path,
    glyph_outline,
    has,
    kerning,
    put,
    text_width,
    texts_of,
)
from alliance_meta.tables.format import brief, fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "pdf", "png", "tiff", "eps")
DPI = {"png": 200, "tiff": 600}
SCREEN_DPI = 144
MM_PER_INCH = 25.4
SIZED = ("svg", "png", "tiff")
LEAST_POINTS = 5.0
# 40,000 x 10,000: more than any printer wants.
MOST_PIXELS = 400_000_000

# Everything a user's matplotlib settings could change in a saved file.
_SETTINGS: dict[str, Any] = {
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "savefig.edgecolor": "none",
    "savefig.transparent": False,
    "svg.hashsalt": "alliance_meta",
    "svg.image_inline": True,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "path.sketch": None,
    "text.usetex": False,
}


class NotebookFigure(Figure):
    """A matplotlib figure made without pyplot that still shows itself as the last line of a cell.

    Attributes
    ----------
    plot_title, plot_description : str
        Title and text alternative; `save_figure` writes them into the file.
    drawn : tuple or None
        Of a forest, its `Layout` and `Page`: where everything stands.
    """

    plot_title: str = ""
    plot_description: str = ""
    drawn: Any = None

    @classmethod
    def for_plot(cls, width: float, height: float, meta: Mapping[Any, Any]) -> NotebookFigure:
        """Return an empty figure of this size (inches) with title and description from `meta`."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        figure = cls(figsize=(width, height), dpi=100, facecolor="white", edgecolor="white", layout="none")  # type: ignore[arg-type]
        FigureCanvasAgg(figure)
        figure.plot_title = str(meta.get("title") or "")
        figure.plot_description = str(meta.get("description") or "")
        return figure

    def draw(self, renderer: Any) -> None:
        """Draw with unhinted letters: hinted ones are wider than measured, and columns would touch."""
        import matplotlib

        with matplotlib.rc_context({"text.hinting": "none"}):
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        data = figure_bytes(self, format="png", dpi=SCREEN_DPI)
        width, height = (round(96 * side) for side in self.get_size_inches())
        return data, {"width": width, "height": height, "alt": self.plot_description or self.plot_title}


class Pages(tuple[NotebookFigure, ...]):
    """The pages of one plot; a notebook shows them below each other."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        import base64

        images = []
        for figure in self:
            data, meta = figure._repr_png_()
            source = base64.b64encode(data).decode("ascii")
            images.append(
                f'<img src="data:image/png;base64,{source}" width="{meta["width"]}" '
                f'alt="{html.escape(str(meta["alt"]))}">'
            )
        return "<br>".join(images)


def save_figure(
    figure: Figure | Pages,
    path: str | Path,
    *,
    title: str | None = None,
    description: str | None = None,
    text: Literal["path", "text"] | bool = "path",
    dpi: float | None = None,
    width_mm: float | None = None,
) -> Path:
    """Save a figure as SVG, PDF, PNG, TIFF or EPS; the same figure gives the same bytes in every run.

    The file carries no date, and neither the user's matplotlib settings nor the system's fonts change it, unless the
    figure holds letters that DejaVu Sans lacks. Fonts are embedded. It is written whole or not at all.

    Parameters
    ----------
    figure : Figure or tuple of Figure
        From `forest`, or any matplotlib figure; what `forest_pages` gives becomes one PDF of several pages.
    path : str or Path
        The ending chooses the format: ``.svg``, ``.pdf``, ``.png``, ``.tiff`` (or ``.tif``), ``.eps``, which cannot
        hold transparent colours and draws them opaque.
    title, description : str, optional
        Title and text alternative for readers who cannot see the figure; by default those the plot made.
        In an SVG they become ``<title>`` and ``<desc>``.
    text : {"path", "text"} or bool
        SVG only. ``"path"`` draws letters as outlines, which look the same everywhere; ``"text"`` (or True) keeps them
        as text: a smaller file that can be searched and edited, but needs DejaVu Sans to look the same.
    dpi : float, optional
        Dots per inch of a PNG, 200 by default, and of a TIFF, 600.
    width_mm : float, optional
        Width in print, such as a journal's column of 84 mm, of a PNG, TIFF or SVG; everything is made smaller or larger
        with it, letters too. To have letters of their size, draw for this width: ``forest(fit, width=84 / 25.4)``.
        By default a figure is as wide as it was drawn.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the ending is none of these, or a size is none.
    CannotRunError
        If the folder cannot be written to.

    Warns
    -----
    SmallLettersWarning
        If letters would be smaller than 5 points in print.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> figure = plots.forest(RandomEffectsModel(es).fit())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plots.save_figure(figure, Path(folder, "forest.tiff"), width_mm=174, dpi=300).name
    'forest.tiff'
    """
    target = Path(path)
    kind = {"tif": "tiff"}.get(ending := target.suffix.lower().lstrip("."), ending)
    if kind not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{target.name}: give the file one of the endings {endings}")
    words = {"title": title, "description": description, "text": text}
    return write_bytes(target, figure_bytes(figure, format=kind, **words, dpi=dpi, width_mm=width_mm))  # type: ignore[arg-type]


def figure_bytes(
    figure: Figure | Pages,
    *,
    format: str = "svg",
    title: str | None = None,
    description: str | None = None,
    text: Literal["path", "text"] | bool = "path",
    dpi: float | None = None,
    width_mm: float | None = None,
    id_prefix: str | None = None,
) -> bytes:
    """Return what `save_figure` writes, for embedding.

    Parameters
    ----------
    figure, title, description, text, dpi, width_mm
        As in `save_figure`.
    format : {"svg", "pdf", "png", "tiff", "eps"}
    id_prefix : str, optional
        SVG only: put before every id, so that several figures can stand in one page. By default made from
        the drawing itself.

    Returns
    -------
    bytes
        The content of the file.

    Raises
    ------
    InputError
        If `format` or `text` is none of these, or a size is none.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> figure = plots.forest(RandomEffectsModel(es).fit())
    >>> plots.figure_bytes(figure, format="png")[1:4]
    b'PNG'
    """
    from matplotlib import style

    if isinstance(figure, Pages):
        return _one_file(figure, format, title, description)

    letters = text if isinstance(text, str) else "text" if text is True else "path"
    _check(figure, format, letters)
    scale, dots = _sizes(figure, format, dpi, width_mm)
    name = title if title is not None else getattr(figure, "plot_title", "")
    words = description if description is not None else getattr(figure, "plot_description", "")
    settings = {**_SETTINGS, "svg.fonttype": "none" if letters == "text" else "path"}
    stream = io.BytesIO()
    packed: dict[str, Any] = {"dpi": (dots, dots)} if format in DPI else {}
    if format == "tiff":
        packed["compression"] = "tiff_lzw"
    more: dict[str, Any] = {"pil_kwargs": packed} if packed else {}
    with style.context(["default", settings]), as_read(figure) if letters == "text" else nullcontext():
        metadata = None if format == "tiff" else _metadata(format, name, words)
        with inked() if format == "svg" else nullcontext() as ink:
            figure.savefig(stream, format=format, dpi=dots * scale, metadata=metadata, **more)
    if format == "eps":
        return re.sub(rb"(?m)^%%CreationDate:.*\n", b"", stream.getvalue())
    if ink is None:
        return stream.getvalue()
    drawing = with_ink(stream.getvalue().decode("utf-8"), ink)
    if width_mm is not None:
        drawing = _in_print(drawing, figure, scale)
    return _accessible(drawing, title=name, description=words, prefix=id_prefix).encode("utf-8")


def _one_file(pages: Pages, format: str, title: str | None, description: str | None) -> bytes:
    """Return a PDF of several pages."""
    from matplotlib import style
    from matplotlib.backends.backend_pdf import PdfPages

    if format != "pdf":
        raise InputError(f"format={format!r} holds one page: save each of the {len(pages)} pages, or all as a PDF")
    name = pages[0].plot_title.partition(", page 1 of ")[0] if title is None else title
    words = pages[0].plot_description if description is None else description
    stream = io.BytesIO()
    with style.context(["default", _SETTINGS]), PdfPages(stream, metadata=_metadata("pdf", name, words)) as file:
        for page in pages:
            file.savefig(page)
    return stream.getvalue()


def _check(figure: Any, format: str, letters: Any) -> None:
    """Raise an `InputError` unless this can be saved."""
    if not isinstance(figure, Figure):
        pages = "; save each of its pages" if isinstance(figure, tuple) else ""
        own = "; that of an axes is ax.figure" if hasattr(figure, "figure") else pages
        raise InputError(f"figure={type(figure).__name__} is no figure{own}")
    if format not in FORMATS:
        raise InputError(f"format={format!r} is not one of {', '.join(map(repr, FORMATS))}")
    if letters not in ("path", "text"):
        raise InputError(f"text={letters!r} is not one of 'path', 'text'")


def _sizes(figure: Figure, format: str, dpi: float | None, width_mm: float | None) -> tuple[float, float]:
    """Return how many times as large as drawn a figure is printed, and the dots per inch that it has there."""
    wide, high = (float(side) for side in figure.get_size_inches())
    dots = float(DPI.get(format, 100) if dpi is None else dpi)
    inches = wide if width_mm is None else float(width_mm) / MM_PER_INCH
    for name, value, given in (("dpi", dots, dpi), ("width_mm", inches, width_mm)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}={given!r} must be a number above 0")
    if width_mm is not None and format not in SIZED:
        raise InputError(
            f"width_mm is for {', '.join(SIZED)}: a {format.upper()} is as wide as the figure was drawn. "
            "Draw it for this width, as with forest(fit, width=3.3), or give it the width where it is placed"
        )
    scale = inches / wide
    if width_mm is not None and format in DPI:
        # Matplotlib cuts parts of a pixel.
        scale = (round(inches * dots) + 1e-3) / (dots * wide)
    if format in DPI and dots**2 * scale**2 * wide * high > MOST_PIXELS:
        raise InputError(f"dpi={fixed(dots, 0)} makes a picture of more than {MOST_PIXELS:,} pixels; give fewer")
    if width_mm is not None:
        _warn_of_small_letters(figure, scale, width_mm)
    return scale, dots


def _warn_of_small_letters(figure: Figure, scale: float, width_mm: float) -> None:
    sizes = [float(one.get_fontsize()) for one in texts_of(figure) if one.get_text()]
    if sizes and min(sizes) * scale < LEAST_POINTS:
        found = f"{fixed(min(sizes) * scale, 1)} points at {fixed(width_mm, 0)} mm"
        message = f"The smallest letters have {found}. Draw for this width, or give a larger width_mm."
        warnings.warn(SmallLettersWarning(message), stacklevel=4)


def _in_print(svg: str, figure: Figure, scale: float) -> str:
    """Say in millimetres how large an SVG is printed."""
    wide, high = (fixed(float(side) * scale * MM_PER_INCH, 3) for side in figure.get_size_inches())
    start = svg.index("<svg")
    end = svg.index(">", start)
    sized = re.sub(r'\bwidth="[^"]*"', f'width="{wide}mm"', svg[start:end], count=1)
    sized = re.sub(r'\bheight="[^"]*"', f'height="{high}mm"', sized, count=1)
    return svg[:start] + sized + svg[end:]


def _metadata(format: str, title: str, description: str) -> dict[str, str | None]:
    """Return meta data without date, program or version."""
    if format == "svg":
        return {"Date": None, "Creator": None, "Format": None, "Type": None}
    if format == "eps":
        return {"Creator": "alliance_meta", "Title": title}
    if format == "pdf":
        texts = {"Title": title or None, "Subject": description or None}
        return {"CreationDate": None, "Creator": None, "Producer": None, **texts}
    return {
        "Software": None,
        **({"Title": title} if title else {}),
        **({"Description": description} if description else {}),
    }


def _accessible(svg: str, *, title: str, description: str, prefix: str | None) -> str:
    """Give the drawing a role, a title and a description, and ids that no other drawing has."""
    body = re.sub(r"(<metadata>.*?</metadata>|<!--.*?-->)\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    own = prefix if prefix is not None else f"f{sha256(body.encode('utf-8'))[:8]}"
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", own)
    body = re.sub(r'\bid="', f'id="{slug}-', body)
    body = body.replace('href="#', f'href="#{slug}-').replace("url(#", f"url(#{slug}-")
    texts, labels = "", []
    for tag, words in (("title", title), ("desc", description)):
        words = "".join(character for character in words if character.isprintable() or character in JOINERS)
        if words:
            labels.append(f"{slug}-{tag}")
            texts += f'\n <{tag} id="{slug}-{tag}">{html.escape(words, quote=False)}</{tag}>'
    named = f' aria-labelledby="{" ".join(labels)}"' if labels else ""
    start = body.index(">") + 1
    opening = body[: start - 1] + f' role="img"{named}>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}{texts}{body[start:]}'


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
