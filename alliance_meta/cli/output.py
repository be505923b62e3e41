"""What the commands print."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alliance_meta.errors import AllianceMetaError, AllianceMetaWarning

if TYPE_CHECKING:
    import pandas as pd


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON; a number that does not exist is an object with the reason, never NaN."""
    from alliance_meta.reporting.writing import dumps

    typer.echo(dumps(document), nl=False)


def print_note(message: str, *, word: str = "note") -> None:
    """Print one sentence to the error stream, so that it never mixes with the results."""
    print(f"{word}: {message}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]], *, header: Sequence[str], indent: str = "") -> None:
    """Print text in columns; the last one may run on."""
    everything = [header, *rows]
    widths = [max(len(row[place]) for row in everything) for place in range(len(header) - 1)]
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo(indent + "  ".join([*cells, row[-1]]).rstrip())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as dictionaries that keep their `NotApplicable`s."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in frame.astype(object).itertuples(index=False, name=None)]


def shown_path(path: Path) -> str:
    """Return a path as seen from the current folder, where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextmanager
def held_notes() -> Iterator[list[str]]:
    """Hold back our warnings as texts; if the work fails they are printed, else the caller decides."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AllianceMetaWarning)
        try:
            yield texts
        except AllianceMetaError:
            for text in _take_ours(caught):
                print_note(text)
            raise
        finally:
            texts += _take_ours(caught)
    for other in caught:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def _take_ours(caught: list[warnings.WarningMessage]) -> list[str]:
    """Remove our warnings from those caught and return their texts, each once."""
    ours = [one for one in caught if issubclass(one.category, AllianceMetaWarning)]
    caught[:] = [one for one in caught if one not in ours]
    return list(dict.fromkeys(str(one.message) for one in ours))
