"""A result as it is read: title, lines, tables and notes as data, and one way to write each of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

from alliance_meta.tables import format as fmt

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 80
# A column of words is not cut below so many characters.
SHORTEST = 8

# Columns of correlations, which read 1 only where they are.
CORRELATIONS = frozenset(f"r{end}" for end in ("", "_lb", "_ub", "_pi_lb", "_pi_ub"))
# How a column is written: decimals, "p", "df", "s" for what is text already, or a function.
Kind = int | str | Callable[[Any], str]
_KINDS: Mapping[str, Callable[[Any], str]] = {"p": fmt.bare_p, "df": fmt.plain_df, "s": str}
_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


@dataclass(frozen=True)
class Table:
    """A table of finished text.

    Attributes
    ----------
    head : tuple of str
        Names of the columns; the first column names the rows.
    rows : tuple of tuple of str
        A row may be shorter than the head. A row of one cell, where there are more columns, heads the rows below it.
    caption : str
    words : tuple of int
        Columns of words, set to the left; all others hold numbers. The first always is one of words.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: tuple[int, ...] = ()

    def align(self, column: int) -> str:
        """Return ``left`` or ``right``."""
        return "left" if column == 0 or column in self.words else "right"


# Sentences, each of which begins a line.
Lines = Sequence[str]
Block = Table | Lines


@dataclass(frozen=True)
class Document:
    """What a result says, in order.

    Attributes
    ----------
    title : str
    lines : sequence of str
        What stands under the title.
    blocks : sequence of Table or of sequence of str
        The body; empty blocks are left away.
    notes : sequence of str
        What a reader must know, at the end.
    alarm : sequence of str
        What must be read before the title.
    """

    title: str
    lines: Lines = ()
    blocks: Sequence[Block] = ()
    notes: Lines = ()
    alarm: Lines = ()

    @property
    def body(self) -> list[Block]:
        """The blocks that hold something."""
        return [one for one in self.blocks if (one.rows if isinstance(one, Table) else one)]


