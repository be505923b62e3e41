"""``alliance-meta fit``, ``bias`` and ``sensitivity``: a model of a sheet's effects, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from alliance_meta.cli.options import (
    JsonOption,
    Options,
    SourceArgument,
    check_output,
    check_shipped,
    checked_level,
    column,
    held_notes,
    one_of,
    option,
    print_json,
    print_note,
    shown_path,
    takes_sheet,
)
from alliance_meta.errors import InputError
from alliance_meta.files import write_bytes
from alliance_meta.notes import RobustType, Tau2Method, Test, VType
from alliance_meta.tables.format import brief, plural

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes

CHE, MULTILEVEL, RVE, RANDOM, BAYES = "che", "multilevel", "rve", "random", "bayes"
MODELS = (CHE, MULTILEVEL, RVE, RANDOM)
# The settings that each model has, beside the moderators and the level.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    CHE: ("method", "rho", "cluster", "robust"),
    MULTILEVEL: ("method", "test", "rho", "cluster", "random", "robust"),
    RVE: ("rho", "cluster"),
    RANDOM: ("method", "test", "cluster", "robust"),
    BAYES: ("mu_prior", "tau_prior", "random"),
}
STUDY = "study_id"


@dataclass(frozen=True)
class Choice:
    """A model, and why it is this one."""

    model: str
    why: str

    def sentence(self, settings: Mapping[str, Any]) -> str:
        """Say in one line what is fitted and why."""
        rho = f", rho = {brief(settings.get('rho') or DEFAULT_RHO[self.model])}" if self.model in DEFAULT_RHO else ""
        robust = settings.get("robust") or ("CR2" if self.model == CHE else None)
        kind = f", {robust} standard errors" if robust else ""
        return f"Model: {WORDS[self.model]}{rho}{kind} ({self.why})"

    def document(self, settings: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """Return the results as a plain dictionary that says first which model they are of."""
        chosen = {"model": self.model, "why": self.why, "sentence": self.sentence(settings)}
        return {"model_choice": chosen, **result.to_dict()}


WORDS = {
    CHE: "correlated and hierarchical effects (che)",
    MULTILEVEL: "multilevel",
    RVE: "robust variance estimation (rve)",
    RANDOM: "random effects (random)",
    BAYES: "Bayesian",
}
DEFAULT_RHO = {CHE: 0.6, RVE: 0.8}


def choose(effects: EffectSizes, model: str | None, cluster: str | None, *, bayes: bool) -> Choice:
    """Return the model that was asked for, else the one for these data: CHE where effects are dependent."""
    if bayes:
        return Choice(BAYES, "--bayes")
    if model is not None:
        return Choice(model, "--model")
    k, studies = effects.k, effects.n_studies
    if cluster is not None or k > studies:
        groups = f"--cluster {cluster}" if cluster is not None else f"{k} effects from {studies} studies"
        return Choice(CHE, f"{groups}; --model chooses another")
    return Choice(RANDOM, f"{plural(k, 'effect')}, one a study; --model chooses another")


def check_settings(choice: Choice, given: Mapping[str, Any]) -> None:
    """Refuse settings that this model does not have, and name those that do."""
    for name in given:
        if name in SETTINGS[choice.model]:
            continue
        having = [f"--model {model}" for model in MODELS if name in SETTINGS[model]]
        having += ["--bayes"] if name in SETTINGS[BAYES] else []
        raise InputError(
            f"--{name.replace('_', '-')} does nothing with {WORDS[choice.model]} ({choice.why}); it is of "
            f"{' and '.join(having)}"
        )


def fit_model(effects: EffectSizes, choice: Choice, *, mods: str, level: float, settings: Mapping[str, Any]) -> Any:
    """Fit the chosen model with the settings that were given, its own defaults for the others."""
    return FITTERS[choice.model](effects, {"mods": mods, "level": level}, dict(settings))


def _random(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.random_effects import RandomEffectsModel

    cluster, robust = given.pop("cluster", None), given.pop("robust", None)
    if cluster is not None and robust is None:
        raise InputError("--cluster does nothing with --model random alone; add --robust CR2, or take --model che")
    fit = RandomEffectsModel(effects, **common, **given).fit()
    return fit if robust is None else fit.robust(cluster=cluster or STUDY, type=robust)


def _multilevel(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.effects.dependent.covariance import impute_V
    from alliance_meta.models.multilevel import MultilevelModel

    cluster, robust, rho = given.pop("cluster", None), given.pop("robust", None), given.pop("rho", None)
    if cluster is not None and robust is None and rho is None:
        raise InputError("--cluster does nothing with --model multilevel alone; add --robust CR2 or --rho, or --random")
    if rho is not None:
        given["V"] = impute_V(effects, cluster=cluster or STUDY, rho=rho)
    fit = MultilevelModel(effects, **common, **given).fit()
    return fit if robust is None else fit.robust(cluster=cluster or STUDY, type=robust)


def _che(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.recipes import che

    if "robust" in given:
        given["type"] = given.pop("robust")
    return che(effects, **common, **given)


def _rve(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.rve import RVEModel

    return RVEModel(effects, **common, **given).fit()


def _bayes(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.bayes.exact.model import BayesianModel

    return BayesianModel(effects, **common, **given).fit()


FITTERS: Mapping[str, Callable[[EffectSizes, dict[str, Any], dict[str, Any]], Any]] = {
    CHE: _che,
    MULTILEVEL: _multilevel,
    RVE: _rve,
    RANDOM: _random,
    BAYES: _bayes,
}

MODEL_SETTINGS = ("method", "test", "rho", "cluster", "random", "robust", "mu_prior", "tau_prior")
# Those of `plots.forests.styles`, which takes longer to load than the command line may.
LAYOUTS = Literal["default", "apa", "bmj", "jama"]
SHAPES = ("by", "order", "layout")
FIGURES = (".svg", ".pdf", ".png")
TABLES = (".csv", ".json")

CHOICES: Options = {
    "mods": option(str, 'Moderators, e.g. "rater + setting"; 1 for none.', "1", metavar="FORMULA"),
    "model": option(
        str | None,
        "che, multilevel, rve or random; by default che where effects outnumber studies, else random.",
        callback=one_of("model", Literal[MODELS]),
    ),
    "rho": option(float | None, "Assumed correlation of sampling errors within a study; .6 with che, .8 with rve."),
    "cluster": column("What is independent of each other; studies by default."),
    "random": option(
        str | None, 'With --model multilevel or --bayes: what varies, e.g. "study_id/es_id".', metavar="TERM"
    ),
    "robust": option(
        str | None,
        "Cluster-robust standard errors, e.g. CR2.",
        metavar="TYPE",
        callback=one_of("robust", RobustType),
    ),
    "method": option(
        str,
        "Estimator of tau2: REML, DL, HE, HS, ML, EB, PM, SJ, or EE.",
        "REML",
        callback=one_of("method", Tau2Method),
    ),
    "test": option(
        str,
        "Inference: knha (Knapp-Hartung, the default of random), z, t or adhoc.",
        "knha",
        callback=one_of("test", Test),
    ),
    "bayes": (
        Annotated[bool, typer.Option("--bayes", help="A Bayesian model, solved exactly, with two priors.")],
        False,
    ),
    "mu_prior": option(str, "With --bayes: prior of the mean effect.", "normal(0, 0.5)", metavar="PRIOR"),
    "tau_prior": option(str, "With --bayes: prior of tau, the heterogeneity.", "half-normal(0.3)", metavar="PRIOR"),
    "level": option(float, "Confidence level, a fraction.", 0.95, callback=checked_level),
    "vtype": option(str, "Variance of a raw r: LS, AV, H0 or UB.", "LS", callback=one_of("vtype", VType)),
    "subset": option(str | None, "Rows to keep, e.g. \"rater == 'client'\".", metavar="EXPR"),
    "forest": option(
        Path | None,
        "Draw a forest plot (.svg, .pdf or .png); many rows as pages: of one PDF, else FILE, FILE-2, ...",
        metavar="FILE",
    ),
    "by": column("Group the forest plot by this column, with the mean and the test of its levels."),
    "order": option(str | None, "Order of the forest plot's rows.", metavar="ORDER"),
    "layout": option(
        str | None,
        "Look of the forest plot: default, apa, bmj or jama.",
        callback=one_of("layout", LAYOUTS),
    ),
    "out": option(Path | None, "Write the coefficients (.csv) or everything (.json).", metavar="FILE"),
    "json": (JsonOption, False),
}


@partial(takes_sheet, options=CHOICES)
def fit(
    context: typer.Context,
    source: SourceArgument,
    *,
    chosen: Any,
    naming: dict[str, Any],
) -> None:
    """Fit a meta-analysis or a meta-regression, with --bayes as a Bayesian model.

    Where effects outnumber studies, the model is one of dependent effects (che); the first line says which.

    For example: alliance-meta fit coding.csv --mods "rater + setting" --forest forest.svg
    """
    forest, out, by, bayes = chosen.forest, chosen.out, chosen.by, chosen.bayes
    shape = {name: value for name in SHAPES if (value := getattr(chosen, name)) is not None}
    if forest is None and shape:
        hint = " / ".join(f"--{name}" for name in SHAPES)
        raise typer.BadParameter("this shapes the forest plot; add --forest FILE", param_hint=hint)
    given = {name: context.params[name] for name in MODEL_SETTINGS if typed(context, name)}
    _check_useful(given, bayes=bayes, model=chosen.model, by=by)
    if bayes:
        given |= _priors(chosen.mu_prior, chosen.tau_prior)
    endings = check_outputs(source, {"--forest": forest}, out)
    with held_notes() as notes:
        effects = read_effects(source, subset=chosen.subset, by=by, vtype=chosen.vtype, naming=naming)
        choice = choose(effects, chosen.model, chosen.cluster, bayes=bayes)
        check_settings(choice, given)
        result = fit_model(effects, choice, mods=chosen.mods, level=chosen.level, settings=given)
        files: dict[Path, bytes] = {}
        if forest is not None:
            files |= _drawings(result, forest, ending=endings[forest], shape=shape)
        document = choice.document(given, result)
        if out is not None:
            files[out] = results_bytes(result, document, ending=endings[out])
    give(result, document, files, notes, as_json=chosen.json)


def give(
    result: Any, document: dict[str, Any], files: Mapping[Path, bytes], notes: Sequence[str], *, as_json: bool
) -> None:
    """Print the notes that the result does not print itself, write the files, and print the result or the document."""
    printed = set() if as_json else {note.message for note in result.notes}
    for text in notes:
        if text not in printed:
            print_note(text)
    for path, data in files.items():
        print_note(shown_path(write_bytes(path, data)), word="written")
    if as_json:
        print_json(document)
    else:
        typer.echo(f"{document['model_choice']['sentence']}\n\n{result.summary()}")


def typed(context: typer.Context, name: str) -> bool:
    """Tell whether an option was written on the command line."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def _check_useful(given: dict[str, Any], *, bayes: bool, model: str | None, by: str | None) -> None:
    """Refuse what was typed and would do nothing."""
    useless: list[str] = [name for name in ("method", "test") if name in given] if bayes else []
    useless += ["model"] if bayes and model is not None else []
    useless += ["by"] if bayes and by is not None else []
    if not bayes:
        useless = [name for name in ("mu_prior", "tau_prior") if name in given]
    if useless:
        hint = " / ".join(f"--{name.replace('_', '-')}" for name in useless)
        raise typer.BadParameter(f"this does nothing with{'' if bayes else 'out'} --bayes", param_hint=hint)


