"""Priors before the data, and what other priors would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.predictions import ROWS, PriorPredictive
from alliance_meta.bayes.priors.prior import EffectPrior, Prior, TauPrior
from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, curve_rows, estimate_key, make_chart, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.tables.format import format_interval, format_level, format_number, plural

WIDTH, HEIGHT = 5.5, 3.7
STEPS = 321
MARKS = ("line", "dashed", "dotted", "pale", "pale dashed", "hair")
PROBABILITIES = (0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975)
# The axis ends at this quantile, or where a heavy tail has gone this many medians.
MOST, LONGEST = 0.995, 6.0
# A heavy-tailed density of a correlation grows without limit near -1 and 1.
WITHIN_R, FARTHEST_R, HIGHER = 0.9, 0.98, 1.5
LAST_R = 0.995
Scale = Literal["z", "r"]


def prior_data(
    priors: Prior | Sequence[Prior] | Mapping[str, Prior], *, scale: Scale = "z", title: str | None = None
) -> pd.DataFrame:
    """Return the densities of priors and their quantiles.

    Parameters
    ----------
    priors : Prior, or sequence or mapping of str to Prior
        One to six proper priors, all of tau or all of an effect; the keys of a mapping are their labels.
    scale : {"z", "r"}
        ``"r"``: the prior of an effect on Fisher's z as one of correlations.
    title : str, optional
        Title for the saved file; not drawn.

    Returns
    -------
    DataFrame
        ``kind``: density (``x density``, by ``label``) and quantile (``p x``, with the ``density`` there).

    Raises
    ------
    InputError
        No prior or more than six, an improper one, priors of tau and of effects together, or tau as a correlation.

    Examples
    --------
    >>> from alliance_meta import plots, priors
    >>> frame = plots.prior_data([priors.HalfNormal(0.3), priors.HalfCauchy(0.15)])
    >>> frame[frame["kind"] == "quantile"].set_index(["label", "p"])["x"].xs(0.95, level="p").round(2).to_dict()
    {'half-normal(0.3)': 0.59, 'half-Cauchy(0.15)': 1.91}
    """
    named = _named(priors)
    check_option("scale", scale, Scale)
    of_tau = isinstance(next(iter(named.values())), TauPrior)
    if of_tau and scale == "r":
        raise InputError("scale='r': tau is a standard deviation on Fisher's z and no correlation")
    low, high = _limits(list(named.values()), of_tau)
    grid = _within_r() if scale == "r" else np.linspace(low, high, STEPS)
    rows, bottom = [], []
    for label, prior in named.items():
        x, density = _density(prior, grid, scale)
        at = prior.quantile(PROBABILITIES)
        shown = np.tanh(at) if scale == "r" else at
        rows += _rows(label, x, density, shown, _density_at(prior, shown, scale))
        bottom.append(_line(label, prior, dict(zip(PROBABILITIES, shown.tolist(), strict=True)), (low, high), scale))
    effect = "Correlation r" if scale == "r" else "Effect, analysis scale"
    return make_chart(
        rows,
        {
            "plot": "prior",
            "title": title if title is not None else f"Prior: {', '.join(named)}",
            "description": f"Prior density. {'. '.join(bottom)}.",
            "measure": "COR" if scale == "r" else "GEN",
            "axis_label": "Density",
            "x_label": "τ, the standard deviation between studies" if of_tau else effect,
            "key": [[mark, label] for mark, label in zip(MARKS, named, strict=False)],
            "bottom": bottom,
        },
    )


def prior(priors_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the density of one prior, or of several to compare them.

    The higher the curve, the more plausible the value before data are seen.

    Parameters
    ----------
    priors_or_frame : Prior, sequence or mapping of Prior, or DataFrame
        One to six priors, or a frame from `prior_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import plots, priors
    >>> plots.prior(priors.HalfNormal(0.3)).plot_description
    'Prior density. half-normal(0.3): median 0.20, 95% below 0.59.'
    """
    return _draw(as_frame(priors_or_frame, "prior", prior_data, data), ax)


