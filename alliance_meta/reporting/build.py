"""`build_report`: from a declaration to a folder of files, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_bytes
from alliance_meta.notes import Note
from alliance_meta.options import did_you_mean
from alliance_meta.reporting.declaration import read_declaration
from alliance_meta.reporting.document import make_document
from alliance_meta.reporting.figures import Drawn, draw_figures
from alliance_meta.reporting.html import render_html
from alliance_meta.reporting.numbers import dumps
from alliance_meta.reporting.pdf import pdf_available, render_pdf
from alliance_meta.reporting.plain import methods_text, table_csv
from alliance_meta.reporting.view import make_view

FORMATS = ("html", "pdf", "figures", "tables", "methods")
RESULTS = "results.json"
NO_PDF = Note("no-pdf", "report.pdf was not made: it needs typst (pip install typst).")


class Built(tuple[Path, ...]):
    """The files a report was written to, in order; `notes` says what was not made and why."""

    notes: tuple[Note, ...]

    def __new__(cls, paths: Collection[Path], notes: tuple[Note, ...] = ()) -> Built:
        """Return the paths as a tuple that also carries notes."""
        self = super().__new__(cls, paths)
        self.notes = notes
        return self


def build_report(path: str | Path, *, out: str | Path | None = None, formats: Collection[str] | None = None) -> Built:
    """Run a declared report and write its folder.

    The analysis is run once and written to ``results.json``; page, PDF, figures, tables and methods text are
    made from that file's content alone, so none of them can disagree with another. Everything is made before
    anything is written: where something fails, the files of an earlier run stay as they were.

    Parameters
    ----------
    path : str or Path
        The declaration, ``reports/<name>.toml``; ``docs/reports.md`` describes it.
    out : str or Path, optional
        Folder to write to; ``build/<name>`` beside the declaration by default.
    formats : collection of {"html", "pdf", "figures", "tables", "methods"}, optional
        What to make besides ``results.json``; everything by default.

    Returns
    -------
    Built
        The paths written, a tuple; its ``.notes`` says what could not be made (a PDF without typst).

    Raises
    ------
    InputError
        With every problem of the declaration or its data.
    CannotRunError
        If the declaration cannot be read or the folder cannot be written.

    Notes
    -----
    The same declaration, data and versions give the same bytes: no clock, no path and no random number.

    Examples
    --------
    >>> from alliance_meta.reporting import build_report
    >>> build_report("reports/relationship-2011.toml")  # doctest: +SKIP
    """
    wanted = _check_formats(formats)
    declaration = read_declaration(path)
    target = Path(out) if out is not None else declaration.path.parent / "build" / declaration.name
    content = dumps(make_document(declaration))
    files, notes = render(json.loads(content), formats=wanted)
    stale = _listed_before(target) - set(files)
    document = json.loads(content) | {"files": sorted(files)}
    files = {RESULTS: dumps(document).encode("utf-8"), **files}
    paths = [write_bytes(target / name, data) for name, data in files.items()]
    for name in stale:
        (target / name).unlink(missing_ok=True)
    return Built(paths, notes)


def render(
    document: Mapping[str, Any], *, formats: Collection[str] = FORMATS
) -> tuple[dict[str, bytes], tuple[Note, ...]]:
    """Return every file that follows from a document, by its name in the report's folder."""
    files: dict[str, bytes] = {}
    notes: tuple[Note, ...] = ()
    drawn: dict[str, Drawn] = {}
    if {"html", "pdf", "figures"} & set(formats):
        drawn = draw_figures(document)
    view = make_view(document)
    if "html" in formats:
        files["report.html"] = render_html(view, {name: (one.whole,) for name, one in drawn.items()}).encode("utf-8")
    if "pdf" in formats:
        try:
            if pdf_available():
                files["report.pdf"] = render_pdf(view, {name: one.pages for name, one in drawn.items()})
            else:
                notes = (NO_PDF,)
        except CannotRunError as error:
            if not files:
                raise
            notes = (Note("no-pdf", f"report.pdf was not made: {error}"),)
    if "methods" in formats:
        files["methods.txt"] = methods_text(document).encode("utf-8")
    if "figures" in formats:
        for name, one in drawn.items():
            files[f"figures/{name}.svg"] = one.whole.encode("utf-8")
            files[f"figures/{name}.png"] = one.png
            if len(one.pages) > 1:
                for number, page in enumerate(one.pages, 1):
                    files[f"figures/{name}-page{number}.svg"] = page.encode("utf-8")
    if "tables" in formats:
        for name, table in document["tables"].items():
            files[f"tables/{name}.csv"] = table_csv(table).encode("utf-8")
    return files, notes


def _check_formats(formats: Collection[str] | None) -> tuple[str, ...]:
    if formats is None:
        return FORMATS
    unknown = [f"{name!r}{did_you_mean(str(name), list(FORMATS))}" for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"formats: {', '.join(unknown)} is not one of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in formats)


def _listed_before(target: Path) -> set[str]:
    """Return the files an earlier run lists as its own, so that nothing else is ever removed."""
    try:
        listed = json.loads((target / RESULTS).read_text(encoding="utf-8")).get("files", [])
    except (OSError, ValueError, AttributeError):
        return set()
    root = target.resolve()
    names = [name for name in listed if isinstance(name, str)]
    return {name for name in names if (root / name).resolve().is_relative_to(root) and (root / name).is_file()}