def _priors(mu: str, tau: str) -> dict[str, Any]:
    from alliance_meta.reporting.kinds import read_prior

    found = {}
    for name, text in (("mu_prior", mu), ("tau_prior", tau)):
        try:
            found[name] = read_prior(text, name)
        except InputError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None
    return found


def read_effects(
    source: str, *, subset: str | None, by: str | None = None, vtype: str, naming: dict[str, Any]
) -> EffectSizes:
    """Return the effects of a sheet or of a shipped data set."""
    from alliance_meta.effects.sizes import escalc

    table = _load(source, subset=subset, naming=naming)
    if by is not None:
        table.column(by)
    named: dict[str, Any] = {name: naming.get(name) for name in ("measure", "ri", "ni")}
    if "yi" in naming:
        named["ni"] = None  # Of finished effects the table itself says which column it is.
    return escalc(table, vtype=cast("VType", vtype), **named)


def check_outputs(source: str, figures: Mapping[str, Path | None], out: Path | None) -> dict[Path, str]:
    """Return the endings of the files that are asked for: figures by their options, and ``--out``."""
    asked = [(option, path, FIGURES) for option, path in figures.items()] + [("--out", out, TABLES)]
    return {
        path: check_output(path, option=option, endings=endings, inputs=[source])
        for option, path, endings in asked
        if path is not None
    }


