"""What a declaration may not say: checks that return every problem in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import get_args

from alliance_meta.options import check_level, did_you_mean
from alliance_meta.reporting.kinds import choice_problems, refused
from alliance_meta.reporting.made import ID, LONGEST_ID
from alliance_meta.reporting.spec import (
    PIECE_FIGURES,
    PIECE_TABLES,
    PIECES,
    REPRODUCE,
    Analysis,
    FigureKind,
    Item,
    Section,
    TableKind,
)

ONE_EACH = ("left_out", REPRODUCE)
NEED_BY = ("bubble", "means")
RESERVED = (*PIECES, "ref", "printed", REPRODUCE, "rho")
_IDENTIFIER = re.compile(ID)
NAMED = f"must be lower-case letters, digits and _, begin with a letter and have at most {LONGEST_ID} characters"


def analysis_problems(analyses: Sequence[Analysis], folder: Path) -> Iterator[str]:
    """Yield what is wrong with the analyses."""
    seen: set[str] = set()
    for analysis in analyses:
        where = f"[[analysis]] ({analysis.id})"
        if not _IDENTIFIER.fullmatch(analysis.id):
            yield f"{where}: id {NAMED}"
        if analysis.id in RESERVED:
            yield f"{where}: the id {analysis.id!r} is taken by the report itself"
        if analysis.id in seen:
            yield f"{where}: the id occurs twice; each analysis needs its own"
        seen.add(analysis.id)
        problems = (
            refused(check_level, analysis.level),
            choice_problems(analysis),
            _data_problems(analysis.data, folder),
        )
        for problem in chain.from_iterable(problems):
            yield f"{where}: {problem}"


def _data_problems(data: str, folder: Path, key: str = "data") -> Iterator[str]:
    from alliance_meta.effects.datasets import list_datasets

    names = [str(name) for name in list_datasets()["name"]]
    if data in names or _is_file(folder / data):
        return
    hint = did_you_mean(data, names)
    yield (
        f"{key}={data!r} is neither a shipped data set nor a file beside the declaration{hint} "
        f"(shipped: {', '.join(names)})"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def item_problems(
    sections: Sequence[Section], known: Sequence[str], pieces: Collection[str], folder: Path
) -> Iterator[str]:
    """Yield what is wrong with the figures and tables.

    `known` are the ids of the analyses, `pieces` the declared views of published results.
    """
    for section in sections:
        for item in section.item:
            where = f"[[section]] {section.heading!r}"
            problems = _figure_problems(item, known) if item.drawn is not None else _table_problems(item, known, folder)
            if item.id is not None and not _IDENTIFIER.fullmatch(item.id):
                yield f"{where}: id={item.id!r} {NAMED}"
            for problem in problems:
                yield f"{where}: {problem}"
            wanted = item.piece
            if wanted is not None and wanted not in pieces:
                yield f"{where}: [{wanted}] is not declared, and {item.drawn or item.table!r} shows it"


def _figure_problems(item: Item, known: Sequence[str]) -> Iterator[str]:
    kind = str(item.drawn)
    if item.figure is not None:
        if kind not in get_args(FigureKind):
            return
        if len(item.of) != 1:
            yield f"figure={kind!r} shows one analysis, not {len(item.of)}; write of = '...'"
    if kind in NEED_BY and item.by is None:
        yield f"figure={kind!r} needs by = the moderator that it shows"
    key = "forest" if item.forest is not None else "of"
    for identifier in item.shown:
        if kind == "shares" and item.piece is None:
            yield f"figure='shares' shows of = {PIECE_FIGURES[kind]!r}, not {identifier!r}"
        elif item.piece is None:
            yield from _unknown(key, identifier, known)


def _table_problems(item: Item, known: Sequence[str], folder: Path) -> Iterator[str]:
    if item.table is None:
        return
    table = item.table
    if table not in get_args(TableKind) or table in PIECE_TABLES:
        return
    if not item.of:
        yield f"table={table!r} needs of = [...]"
    elif table in ONE_EACH and len(item.of) > 1:
        yield f"table={table!r} shows one, not {len(item.of)}; write one item for each"
    for identifier in item.of:
        if table == REPRODUCE:
            yield from _data_problems(identifier, folder, key="of")
        else:
            yield from _unknown("of", identifier, known)


def _unknown(key: str, identifier: str, known: Sequence[str]) -> Iterator[str]:
    if identifier not in known:
        listed = ", ".join(known) or "none"
        yield f"{key}={identifier!r} is no analysis{did_you_mean(identifier, list(known))} (declared: {listed})"