def prior_predictive_data(result: PriorPredictive, *, title: str | None = None) -> pd.DataFrame:
    """Return the densities of what priors say of a mean, a new study and its result.

    Parameters
    ----------
    result : PriorPredictive
        From `bayes.prior_predictive`.
    title : str, optional
        Title for the saved file; not drawn.

    Returns
    -------
    DataFrame
        ``kind``: density (``x density``, by ``label``) and quantile (``p x``, with the ``density`` there).

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import bayes, plots
    >>> frame = plots.prior_predictive_data(bayes.prior_predictive())
    >>> frame.loc[frame["p"] == 0.975, ["label", "x"]].round(2).values.tolist()
    [['Mean correlation', 0.75], ['True correlation in a new study', 0.82]]
    """
    if not isinstance(result, PriorPredictive):
        raise InputError(f"prior_predictive_data needs the result of bayes.prior_predictive, not {_kind(result)}")
    named = {name: result.prior(name) for name in ROWS[result.scale] if name != "yi" or result.n is not None}
    rows, bottom = [], []
    correlation = result.scale == "r"
    widest = max(float(one.quantile(MOST)) for one in named.values())
    lowest = min(float(one.quantile(1.0 - MOST)) for one in named.values())
    x = _within_r() if correlation else np.linspace(lowest, widest, STEPS)
    for name, one in named.items():
        label = ROWS[result.scale][name].capitalize() + (f", n = {result.n}" if name == "yi" else "")
        at = one.quantile(PROBABILITIES)
        rows += _rows(label, x, one.pdf(x), at, one.pdf(at))
        half, most = ([float(at[i]), float(at[-1 - i])] for i in (2, 0))
        inside = [_words(one, correlation=correlation) for one in (half, most)]
        bottom.append(f"{label}: half in {inside[0]}, 95% in {inside[1]}")
    names = [row["label"] for row in rows[:: len(x) + len(PROBABILITIES)]]
    given = f"Priors: mean effect {result.mu_prior}; τ {result.tau_prior}"
    return make_chart(
        rows,
        {
            "plot": "prior_predictive",
            "title": title if title is not None else f"Before data: {result.mu_prior}, {result.tau_prior}",
            "description": f"Prior densities. {given}. {'. '.join(bottom)}.",
            "measure": "COR" if correlation else "GEN",
            "axis_label": "Density",
            "x_label": "Correlation r" if correlation else "Effect",
            "key": [[mark, name] for mark, name in zip(MARKS, names, strict=False)],
            "bottom": [*bottom, given],
        },
    )