def _load(source: str, *, subset: str | None, naming: dict[str, Any]) -> CodedTable:
    """Read a file, or load a shipped data set with the rows of it that may be pooled."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.effects.sheet.ingest import read_coded

    if Path(source).exists() or Path(source).name != source or Path(source).suffix:
        return _rows(read_coded(source, **naming), subset)
    check_shipped(source, naming)
    table = load_dataset(source)
    card = table.card
    if card is not None and not card.poolable and card.subset is None:
        raise InputError(f"{card.name} cannot be pooled: {card.cautions[0]}")
    if subset is None and card is not None and card.subset is not None:
        print_note(f"{card.name}: only the rows that may be pooled together ({card.subset}); --subset chooses others")
        subset = card.subset
    return _rows(table, subset)


def _rows(table: CodedTable, subset: str | None) -> CodedTable:
    return table if subset is None else table.query(subset)


def _drawings(result: Any, path: Path, *, ending: str, shape: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the files of a forest: a PDF holds all its pages, of other files each page is one."""
    from alliance_meta.plots import figure_bytes, forest_pages

    pages, kind = forest_pages(result, **shape), ending.lstrip(".")
    if kind == "pdf":
        return {path: figure_bytes(pages, format=kind)}
    names = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, len(pages) + 1))]
    stale = path.with_stem(f"{path.stem}-{len(pages) + 1}")
    if stale.exists():
        print_note(f"{shown_path(stale)} is a page of an earlier forest, which had more of them; it stays")
    return {name: figure_bytes(page, format=kind) for name, page in zip(names, pages, strict=True)}


