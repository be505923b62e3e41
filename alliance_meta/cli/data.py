"""``alliance-meta data``: the data sets that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from alliance_meta.cli.options import JsonOption
from alliance_meta.cli.output import print_json, print_table, records

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
    """Check every shipped data set against its card: hash, header, types, ranges, licence, cautions."""
    from alliance_meta.effects.datasets import check_datasets, list_datasets

    problems = check_datasets()
    if json:
        print_json({"problems": [problem.to_dict() for problem in problems]})
    elif problems:
        for problem in problems:
            typer.echo(str(problem))
    else:
        typer.echo(f"{len(list_datasets())} data sets agree with their cards")
    if problems:
        raise typer.Exit(1)
