"""A report as HTML: its pages, their tables and figures, and the supplement of a large forest."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from alliance_meta.reporting import writing
from alliance_meta.reporting.words import marked, speaking, tr
from alliance_meta.reporting.writing import finer, reason, show
from alliance_meta.tables.document import Table, html_table
from alliance_meta.tables.format import NOT_AVAILABLE, fixed, format_interval, format_n, format_weight
from alliance_meta.tables.pdf import WORDS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
# The names that a page gives take the place of those that a file of its own needs.
_ID = re.compile(r'\bid="(?:f[0-9a-f]{8}-)?([^"]+)"')
_REFERENCE = re.compile(r'((?:xlink:)?href="#|url\(#)(?:f[0-9a-f]{8}-)?([^")]+)')
_OPENING = re.compile(r"<svg\b[^>]*>")
_LABELS = re.compile(r"\s*<(title|desc)\b[^>]*>.*?</\1>", re.DOTALL)
_SIZE = re.compile(r'\bwidth="([\d.]+)pt"')
_VIEWBOX = re.compile(r'\bviewBox="[^"]+"')
_SHEET = re.compile(r"\s*<style\b[^>]*>.*?</style>", re.DOTALL)
_STYLE = re.compile(r'\bstyle="([^"]*)"')
_SCALED = re.compile(r'class="scaled-(\d+)-(\d+)"')

# How far a figure may be scaled from its drawn size before a page scrolls sideways instead.
SMALLEST_SHARE, LARGEST_SHARE = 0.82, 1.15
PIXELS_PER_POINT = 96 / 72


def render_html(
    view: Mapping[str, Any], figures: Mapping[str, Sequence[str]], twins: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Return the page; `figures` holds the SVG text of each figure, page by page, `twins` what some can be asked."""
    described = {
        block["id"]: block for section in view["sections"] for block in section["blocks"] if block["type"] == "figure"
    }
    inline = {
        identifier: [
            inline_svg(
                svg,
                prefix=f"{identifier}-{page}",
                title=described[identifier]["title"] + (f", {view['words']['page']} {page}" if len(pages) > 1 else ""),
                description=described[identifier]["description"],
            )
            for page, svg in enumerate(pages, 1)
        ]
        for identifier, pages in figures.items()
        if identifier in described
    }
    sizes = sorted({match.groups() for pages in inline.values() for svg in pages for match in _SCALED.finditer(svg)})
    css = style(f".scaled-{most}-{least} {{ max-width: {most}px; min-width: {least}px; }}\n" for most, least in sizes)
    script = _template("twin.js") if twins else None
    with speaking(view["lang"]):
        page = environment().get_template("report.html.j2")
        return page.render(
            view=view, figures=inline, twins=twins or {}, css=css, script=script, policy=policy(css, script)
        )


def table_html(block: Mapping[str, Any], caption: Markup) -> Markup:
    """Return a table of the view as HTML under a caption that is HTML already."""
    from markupsafe import Markup

    rows = tuple((row["group"],) if "group" in row else tuple(row["cells"]) for row in block["rows"])
    words = tuple(i for i, align in enumerate(block["aligns"]) if align == "left")
    table = Table(tuple(block["headers"]), rows, words=words)
    return Markup(html_table(table, identifier=block["id"], caption=str(caption)))


