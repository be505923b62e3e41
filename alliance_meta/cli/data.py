"""``alliance-meta data``: the data sets that come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alliance_meta.cli.options import JsonOption, print_json, print_table, records

if TYPE_CHECKING:
    from alliance_meta.errors import Problem

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, describe and check the data sets.",
)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the data sets."""
    from alliance_meta.effects.datasets import list_datasets

    table = list_datasets()
    if json:
        print_json({"datasets": records(table)})
        return
    rows = [(row["name"], str(row["k"]), row["kind"], row["licence"], row["title"]) for row in records(table)]
    print_table(rows, header=("name", "k", "kind", "licence", "title"))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a data set.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Print a data set's card: what it is, where it comes from, what it may be called."""
    from dataclasses import asdict

    from alliance_meta.effects.datasets import load_dataset

    card = load_dataset(name).card
    assert card is not None
    if json:
        print_json(asdict(card))
    else:
        typer.echo(str(card))


@app.command("check")
def check(json: JsonOption = False) -> None:
    """Check every shipped data set against its card: hash, header, types, ranges, licence, cautions.

    The registry of published results is also checked for repeated entries, missing sources, limits that cannot be and
    numbers that contradict each other.
    """
    from alliance_meta.effects.datasets import check_datasets, list_datasets
    from alliance_meta.evidence.consistency_check import check_registry

    problems = [*check_datasets(), *check_registry()]
    _say(problems, f"{len(list_datasets())} data sets agree with their cards, and the registry is sound", json=json)


@app.command("seal")
def seal(
    name: Annotated[str, typer.Argument(help="Name of a data set in a checkout.", show_default=False)],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="New version; by default its second number is raised.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take a changed data set over: write hash, size and rows into its datapackage.json, if nothing else is wrong.

    For whoever adds to the data, such as an entry to the registry: alliance-meta data seal published
    """
    from alliance_meta.effects.datasets import folder_of, seal_dataset
    from alliance_meta.evidence.consistency_check import check_registry

    folder = folder_of(name)
    problems = check_registry() if name == "published" else []
    now = ""
    if not problems:
        problems, now = seal_dataset(folder, version=version)
    _say(problems, f"{name} is sealed as version {now}", json=json, version=now)


def _say(problems: list[Problem], sound: str, *, json: bool, **more: str) -> None:
    """Print the problems and end with code 1, or say that there is none."""
    if json:
        print_json({"problems": [problem.to_dict() for problem in problems], **more})
    else:
        typer.echo("\n".join(map(str, problems)) or sound)
    if problems:
        raise typer.Exit(1)