def results_bytes(result: Any, document: dict[str, Any], *, ending: str) -> bytes:
    """Return the table (.csv) or everything (.json) as a file holds it."""
    if ending == ".json":
        from alliance_meta.reporting.writing import dumps

        return dumps(document).encode("utf-8")
    from alliance_meta.tables.format import frame_csv

    return frame_csv(result.tidy()).encode("utf-8")


PANEL_SETTINGS = ("method", "test", "rho", "cluster", "random", "robust")
PANEL_OPTIONS: Options = {
    **{name: CHOICES[name] for name in ("model", *PANEL_SETTINGS, "level", "vtype", "subset")},
    "funnel": option(Path | None, "Draw a funnel plot (.svg, .pdf or .png).", metavar="FILE"),
    "figure": option(Path | None, "Draw what every method gives (.svg, .pdf or .png).", metavar="FILE"),
    "out": option(Path | None, "Write the table (.csv) or everything (.json).", metavar="FILE"),
    "json": CHOICES["json"],
}


@partial(takes_sheet, options=PANEL_OPTIONS)
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

    given = {name: context.params[name] for name in PANEL_SETTINGS if typed(context, name)}
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


BATTERY_OPTIONS: Options = {
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


@partial(takes_sheet, options=BATTERY_OPTIONS)
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