def environment() -> Environment:
    """Return what fills the templates: every text is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("alliance_meta.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.globals |= {"table_html": table_html, "tr": tr}
    return made


def style(more: Iterable[str] = ()) -> Markup:
    """Return the style sheet of every page, and the rules that only one has."""
    from markupsafe import Markup

    return Markup("").join([_template("report.css"), *map(Markup, more)])


def _template(name: str) -> Markup:
    from markupsafe import Markup

    return Markup(files("alliance_meta.reporting").joinpath("templates", name).read_text(encoding="utf-8"))


def policy(css: str, script: str | None = None) -> str:
    """Return the Content-Security-Policy of a page: this style sheet and this script run, and nothing else does."""
    parts = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data:"]
    inside = {"style-src": css} | ({} if script is None else {"script-src": script})
    for name, text in inside.items():
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        parts.append(f"{name} 'sha256-{digest}'")
    return "; ".join(parts)


def _as_attributes(style: re.Match[str]) -> str:
    """Return a style attribute of an SVG, which a policy by hash blocks, as attributes of the same names."""
    pairs = (one.partition(":") for one in style[1].split(";") if one.strip())
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, _, value in pairs)


def inline_svg(svg: str, *, prefix: str, title: str, description: str) -> str:
    """Return an SVG that can stand in a page: ids of its own, a title and a description, no prologue, no styles.

    Raises
    ------
    ValueError
        If the text holds no SVG element with a view box.
    """
    text = _METADATA.sub("", _PROLOGUE.sub("", svg, count=1))
    opening = _OPENING.search(text)
    view_box = opening and _VIEWBOX.search(opening[0])
    if opening is None or view_box is None:
        raise ValueError("not an SVG with a viewBox")
    size = _SIZE.search(opening[0])
    width = float(size[1]) * PIXELS_PER_POINT if size else 700.0
    # What matplotlib says of every line in a style sheet, the root says of all lines in it.
    body = _STYLE.sub(_as_attributes, _SHEET.sub("", _LABELS.sub("", text[opening.end() :])))
    body = _ID.sub(lambda match: f'id="{prefix}-{match[1]}"', body)
    body = _REFERENCE.sub(lambda match: f"{match[1]}{prefix}-{match[2]}", body)
    most, least = (fixed(share * width, 0) for share in (LARGEST_SHARE, SMALLEST_SHARE))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view_box[0]} '
        f'role="img" aria-labelledby="{prefix}-title {prefix}-desc" '
        f'class="scaled-{most}-{least}" stroke-linejoin="round" stroke-linecap="butt">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    )
    return head + body.strip()


Document = Mapping[str, Any]
NUMERIC_ALIGN = "right"

# Print: characters of table text on a line, the gap between columns, and what needs no line break.
CHARACTERS_PER_LINE = 112
GAP = 3
SHORT = 12
_WORD = re.compile(r"[\s-]")
# Notes under one figure or table of the report itself; the others stand in its supplement.
MOST_NOTES = 2


def make_view(document: Document) -> dict[str, Any]:
    """Return the pages' content in order: headings, runs of words, tables of text, figure slots."""
    with speaking(document["report"]["lang"]):
        return _view(document)


def _view(document: Document) -> dict[str, Any]:
    numbering = number_blocks(document)

    def lookup(name: str) -> str:
        path, _, kind = name.partition(":")
        group, _, key = path.partition(".")
        if group == "ref":
            return numbering[key]
        entry = document["quantities"][group][key]
        return show(entry["value"], kind or entry["format"])

    def words(text: str) -> str:
        return writing.fill(text, lookup)

    return {
        "title": document["report"]["title"],
        "subtitle": words(document["report"]["subtitle"]),
        "lang": document["report"]["lang"],
        "name": document["report"]["name"],
        "cautions": [
            {"concerns": "; ".join(group["concerns"]), "items": [writing.inline(text) for text in group["texts"]]}
            for group in document["cautions"]
        ],
        "abstract": [
            {"label": part["label"], "blocks": writing.blocks(words(part["text"]))} for part in document["abstract"]
        ],
        "sections": _sections(document, numbering, words),
        "words": {key: tr(text) for key, text in WORDS.items()} | {"made": tr(MADE)},
        "footer": writing.inline(tr(FOOTER)),
        "version": document["versions"].get("alliance_meta", ""),
    }


def _sections(document: Document, numbering: Mapping[str, str], words: Any) -> list[dict[str, Any]]:
    notes = _Notes()
    sections = [
        {
            "supplement": bool(section.get("supplement")),
            "id": section["id"],
            "heading": section["heading"],
            "blocks": [
                notes.told(made, brief=not section.get("supplement"))
                for block in section["blocks"]
                for made in _blocks(block, document, numbering, words)
            ],
        }
        for section in document["sections"]
    ]
    return notes.added(sections)


MADE = marked("A report made with alliance_meta")
FOOTER = marked("Every number on this page is in `results.json`, unrounded, and as a table in `tables/`.")


