"""``alliance-meta match``: which choices lead from the rows of a meta-analysis to the number it prints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import FILE_ONLY, JsonOption, check_naming, takes_sheet
from alliance_meta.cli.output import held_notes, print_json, print_note
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.options import did_you_mean
from alliance_meta.tables.document import as_text

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

NEEDS_R = ("yi", "vi", "sei", "measure")


@takes_sheet
def match(
    source: Annotated[str, typer.Argument(help="A sheet, or the name of a shipped data set.", show_default=False)],
    printed: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help='The result as printed, e.g. "r=.149 [.087, .209], k=16"; by default those in the data card.',
        ),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Scale of the estimate, r or z, if the text does not say.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What says which effects belong to one study or sample.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Rows to keep, e.g. \"criterion == 'grade'\".")
    ] = None,
    *,
    naming: dict[str, Any],
    json: JsonOption = False,
) -> None:
    """Find the choices that give a printed number.

    Follows every usual and many rare routes from the rows to a pooled value, and says which give the printed
    digits, in what they differ, and plainly if none does.

    For example: alliance-meta match sheet.csv --printed "r=.149 [.087, .209]"
    """
    from alliance_meta.sensitivity.matching import match as find

    _check_source(source, naming)
    with held_notes() as warned:
        table = _rows(source, naming)
        options: dict[str, Any] = {"cluster": cluster, "ri": naming.get("ri"), "ni": naming.get("ni")}
        if printed is not None:
            found = [find(printed, table, scale=scale, subset=subset, **options)]
        else:
            found = [
                find(one.printed, table, scale=scale or one.scale, subset=subset or rows, **options)
                for one, rows in _results(source, naming)
            ]
    if json:
        print_json({"matches": [one.to_dict() for one in found]})
        return
    for text in warned:
        print_note(text)
    for one in found:
        typer.echo(f"{as_text(replace(one.document(), notes=()))}\n")
    for message in dict.fromkeys(note.message for one in found for note in one.notes):
        print_note(message)


def _check_source(source: str, naming: dict[str, Any]) -> None:
    from alliance_meta.effects.datasets import list_datasets
    from alliance_meta.evidence.own_sheet import is_sheet

    known = list(list_datasets()["name"])
    if not is_sheet(source) and not any(name.startswith(source) for name in known):
        raise CannotRunError(
            f"there is no file and no shipped data set called {source!r}{did_you_mean(source, known)}; "
            "`alliance-meta data list` names the data sets"
        )
    check_naming(naming, NEEDS_R, "match compares correlations, which need r and n")
    if not is_sheet(source):
        check_naming(naming, FILE_ONLY, "this is of a file, and this is a shipped data set")


def _rows(source: str, naming: dict[str, Any]) -> CodedTable:
    """Return the rows of a file or of a shipped data set."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.effects.sheet.ingest import read_coded
    from alliance_meta.evidence.own_sheet import is_sheet, with_r

    return with_r(read_coded(source, **naming)) if is_sheet(source) else load_dataset(source)


def _results(source: str, naming: dict[str, Any]) -> list[tuple[Any, str | None]]:
    """Return the printed means of a data card or of the datapackage beside a sheet, each with its rows."""
    from alliance_meta.evidence.own_sheet import printed_results

    found = [
        (one, one.route.get("subset") if one.route else None)
        for one in printed_results(source, **naming)
        if one.coefficient == "intrcpt" and "estimate" in one.printed and (one.route or {}).get("mods", "1") == "1"
    ]
    if not found:
        raise InputError(f"{source} has no printed mean; name one with --printed 'r = .28 [.26, .30]'")
    return found
