"""Prior and posterior of one quantity in one picture: what the data have added."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.marginals import KINDS, TANH, Marginal, TransformedMarginal
from alliance_meta.bayes.priors.predictions import prior_of
from alliance_meta.errors import InputError
from alliance_meta.options import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, curve_rows
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.tables.format import format_interval, format_level, format_number, format_p

WIDTH, HEIGHT = 5.5, 3.9
STEPS = 321
# The curves reach to these quantiles.
ENDS, PRIOR_ENDS = (5e-4, 1.0 - 5e-4), (0.05, 0.95)
# The prior may widen the axis by this many times the reach of the posterior on either side.
WIDER = 1.0
SMALL_R = 0.1
PlotScale = Literal["z", "r"]
# A probability before the data, where there is one, and after.
Pair = tuple[float | None, float]


def posterior_data(
    fit: Any,
    *,
    what: str = "mu",
    scale: PlotScale | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the densities of one quantity before and after the data.

    Parameters
    ----------
    fit : BayesianResults or BayesianMultilevelResults
    what : str
        ``"mu"``, a coefficient, ``"tau"`` (of three levels ``"tau[<term>]"``), ``"theta_new"`` or
        ``"theta[<label>]"``.
    scale : {"z", "r"}, optional
        For correlations on Fisher's z. By default equal steps of z along an axis that is labelled in r; ``"r"``: equal
        steps of r, and the density per unit of r; ``"z"``: labelled in z.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: posterior and prior (``density`` by `x`; no prior where it is improper), lower, median and upper of
        the posterior; ``r`` is `x` as a correlation. ``.attrs["chances"]``: probabilities before and after the data.

    Raises
    ------
    InputError
        Another result, a quantity that it does not have, or a scale that it has not.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.posterior_data(fit)
    >>> frame.set_index("kind").loc[["lower", "median", "upper"], "r"].round(3).tolist()
    [0.082, 0.147, 0.218]
    """
    after, before, measure, label = _read(fit, what, scale)
    which = fit.priors.which(what)
    what = what if which is None else fit.priors.tau_names[which]
    x = _grid(after, before)
    limits = after.interval(level=fit.level, kind=fit.interval)
    rows = curve_rows("posterior", x, after.pdf(x))
    if before is not None:
        rows += curve_rows("prior", x, before.pdf(x))
    marks = {"lower": limits.lb, "median": limits.estimate, "upper": limits.ub}
    rows += [{"kind": kind, "x": a, "density": float(after.pdf(a))} for kind, a in marks.items()]
    if is_correlation(measure):
        rows = [row | {"r": to_reader(float(row["x"]), measure)} for row in rows]
    name = f"Posterior of {what}"
    text = format_level(fit.level)
    said = _estimate([limits.estimate, limits.lb, limits.ub], measure)
    lines = [f"Posterior: median and {text} {KINDS[fit.interval]} interval {said}"]
    chances = _chances(after, before, what, measure)
    lines += [f"P({one}): {_both(*pair)}" for one, pair in chances.items()]
    lines += _prior_line(fit, what, drawn=before is not None)
    return chart_frame(
        "posterior", name, rows, fit.effects.provenance, notes=fit.notes, title=title, show_cautions=show_cautions,
        said=f"{name}. {'. '.join(lines)}.", measure=measure, axis_label="Density", x_label=label, level=fit.level,
        key=[["line", "Posterior"], ["ci", f"{text} interval"], *([["dashed", "Prior"]] if before else [])],
        bottom=lines, what=what, chances={one: list(pair) for one, pair in chances.items()},
    )  # fmt: skip