def table_of(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    caption: str = "",
    *,
    heads: Mapping[str, str] | None = None,
    label: str = "",
) -> Table:
    """Return the columns that `kinds` names, after the labels of the rows, headed `label`; `heads` renames columns."""
    names = {} if heads is None else heads
    columns = [[_number(str(name), value, kind) for value in frame[name].array] for name, kind in kinds.items()]
    labels = [", ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in frame.index]
    return Table(
        (label, *(names.get(name, name) for name in kinds)),
        tuple(zip(labels, *columns, strict=True)),
        caption,
        tuple(i for i, kind in enumerate(kinds.values(), 1) if kind == "s"),
    )


def frame_table(frame: pd.DataFrame, caption: str = "") -> Table:
    """Return a whole frame, its index first; how a number is written follows from its column's name."""
    keys = [str(name or "") for name in frame.index.names]
    table = frame.reset_index(names=keys if len(keys) > 1 else keys[0])
    columns = [[_cell(str(name), value) for value in table[name].array] for name in table.columns]
    return Table(tuple(map(str, table.columns)), tuple(zip(*columns, strict=True)), caption)


def _cell(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return _number(column, value, "p" if column.startswith("pval") else "df" if column == "ddf" else 4)


def _number(column: str, value: Any, kind: Kind) -> str:
    if isinstance(kind, int) and column in CORRELATIONS:
        return fmt.fixed_r(float(value), kind)
    return write(value, kind)


def write(value: Any, kind: Kind) -> str:
    """Write one value as its kind asks."""
    if isinstance(kind, int):
        return fmt.fixed(float(value), kind)
    return _KINDS[kind](value) if isinstance(kind, str) else kind(value)


def as_text(document: Document) -> str:
    """Return the document as plain text of at most 80 columns."""
    parts = [_wrapped(document.alarm), _wrapped([document.title, *document.lines])]
    parts += [text_lines(one) if isinstance(one, Table) else _wrapped(one) for one in document.body]
    parts.append(_wrapped(document.notes))
    return "\n\n".join("\n".join(part) for part in parts if part)


def text_lines(table: Table) -> list[str]:
    """Return a table as lines; columns of words are cut, the widest first, until it fits."""
    rows = (table.head, *table.rows) if any(table.head) else table.rows
    grid = [row + ("",) * (len(table.head) - len(row)) for row in rows if not _heads(row, table)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    words = [i for i in range(len(widths)) if table.align(i) == "left"]
    gap = 2 if sum(widths) + 2 * len(widths) - 2 <= WIDTH else 1
    while sum(widths) + gap * (len(widths) - 1) > WIDTH and max(widths[i] for i in words) > SHORTEST:
        widths[max(words, key=widths.__getitem__)] -= 1

    def line(row: Sequence[str]) -> str:
        if _heads(row, table):
            return shortened(row[0], WIDTH)
        cells = [
            shortened(cell, width).ljust(width) if table.align(i) == "left" else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        return (" " * gap).join(cells).rstrip()

    return [*_wrapped([table.caption] if table.caption else []), *map(line, rows)]


def as_html(document: Document) -> str:
    """Return the document as HTML."""
    alarm = "".join(f"<p><strong>{escape(one)}</strong></p>" for one in document.alarm)
    lines = "".join(f"<br>{_html(one)}" for one in document.lines if one)
    body = "".join(
        html_table(one) if isinstance(one, Table) else f"<p>{'<br>'.join(map(_html, one))}</p>" for one in document.body
    )
    notes = "".join(f"<li>{escape(one)}</li>" for one in document.notes)
    return (
        f"<div>{alarm}<p><strong>{escape(document.title)}</strong>{lines}</p>{body}"
        f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
    )


def html_table(table: Table, *, identifier: str = "", caption: str | None = None) -> str:
    """Return a table as HTML; a `caption` given is HTML already."""
    said = escape(table.caption) if caption is None else caption
    own, its = (f' id="{escape(identifier)}{part}"' if identifier else "" for part in ("", "-caption"))
    said = f"<caption{its}>{said}</caption>\n" if said else ""
    head = "".join(
        f'<th scope="col" class="{table.align(i)}">{escape(name)}</th>' if name else "<td></td>"
        for i, name in enumerate(table.head)
    )
    head = f"<thead>\n<tr>{head}</tr>\n</thead>\n" if any(table.head) else ""
    body = "\n".join(_html_row(row, table) for row in table.rows)
    body = f"<tbody>\n{body}\n</tbody>".replace("<tbody>\n</tbody>\n", "", 1)
    return f"<table{own}>\n{said}{head}{body}\n</table>"


def _html_row(row: Sequence[str], table: Table) -> str:
    if _heads(row, table):
        return f'</tbody>\n<tbody>\n<tr><th scope="rowgroup" colspan="{len(table.head)}">{escape(row[0])}</th></tr>'
    first, *rest = row
    cells = "".join(f'<td class="{table.align(i)}">{escape(cell)}</td>' for i, cell in enumerate(rest, 1))
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def as_markdown(table: Table) -> str:
    """Return a table in Markdown, the caption in its first cell."""
    first, *rest = table.head
    head = (f"{first} ({table.caption})" if table.caption else first, *rest)
    rule = tuple("---" if table.align(i) == "left" else "---:" for i in range(len(head)))
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (head, rule, *table.rows)
    )


def as_latex(table: Table) -> str:
    """Return a table in LaTeX (booktabs)."""
    head, *rows = (" & ".join(map(_tex, row)) + r" \\" for row in (table.head, *table.rows))
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\begin{{tabular}}{{{''.join(table.align(i)[0] for i in range(len(table.head)))}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """Return a name cut to a width, with … in place of what is missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def cut(table: Table, most: int, rest: str) -> Table:
    """Return the first rows of a table, and `rest` with the number of those left out filled in."""
    left = len(table.rows) - most
    return table if left <= 0 else replace(table, rows=(*table.rows[:most], (rest.format(left=left),)))


def _wrapped(lines: Iterable[str]) -> list[str]:
    made = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        made += textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return made


def _heads(row: Sequence[str], table: Table) -> bool:
    return len(row) == 1 < len(table.head)


def _html(line: str) -> str:
    return escape(line.strip())


def _tex(text: str) -> str:
    out = "".join(_TEX.get(c) or ("\\" + c if c in "&%$#_{}" else c) for c in text)
    return f"${out}$" if out.startswith("-") and out[1:2].isdigit() else out
