"""``alliance-meta sensitivity``: the mean effect of a sheet by every usual analysis."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import typer

from alliance_meta.cli.fit import CHE, CHOICES, RANDOM, Choice, check_outputs, give, read_effects, results_bytes
from alliance_meta.cli.options import Options, SourceArgument, option, takes_sheet
from alliance_meta.cli.output import held_notes

OPTIONS: Options = {
    "rho": option(float, "Assumed correlation of sampling errors within a study.", 0.6),
    "cluster": CHOICES["cluster"],
    "scenario": option(
        list[str] | None, "One of the analyses, e.g. lowest; once for each. All by default.", metavar="KEY"
    ),
    "select": option(
        list[str] | None,
        "One effect per study by this column and order, e.g. rater=client,observer; once for each column. Other values "
        "come last, and of what is still equal the first row counts.",
        metavar="RULE",
    ),
    "seed": option(int | None, "For the analysis that draws from its posterior, which takes a minute.", metavar="N"),
    **{name: CHOICES[name] for name in ("level", "vtype", "subset")},
    "figure": option(Path | None, "Draw what every analysis gives (.svg, .pdf or .png).", metavar="FILE"),
    "out": option(Path | None, "Write the table (.csv) or everything (.json).", metavar="FILE"),
    "json": CHOICES["json"],
}


@partial(takes_sheet, options=OPTIONS)
def sensitivity(source: SourceArgument, *, chosen: Any, naming: dict[str, Any]) -> None:
    """Show the mean effect by every usual analysis, and what it would take to change the answer.

    Each row changes one thing about the headline; a row that does not apply says why. Nothing here is a verdict.

    For example: alliance-meta sensitivity coding.csv --figure battery.svg
    """
    from alliance_meta import plots
    from alliance_meta.sensitivity.batteries.battery import ALL, battery

    endings = check_outputs(source, {"--figure": chosen.figure}, chosen.out)
    rule = _rule(chosen.select or [])
    with held_notes() as notes:
        effects = read_effects(source, subset=chosen.subset, vtype=chosen.vtype, naming=naming)
        result = battery(
            effects,
            rho=chosen.rho,
            scenarios=chosen.scenario or ALL,
            cluster=chosen.cluster or "study_id",
            select=rule or None,
            level=chosen.level,
            seed=chosen.seed,
        )
        counted = f"{result.k} effects from {result.studies} studies"
        choice = Choice(CHE if result.studies < result.k else RANDOM, f"the headline; {counted}")
        document = choice.document({"rho": chosen.rho}, result)
        files = {}
        if chosen.figure is not None:
            figure: Any = plots.battery(result)
            files[chosen.figure] = plots.figure_bytes(figure, format=endings[chosen.figure].lstrip("."))
        if chosen.out is not None:
            files[chosen.out] = results_bytes(result, document, ending=endings[chosen.out])
    give(result, document, files, notes, as_json=chosen.json)


def _rule(texts: list[str]) -> dict[str, Any]:
    """Read how one effect per study is chosen: a column and its values, the preferred first, or an order."""
    rule: dict[str, Any] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise typer.BadParameter(f"{text!r} is no COLUMN=VALUE,VALUE", param_hint="--select")
        rule[name] = values if values in ("lowest", "highest") else values.split(",")
    return {"by": rule, "unlisted": "last", "ties": "first"} if rule else {}
