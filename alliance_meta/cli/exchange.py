"""``alliance-meta read``, ``export``, ``deposit`` and ``diff``: sheets from and for others, and in two versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import JsonOption, check_output, takes_sheet
from alliance_meta.cli.output import held_notes, print_json, print_note, print_table, records, shown_path

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

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
    from alliance_meta.effects.exchange.moves import Moves, moves
    from alliance_meta.effects.exchange.versions import diff as compare

    with held_notes() as notes:
        if declaration is None:
            found = compare(_coded(old, {}), _coded(new, {}))
            moved = Moves(found, moves(found, {"random effects, REML": _pooled})) if effect else None
        else:
            from alliance_meta.reporting.versions import moves_of

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
