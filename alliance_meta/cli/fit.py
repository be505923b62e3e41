"""``alliance-meta fit``: effect sizes, a random-effects model and a forest plot from anybody's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from alliance_meta.cli.options import (
    JsonOption,
    MeasureOption,
    NiOption,
    RiOption,
    SheetOption,
    check_output,
    checked_level,
    one_of,
)
from alliance_meta.cli.output import held_notes, print_json, print_note, shown_path
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_bytes
from alliance_meta.options import Measure, Tau2Method, Test, VType, did_you_mean

if TYPE_CHECKING:
    from alliance_meta.effects.coded import CodedTable

FIGURES = (".svg", ".pdf", ".png")
TABLES = (".csv", ".json")


def fit(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="A coding sheet, or the name of a shipped data set.", show_default=False),
    ],
    mods: Annotated[str, typer.Option(metavar="FORMULA", help='Moderators, e.g. "rater + setting"; 1 for none.')] = "1",
    measure: MeasureOption = "ZCOR",
    method: Annotated[
        str,
        typer.Option(
            callback=one_of("method", Tau2Method), help="Estimator of tau2: REML, DL, HE, HS, ML, EB, PM, SJ, or EE."
        ),
    ] = "REML",
    test: Annotated[
        str, typer.Option(callback=one_of("test", Test), help="Inference: knha (Knapp-Hartung), z, t or adhoc.")
    ] = "knha",
    bayes: Annotated[bool, typer.Option("--bayes", help="A Bayesian model, solved exactly, with two priors.")] = False,
    mu_prior: Annotated[
        str, typer.Option(metavar="PRIOR", help="With --bayes: prior of the mean effect.")
    ] = "normal(0, 0.5)",
    tau_prior: Annotated[
        str, typer.Option(metavar="PRIOR", help="With --bayes: prior of tau, the heterogeneity.")
    ] = "half-normal(0.3)",
    level: Annotated[float, typer.Option(callback=checked_level, help="Confidence level, a fraction.")] = 0.95,
    ri: RiOption = None,
    ni: NiOption = None,
    sheet: SheetOption = None,
    vtype: Annotated[
        str, typer.Option(callback=one_of("vtype", VType), help="Variance of a raw r: LS, AV, H0 or UB.")
    ] = "LS",
    subset: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Rows to keep, e.g. \"rater == 'client'\".")
    ] = None,
    forest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a forest plot (.svg, .pdf or .png).")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="Group the forest plot by this column.")] = None,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="Order of the forest plot's rows.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the coefficients (.csv) or everything (.json).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit a random-effects model or a meta-regression, with --bayes as a Bayesian model.

    For example: alliance-meta fit coding.csv --mods "rater + setting" --forest forest.svg
    """
    if forest is None and (by is not None or order is not None):
        raise typer.BadParameter("this shapes the forest plot; add --forest FILE", param_hint="--by / --order")
    _check_useful(context, bayes=bayes)
    priors = _priors(mu_prior, tau_prior) if bayes else None
    endings = _check_outputs(source, forest=forest, out=out)
    with held_notes() as notes:
        table = _load(source, subset=subset, ri=ri, ni=ni, sheet=sheet, measure=cast("Measure", measure))
        if by is not None:
            table.column(by)
        choices = {"mods": mods, "level": level, **(priors or {"method": method, "test": test})}
        result = _fitted(table, choices, bayes=bayes, measure=measure, ri=ri, ni=ni, vtype=vtype)
        files: dict[Path, bytes] = {}
        if forest is not None:
            files[forest] = _drawing(result, ending=endings[forest], by=by, order=order)
        if out is not None:
            files[out] = _results(result, ending=endings[out])
    printed = set() if json else {note.message for note in result.notes}
    for text in notes:
        if text not in printed:
            print_note(text)
    for path, data in files.items():
        print_note(shown_path(write_bytes(path, data)), word="written")
    if json:
        print_json(result.to_dict())
    else:
        typer.echo(result.summary())


