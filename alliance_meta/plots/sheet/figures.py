"""Figures that show themselves in a notebook, and files that are the same in every run."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from alliance_meta.errors import InputError
from alliance_meta.files import sha256, write_bytes

Format = Literal["svg", "pdf", "png", "tiff", "eps"]
FORMATS = ("svg", "pdf", "png", "tiff", "eps")
DPI = {"png": 200, "tiff": 600}
SCREEN_DPI = 144

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
    text: Literal["path", "text"] = "path",
    dpi: float | None = None,
) -> Path:
    """Save a figure as SVG, PDF, PNG, TIFF or EPS; the same figure gives the same bytes in every run.

    The file carries no date, and neither the user's matplotlib settings nor the system's fonts change it.
    It is written whole or not at all.

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
    text : {"path", "text"}
        SVG only. ``"path"`` draws letters as outlines, which look the same everywhere; ``"text"`` keeps them
        as text: a smaller file that can be searched and edited, but needs DejaVu Sans to look the same.
    dpi : float, optional
        PNG, 200 by default, and TIFF, 600.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the ending is none of these.
    CannotRunError
        If the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> figure = plots.forest(RandomEffectsModel(es).fit())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plots.save_figure(figure, Path(folder, "forest.svg")).name
    'forest.svg'
    """
    target = Path(path)
    kind = {"tif": "tiff"}.get(ending := target.suffix.lower().lstrip("."), ending)
    if kind not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{target.name}: give the file one of the endings {endings}")
    data = figure_bytes(figure, format=kind, title=title, description=description, text=text, dpi=dpi)
    return write_bytes(target, data)


def figure_bytes(
    figure: Figure | Pages,
    *,
    format: str = "svg",
    title: str | None = None,
    description: str | None = None,
    text: Literal["path", "text"] = "path",
    dpi: float | None = None,
    id_prefix: str | None = None,
) -> bytes:
    """Return what `save_figure` writes, for embedding.

    Parameters
    ----------
    figure, title, description, text, dpi
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
        If `format` is none of these.

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
    from alliance_meta.plots.sheet.lettering import inked, with_ink

    if format not in FORMATS:
        raise InputError(f"format={format!r} is not one of {', '.join(map(repr, FORMATS))}")
    name = title if title is not None else getattr(figure, "plot_title", "")
    words = description if description is not None else getattr(figure, "plot_description", "")
    settings = {**_SETTINGS, "svg.fonttype": "none" if text == "text" else "path"}
    stream = io.BytesIO()
    with style.context(["default", settings]):
        packed: dict[str, Any] = {"pil_kwargs": {"compression": "tiff_lzw"}} if format == "tiff" else {}
        metadata = None if format == "tiff" else _metadata(format, name, words)
        with inked() if format == "svg" else nullcontext() as ink:
            figure.savefig(stream, format=format, dpi=dpi or DPI.get(format, 100), metadata=metadata, **packed)
    if format == "eps":
        return re.sub(rb"(?m)^%%CreationDate:.*\n", b"", stream.getvalue())
    if ink is None:
        return stream.getvalue()
    drawing = with_ink(stream.getvalue().decode("utf-8"), ink)
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
        words = "".join(character for character in words if character.isprintable())
        if words:
            labels.append(f"{slug}-{tag}")
            texts += f'\n <{tag} id="{slug}-{tag}">{html.escape(words, quote=False)}</{tag}>'
    named = f' aria-labelledby="{" ".join(labels)}"' if labels else ""
    start = body.index(">") + 1
    opening = body[: start - 1] + f' role="img"{named}>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}{texts}{body[start:]}'
