"""The printed codebook: what a coding sheet holds, column by column, from the one contract."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from alliance_meta.effects.contract.schema import CONTRACT, Column, Contract
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100
COLUMNS = ("title", "need", "type", "unit", "values", "description", "example")


def codebook(column: str | None = None) -> pd.DataFrame:
    """Return the codebook of a coding sheet: its columns, or the words of one of them.

    Parameters
    ----------
    column : str, optional
        A column, for its vocabulary; by default all columns.

    Returns
    -------
    DataFrame
        One row per column, indexed by its name: ``title need type unit values description example``, where `values`
        is the range of numbers or the permitted words. With `column`, one row per word, with its ``meaning``.

    Raises
    ------
    InputError
        A column that the contract does not have, or one without a vocabulary.

    Examples
    --------
    >>> from alliance_meta import codebook
    >>> codebook().loc["r", ["need", "values"]].tolist()
    ['required', '(-1, 1)']
    >>> codebook("alliance_rater").index.tolist()[:3]
    ['client', 'therapist', 'observer']
    """
    import pandas as pd

    if column is None:
        rows = [_row(one) for one in CONTRACT.columns]
        return pd.DataFrame(rows, columns=["column", *COLUMNS]).set_index("column")
    one = column_of(column)
    if one.vocabulary is None:
        values = one.bounds or ("yes or no" if one.type == "boolean" else "any text")
        raise InputError(f"{column!r} has no vocabulary; it holds {values}: {one.description}")
    words = [(term.value, term.meaning) for term in one.vocabulary.terms]
    return pd.DataFrame(words, columns=["word", "meaning"]).set_index("word")


def column_of(name: str) -> Column:
    """Return a column of the contract, or an `InputError` with the nearest name."""
    column = CONTRACT.column(name)
    if column is None:
        known = [one.name for one in CONTRACT.columns]
        raise InputError(
            f"the contract has no column {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    return column


def values_of(column: Column) -> str:
    """Return what a column may hold, in a few words."""
    if column.vocabulary is not None:
        return ", ".join(column.vocabulary.values)
    return "yes, no" if column.type == "boolean" else column.bounds


def _row(column: Column) -> tuple[str, ...]:
    kind = "words" if column.vocabulary is not None else "yes/no" if column.type == "boolean" else column.type
    return (
        column.name,
        column.title,
        column.need,
        "text" if kind == "string" else kind,
        column.unit or "",
        values_of(column),
        column.description,
        column.example,
    )


def rows_of(contract: Contract) -> list[tuple[str, ...]]:
    """Return the codebook as rows of text: name, then what `COLUMNS` lists."""
    return [_row(column) for column in contract.columns]


def as_text(contract: Contract) -> str:
    """Return the codebook for a terminal, at most 100 columns wide."""
    lines = [f"{contract.title}, version {contract.version}", ""]
    for column in contract.columns:
        lines += _text(column)
    return "\n".join(lines)


def column_as_text(column: Column) -> str:
    """Return one column for a terminal, with every word of its vocabulary."""
    lines = _text(column)
    if column.vocabulary is not None:
        width = max(map(len, column.vocabulary.values))
        lines += [f"  {term.value:<{width}}  {term.meaning}" for term in column.vocabulary.terms]
    return "\n".join(lines)


def _text(column: Column) -> list[str]:
    name, _, need, kind, unit, values, description, example = _row(column)
    facts = ", ".join(fact for fact in (need, kind, unit, values if column.vocabulary is None else "") if fact)
    lines = [f"{name} ({facts})"]
    lines += _wrapped(f"{description}{f' For example: {example}.' if example else ''}")
    if column.vocabulary is not None:
        lines += _wrapped(f"One of: {values}.")
    return lines


def as_markdown(contract: Contract) -> str:
    """Return the codebook as a page."""
    lines = [
        "# Codebook",
        "",
        f"{contract.title}, version {contract.version}. One row is one correlation. Empty cells are missing values.",
        "`alliance-meta check FILE` holds a sheet against this page, `alliance-meta template` writes a blank one, and",
        "both come from the same declaration as this page. A `datapackage.json` beside a sheet may add words and",
        "columns.",
        "",
        "| column | need | holds | what stands in it |",
        "|---|---|---|---|",
    ]
    for column in contract.columns:
        name, _, need, kind, unit, values, description, example = _row(column)
        shown = f"[words](#{name})" if column.vocabulary is not None else " ".join(filter(None, (kind, values, unit)))
        sample = f" For example `{example}`." if example else ""
        lines.append(f"| `{name}` | {need} | {shown} | {description}{sample} |")
    for column in contract.columns:
        if column.vocabulary is not None:
            lines += ["", f"## {column.name}", "", column.description, "", "| word | meaning |", "|---|---|"]
            lines += [f"| `{term.value}` | {term.meaning} |" for term in column.vocabulary.terms]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
