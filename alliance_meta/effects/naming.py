"""Which column of a sheet is which: its own names, the usual other names, and what lacks."""

from __future__ import annotations

from dataclasses import dataclass

from alliance_meta.effects.columns import ALIASES, MISSING_NUMBER, canonical_name, parse_number, rank_of
from alliance_meta.effects.findings import Findings
from alliance_meta.effects.reading import Sheet
from alliance_meta.options import did_you_mean


@dataclass(frozen=True)
class Names:
    """The columns by name.

    Attributes
    ----------
    names : dict of str to str
        The name in the table, by the name in the file.
    finished : (str, str) or None
        The columns of finished effects, where they take the place of r and n.
    convertible : bool
        Whether r can be made of other statistics, so that neither r nor n needs to be there.
    study : str or None
        The column that the user named as the study.
    """

    names: dict[str, str]
    finished: tuple[str, str] | None = None
    convertible: bool = False
    study: str | None = None


def known_as(cell: str, ri: str | None, ni: str | None) -> str | None:
    """Return the column that a header cell stands for, given the columns that the user named."""
    if cell in (ri, ni):
        return "r" if cell == ri else "n"
    name = canonical_name(cell)
    return None if (name == "r" and ri is not None) or (name == "n" and ni is not None) else name


def name_columns(sheet: Sheet, ri: str | None, ni: str | None, found: Findings, *, study: str | None = None) -> Names:
    """Name every column; announce renamed ones, report those that lack: r, n and what the user named."""
    finished, convertible = _without_r(sheet, ri, ni)
    names = {header: header for header in sheet.header}
    if study is not None and study not in names:
        _lacks(sheet, study, found, named=True)
        study = None
    for name in ALIASES:
        wanted = {"r": ri, "n": ni}.get(name)
        if wanted is not None:
            if wanted not in names:
                _lacks(sheet, wanted, found, named=True)
            continue
        if name in names or (name == "study" and study is not None):
            continue
        candidates = [h for h in sheet.header if h not in (ri, ni, study) and canonical_name(h) == name]
        candidates.sort(key=lambda header: rank_of(header, name))
        if len(candidates) > 1 and name in ("r", "n"):
            _ambiguous(sheet, name, candidates, found)
        elif candidates:
            chosen = candidates[0]
            names[chosen] = name
            found.note("column-name", f"{sheet.source}: column {chosen!r} is read as {name!r}")
        elif name in ("r", "n") and not finished and not convertible:
            _lacks(sheet, name, found, named=False)
    if finished:
        text = f"{sheet.source}: without r and n, {finished[0]} and {finished[1]} are read as finished effects"
        found.note("finished-effects", text)
    elif convertible:
        found.note("convertible", f"{sheet.source}: r can be made of es_type and es_value; see convert")
    return Names(names, finished, convertible, study)


def _without_r(sheet: Sheet, ri: str | None, ni: str | None) -> tuple[tuple[str, str] | None, bool]:
    """Tell whether finished effects or other statistics stand in for r and n."""
    if ri is not None or ni is not None:
        return None, False
    names = {canonical_name(header) for header in sheet.header}
    if {"r", "n"} <= names:
        return None, False
    if "es_type" in names:
        return None, True
    if "yi" not in names:
        return None, False
    second = next((name for name in ("vi", "sei") if name in names), None)
    return (("yi", second), False) if second else (None, False)


def _ambiguous(sheet: Sheet, name: str, candidates: list[str], found: Findings) -> None:
    listed = " and ".join(map(repr, candidates))
    option = f"{name}i"
    found.error(
        sheet.header_line,
        None,
        None,
        f"{listed} could each be {name}; say which: {option}={candidates[0]!r} "
        f"(command line: --{option} {candidates[0]})",
        kind="ambiguous-column",
    )


def _lacks(sheet: Sheet, name: str, found: Findings, *, named: bool) -> None:
    columns = list(sheet.header)
    if named:
        hint = did_you_mean(name, columns)
    else:
        others = ", ".join(alias for alias in ALIASES[name][1:4])
        fitting = [h for h in columns if _could_be(name, sheet.columns[h])]
        example = fitting[0] if len(fitting) == 1 else "..."
        hint = f" (nor {others}); if another column holds it, say {name}i={example!r}"
        hint += f" (command line: --{name}i {example})"
        if "yi" in columns:
            hint += "; finished effect sizes need yi and vi, or yi and sei"
        hint += "."
    found.error(
        None,
        None,
        None,
        f"there is no column {name!r}{hint or '.'} Columns found: {', '.join(map(repr, columns))}",
        kind="lacks-column",
    )


def _could_be(name: str, cells: list[str]) -> bool:
    """Tell whether a column's cells look like correlations, or like sample sizes."""
    filled = [cell for cell in cells if cell not in MISSING_NUMBER]
    values = [parse_number(cell.replace(",", ".")) for cell in filled]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(filled):
        return False
    if name == "r":
        return all(abs(value) < 1 for value in numbers) and any(value != 0 for value in numbers)
    years = all(1900 <= value <= 2100 for value in numbers)
    return all(value >= 4 and value.is_integer() for value in numbers) and not years