def _check_useful(context: typer.Context, *, bayes: bool) -> None:
    """Refuse what was typed and would do nothing."""
    others = ("method", "test", "by") if bayes else ("mu_prior", "tau_prior")
    given = [name for name in others if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        hint = " / ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(f"this does nothing with{'' if bayes else 'out'} --bayes", param_hint=hint)


def _priors(mu: str, tau: str) -> dict[str, Any]:
    from alliance_meta.bayes.prior import EffectPrior, TauPrior
    from alliance_meta.bayes.prior_names import parse
    from alliance_meta.bayes.setup import check_kind

    found = {}
    for name, text, kind in (("mu_prior", mu, EffectPrior), ("tau_prior", tau, TauPrior)):
        try:
            found[name] = parse(text)
            check_kind(found[name], kind, name)
        except InputError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None
    return found


def _fitted(
    table: CodedTable, choices: dict[str, Any], *, bayes: bool, measure: str, ri: str | None, ni: str | None, vtype: str
) -> Any:
    from alliance_meta.effects.escalc import escalc

    effects = escalc(table, measure=cast("Measure", measure), ri=ri, ni=ni, vtype=cast("VType", vtype))
    if bayes:
        from alliance_meta.bayes.model import BayesianModel

        return BayesianModel(effects, **choices).fit()
    from alliance_meta.models.random_effects import RandomEffectsModel

    return RandomEffectsModel(effects, **choices).fit()


def _check_outputs(source: str, *, forest: Path | None, out: Path | None) -> dict[Path, str]:
    endings = {}
    if forest is not None:
        endings[forest] = check_output(forest, option="--forest", endings=FIGURES, inputs=[source])
    if out is not None:
        endings[out] = check_output(out, option="--out", endings=TABLES, inputs=[source])
    return endings


def _load(
    source: str, *, subset: str | None, ri: str | None, ni: str | None, sheet: str | None, measure: Measure
) -> CodedTable:
    """Read a file, or load a shipped data set with the rows of it that may be pooled."""
    from alliance_meta.effects.datasets import list_datasets, load_dataset
    from alliance_meta.effects.ingest import read_coded

    if Path(source).exists() or Path(source).name != source or Path(source).suffix:
        table = read_coded(source, ri=ri, ni=ni, measure=measure, sheet=sheet)
        return table if subset is None else table.query(subset)
    known = list(list_datasets()["name"])
    if not any(name.startswith(source) for name in known):
        raise CannotRunError(
            f"there is no file and no shipped data set called {source!r}{did_you_mean(source, known)}; "
            "`alliance-meta data list` names the data sets"
        )
    table = load_dataset(source)
    card = table.card
    if card is not None and not card.poolable and card.subset is None:
        raise InputError(f"{card.name} cannot be pooled: {card.cautions[0]}")
    if card is not None and card.kind == "dependent":
        raise InputError(
            f"{card.name} holds several effects of the same people, which this command would take as independent; "
            "use MultilevelModel or RVEModel in Python, or a report with kind = 'multilevel'"
        )
    if subset is None and card is not None and card.subset is not None:
        print_note(f"{card.name}: only the rows that may be pooled together ({card.subset}); --subset chooses others")
        subset = card.subset
    return table if subset is None else table.query(subset)


def _drawing(result: Any, *, ending: str, by: str | None, order: str | None) -> bytes:
    from alliance_meta.plots import figure_bytes, forest

    chosen: dict[str, Any] = {name: value for name, value in (("by", by), ("order", order)) if value is not None}
    return figure_bytes(forest(result, **chosen), format=ending.lstrip("."))


def _results(result: Any, *, ending: str) -> bytes:
    if ending == ".json":
        from alliance_meta.reporting.numbers import dumps

        return dumps(result.to_dict()).encode("utf-8")
    from alliance_meta.tables.inert import frame_csv

    return frame_csv(result.tidy()).encode("utf-8")
