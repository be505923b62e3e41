"""Whether a sheet keeps the contract: words, bounds, and columns that must be there. Makes no number wrong."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from alliance_meta.effects.contract.description import Description
from alliance_meta.effects.contract.schema import FALSE, TRUE, Column
from alliance_meta.effects.contract.vocabulary import Vocabulary
from alliance_meta.effects.sheet.checking import ParsedSheet
from alliance_meta.effects.sheet.columns import ParsedColumn, canonical_name
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.mending import write
from alliance_meta.options import did_you_mean

MOST_WORDS = 8
SHORTEST_NAME, ALIKE = 6, 0.86
OWN_RULES = ("r", "n", "es_id")


def check_contract(sheet: ParsedSheet, described: Description, found: Findings, *, strict: bool) -> None:
    """Hold every column against the contract; with `strict`, also those that lack."""
    contract = described.contract
    _misnamed(sheet, described, found)
    for name, column in sheet.columns.items():
        rules = contract.column(name)
        # The columns of the effects, whatever they are called, have stricter rules in `checking`.
        if rules is None or name in (sheet.r, sheet.n, *sheet.keys):
            continue
        if rules.vocabulary is not None:
            _words(sheet, column, rules.vocabulary, found)
        elif rules.type == "boolean":
            _truths(sheet, column, found)
        elif rules.numeric:
            _bounds(sheet, column, rules, found)
        if rules.unique and name not in OWN_RULES:
            _unique(sheet, column, found)
    wanted = {column.name for column in contract.named("required")} if strict else set()
    wanted |= described.required
    if sheet.finished:
        wanted -= {"r", "n"}
    for name in [column.name for column in contract.columns if column.name in wanted]:
        _present(sheet, name, found)


def _misnamed(sheet: ParsedSheet, described: Description, found: Findings) -> None:
    """Point out columns whose names nearly are those of the contract: mistyped, they escape its checks."""
    lacking = [column.name for column in described.contract.columns if column.name not in sheet.columns]
    for name, column in sheet.columns.items():
        if described.contract.column(name) is None and len(name) >= SHORTEST_NAME and not name[-1].isdigit():
            close = get_close_matches(name.casefold(), lacking, n=1, cutoff=ALIKE)
            if close:
                message = f"the contract has no column {column.label!r}; did you mean {close[0]!r}?"
                found.suspicion(None, column.label, column.label, message, kind="column-name")


def _cells(sheet: ParsedSheet, column: ParsedColumn) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the cells that are filled."""
    for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
        if not missing:
            yield line, cell


def _words(sheet: ParsedSheet, column: ParsedColumn, vocabulary: Vocabulary, found: Findings) -> None:
    known = set(vocabulary.values)
    complaints: dict[str, str] = {}
    spelt: set[str] = set()
    for line, cell in _cells(sheet, column):
        if cell in known:
            continue
        word = vocabulary.spelling(cell)
        if word is None:
            if cell not in complaints:
                complaints[cell] = _no_such_word(cell, column.name, vocabulary)
            found.departure(line, column.label, cell, complaints[cell], kind="not-in-vocabulary")
        elif cell not in spelt:
            spelt.add(cell)
            message = f"{cell!r} is spelt {word!r} in the vocabulary; both are read as they stand"
            found.suspicion(line, column.label, cell, message, kind="vocabulary-spelling")


def _no_such_word(cell: str, name: str, vocabulary: Vocabulary) -> str:
    listed = ", ".join(map(repr, vocabulary.values[:MOST_WORDS]))
    rest = len(vocabulary.values) - MOST_WORDS
    if rest > 0:
        listed += f" and {rest} more (`alliance-meta codebook {name}`)"
    nearest = vocabulary.nearest(cell)
    mend = f"did you mean {nearest!r}?" if nearest else "choose one, or add the word to the sheet's datapackage.json"
    shown = cell if len(cell) <= 40 else cell[:37] + "..."
    return f"{shown!r} is not one of {listed}; {mend}"


def _truths(sheet: ParsedSheet, column: ParsedColumn, found: Findings) -> None:
    for line, cell in _cells(sheet, column):
        if cell.casefold() not in (*TRUE, *FALSE):
            message = f"{cell!r} is neither yes nor no; write 'yes', 'no' or leave the cell empty"
            found.departure(line, column.label, cell, message, kind="not-yes-or-no")


def _bounds(sheet: ParsedSheet, column: ParsedColumn, rules: Column, found: Findings) -> None:
    for line, cell, value in zip(sheet.lines, column.cells, column.values or (), strict=column.values is not None):
        if value is None or rules.allows(value):
            continue
        if rules.type == "integer" and not value.is_integer():
            found.departure(line, column.label, cell, f"{cell} is not a whole number", kind="not-whole")
            continue
        inside = "outside" if rules.bounds[0] in "([" else "not"
        percent = f"; in percent? write {write(value / 100, sheet.mark)}" if rules.allows(value / 100) else ""
        message = f"{cell} is {inside} {rules.bounds}{percent or '; check the paper'}"
        found.departure(line, column.label, cell, message, kind="out-of-range")


def _unique(sheet: ParsedSheet, column: ParsedColumn, found: Findings) -> None:
    first: dict[str, int] = {}
    for line, cell in _cells(sheet, column):
        if first.setdefault(cell, line) != line:
            message = f"{cell!r} is also in line {first[cell]}; the values of {column.label} must differ"
            found.departure(line, column.label, cell, message, kind="not-unique")


def _present(sheet: ParsedSheet, name: str, found: Findings) -> None:
    column = sheet.columns.get(_name_in(sheet, name))
    # Where another statistic stands, `convert` makes r, and n where it can.
    other = sheet.columns.get("es_type") if name in ("r", "n") else None
    if column is None and other is not None:
        return
    if column is None:
        labels = [one.label for one in sheet.columns.values()]
        hint = did_you_mean(name, labels) or "; add it"
        found.departure(None, None, None, f"the contract requires the column {name!r}{hint}", kind="required")
        return
    for place, (line, cell, missing) in enumerate(zip(sheet.lines, column.cells, column.missing, strict=True)):
        if missing and (other is None or other.missing[place]):
            message = f"{column.label} is empty; the contract requires it in every row"
            found.departure(line, column.label, cell, message, kind="required")


def _name_in(sheet: ParsedSheet, name: str) -> str:
    """Return the name under which the sheet has a required column: r and n may be called otherwise."""
    if name in sheet.columns:
        return name
    return {"r": sheet.r, "n": sheet.n}.get(name, canonical_name(name) or name)
