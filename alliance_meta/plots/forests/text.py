"""The words of a forest plot: headers, labels, the lines under it, its description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.plots.sheet.axis import is_correlation, to_reader
from alliance_meta.tables.format import (
    brief,
    format_df,
    format_estimate,
    format_interval,
    format_level,
    format_number,
    format_p,
    format_percent,
)

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults

AXIS_LABELS = {
    "ZCOR": "Correlation r (Fisher z scale)",
    "COR": "Correlation r",
    "UCOR": "Correlation r, bias-corrected",
}
SCALES = {"ZCOR": "z scale", "COR": "r scale", "UCOR": "r scale"}
ROB_LEGEND = "Risk of bias: L low, S some concerns, H high"
UNCLEAR = "?"

level_text = format_level


def header(name: str) -> str:
    """Return a column's name as a reader's header."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def axis_label(measure: str) -> str:
    """Return the label under the axis."""
    return AXIS_LABELS.get(measure, "Effect size")


def estimate_header(measure: str, level: float) -> str:
    """Return the header over the printed estimates."""
    name = "r" if is_correlation(measure) else "Effect"
    return f"{name} [{format_level(level)} CI]"


def prediction_label(level: float) -> str:
    """Return the label of the prediction interval."""
    return f"{format_level(level)} prediction interval"


def cell(value: Any) -> str:
    """Return a moderator's value as text; a missing one is empty."""
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        return brief(value).replace("-", "−")
    return str(value)


def effect_text(measure: str, row: Mapping[str, Any]) -> str:
    """Return the estimate of a row with its confidence interval, as a reader sees it."""
    names = ("r", "r_lb", "r_ub") if is_correlation(measure) else ("yi", "ci_lb", "ci_ub")
    return format_estimate(*(row.get(name, math.nan) for name in names), leading_zero=not is_correlation(measure))


def bottom(fit: RandomEffectsResults, level: float, *, simple: bool) -> list[str]:
    """Return heterogeneity and, with moderators, their test."""
    lines = [heterogeneity(fit, level, simple=simple)]
    if not simple:
        lines.append(f"Test of moderators: {test_text(fit.QM, fit.QMdf, fit.QMp)}")
    return lines


def heterogeneity(fit: RandomEffectsResults, level: float, *, simple: bool) -> str:
    """Return Q, tau with its interval, and I2 in one line."""
    if fit.QEdf < 1:
        studies = "one study" if fit.k == 1 else f"{fit.k} studies and {fit.p} coefficients"
        return f"Heterogeneity cannot be estimated from {studies}"
    parts = [f"Q({fit.QEdf}) = {format_number(fit.QE)}, {format_p(fit.QEp, name='p')}"]
    if fit.method != "EE":
        scale = SCALES.get(fit.effects.measure, "scale of the effects")
        parts.append(f"τ = {_tau(fit, level)} ({scale})")
    parts.append(f"I² = {format_percent(fit.I2)}")
    return f"{'Heterogeneity' if simple else 'Residual heterogeneity'}: {'; '.join(parts)}"


def _tau(fit: RandomEffectsResults, level: float) -> str:
    interval = fit.confint_tau2(kind="QP", level=level)
    lb, ub = (math.sqrt(bound) if bound >= 0 else math.nan for bound in (interval.lb, interval.ub))
    return format_estimate(math.sqrt(fit.tau2), lb, ub, leading_zero=True)


def test_text(stat: float, df: Any, pval: float) -> str:
    """Return a test as F(m, df) or χ²(m), with its p."""
    first, second = df if isinstance(df, tuple) else (df, None)
    name = f"χ²({format_df(first)})" if second is None else f"F({format_df(first)}, {format_df(second)})"
    return f"{name} = {format_number(stat)}, {format_p(pval, name='p')}"


def description(fit: RandomEffectsResults, level: float, *, simple: bool) -> str:
    """Return a text alternative: what the plot shows, for readers who cannot see it."""
    measure = fit.effects.measure
    noun = "study" if fit.k == 1 else "effects" if len(set(fit.effects.study_id)) < fit.k else "studies"
    label = "SYNTHETIC DATA, made up for teaching. " if fit.effects.provenance.synthetic else ""
    text = f"{label}Forest plot of {fit.k} {noun} with confidence intervals at {format_level(level)}."
    if not simple:
        return f"{text} Fitted values of the model {fit.design.formula} ({fit.model_label}) are drawn as diamonds."
    row = fit.predict(level=level).iloc[0]
    zero = not is_correlation(measure)
    values = {name: to_reader(float(row[name]), measure) for name in row.index if name != "se"}
    name = "Pooled effect" if zero else "Pooled r"
    pooled = format_estimate(values["pred"], values["ci_lb"], values["ci_ub"], leading_zero=zero)
    text += f" {name} = {pooled} ({fit.model_label})."
    if not math.isnan(values["pi_lb"]):
        interval = format_interval(values["pi_lb"], values["pi_ub"], leading_zero=zero)
        text += f" {prediction_label(level)} {interval}."
    return text