class _Notes:
    """Tells each note once: the first few under their figure or table, those left over at the end."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.left: list[dict[str, Any]] = []

    def told(self, block: dict[str, Any], *, brief: bool) -> dict[str, Any]:
        """Return the block without notes that stood before it and, in what is read first, without its many last."""
        if "notes" not in block:
            return block
        fresh = [note for note in block["notes"] if str(note) not in self.seen]
        self.seen |= set(map(str, fresh))
        most = MOST_NOTES if brief and len(fresh) > MOST_NOTES + 1 else len(fresh)
        if fresh[most:]:
            self.left.append({"type": "paragraph", "runs": [{"t": "strong", "s": block["number"]}]})
            self.left.append({"type": "list", "items": fresh[most:]})
            fresh[most:] = [[{"t": "text", "s": tr("{n} further notes stand in the supplement.", n=len(fresh) - most)}]]
        return {**block, "notes": fresh}

    def added(self, sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the sections with the notes left over before the references."""
        if not self.left:
            return sections
        rest = {"supplement": True, "id": "further-notes", "heading": tr("Further notes"), "blocks": self.left}
        return [*sections[:-1], rest, *sections[-1:]]


NUMBERED = marked({"figure": "Figure", "table": "Table"})


def number_blocks(document: Document) -> dict[str, str]:
    """Return "Figure 1", "Table S1", ... for every figure and table, by id, in reading order; S in the supplement."""
    count: Counter[str] = Counter()
    names = {}
    for section in document["sections"]:
        for block in section["blocks"]:
            if block["type"] in NUMBERED:
                word = f"{tr(NUMBERED[block['type']])} {'S' if section.get('supplement') else ''}"
                count[word] += 1
                names[block["id"]] = f"{word}{count[word]}"
    return names


