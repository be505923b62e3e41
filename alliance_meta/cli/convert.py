"""``alliance-meta convert``: one printed statistic as a correlation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from alliance_meta.cli.options import JsonOption
from alliance_meta.cli.output import print_json, print_note, print_table

if TYPE_CHECKING:
    from alliance_meta.effects.converting.statistic import Conversion

SHORT = {"se": "es_se", "lb": "es_lb", "ub": "es_ub", "sign": "es_sign", "tails": "es_tails"}


def convert(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help='For example: d=0.5 n1=20 n2=30, or "F=4.4 df=38 sign=+".'),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the statistics and what each needs.")] = False,
    json: JsonOption = False,
) -> None:
    """Turn a printed statistic into r, with its variance, formula and source.

    se, lb, ub, sign and tails are short for es_se, es_lb, es_ub, es_sign and es_tails.
    """
    from alliance_meta.effects.converting.statistic import to_r

    if listed:
        _print_list(json)
        return
    es_type, value, cells = _read(" ".join(given or []))
    conversion = to_r(es_type, value, **cells)
    if json:
        print_json(conversion.to_dict())
    else:
        _print(conversion)


def _read(text: str) -> tuple[str, float | None, dict[str, float | str]]:
    """Read ``d=0.5 n1=20``: one name is a statistic, the others are what goes with it."""
    from alliance_meta.effects.converting.inputs import COLUMNS
    from alliance_meta.effects.converting.rules import OTHER_NAMES, RULES
    from alliance_meta.errors import InputError
    from alliance_meta.options import did_you_mean

    pairs = re.findall(r"([^\s=]+)\s*=\s*(\S+)", text)
    if not pairs or re.sub(r"[^\s=]+\s*=\s*\S+", "", text).strip():
        raise InputError(f"{text!r} cannot be read; write it like: d=0.5 n1=20 n2=30 (--list has the statistics)")
    cells: dict[str, float | str] = {}
    found: list[tuple[str, str]] = []
    for name, word in pairs:
        key = name.lower().replace("-", "_")
        key = SHORT.get(key, key)
        if key in cells:
            raise InputError(f"{name} is given twice")
        if key in RULES or key in OTHER_NAMES:
            found.append((key, word))
        elif key in COLUMNS:
            cells[key] = word
        else:
            known = [*RULES, *SHORT, *COLUMNS]
            raise InputError(f"{name!r} is not known{did_you_mean(key, known)}; known: {', '.join(known)}")
    if len(found) > 1:
        raise InputError(f"{found[0][0]} and {found[1][0]} are two statistics; give one at a time")
    if not found:
        return _kind(cells), _value(cells.pop("es_value", None)), cells
    return found[0][0], _value(found[0][1]), cells


def _kind(cells: dict[str, float | str]) -> str:
    """Name the statistic that is given by its parts."""
    if "es_type" in cells:
        return str(cells.pop("es_type"))
    if {"m1", "m2"} <= set(cells):
        return "means_extreme" if "p_upper" in cells else "means"
    return ""


def _value(word: float | str | None) -> float | None:
    from alliance_meta.errors import InputError

    if word is None:
        return None
    try:
        return float(word)
    except ValueError:
        hint = f"; write {str(word).replace(',', '.')}" if "," in str(word) else ""
        raise InputError(f"{word!r} is not a number{hint}") from None


def _print(conversion: Conversion) -> None:
    typer.echo("\n".join(line for line in str(conversion).splitlines() if not line.startswith("Note: ")))
    for note in conversion.notes:
        print_note(note.message)


def _print_list(json: bool) -> None:
    from alliance_meta.cli.output import records
    from alliance_meta.effects.converting.statistic import conversions

    rows = records(conversions().reset_index())
    if json:
        print_json({"conversions": rows})
        return
    lines = [(row["es_type"], row["needs"], row["es_value"] or "what the columns say") for row in rows]
    print_table(lines, header=("es_type", "needs", "es_value is"))
