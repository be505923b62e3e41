"""Option types shared by the commands, checked before any work is done, and what commands print."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from alliance_meta.errors import AllianceMetaError, AllianceMetaWarning, CannotRunError, InputError
from alliance_meta.notes import Measure, check_level, check_option, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def one_of(name: str, options: Any) -> Callable[[str | None], str | None]:
    """Return a callback that accepts the spellings of an option, or none, and lists them otherwise."""

    def check(value: str | None) -> str | None:
        """Return the value if it is one of them."""
        try:
            if value is not None:
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


SourceArgument = Annotated[
    str, typer.Argument(help="A coding sheet, or the name of a shipped data set.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

# Option -> its type with what typer is told of it, and its default.
Options = Mapping[str, tuple[Any, Any]]


def option(kind: Any, help: str, default: Any = None, **more: Any) -> tuple[Any, Any]:
    """Return an option for a table of options; a `metavar` says what it holds."""
    return Annotated[kind, typer.Option(help=help, **more)], default


def column(help: str) -> tuple[Any, Any]:
    """Return an option that names a column."""
    return option(str | None, help, metavar="COLUMN")


# What a user may say of a sheet, the same for every command that reads one: `SheetOptions`, option by option.
NAMING: Options = {
    "ri": column("Column with the correlations, if it is not called r."),
    "ni": column("Column with the sample sizes, if it is not called n."),
    "yi": column("Column with finished effects, whatever it is called."),
    "vi": column("Column with their sampling variances."),
    "sei": column("Column with their standard errors, in place of --vi."),
    "study": column("Column that says which study a row belongs to."),
    "measure": option(
        str | None,
        "ZCOR (Fisher z, the default of r and n), COR (raw r) or UCOR (bias-corrected r); of finished effects what "
        "they are.",
        callback=one_of("measure", Measure),
    ),
    "missing": option(list[str] | None, "A further code for missing cells, e.g. 999; once for each.", metavar="CODE"),
    "encoding": option(str | None, "Encoding of a text file, e.g. mac_roman, gbk, shift_jis.", metavar="NAME"),
    "sheet": option(str | None, "Sheet of an Excel workbook; by default the one with the columns.", metavar="NAME"),
}

# What a shipped data set says itself.
FILE_ONLY = ("study", "missing", "encoding", "sheet")


def check_shipped(source: str, naming: dict[str, Any]) -> None:
    """Refuse what is no data set that comes with the package, and options that are of a file."""
    from alliance_meta.effects.datasets import dataset_names

    check_naming(naming, FILE_ONLY, "this is of a file, and this is a shipped data set")
    known = dataset_names()
    if not any(name.startswith(source) for name in known):
        raise CannotRunError(
            f"there is no file and no shipped data set called {source!r}{did_you_mean(source, known)}; "
            "`alliance-meta data list` names the data sets"
        )


def check_naming(naming: dict[str, Any], refused: Sequence[str], why: str) -> None:
    """Refuse options of a sheet that would do nothing here."""
    given = [f"--{name}" for name in refused if name in naming]
    if given:
        raise typer.BadParameter(why, param_hint=" / ".join(given))


def takes_sheet(command: Callable[..., None], options: Options | None = None) -> Callable[..., None]:
    """Give a command the options of `NAMING`; it gets those that were given as the mapping `naming`.

    A table of further `options` stands before them; the command gets their values as `chosen`.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[one.name]) for one in signature(command).parameters.values()]
    listed = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own if one.name not in ("naming", "chosen")]
    for name, (annotation, default) in {**(options or {}), **NAMING}.items():
        listed.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))

    @wraps(command)
    def run(**values: Any) -> None:
        """Sort the values given into those of the command's own and of the tables."""
        given = {name: values.pop(name) for name in NAMING}
        if options is not None:
            values["chosen"] = SimpleNamespace(**{name: values.pop(name) for name in options})
        command(**values, naming={name: value for name, value in given.items() if value})

    run.__signature__ = Signature(listed)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in listed}
    return run


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON; a number that does not exist is an object with the reason, never NaN."""
    from alliance_meta.reporting.writing import dumps

    typer.echo(dumps(document), nl=False)


def print_note(message: str, *, word: str = "note") -> None:
    """Print one sentence to the error stream, so that it never mixes with the results."""
    print(f"{word}: {message}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]], *, header: Sequence[str], indent: str = "") -> None:
    """Print text in columns; the last one may run on."""
    everything = [header, *rows]
    widths = [max(len(row[place]) for row in everything) for place in range(len(header) - 1)]
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo(indent + "  ".join([*cells, row[-1]]).rstrip())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as dictionaries that keep their `NotApplicable`s."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in frame.astype(object).itertuples(index=False, name=None)]


def shown_path(path: Path) -> str:
    """Return a path as seen from the current folder, where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextmanager
def held_notes() -> Iterator[list[str]]:
    """Hold back our warnings as texts; if the work fails they are printed, else the caller decides."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AllianceMetaWarning)
        try:
            yield texts
        except AllianceMetaError:
            for text in _take_ours(caught):
                print_note(text)
            raise
        finally:
            texts += _take_ours(caught)
    for other in caught:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def _take_ours(caught: list[warnings.WarningMessage]) -> list[str]:
    """Remove our warnings from those caught and return their texts, each once."""
    ours = [one for one in caught if issubclass(one.category, AllianceMetaWarning)]
    caught[:] = [one for one in caught if one not in ours]
    return list(dict.fromkeys(str(one.message) for one in ours))