def posterior(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw prior and posterior of one quantity: what was plausible before the data, and what is now.

    Where both curves are alike the data said little; where they hardly overlap, prior and data disagree.

    Parameters
    ----------
    fit_or_frame : BayesianResults, BayesianMultilevelResults or DataFrame
        A fit, or a frame from `posterior_data`.
    ax, **data
        As in `caterpillar`, and so is what is returned.

    Raises
    ------
    InputError
        Another result, an unknown quantity, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.posterior(fit, what="tau").plot_description
    'Posterior of tau. Posterior: median and 95% equal-tailed interval 0.096 [0.040, 0.185]. Prior: half-normal(0.3).'
    """
    frame = as_frame(fit_or_frame, "posterior", posterior_data, data)
    after = frame.loc[frame["kind"] != "prior", "density"].max()
    # A prior may tower over a posterior where they disagree; it may not crush it.
    before = frame.loc[frame["kind"] == "prior", "density"].max()
    top = max(float(after), min(float(before), 2.0 * float(after))) if before == before else float(after)
    curves = {str(kind): one for kind, one in frame.groupby("kind")}
    x, density = (curves["posterior"][name].to_numpy() for name in ("x", "density"))
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        chart.effects("x", frame["x"])
        chart.numbers("y", [0.0, top], floor=0.0)
        ends = np.array([curves[kind][["x", "density"]].iloc[0] for kind in ("lower", "upper")])
        inner = (x > ends[0, 0]) & (x < ends[1, 0])
        filled = np.vstack([ends[:1], np.column_stack([x[inner], density[inner]]), ends[1:]])
        chart.area(chart.shown(filled[:, 0]), 0.0, filled[:, 1], "ci")
        if "prior" in curves:
            chart.line(chart.shown(curves["prior"]["x"]), curves["prior"]["density"], "dashed")
        chart.line(chart.shown(x), density, "line")
        chart.dots(chart.shown(curves["median"]["x"]), curves["median"]["density"])
    return chart.made


def _read(fit: Any, what: str, scale: PlotScale | None) -> tuple[Marginal, Marginal | None, str, str]:
    """Return the posterior, the prior, the measure of the axis and its label."""
    if not isinstance(fit, Quantities):
        raise InputError(f"posterior_data needs the result of a Bayesian model, not {type(fit).__name__}")
    if scale is not None:
        check_option("scale", scale, PlotScale)
    taus = fit.priors.tau_names
    if what in ("tau", "tau2", "I2", "icc") and what not in taus:
        raise InputError(f"{what} has no prior of its own that could be drawn; draw {' or '.join(taus)}")
    after = fit.posterior(what)
    before = prior_of(fit, what)
    effect = what in ("mu", "theta_new") or what.startswith("theta[")
    measure = fit.effects.measure if effect else "GEN"
    of_tau = what == "tau" or what.startswith("tau[")
    if scale is not None and not (measure == "ZCOR" or (scale == "z" and fit.effects.measure == "ZCOR")):
        raise InputError(f"scale={scale!r}: {what} on the scale {fit.effects.scale_label!r} cannot be shown so")
    if not effect:
        shown = what.replace("tau", "τ", 1) if of_tau else what
        return after, before, "GEN", f"{shown} ({fit.effects.scale_label} scale)"
    new = "" if what == "mu" else " of a new study" if what == "theta_new" else f" of {what[6:-1]}"
    label = parts.axis_label(measure) if not new else f"True {_lower(parts.axis_label(measure), new)}"
    if scale == "r":
        after = TransformedMarginal(after.name, after, TANH)
        before = None if before is None else TransformedMarginal(before.name, before, TANH)
        return after, before, "COR", f"True correlation r{new}" if new else "Correlation r"
    if scale == "z":
        return after, before, "GEN", f"True effect{new} (Fisher z)" if new else "Mean effect (Fisher z)"
    return after, before, measure, label


def _lower(label: str, new: str) -> str:
    """Return ``correlation r of a new study (Fisher z scale)``."""
    head, bracket, rest = label.partition(" (")
    return f"{head[:1].lower()}{head[1:]}{new}{bracket}{rest}"


def _grid(after: Marginal, before: Marginal | None) -> Any:
    low, high = (float(one) for one in after.quantile(ENDS))
    low = max(low, after._lowest)
    if before is not None:
        reach = WIDER * (high - low)
        start, stop = (float(one) for one in before.quantile(PRIOR_ENDS))
        low, high = min(low, max(start, low - reach)), max(high, min(stop, high + reach))
    if after._lowest == 0.0:
        # Just beside 0, where the density of a standard deviation begins.
        low = 1e-9 * high
    return np.linspace(low, high, STEPS)


def _chances(
    after: Marginal, before: Marginal | None, what: str, measure: str
) -> dict[str, tuple[float | None, float]]:
    """Return probabilities that a reader asks for, before and after the data."""
    if what == "tau" or what.startswith("tau["):
        return {}
    limits = {"> 0": 0.0}
    name = "r" if is_correlation(measure) else what
    if is_correlation(measure):
        limits["> .1"] = float(np.arctanh(SMALL_R)) if measure == "ZCOR" else SMALL_R
    return {
        f"{name} {text}": (None if before is None else float(before.sf(limit)), float(after.sf(limit)))
        for text, limit in limits.items()
    }


def _prior_line(fit: Any, what: str, *, drawn: bool) -> list[str]:
    """Return the prior in words, where a single one is behind the quantity."""
    known = fit.priors.named
    if drawn:
        return [f"Prior: {known[what]}"] if what in known else []
    return [f"The prior ({known[what]}) is improper and not drawn" if what in known else "The prior is improper"]


def _both(before: float | None, after: float) -> str:
    # Probabilities are written as p-values are, so that rounding never claims certainty.
    now = f"{format_p(after)} after"
    return now if before is None else f"{format_p(before)} before the data, {now}"


def _estimate(values: list[float], measure: str) -> str:
    """Return an estimate with its limits as a reader sees them, to three digits."""
    estimate, lower, upper = (to_reader(float(one), measure) for one in values)
    zero = not is_correlation(measure)
    largest = max(abs(one) for one in (estimate, lower, upper))
    digits = max(3, 2 - math.floor(math.log10(largest))) if largest > 0 and zero else 3
    interval = format_interval(lower, upper, digits, leading_zero=zero)
    return f"{format_number(estimate, digits, leading_zero=zero)} {interval}"
