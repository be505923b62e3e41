"""`build_report`: from a declaration to a folder of files, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliance_meta.encoding import INFINITE, NOT_APPLICABLE
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_folder
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.reporting import writing
from alliance_meta.reporting.declaration import inputs, read_declaration
from alliance_meta.reporting.document import SCHEMA, make_document, silent
from alliance_meta.reporting.html import make_view, render_html, render_supplement
from alliance_meta.reporting.made import (
    FORMATS,
    OUTPUT,
    RECORD,
    RESULTS,
    default_folder,
    fingerprint,
    package_hash,
    read_record,
    record,
)
from alliance_meta.reporting.spec import Declaration
from alliance_meta.reporting.text.references import bibtex
from alliance_meta.reporting.twin import twin
from alliance_meta.reporting.words import speaking, tr
from alliance_meta.reporting.words.sentences import in_language
from alliance_meta.reporting.writing import dumps
from alliance_meta.tables.format import inert
from alliance_meta.tables.pdf import FOREIGN, pdf_available, typeset
from alliance_meta.tables.word import word_file

if TYPE_CHECKING:
    import pandas as pd

# A row takes a tenth of a megabyte to set.
MOST_ROWS = 1_000


def render_pdf(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]]) -> bytes:
    """Return the PDF of a report."""
    view, fonts = _cut(view), list[str]()
    if FOREIGN.search(text := json.dumps(view, ensure_ascii=False)):
        from alliance_meta.plots.sheet.measure import drawable, font_path

        view, fonts = json.loads(drawable(text)), [str(font_path().parent)]
    return typeset(view, figures, fonts=fonts)


def render_word(view: Mapping[str, Any], figures: Mapping[str, Sequence[bytes]]) -> bytes:
    """Return the Word file of a report."""
    return word_file(_cut(view), figures)


def _cut(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return a view whose tables have no more rows than print should hold; a note says where the others are."""
    with speaking(view["lang"]):
        sections = [
            {**section, "blocks": [_cut_table(block) if "rows" in block else block for block in section["blocks"]]}
            for section in view["sections"]
        ]
    return {**view, "sections": sections}


def _cut_table(table: Mapping[str, Any]) -> dict[str, Any]:
    rows = table["rows"]
    if len(rows) <= MOST_ROWS:
        return dict(table)
    note = tr("The first {shown} of {rows} rows; all are in", shown=f"{MOST_ROWS:,}", rows=f"{len(rows):,}") + " "
    place = {"t": "code", "s": f"tables/{table['id']}.csv"}
    return {**table, "rows": rows[:MOST_ROWS], "notes": [*table["notes"], [{"t": "text", "s": note}, place]]}


Document = Mapping[str, Any]


def table_csv(table: Mapping[str, Any]) -> str:
    """Return a table as CSV, numbers unrounded; an interval takes two columns, or two rows among statistics."""
    keys = [key for column in table["columns"] for key in column["keys"]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(inert, keys))
    for cells in table["rows"]:
        if "group" in cells:
            continue
        for row in _split(cells):
            writer.writerow([inert(_raw(row.get(key))) for key in keys])
    return stream.getvalue()


def methods_text(document: Document) -> str:
    """Return methods, cautions, data, software and references as plain text."""
    with speaking(document["report"]["lang"]):
        return _methods_text(document)


def _methods_text(document: Document) -> str:
    parts = [document["report"]["title"], ""]
    grouped: dict[str, list[str]] = {}
    for analysis in document["analyses"].values():
        grouped.setdefault(analysis["methods"], []).append(analysis["label"])
    if grouped:
        parts += [tr("METHODS"), ""]
        for text, labels in grouped.items():
            parts += [f"{'; '.join(labels)}:", writing.unmarked(in_language(text)), ""]
    if document["cautions"]:
        parts += [tr("WHAT THESE DATA ARE"), ""]
        for group in document["cautions"]:
            parts += [f"{'; '.join(group['concerns'])}:"]
            parts += [f"- {writing.unmarked(text)}" for text in group["texts"]]
            parts.append("")
    parts += [tr("DATA AND SOFTWARE"), ""]
    parts += [f"- {origin['title'] or origin['source']}: SHA-256 {origin['sha256']}" for origin in document["data"]]
    parts.append("- " + ", ".join(f"{name} {number}" for name, number in document["versions"].items()))
    rebuild = tr("rebuild with: {command}", command=document["report"]["rebuild"])
    parts += [f"- {rebuild}", "", tr("REFERENCES"), ""]
    for section in document["sections"]:
        for block in section["blocks"]:
            if block["type"] == "references":
                parts += [writing.unmarked(_without_link(text)) for text in block["items"]]
    return "\n".join(parts).rstrip() + "\n"


