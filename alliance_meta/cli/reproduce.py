"""``alliance-meta reproduce``: the printed results of the shipped data sets beside ours."""

from __future__ import annotations

import math
import re
import textwrap
from itertools import groupby
from typing import Annotated, Any

import typer

from alliance_meta.cli.options import JsonOption
from alliance_meta.cli.output import print_json, print_table, records
from alliance_meta.tables.format import fixed

WIDTH = 100
SAME = {True: "yes", False: "NO", None: "not run"}


def reproduce(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Data sets, or typed sheets with a datapackage.json beside them; by default every data set with a "
            "printed result.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hold our results against printed ones.

    For every printed number: ours, whether it is the same to the printed digits, and by which route.
    """
    import pandas as pd

    from alliance_meta.evidence.reproduce import reproduce as compute

    names = list(dict.fromkeys(datasets or []))
    table = pd.concat([compute(name) for name in names]) if names else compute()
    rows = [_with_reason(row) for row in records(table)]
    if json:
        print_json({"rows": rows})
        return
    for _, result in groupby(rows, key=lambda row: (row["dataset"], row["result"])):
        _print_result(list(result))
    numbers = [row for row in rows if not row["quantity"].startswith("moderator")]
    agreed, differs, not_run = (sum(row["agrees"] is verdict for row in numbers) for verdict in (True, False, None))
    typer.echo(
        f"{len(numbers)} printed numbers: {agreed} the same to the printed digits, {differs} not, {not_run} not run"
    )


def _with_reason(row: dict[str, Any]) -> dict[str, Any]:
    """Give a number that was not computed the reason that stands in the row's note."""
    from alliance_meta.not_applicable import NotApplicable

    agrees = row["agrees"] if isinstance(row["agrees"], str) or row["agrees"] is None else bool(row["agrees"])
    ours = row["ours"]
    if not isinstance(ours, NotApplicable) and math.isnan(ours):
        ours = NotApplicable(row["note"])
    return {**row, "ours": ours, "agrees": None if math.isnan(ours) else agrees}


def _print_result(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    typer.echo(f"{first['dataset']} / {first['result']} ({first['kind']}, scale {first['scale']})")
    for text in (f"printed in: {first['source']}", f"route: {first['route']}"):
        typer.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
    lines = [(row["quantity"], row["printed"], _ours(row), SAME[row["agrees"]]) for row in rows]
    print_table(lines, header=("quantity", "printed", "ours", "same?"), indent="    ")
    for note in dict.fromkeys(filter(None, map(_common_note, rows))):
        typer.echo(textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  "))
    typer.echo("")


def _common_note(row: dict[str, Any]) -> str:
    """Return the note without the remark on this one quantity, which the table shows."""
    return re.sub(rf"\s*\({re.escape(row['quantity'])}: [^()]*\)\Z", "", row["note"])


def _ours(row: dict[str, Any]) -> str:
    """Write our number with two digits more than the printed one."""
    if math.isnan(row["ours"]):
        return "-"
    digits = len(str(row["printed"]).partition(".")[2])
    return fixed(row["ours"], digits + 2 if digits else 0)
