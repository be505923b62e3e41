"""The words of a forest plot of dependent effects."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.nests import Nest, model_of
from alliance_meta.plots.sheet.axis import is_correlation, to_reader
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.tables.format import (
    format_count,
    format_df,
    format_estimate,
    format_interval,
    format_number,
    format_p,
    format_percent,
)

MOST_COMPONENTS = 4


def bottom(fit: Any, groups: Nest, level: float, *, simple: bool, beside: bool) -> list[str]:
    """Return heterogeneity, the test of moderators, how coefficients are tested, and what the diamonds are."""
    lines = [heterogeneity(fit, level, simple=simple)]
    if not simple:
        lines.append(f"Test of moderators: {forest_text.test_text(fit.QM, fit.QMdf, fit.QMp)}")
    if isinstance(fit, RobustResults):
        df = f", t({format_df(float(fit.ddf[0]))})" if simple and math.isfinite(fit.ddf[0]) else ""
        clusters = f"{format_count(fit.n_clusters)} clusters by {fit.cluster}"
        lines.append(f"Cluster-robust inference: {fit.type}, {clusters}{df}")
    text = forest_text.level_text(level)
    model = model_of(fit)
    if simple and isinstance(model, MultilevelResults) and any(term.n == model.k for term in model.random):
        lines.append("Prediction interval: the true effect of a new row (outcome, rater, time) in a new study")
    if groups.marks is not None:
        lines.append(
            "Grey diamonds of studies (numbers where a study has several effects): mean true effect that the model "
            f"predicts (BLUP), {text} interval"
        )
    if beside:
        lines.append(f"Grey diamonds beside effects: fitted values with their {text} confidence intervals")
    return lines


def heterogeneity(fit: Any, level: float, *, simple: bool) -> str:
    """Return the heterogeneity of the model behind a fit in one line."""
    model = model_of(fit)
    if isinstance(model, RandomEffectsResults):
        return forest_text.heterogeneity(model, level, simple=simple)
    name = "Heterogeneity" if simple else "Residual heterogeneity"
    parts = []
    if hasattr(model, "QEp") and not math.isnan(model.QE):
        parts.append(f"Q({format_df(model.QEdf)}) = {format_number(model.QE)}, {format_p(model.QEp, name='p')}")
    scale = forest_text.SCALES.get(fit.effects.measure, "scale of the effects")
    spread = _spread(model)
    if spread:
        parts.append(f"{spread} ({scale})")
    I2: Any = getattr(model, "I2", NotApplicable("none"))
    if isinstance(model, LocationScaleResults):
        parts.append(f"I² = {_range(model.I2, format_percent)}")
    elif not math.isnan(I2):
        parts.append(f"I² = {format_percent(I2)}{_shares(model)}")
    return f"{name}: {'; '.join(parts)}"


def _range(values: Array, write: Callable[[float], str]) -> str:
    """Return the least and the largest of the studies' values, one where they agree."""
    least, most = write(float(np.min(values))), write(float(np.max(values)))
    return least if least == most else f"{least} to {most}"


def _spread(model: Any) -> str:
    """Return the standard deviations of true effects, by level."""
    if isinstance(model, LocationScaleResults):
        return f"τ = {_range(model.tau, format_number)}"
    if isinstance(model, RVEResults):
        if math.isnan(model.tau):
            return ""
        if math.isnan(model.omega2):
            return f"τ = {format_number(model.tau)}"
        return f"τ = {format_number(model.tau)} between, ω = {format_number(math.sqrt(model.omega2))} within clusters"
    found = {name: row for name, row in model.components["estimate"].items() if not str(name).startswith("rho")}
    if len(found) > MOST_COMPONENTS:
        return f"{len(found)} variances, see the model"
    return ", ".join(
        f"{'σ' if str(name).startswith('sigma2') else 'τ'} = {format_number(math.sqrt(float(value)))} "
        f"{_level(model, str(name).partition('[')[2].removesuffix(']'))}"
        for name, value in found.items()
    )


def _level(model: MultilevelResults, name: str) -> str:
    """Return between or within what a random term lets true effects vary."""
    rows = {term.name for term in model.random if term.n == model.k and not term.within}
    if name in rows:
        return "within studies" if len(model.random) > 1 else "between effects"
    if "|" in name:
        return f"({name.rpartition(': ')[2]})"
    return "between studies" if name == "study_id" else f"between {name}"


def _shares(model: Any) -> str:
    if not isinstance(model, MultilevelResults):
        return ""
    shown = {name: value for name, value in model.I2_levels.items() if name != "total"}
    levels = [f"{_level(model, str(name)).removesuffix(' studies')} {format_percent(v)}" for name, v in shown.items()]
    return f" ({', '.join(levels)})" if 1 < len(levels) <= MOST_COMPONENTS else ""


def description(fit: Any, groups: Nest, level: float, *, simple: bool) -> str:
    """Return a text alternative: what the plot shows, for readers who cannot see it."""
    measure = fit.effects.measure
    label = "SYNTHETIC DATA, made up for teaching. " if fit.effects.provenance.synthetic else ""
    effects = f"{fit.k} effect{'s' if fit.k != 1 else ''}"
    studies = f"{groups.clusters.n} {'study' if groups.clusters.n == 1 else 'studies'}"
    text = f"{label}Forest plot of {effects} in {studies} with intervals at {forest_text.level_text(level)}."
    if not simple:
        return f"{text} Fitted values of the model {fit.design.formula} ({fit.model_label}) are drawn as diamonds."
    row = fit.predict(level=level).iloc[0]
    zero = not is_correlation(measure)
    names = ("pred", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
    values = {name: to_reader(float(row[name]), measure) for name in names}
    pooled = format_estimate(values["pred"], values["ci_lb"], values["ci_ub"], leading_zero=zero)
    text += f" {'Pooled effect' if zero else 'Pooled r'} = {pooled} ({fit.model_label})."
    if not math.isnan(values["pi_lb"]):
        interval = format_interval(values["pi_lb"], values["pi_ub"], leading_zero=zero)
        text += f" {forest_text.prediction_label(level)} {interval}."
    return text