def prior_predictive(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw which correlations priors hold to be plausible.

    Parameters
    ----------
    result_or_frame : PriorPredictive or DataFrame
        From `bayes.prior_predictive`, or a frame from `prior_predictive_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import bayes, plots
    >>> plots.prior_predictive(bayes.prior_predictive()).plot_title
    'Before data: normal(0, 0.5), half-normal(0.3)'
    """
    return _draw(as_frame(result_or_frame, "prior_predictive", prior_predictive_data, data), ax)


def _rows(label: str, x: Array, density: Array, at: Array, height: Array) -> list[dict[str, Any]]:
    """Return the curve of one prior, and its quantiles."""
    found = zip(PROBABILITIES, curve_rows("quantile", at, height, label=label), strict=True)
    return curve_rows("density", x, density, label=label) + [{**row, "p": p} for p, row in found]


def _named(priors: Any) -> dict[str, Prior]:
    if isinstance(priors, Mapping):
        named = {str(label): one for label, one in priors.items()}
    else:
        several = [priors] if isinstance(priors, Prior) else list(priors) if isinstance(priors, Sequence) else [priors]
        named = {str(one): one for one in several}
    wrong = [one for one in named.values() if not isinstance(one, Prior)]
    if wrong or not named or len(named) > len(MARKS):
        found = f"{_kind(wrong[0])}" if wrong else f"{len(named)}"
        raise InputError(f"prior_data draws one to {len(MARKS)} different priors of am.priors, not {found}")
    if len({isinstance(one, TauPrior) for one in named.values()}) > 1:
        raise InputError("priors of tau and priors of effects do not share an axis; draw them one after the other")
    for one in named.values():
        if not one.proper:
            raise InputError(f"{one} is improper: its density does not integrate to 1, so that it cannot be drawn")
    return named


def _kind(value: object) -> str:
    return type(value).__name__


def _limits(priors: Sequence[Prior], of_tau: bool) -> tuple[float, float]:
    """Return the ends of the axis: where little is left, or where heavy tails have become thin."""
    if of_tau:
        far = [min(float(one.quantile(MOST)), LONGEST * float(one.quantile(0.5))) for one in priors]
        return 0.0, max(far)
    lows, highs = [], []
    for one in priors:
        lower, median, upper = (float(q) for q in one.quantile([0.25, 0.5, 0.75]))
        outer = [float(q) for q in one.quantile([1.0 - MOST, MOST])]
        lows.append(max(outer[0], median - LONGEST * (median - lower)))
        highs.append(min(outer[1], median + LONGEST * (upper - median)))
    return min(lows), max(highs)


def _density(prior: Prior, grid: Array, scale: Scale) -> tuple[Array, Array]:
    """Return the density on the grid, with an upright edge where the support ends."""
    upper = prior.upper if isinstance(prior, TauPrior) else np.inf
    if not upper < grid[-1]:
        return grid, _density_at(prior, grid, scale)
    x = np.concatenate([grid[grid < upper], [upper, upper, grid[-1]]])
    density = _density_at(prior, x, scale)
    density[-2:] = 0.0
    return x, density


def _density_at(prior: Prior, x: Array, scale: Scale) -> Array:
    if scale == "z":
        return prior.pdf(x)
    return prior.pdf(np.arctanh(x)) / (1.0 - x**2)


def _line(label: str, prior: Prior, at: dict[float, float], ends: tuple[float, float], scale: Scale) -> str:
    """Return a prior in one sentence."""
    of_tau, correlation = isinstance(prior, TauPrior), scale == "r"
    beyond = 1.0 - float(prior.cdf(ends[1])) + float(prior.cdf(ends[0]))
    if of_tau:
        middle, most = (_words([at[p]], correlation=False) for p in (0.5, 0.95))
        text = f"{label}: median {middle}, 95% below {most}"
    else:
        half, outer = (_words([at[p], at[1.0 - p]], correlation=correlation) for p in (0.25, 0.025))
        text = f"{label}: half in {half}, 95% in {outer}"
    if correlation or beyond < 3.0 * (1.0 - MOST):
        return text
    return f"{text}; {format_level(round(beyond, 2))} beyond the axis"


def _words(values: list[float], *, correlation: bool) -> str:
    """Return ``.33``, or ``[-.33, .33]`` of two values; small numbers have more decimals, large ones none."""
    largest = max(abs(value) for value in values)
    digits = 0 if largest >= 100 and not correlation else 2 if correlation or largest >= 0.095 else 3
    if len(values) == 1:
        return format_number(values[0], digits, leading_zero=not correlation)
    return format_interval(values[0], values[1], digits, leading_zero=not correlation)


def _within_r() -> Array:
    """Return correlations from nearly -1 to nearly 1, closer together near both."""
    end = float(np.arctanh(LAST_R))
    return np.tanh(np.linspace(-end, end, STEPS))


def _top(frame: pd.DataFrame) -> float:
    """Return the highest density to show."""
    curve = frame[frame["kind"] == "density"]
    if frame.attrs["measure"] != "COR":
        return float(curve["density"].max())
    inner, outer = (float(curve.loc[curve["x"].abs() <= r, "density"].max()) for r in (WITHIN_R, FARTHEST_R))
    return min(outer, HIGHER * inner)


def _draw(frame: pd.DataFrame, ax: Axes | None) -> Drawn:
    curves = frame[frame["kind"] == "density"]
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        correlation = frame.attrs["plot"] == "prior_predictive" and chart.measure == "COR"
        chart.effects("x", curves["x"], (-1.0, 1.0) if correlation else None)
        chart.numbers("y", [0.0, _top(frame)], floor=0.0)
        for mark, label in frame.attrs["key"]:
            one = curves[curves["label"] == label]
            chart.line(one["x"], one["density"], mark)
    return chart.made


def _varied(table: pd.DataFrame) -> list[str]:
    """Return the columns of priors that differ between rows, or that of tau."""
    found = [name for name in table.columns if name in ("mu_prior", "tau_prior") or name.startswith("prior of ")]
    return [name for name in found if table[name].nunique() > 1] or found[1:]


def _of(column: str) -> str:
    """Return what a column of priors is about, in words."""
    names = {"mu_prior": "mean effect", "tau_prior": "τ"}
    return names.get(column, column.removeprefix("prior of ").replace("tau", "τ", 1))


def prior_sensitivity_data(
    fit: Any,
    *,
    what: str = "mu",
    tau_priors: Any = None,
    mu_priors: Sequence[EffectPrior] | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the mean effect, or tau, under several priors.

    Parameters
    ----------
    fit : BayesianResults or BayesianMultilevelResults
    what : str
        ``"mu"`` or ``"tau"``; of three levels ``"tau[<term>]"``.
    tau_priors, mu_priors : sequence of priors, optional
        As in `BayesianResults.prior_sensitivity`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        One row per combination of priors, ``label``; posterior median ``yi`` with ``ci_lb ci_ub``, for the mean effect
        with the prediction interval ``pi_lb pi_ub`` and all of it as correlations, ``r r_lb r_ub r_pi_lb r_pi_ub``.

    Raises
    ------
    InputError
        A result that has no `prior_sensitivity`, or priors that it refuses.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.prior_sensitivity_data(fit)
    >>> frame[["label", "r"]].round(3).head(2).values.tolist()
    [['half-normal(0.3)', 0.147], ['half-Cauchy(0.15)', 0.146]]
    """
    if not hasattr(fit, "prior_sensitivity"):
        raise InputError(f"prior_sensitivity_data needs the result of BayesianModel.fit, not {type(fit).__name__}")
    table = fit.prior_sensitivity(tau_priors=tau_priors, mu_priors=mu_priors)
    known = [name.removesuffix("_ci_lb") for name in table.columns if name.endswith("_ci_lb")]
    if what not in known:
        raise InputError(f"what={what!r} is not in the table of prior_sensitivity; there are {', '.join(known)}")
    mean = what == "mu"
    measure = fit.effects.measure if mean else "GEN"
    named = _varied(table)
    rows = []
    for row in table.to_dict("records"):
        label = "; ".join(str(row[name]) for name in named)
        numbers = {"yi": row[what], "ci_lb": row[f"{what}_ci_lb"], "ci_ub": row[f"{what}_ci_ub"]}
        if mean:
            numbers |= {"pi_lb": row["pi_lb"], "pi_ub": row["pi_ub"]}
        rows.append(with_r(measure, {"kind": "prior", "label": label} | {n: float(v) for n, v in numbers.items()}))
    text = f"{format_level(fit.level)} {KINDS['eti']} interval"
    name = "Mean effect" if mean else what.replace("tau", "τ", 1)
    values = "; ".join(f"{row['label']} {parts.effect_text(measure, row)}" for row in rows)
    own = fit.posterior(what).interval(level=fit.level)
    one = "" if "mu_prior" in named else f"; prior of the mean effect: {table['mu_prior'].iloc[0]}"
    level = format_level(fit.level)
    return chart_frame(
        "prior_sensitivity", "The same data with other priors", rows, fit.effects.provenance, notes=fit.notes,
        title=title, show_cautions=show_cautions, said=f"{name} by prior, {text}: {values}.", measure=measure,
        axis_label=f"Prior{'s' if len(named) > 1 else ''} of {'; '.join(_of(one) for one in named)}",
        x_label=parts.axis_label(measure) if mean else f"{name} ({fit.effects.scale_label} scale)",
        level=fit.level,
        key=[*estimate_key(name, text, rows, level), ["pi", "As fitted"]],
        bottom=[f"{plural(fit.k, 'effect')}{one}"],
        value_label=f"{'r' if 'r' in rows[0] else 'Effect' if mean else 'τ'} [{level}]",
        reference=[own.estimate, own.lb, own.ub],
    )  # fmt: skip


def prior_sensitivity(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw what other priors would have given, one row per combination.

    Rows in one line mean that the conclusion does not rest on the prior. The band is the result as fitted.

    Parameters
    ----------
    fit_or_frame : BayesianResults, BayesianMultilevelResults or DataFrame
        A fit, or a frame from `prior_sensitivity_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.prior_sensitivity(fit).plot_description
    'Mean effect by prior, 95% equal-tailed interval: half-normal(0.3) .15 [.08, .22]; ...'
    """
    frame = as_frame(fit_or_frame, "prior_sensitivity", prior_sensitivity_data, data)
    return draw_rows(frame, ax, xlim)