def _split(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record, or one row for each end where its cells hold intervals."""
    cells = dict(record)
    cells |= {key: one["value"] for key, one in record.items() if isinstance(one, Mapping) and "format" in one}
    ends = {key: value for key, value in cells.items() if isinstance(value, list)}
    if not ends:
        return [cells]
    rows = []
    for position, word in enumerate(("lower", "upper")):
        row = {key: value[position] if key in ends else value for key, value in cells.items()}
        first = next(iter(row))
        row[first] = f"{row[first]}, {word}"
        rows.append(row)
    return rows


def _raw(value: Any) -> Any:
    if isinstance(value, Mapping):
        if INFINITE in value:
            return "Inf" if value[INFINITE] > 0 else "-Inf"
        return "" if NOT_APPLICABLE in value else str(dict(value))
    return "" if value is None else value


def _without_link(text: str) -> str:
    """Undo `[doi.org/x](https://doi.org/x)` to the bare address."""
    head, mark, rest = text.partition("[doi.org/")
    return f"{head}https://doi.org/{rest.partition(']')[0]}" if mark else text


FOREST = "forest"
# The width of the text in print, where letters then keep their size.
TEXT_INCHES = 170 / 25.4


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure: as one SVG, as printed pages, as a picture, as pictures of its pages, and where its rows stand."""

    whole: str
    pages: tuple[str, ...]
    png: bytes
    pictures: tuple[bytes, ...]
    places: Any


def draw_figures(
    document: Mapping[str, Any], formats: Collection[str] = FORMATS, say: Callable[[str], None] = silent
) -> dict[str, Drawn]:
    """Draw every figure of the document as far as the formats need it."""
    drawn, count = {}, len(document["figures"])
    for number, (identifier, figure) in enumerate(document["figures"].items(), 1):
        say(f"drawing figure {number} of {count}: {identifier}")
        drawn[identifier] = _draw(figure, set(formats))
    say("setting the pages")
    return drawn


def _draw(figure: Mapping[str, Any], formats: set[str]) -> Drawn:
    from alliance_meta.plots import figure_bytes, frame_from_dict

    whole, pages = _figures(frame_from_dict(figure["frame"]))
    svg = figure_bytes(whole, format="svg").decode("utf-8")
    printed = len(pages) > 1 and formats & {"pdf", "figures"}
    drawn = tuple(figure_bytes(page, format="svg").decode("utf-8") for page in pages) if printed else (svg,)
    png = figure_bytes(whole, format="png") if formats & {"figures", "docx"} else b""
    several = len(pages) > 1 and "docx" in formats
    pictures = tuple(figure_bytes(page, format="png") for page in pages) if several else (png,)
    return Drawn(svg, drawn, png, pictures, getattr(whole, "drawn", None))


def _figures(frame: pd.DataFrame) -> tuple[Any, tuple[Any, ...]]:
    """Return the figure of a frame as one, and as its pages: the frame says what plot it is of."""
    from alliance_meta import plots

    name = frame.attrs["plot"]
    paged: Any = {FOREST: plots.forest_pages, "rob": plots.rob_pages}.get(name)
    if paged is None:
        whole = getattr(plots, name)(frame)
        return whole, (whole,)
    pages = tuple(paged(frame, width=TEXT_INCHES) if name == FOREST else paged(frame))
    return pages[0] if len(pages) == 1 else getattr(plots, name)(frame), pages


NO_PDF = Note("no-pdf", "report.pdf was not made: it needs typst (pip install typst).")


class Built(tuple[Path, ...]):
    """The files a report was written to, in order; `notes` says what was not made and why."""

    notes: tuple[Note, ...]

    def __new__(cls, paths: Collection[Path], notes: tuple[Note, ...] = ()) -> Built:
        """Return the paths as a tuple that also carries notes."""
        self = super().__new__(cls, paths)
        self.notes = notes
        return self


def build_report(
    path: str | Path,
    *,
    out: str | Path | None = None,
    formats: Collection[str] | None = None,
    say: Callable[[str], None] = silent,
) -> Built:
    """Run a declared report and write its folder.

    The analysis is run once and written to ``results.json``; page, PDF, figures, tables and methods text are
    made from that file's content alone, so none of them can disagree with another. Everything is made before
    anything is written, and the folder is replaced as a whole: where something fails or the run is killed, the files
    of an earlier run stay as they were. Files in the folder that no report has made stay.

    Parameters
    ----------
    path : str or Path
        The declaration, ``reports/<name>.toml``; ``docs/reports.md`` describes it.
    out : str or Path, optional
        Folder to write to; ``build/<name>`` beside the declaration by default.
    say : callable, optional
        Called with each step in words, for whoever waits.
    formats : collection of {"html", "pdf", "docx", "figures", "tables", "methods"}, optional
        What to make besides ``results.json``; everything by default. What the folder holds of the other formats stays
        if it shows the same results, and is removed, with a note, if not.

    Returns
    -------
    Built
        The paths written, a tuple; its ``.notes`` says what could not be made (a PDF without typst), what was removed,
        and what had to be renamed.

    Raises
    ------
    InputError
        With every problem of the declaration or its data; and, after everything else was built, with every figure or
        table that could not be made: the report says why in its place.
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
    target = Path(out) if out is not None else _default_folder(declaration)
    made_of = fingerprint(declaration.path, inputs(declaration))
    content = dumps(make_document(declaration, say))
    files, notes = render(json.loads(content), formats=wanted, say=say)
    paths = [target / name for name in (RESULTS, *files)]
    before = _written_before(target)
    rest = before - {RESULTS, *files}
    same = {name: (target / name).read_bytes() for name in rest} if _shows(target, content) else {}
    whole = _with_record(made_of, content, wanted, files | same)
    renamed = write_folder(target, whole, ours=before | {RECORD})
    _refuse_failed(declaration, json.loads(content)["failed"])
    return Built(paths, (*notes, *_remarks(sorted(rest - set(same)), renamed)))


def _refuse_failed(declaration: Declaration, failed: Sequence[str]) -> None:
    """Raise an `InputError` for items that a report could not show, after everything else was built."""
    if failed:
        listed = "".join(f"\n  {one}" for one in failed)
        raise InputError(f"{declaration.path.name}: built without {len(failed)} that could not be shown{listed}")


def _default_folder(declaration: Declaration) -> Path:
    """Return ``build/<name>`` beside the declaration, which must lie there and not behind a link to elsewhere."""
    folder = declaration.path.parent
    target = default_folder(declaration.path)
    if declaration.name.startswith("."):
        raise InputError(
            f"{declaration.path.name}: there is no name before .toml to call the folder by; rename the file"
        )
    if target.resolve() != folder.resolve() / "build" / declaration.name:
        raise CannotRunError(f"{target} is a link to {target.resolve()}; name that folder with --out if you mean it")
    return target


def _with_record(
    made_of: Mapping[str, Any], content: str, wanted: Collection[str], files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return everything that goes into the folder: results first, so that they are never newer than their pages."""
    results = json.loads(content) | {"files": sorted([*files, RECORD])}
    formats = {*wanted, *map(_format_of, files)} - (set() if "report.pdf" in files else {"pdf"})
    made = record(made_of, formats=formats, outputs=[RESULTS, *files])
    return {RESULTS: dumps(results).encode("utf-8"), **files, RECORD: made}


FORMAT_OF = {
    "report.html": "html",
    "report.pdf": "pdf",
    "report.docx": "docx",
    "methods.txt": "methods",
    "references.bib": "methods",
}


def _format_of(name: str) -> str:
    return FORMAT_OF.get(name) or name.partition("/")[0]


def _written_before(target: Path) -> set[str]:
    """Return the files that the manifest of an earlier run lists, so that nothing else is ever removed."""
    made = read_record(target)
    listed = made["outputs"] if made else _results(target).get("files", [])
    names = [name for name in listed if isinstance(name, str) and OUTPUT.fullmatch(name)]
    return {name for name in (RESULTS, *names) if listed and (target / name).is_file()}


def _results(target: Path) -> dict[str, Any]:
    """Return the results in a folder, empty where there are none that a report wrote."""
    try:
        found = json.loads((target / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict) and found.get("schema") == SCHEMA and isinstance(found.get("files"), list)
    return found if whole else {}


def _shows(target: Path, content: str) -> bool:
    """Return whether the pages in the folder are what this package would make of the same results."""
    made = read_record(target)
    kept = _results(target)
    kept.pop("files", None)
    return made is not None and made.get("package") == package_hash() and dumps(kept) == content


def _remarks(removed: Collection[str], renamed: Mapping[str, str]) -> Iterator[Note]:
    if removed:
        yield Note("removed-files", f"removed, for they showed the results of an earlier run: {', '.join(removed)}.")
    for name, now in renamed.items():
        yield Note("renamed-file", f"{name} is no file that a report made; it was kept as {now}.")


def render(
    document: Mapping[str, Any], *, formats: Collection[str] = FORMATS, say: Callable[[str], None] = silent
) -> tuple[dict[str, bytes], tuple[Note, ...]]:
    """Return every file that follows from a document, by its name in the report's folder."""
    files: dict[str, bytes] = {}
    notes: tuple[Note, ...] = ()
    drawn: dict[str, Drawn] = {}
    if {"html", "pdf", "docx", "figures"} & set(formats):
        drawn = draw_figures(document, formats, say)
    view = make_view(document)
    if "html" in formats:
        figures = {name: (one.whole,) for name, one in drawn.items()}
        twins = {n: twin(n, document["figures"][n], one.places) for n, one in drawn.items() if one.places is not None}
        files["report.html"] = render_html(view, figures, twins).encode("utf-8")
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
    if "docx" in formats:
        files["report.docx"] = render_word(view, {name: one.pictures for name, one in drawn.items()})
    if "methods" in formats:
        files["methods.txt"] = methods_text(document).encode("utf-8")
        if document["cited"]:
            files["references.bib"] = bibtex(document["cited"]).encode("utf-8")
    if "figures" in formats:
        for name, one in drawn.items():
            files[f"figures/{name}.svg"] = one.whole.encode("utf-8")
            files[f"figures/{name}.png"] = one.png
            if len(one.pages) > 1:
                for number, page in enumerate(one.pages, 1):
                    files[f"figures/{name}-page{number}.svg"] = page.encode("utf-8")
        for name, figure in document["figures"].items():
            if "supplement" in figure:
                files[f"figures/{name}.html"] = render_supplement(figure).encode("utf-8")
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
