"""``check``, ``convert``, ``template``, ``codebook``, ``read``, ``export``, ``deposit``, ``diff``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import (
    JsonOption,
    check_output,
    held_notes,
    print_json,
    print_note,
    print_table,
    records,
    shown_path,
    takes_sheet,
)

if TYPE_CHECKING:
    from alliance_meta.effects.converting.rows import Conversion
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.sheet.examine import Contents, Reading

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
    from alliance_meta.effects.converting.rows import to_r

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
    from alliance_meta.cli.options import records
    from alliance_meta.effects.converting.rows import conversions

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


MeasureOption = Annotated[
    str | None, typer.Option(help="What finished effects are: ZCOR (Fisher's z), COR or UCOR.", show_default=False)
]


def read(
    file: Annotated[Path, typer.Argument(help="A table that another program wrote.", show_default=False)],
    kind: Annotated[
        str, typer.Option(help="auto, sheet, metafor, cma, revman, covidence, metapsy, jasp or psymetadata.")
    ] = "auto",
    columns: Annotated[
        list[str] | None, typer.Option(metavar='"THEIR NAME=OURS"', help="What a column is; once for each.")
    ] = None,
    measure: MeasureOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a coding sheet, a CSV.")] = None,
    json: JsonOption = False,
) -> None:
    """Read a table of another program as a coding sheet, and say what became of every column."""
    from alliance_meta.effects.exchange.export import sheet_csv
    from alliance_meta.effects.exchange.foreign import Kind, examine_foreign
    from alliance_meta.errors import CodingError, problem_lines
    from alliance_meta.files import write_text
    from alliance_meta.notes import Measure, check_option

    check_option("kind", kind, Kind)
    if measure is not None:
        check_option("measure", measure, Measure)
    if out is not None:
        check_output(out, option="--out", endings=(".csv",), inputs=[str(file)])
    reading = examine_foreign(file, kind=kind, columns=_pairs(columns or []), measure=measure)  # type: ignore[arg-type]
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    if out is not None:
        write_text(out, sheet_csv(reading.table.frame))
    mapping = records(reading.table.mapping)
    if json:
        problems = [problem.to_dict() for problem in reading.suspicions]
        notes = [note.to_dict() for note in reading.notes]
        document = {"source": reading.source, "rows": reading.table.k, "mapping": mapping}
        print_json({**document, "suspicions": problems, "notes": notes})
        return
    for note in reading.notes:
        print_note(note.message)
    print_table([tuple(row.values()) for row in mapping], header=("column", "became", "how"))
    if reading.suspicions:
        typer.echo(f"\n{len(reading.suspicions)} possible mistakes:")
        for line in problem_lines(reading.suspicions):
            typer.echo(f"  {line}")
    if out is not None:
        typer.echo(shown_path(out))


def _pairs(columns: list[str]) -> dict[str, str]:
    from alliance_meta.errors import InputError

    named = {}
    for text in columns:
        theirs, mark, ours = text.rpartition("=")
        if not mark or not theirs.strip() or not ours.strip():
            raise InputError(f'--columns {text!r}: write "Their name=ours", for example "Pearson correlation=r"')
        named[theirs.strip()] = ours.strip()
    return named


@takes_sheet
def export(
    file: Annotated[Path, typer.Argument(help="A coding sheet.", show_default=False)],
    *,
    naming: dict[str, Any],
    to: Annotated[str, typer.Option(help="metafor, jasp, revman or csvw.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The CSV to write.", show_default=False)],
) -> None:
    """Write a coding sheet for another program."""
    from alliance_meta.effects.exchange import export as exporting
    from alliance_meta.effects.sizes import escalc

    check_output(out, option="--out", endings=(".csv",), inputs=[str(file)])
    with held_notes() as notes:
        table = _coded(file, naming)
        effects = table if to == "csvw" else escalc(table, measure=naming.get("measure"))
        paths = exporting.export(effects, out, to=to)  # type: ignore[arg-type]
    for note in notes:
        print_note(note)
    for path in paths:
        typer.echo(shown_path(path))


@takes_sheet
def deposit(
    file: Annotated[Path, typer.Argument(help="A coding sheet without errors.", show_default=False)],
    *,
    naming: dict[str, Any],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.", show_default=False)],
    title: Annotated[str, typer.Option(help="Title of the data set.", show_default=False)],
    creator: Annotated[
        list[str], typer.Option(metavar='"NAME[; ORCID]"', help="Who made it; once for each.", show_default=False)
    ],
    licence: Annotated[str, typer.Option(help="CC0-1.0, CC-BY-4.0 or ODbL-1.0.")] = "CC0-1.0",
    description: Annotated[str, typer.Option(help="What the sheet is about.")] = "",
    date: Annotated[str | None, typer.Option(help="Date of publication; else the archive gives it.")] = None,
) -> None:
    """Write a folder ready for an archive: sheet, codebook, licence, README and metadata. Nothing is uploaded."""
    from alliance_meta.effects.exchange import deposit as depositing

    about: dict[str, Any] = {"licence": licence, "description": description, "date": date}
    for path in depositing.deposit(file, out, title=title, creators=creator, **about, **naming):
        typer.echo(shown_path(path))
    if date is None:
        print_note("no date of publication was given (--date); RO-Crate demands one, which the archive sets")


def diff(
    old: Annotated[
        Path, typer.Argument(help="The earlier version of a coding sheet, or results.json.", show_default=False)
    ],
    new: Annotated[Path, typer.Argument(help="The later version.", show_default=False)],
    effect: Annotated[
        bool, typer.Option("--effect", help="Also say how far each change alone moves the pooled r (REML).")
    ] = False,
    declaration: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT.toml",
            help="Also say how far each change alone moves the analyses of this report that read one of the two files.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two versions of a coding sheet cell by cell, or two results.json number by number."""
    if old.suffix.lower() == new.suffix.lower() == ".json":
        _results(old, new, json=json)
        return
    from alliance_meta.effects.exchange.versions import Moves, moves
    from alliance_meta.effects.exchange.versions import diff as compare

    with held_notes() as notes:
        if declaration is None:
            found = compare(_coded(old, {}), _coded(new, {}))
            moved = Moves(found, moves(found, {"random effects, REML": _pooled})) if effect else None
        else:
            from alliance_meta.reporting.builds import moves_of

            moved = moves_of(declaration, old, new)
            found = moved.diff
    if json:
        print_json({**found.to_dict(), **({} if moved is None else {"effect": records(moved.tidy().reset_index())})})
        return
    for note in notes:
        print_note(note)
    typer.echo(found.summary())
    if moved is not None:
        typer.echo(f"\n{moved.summary()}")


def _results(old: Path, new: Path, *, json: bool) -> None:
    from alliance_meta.reporting.builds import changes

    found = changes(old, new)
    print_json(found.to_dict()) if json else typer.echo(found.summary())


def _coded(file: Path, naming: dict[str, Any]) -> CodedTable:
    from alliance_meta.effects.sheet.ingest import read_coded

    return read_coded(file, **naming)


def _pooled(table: CodedTable) -> dict[str, float]:
    from alliance_meta.effects.sizes import escalc
    from alliance_meta.models.random_effects import RandomEffectsModel

    return {"r": float(RandomEffectsModel(escalc(table)).fit().predict(scale="r")["pred"].iloc[0])}
