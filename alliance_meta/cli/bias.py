"""``alliance-meta bias``: what the effects of a sheet would say if the literature behind them were biased."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import typer

from alliance_meta.cli.fit import (
    CHOICES,
    check_outputs,
    check_settings,
    choose,
    fit_model,
    give,
    read_effects,
    results_bytes,
    typed,
)
from alliance_meta.cli.options import Options, SourceArgument, option, takes_sheet
from alliance_meta.cli.output import held_notes

SETTINGS = ("method", "test", "rho", "cluster", "random", "robust")
OPTIONS: Options = {
    **{name: CHOICES[name] for name in ("model", *SETTINGS, "level", "vtype", "subset")},
    "funnel": option(Path | None, "Draw a funnel plot (.svg, .pdf or .png).", metavar="FILE"),
    "figure": option(Path | None, "Draw what every method gives (.svg, .pdf or .png).", metavar="FILE"),
    "out": option(Path | None, "Write the table (.csv) or everything (.json).", metavar="FILE"),
    "json": CHOICES["json"],
}


@partial(takes_sheet, options=OPTIONS)
def bias(
    context: typer.Context,
    source: SourceArgument,
    *,
    chosen: Any,
    naming: dict[str, Any],
) -> None:
    """Show what the mean effect would be if studies were missing, by every method that suits the data.

    Worst case first; each row says what it assumes, or why it does not apply. Nothing here is a verdict.

    For example: alliance-meta bias coding.csv --funnel funnel.svg
    """
    from alliance_meta.bias.panels import panel
    from alliance_meta.plots import bias_panel, figure_bytes, funnel

    given = {name: context.params[name] for name in SETTINGS if typed(context, name)}
    endings = check_outputs(source, {"--funnel": chosen.funnel, "--figure": chosen.figure}, chosen.out)
    with held_notes() as notes:
        effects = read_effects(source, subset=chosen.subset, vtype=chosen.vtype, naming=naming)
        choice = choose(effects, chosen.model, chosen.cluster, bayes=False)
        check_settings(choice, given)
        fit = fit_model(effects, choice, mods="1", level=chosen.level, settings=given)
        result = panel(fit)
        drawn: dict[Path | None, Any] = {chosen.funnel: lambda: funnel(fit), chosen.figure: lambda: bias_panel(result)}
        files = {
            path: figure_bytes(draw(), format=endings[path].lstrip("."))
            for path, draw in drawn.items()
            if path is not None
        }
        document = choice.document(given, result)
        if chosen.out is not None:
            files[chosen.out] = results_bytes(result, document, ending=endings[chosen.out])
    give(result, document, files, notes, as_json=chosen.json)