def _blocks(
    block: Mapping[str, Any], document: Document, numbering: Mapping[str, str], words: Any
) -> list[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        return writing.blocks(words(block["text"]))
    if kind == "subheading":
        return [{"type": "subheading", "text": block["text"], "id": block["id"]}]
    if kind == "code":
        return [dict(block)]
    if kind == "references":
        return [{"type": "list", "items": [writing.inline(text) for text in block["items"]]}]
    if kind == "figure":
        figure = document["figures"][block["id"]]
        return [
            {
                "type": "figure",
                "id": block["id"],
                "number": numbering[block["id"]],
                "caption": writing.inline(words(figure["caption"])),
                "title": figure["title"],
                "description": figure["description"],
                "notes": [writing.inline(note) for note in figure["notes"]],
            }
        ]
    return [view_table(document["tables"][block["id"]], block["id"], numbering[block["id"]], words)]


def view_table(table: Mapping[str, Any], identifier: str, number: str, words: Any) -> dict[str, Any]:
    """Return a table of text: headers, alignments, rows and the notes below it."""
    columns = table["columns"]
    reasons: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for record in table["rows"]:
        if "group" in record:
            rows.append({"group": str(record["group"])})
            continue
        cells = []
        for column in columns:
            text, why = _cell(record, column)
            if why:
                reasons[tr(why)] = None
            cells.append(text)
        rows.append({"cells": cells})
    notes = [words(note) for note in table.get("notes", ())]
    if reasons:
        notes.append(f"{NOT_AVAILABLE}: {'; '.join(reasons)}.")
    return {
        "type": "table",
        "id": identifier,
        "number": number,
        "caption": writing.inline(words(table["caption"])),
        "headers": [column["label"] for column in columns],
        "aligns": [column.get("align", "left") for column in columns],
        "widths": column_widths(columns, [row["cells"] for row in rows if "cells" in row]),
        "rows": rows,
        "notes": [writing.inline(note) for note in notes],
    }


def column_widths(columns: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the share of the line each column of words gets in print; 0 where its content decides.

    >>> column_widths([{"align": "left", "label": "Study"}, {"align": "right", "label": "r"}], [["A 2001", ".2"]])
    [0, 0]
    """
    cells = [[column["label"], *(row[i] for row in rows)] for i, column in enumerate(columns)]
    longest = [max(map(len, own)) for own in cells]
    room = CHARACTERS_PER_LINE - GAP * len(columns) - sum(longest)
    words = [
        column.get("align") != NUMERIC_ALIGN and most > SHORT for column, most in zip(columns, longest, strict=True)
    ]
    if room >= 0 or not any(words):
        return [0] * len(columns)
    least = [max(len(part) for text in own for part in _WORD.split(text)) + 1 for own in cells]
    wish = [(sum(map(len, own)) / len(own) + most) / 2 for own, most in zip(cells, longest, strict=True)]
    room += sum(most - low for most, low, flexible in zip(longest, least, words, strict=True) if flexible)
    total = sum(own for own, flexible in zip(wish, words, strict=True) if flexible)
    return [
        round(low + max(room, 0) * own / total) if flexible else 0
        for low, own, flexible in zip(least, wish, words, strict=True)
    ]


def _cell(record: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return one cell's text, and why there is no number if there is none."""
    keys = column["keys"]
    value = record.get(keys[0]) if len(keys) == 1 else [record.get(key) for key in keys]
    kind = column["format"]
    if isinstance(value, Mapping) and "format" in value:
        value, kind = value["value"], value["format"]
    if "error" in column:
        kind = finer(kind, record.get(column["error"]))
    if value is None or (isinstance(value, list) and all(one is None for one in value)):
        return column.get("blank", ""), None
    return show(value, kind), reason(value)


# A forest of more rows stands in its supplement; the pages show the caterpillar.
MOST_IN_FOREST = 500
# Sizes of the drawing in one row.
WIDTH, HEIGHT, TICK_SPACE, MOST_SQUARE, LEAST_SQUARE = 260, 14, 45, 9, 2


def is_large(rows: int) -> bool:
    """Return whether a forest has too many rows for the pages of a report."""
    return rows > MOST_IN_FOREST


def render_supplement(figure: Mapping[str, Any]) -> str:
    """Return the page of a figure's forest."""
    from alliance_meta.plots import frame_from_dict
    from alliance_meta.plots.sheet.measure import BOUNDS, SHOWN_KINDS, value_axis

    frame = frame_from_dict(figure["supplement"])
    meta = frame.attrs
    shown = frame.loc[frame["kind"].isin(SHOWN_KINDS), list(BOUNDS)].to_numpy(dtype=float)
    axis = value_axis(shown, measure=meta["measure"], length=WIDTH, room=lambda _: TICK_SPACE)
    heaviest = float(frame["weight"].max())

    def at(value: float) -> float:
        """Return the place of a value on the axis."""
        return round(WIDTH * min(max(axis.share(value), 0.0), 1.0), 1)

    return (
        environment()
        .get_template("supplement.html.j2")
        .render(
            meta=meta,
            rows=[_drawn_row(one, meta, at, heaviest) for one in frame[frame["kind"] != "blank"].to_dict("records")],
            ticks=[(at(value), label) for value, label in axis.ticks],
            zero=at(0.0),
            width=WIDTH,
            height=HEIGHT,
            css=(css := style()),
            policy=policy(css),
        )
    )


def _drawn_row(
    one: Mapping[Any, Any], meta: Mapping[Any, Any], at: Callable[[float], float], heaviest: float
) -> dict[str, Any]:
    """Return one row of the supplement: its words, and where its marks are drawn."""
    from alliance_meta.plots.forests.parts import effect_text

    predicted = one["kind"] == "prediction"
    ends = ("pi_lb", "pi_ub") if predicted else ("ci_lb", "ci_ub")
    text = effect_text(meta["measure"], one)
    if predicted:
        names = ("r_pi_lb", "r_pi_ub") if math.isfinite(one["r_pi_lb"]) else ends
        text = format_interval(*(one[name] for name in names), leading_zero=names == ends)
    drawn = all(math.isfinite(one[name]) for name in ends)
    share = math.sqrt(one["weight"] / heaviest) if one["weight"] > 0 and heaviest > 0 else 0.0
    return {
        "kind": one["kind"],
        "label": one["label"],
        "cells": [one[column["key"]] for column in meta["columns"]],
        "n": format_n(one["ni"]) if math.isfinite(one["ni"]) else "",
        "line": [at(one[name]) for name in ends] if drawn else None,
        "middle": at(one["yi"]) if drawn and not predicted else None,
        "side": round(LEAST_SQUARE + (MOST_SQUARE - LEAST_SQUARE) * share, 1),
        "text": text if drawn else "",
        "weight": format_weight(one["weight"]) if math.isfinite(one["weight"]) else "",
    }
