"""Option types shared by the commands, checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.options import Measure, check_level, check_option


def one_of(name: str, options: Any) -> Callable[[str], str]:
    """Return a callback that accepts the spellings of an option and lists them otherwise."""

    def check(value: str) -> str:
        try:
            check_option(name, value, options)
        except InputError as error:
            raise typer.BadParameter(str(error)) from None
        return value

    return check


def checked_level(value: float) -> float:
    """Accept a confidence level."""
    try:
        check_level(value)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def check_output(path: Path, *, option: str, endings: Sequence[str], inputs: Sequence[str] = ()) -> str:
    """Return the ending of an output file, having made sure that it can be written and is no input."""
    ending = path.suffix.lower()
    if ending not in endings:
        said = f"{path.name!r} has no ending" if not ending else f"{ending!r} cannot be written"
        raise typer.BadParameter(f"{said}; give the file the ending {' or '.join(endings)}", param_hint=option)
    if path.is_dir():
        raise CannotRunError(f"{option}: {path} is a folder; name a file")
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise CannotRunError(f"{option}: {path} is the input itself and is never overwritten")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise CannotRunError(f"{option}: {folder.name} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise CannotRunError(f"{option}: the folder of {path} cannot be written to")
    return ending


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RiOption = Annotated[
    str | None, typer.Option("--ri", metavar="COLUMN", help="Column with the correlations, if it is not called r.")
]
NiOption = Annotated[
    str | None, typer.Option("--ni", metavar="COLUMN", help="Column with the sample sizes, if it is not called n.")
]
MeasureOption = Annotated[
    str,
    typer.Option(
        "--measure",
        callback=one_of("measure", Measure),
        help="ZCOR (Fisher z), COR (raw r) or UCOR (bias-corrected r).",
    ),
]
SheetOption = Annotated[
    str | None,
    typer.Option("--sheet", metavar="NAME", help="Sheet of an Excel workbook; by default the one with the columns."),
]
