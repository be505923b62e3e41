"""What a declaration may not say: checks that return every problem in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from alliance_meta.errors import InputError
from alliance_meta.notes import check_level, check_option, did_you_mean
from alliance_meta.reporting.fitted import refused
from alliance_meta.reporting.kinds import KINDS
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

# Key -> the kinds of analysis that have it; every other key belongs to all.
KEYS = {key: [one.kind for one in KINDS.values() if key in one.keys] for kind in KINDS.values() for key in kind.keys}


def with_defaults(spec: Analysis) -> Analysis:
    """Return an analysis with the defaults of its kind in place of what was left out."""
    wanted = KINDS[spec.kind].defaults(spec)
    return spec.but(**{name: value for name, value in wanted.items() if getattr(spec, name) in (None, ())})


def as_che(spec: Analysis) -> Analysis | None:
    """Return what is made of dependent effects where no kind was named; None where the keys mean another model."""
    from alliance_meta.models.recipes import DEFAULT_RHO

    multilevel = KINDS["multilevel"]
    fits = all(key not in KEYS or key in multilevel.keys for key in spec.said) and all(
        getattr(spec, key) in get_args(choices) for key, choices in multilevel.options.items() if key in spec.said
    )
    if "kind" in spec.said or KINDS[spec.kind].depends(spec) or not fits:
        return None
    changed: dict[str, Any] = {key: None for key in multilevel.options if key not in spec.said}
    changed |= {"kind": multilevel.kind, "rho": DEFAULT_RHO, "robust": "CR2"}
    return with_defaults(spec.but(**changed))


def choice_problems(spec: Analysis) -> Iterator[str]:
    """Yield what is wrong with the keys that kinds differ in; of a kind that does not exist nothing can be said."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        return
    for name, options in kind.options.items():
        if getattr(spec, name) is not None:
            yield from refused(check_option, name, getattr(spec, name), options)
    for name, kinds in KEYS.items():
        if getattr(spec, name) not in (None, ()) and name not in kind.keys:
            belongs = " or ".join(f"kind = {one!r}" for one in kinds)
            yield f"{name} does nothing with kind = {spec.kind!r}; it belongs to {belongs}"
    yield from kind.problems(spec)


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise an `InputError` with every problem, if there is any."""
    if problems:
        several = "" if len(problems) == 1 else "s"
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise InputError(f"{path.name}: {len(problems)} problem{several}{listed}")


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
