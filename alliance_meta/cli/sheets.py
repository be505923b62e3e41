"""``alliance-meta check``, ``convert``, ``template`` and ``codebook``: reading sheets and laying them out."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import JsonOption, takes_sheet
from alliance_meta.cli.output import print_json, print_note, print_table, shown_path

if TYPE_CHECKING:
    from alliance_meta.effects.converting.statistic import Conversion
    from alliance_meta.effects.sheet.contents import Contents
    from alliance_meta.effects.sheet.examine import Reading

WIDTH = 100


@takes_sheet
def check(
    file: Annotated[Path, typer.Argument(help="A coding sheet (Excel, CSV, TSV, text).", show_default=False)],
    *,
    naming: dict[str, Any],
    strict: Annotated[
        bool, typer.Option("--strict", help="Also demand the required columns of the contract, filled in every row.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List every problem of a coding sheet, and what is in it.

    Errors must be mended before the sheet can be used; suspicions are possible and look like mistakes. Columns with
    the names of the coding contract (`alliance-meta codebook`) are held against it; a datapackage.json beside the
    sheet may widen its vocabularies.
    """
    from alliance_meta.effects.sheet.examine import examine

    reading = examine(file, hold="strict" if strict else "check", **naming)
    if json:
        print_json(_document(reading))
    else:
        _print_reading(reading)
    if reading.errors:
        raise typer.Exit(1)


def _document(reading: Reading) -> dict[str, object]:
    return {
        "source": reading.source,
        "rows": None if reading.table is None else reading.table.k,
        "contents": None if reading.contents is None else reading.contents.to_dict(),
        "errors": [problem.to_dict() for problem in reading.errors],
        "suspicions": [problem.to_dict() for problem in reading.suspicions],
        "notes": [note.to_dict() for note in reading.notes],
    }


def _print_reading(reading: Reading) -> None:
    from alliance_meta.errors import problem_lines

    for note in reading.notes:
        print_note(note.message)
    if reading.contents is not None:
        _print_contents(reading.source, reading.contents)
    for problems, word in ((reading.errors, "error"), (reading.suspicions, "suspicion")):
        if problems:
            typer.echo(f"{len(problems)} {word}{'s' if len(problems) > 1 else ''}:")
            for line in problem_lines(problems):
                typer.echo(f"  {line}")
    if not reading.problems:
        typer.echo("no problem found")


def _print_contents(source: str, contents: Contents) -> None:
    typer.echo(f"{source}: {contents.sentence}")
    filled = [column for column in contents.columns if column.filled]
    rows = [(column.name, column.kind, str(column.filled), column.summary) for column in filled]
    print_table(rows, header=("column", "holds", "filled", "values"), indent="  ")
    lists = (
        ("empty", [column.name for column in contents.columns if not column.filled]),
        ("required by the contract and not here", contents.lacks_required),
        ("advised by the contract and not here", contents.lacks_advised),
    )
    for words, names in lists:
        if names:
            text = f"{words}: {', '.join(names)}"
            typer.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
    typer.echo("")


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
        _print_conversion(conversion)


def _read(text: str) -> tuple[str, float | None, dict[str, float | str]]:
    """Read ``d=0.5 n1=20``: one name is a statistic, the others are what goes with it."""
    from alliance_meta.effects.converting.inputs import COLUMNS
    from alliance_meta.effects.converting.rules import OTHER_NAMES, RULES
    from alliance_meta.errors import InputError
    from alliance_meta.notes import did_you_mean

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


def _print_conversion(conversion: Conversion) -> None:
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


def template(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A published meta-analysis to rebuild: horvath2011, martin2000, alldredge2021, ...", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to; NAME (or coding) here by default.")
    ] = None,
) -> None:
    """Write a blank coding sheet: CSV, Excel with drop-down lists, datapackage and codebook.

    With the name of a published meta-analysis its printed result goes along, and `alliance-meta reproduce` on the
    typed sheet says whether it comes out.
    """
    from alliance_meta.effects.contract.description import PACKAGE
    from alliance_meta.effects.contract.template import write_template

    folder = out or Path(name or "coding")
    paths = write_template(folder, name)
    for path in paths:
        typer.echo(shown_path(path))
    if name is not None and not _has_result(folder / PACKAGE):
        print_note(f"{name} prints no pooled r to compare with")


def codebook(
    column: Annotated[str | None, typer.Argument(help="One column, with every word.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the JSON Schema of one row.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print what the columns of a coding sheet mean and which words they may hold."""
    from alliance_meta.effects.contract.schema import CONTRACT, json_schema
    from alliance_meta.effects.contract.template import as_markdown, as_text, column_as_text, column_of

    if json:
        print_json(json_schema(CONTRACT))
    elif markdown:
        typer.echo(as_markdown(CONTRACT), nl=False)
    elif column is not None:
        typer.echo(column_as_text(column_of(column)))
    else:
        typer.echo(as_text(CONTRACT))


def _has_result(path: Path) -> bool:
    from json import loads

    return bool(loads(path.read_text(encoding="utf-8"))["alliance_meta"]["published"])
