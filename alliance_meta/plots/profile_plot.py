"""The profile of the likelihood over tau2: how sharply the data tell the between-study variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.univariate.peaks import turning_points
from alliance_meta.core.univariate.searches import log_likelihood
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.errors import InputError
from alliance_meta.options import check_level
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.profiles_plot import profiles, profiles_data
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import (
    DASHED,
    DOTTED,
    POINT,
    Chart,
    Sheet,
    across,
    left_margin,
    make_sheet,
    render,
    upright,
)
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import INK, SUMMARY
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import check_fit
from alliance_meta.sensitivity.profiles import ProfileLikelihood
from alliance_meta.tables.format import format_interval, format_level, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from alliance_meta.results.random_effects import RandomEffectsResults
    from alliance_meta.results.teststats import Interval

WIDTH, HEIGHT = 5.5, 4.2
STEPS = 201
BEYOND = 0.12


def profile_data(
    fit: RandomEffectsResults | MultilevelResults | ProfileLikelihood,
    *,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the profile of the (restricted) log-likelihood over tau2, the between-study variance.

    Parameters
    ----------
    fit : RandomEffectsResults
        Fitted with ``method="ML"`` or ``"REML"``. For a multilevel model see `profiles_data`.
    level : float, optional
        Confidence level of the interval; the model's by default.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind``: curve (201 points around the interval and every peak, and the valleys between peaks), maximum (the
        estimate), peak (every other one), lower and upper (the limits of ``fit.confint_tau2(kind="PL")``); ``tau2``
        on the analysis scale and its ``loglik``.
        ``.attrs["cutoff"]`` is the log-likelihood that the interval's values reach.

    Raises
    ------
    InputError
        An estimator that maximises no likelihood, or a tau2 that was given.

    Notes
    -----
    The interval holds the values whose log-likelihood is less than :math:`\chi^2_{1,level} / 2` below the maximum
    (Hardy & Thompson 1996). Where that holds for 0, the lower limit is 0. R: ``profile(fit)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.profile_data(fit).set_index("kind")
    >>> bool(frame.loc["maximum", "tau2"] == fit.tau2), round(float(frame.loc["maximum", "loglik"] - fit.loglik), 9)
    (True, 0.0)
    """
    if isinstance(fit, MultilevelResults | ProfileLikelihood):
        return profiles_data(fit, level=level, title=title, show_cautions=show_cautions)
    check_fit(fit, "a profile of tau2")
    used = fit.level if level is None else level
    check_level(used)
    _check(fit)
    interval = fit.confint_tau2(kind="PL", level=used)
    lb, ub = float(interval.lb), float(interval.ub)
    turns, others = _turns(fit)
    grid = _grid(min(lb, *turns), max(ub, *turns))
    turns = [t for t in turns if t != fit.tau2]
    special_points = np.array([fit.tau2, lb, ub, *turns])
    loglik = _profile(fit, np.concatenate([grid, special_points]))
    kinds = ["curve"] * STEPS + ["maximum", "lower", "upper"] + ["peak" if t in others else "curve" for t in turns]
    rows = [
        {"kind": kind, "tau2": float(t), "loglik": float(ll)}
        for kind, t, ll in zip(kinds, [*grid, *special_points], loglik, strict=True)
    ]
    name = "Restricted log-likelihood" if fit.method == "REML" else "Log-likelihood"
    cutoff = float(loglik[STEPS]) - 0.5 * float(special.chdtri(1.0, 1.0 - used))
    scale = "" if fit.effects.measure == "GEN" else f" ({fit.effects.scale_label} scale)"
    meta = chart_meta(
        "profile", "Profile of τ²", fit.effects.provenance, title=title, show_cautions=show_cautions, notes=fit.notes
    )
    line = _line(fit, interval, used)
    if others:
        line += f"; {'another peak' if len(others) == 1 else 'other peaks'} at "
        line += " and ".join(format_number(t, _digits(fit)) for t in others)
    text = format_level(used)
    return make_chart(
        rows,
        meta
        | {
            "description": described(f"{name} over the between-study variance τ². {line}.", meta["synthetic"]),
            "axis_label": name,
            "x_label": f"Between-study variance τ²{scale}",
            "level": used,
            "model_label": fit.model_label,
            "key": [
                ["line", "Profile"],
                ["dot", "Maximum"],
                *([["ring", "Another peak"]] if others else []),
                ["dashed", f"Cut-off of the {text} interval"],
                ["dotted", "Its limits"],
            ],
            "bottom": [line],
            "cutoff": cutoff,
        },
    )


def profile(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw how likely each value of tau2, the between-study variance, makes the data.

    A narrow peak means that the data tell well how much true effects differ; a flat curve that almost any value
    would do. A maximum at the left edge is an estimate of 0. More than one peak calls for caution.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A model fitted by ML or REML, or a frame from `profile_data`. A multilevel model, or its profile, is drawn
        by `profiles`, one panel per component.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 5.5 x 4.2 inches.
    **data
        Passed to `profile_data` when a fitted model is given.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        An estimator that maximises no likelihood, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.profile(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> figure.plot_description
    'Restricted log-likelihood over the between-study variance τ². τ² = 0.0081, 95% profile-likelihood interval ...'
    """
    several = getattr(fit_or_frame, "attrs", {}).get("plot") == "profiles"
    if several or isinstance(fit_or_frame, MultilevelResults | ProfileLikelihood):
        return profiles(fit_or_frame, ax=ax, **data)
    frame = as_frame(fit_or_frame, "profile", profile_data, data)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=width, height=height, left=MARGIN)
        values = frame.loc[frame["loglik"] >= _floor(frame), "loglik"].to_numpy()
        values = np.append(values, frame.attrs["cutoff"])
        length = first.panel[3] - first.panel[2]
        yaxis = value_axis(values, measure="GEN", length=length, room=upright, zero=False)
        sheet = make_sheet(frame.attrs, width=width, height=height, left=left_margin(yaxis))
        length = sheet.panel[1] - sheet.panel[0]
        return sheet, value_axis(frame["tau2"], measure="GEN", length=length, room=across, zero=False), yaxis

    return render(frame, ax, plan, _draw, width=WIDTH, height=HEIGHT)


def _check(fit: RandomEffectsResults) -> None:
    if fit.k <= fit.p:
        raise InputError(
            f"k = {fit.k} effects and p = {fit.p} coefficients leave no likelihood of tau2 to profile; "
            "it needs more effects than coefficients"
        )
    if fit.settings.tau2 is not None:
        raise InputError("tau2 was given, not estimated: there is nothing to profile; refit without tau2=")
    if fit.method not in ("ML", "REML"):
        raise InputError(f"method={fit.method!r} maximises no likelihood; refit with method='REML' or 'ML'")


def _grid(lb: float, ub: float) -> Array:
    """Return values around the interval, evenly spaced in tau where none is negative."""
    width = ub - lb
    lowest, highest = max(min(0.0, lb), lb - 0.5 * width), ub + BEYOND * width
    if lowest < 0:
        return np.linspace(lowest, highest, STEPS)
    grid: Array = np.linspace(np.sqrt(lowest), np.sqrt(highest), STEPS) ** 2
    return grid


def _profile(fit: RandomEffectsResults, tau2: Array) -> Array:
    """Return the log-likelihood at each tau2, coefficients at their best, in one call of the batched kernel."""
    shape = (len(tau2), fit.k)
    batch = make_batch(np.broadcast_to(fit.effects.yi, shape), np.broadcast_to(fit.effects.vi, shape), fit.design.X)
    return log_likelihood(wls(batch, tau2), restricted=fit.method == "REML")


def _turns(fit: RandomEffectsResults) -> tuple[list[float], list[float]]:
    """Return where the profile turns, and which of these are peaks other than the estimate."""
    batch = make_batch(fit.effects.yi, fit.effects.vi, fit.design.X)
    tau2, _, peak = turning_points(batch, restricted=fit.method == "REML", lowest=fit.settings.tau2_min)
    nearest = int(np.abs(tau2 - fit.tau2).argmin())
    tau2[nearest] = fit.tau2
    return tau2.tolist(), np.delete(tau2[peak], int(peak[:nearest].sum())).tolist()


def _digits(fit: RandomEffectsResults) -> int:
    digits = 4 if fit.tau2 == 0 else min(8, max(2, 1 - math.floor(math.log10(abs(fit.tau2)))))
    return max(digits, 4 if fit.tau2 < 1 else 2)


def _line(fit: RandomEffectsResults, interval: Interval, level: float) -> str:
    digits = _digits(fit)
    bounds = format_interval(interval.lb, interval.ub, digits, leading_zero=True)
    text = f"τ² = {format_number(fit.tau2, digits)}, {format_level(level)} profile-likelihood interval {bounds}"
    text += f" ({fit.method}, k = {fit.k})"
    if fit.tau2 <= fit.settings.tau2_min:
        return f"{text}; maximum at the boundary"
    return f"{text}; 0 is inside, so the lower limit is the boundary" if interval.lb == 0 else text


def _floor(frame: pd.DataFrame) -> float:
    """Return the log-likelihood below which the curve would only flatten the part that matters."""
    cutoff = float(frame.attrs["cutoff"])
    return cutoff - 1.5 * (float(frame["loglik"].max()) - cutoff)


def _draw(chart: Chart, frame: pd.DataFrame) -> None:
    points = {str(row["kind"]): row for row in frame.to_dict("records") if row["kind"] not in ("curve", "peak")}
    curve = frame[(frame["kind"] != "lower") & (frame["kind"] != "upper") & (frame["loglik"] >= _floor(frame))]
    curve = curve.sort_values("tau2", kind="stable")
    y = float(chart.y(frame.attrs["cutoff"]))
    chart.rule(chart.left, chart.right, y, y, colour=SUMMARY, points=1.2, style=DASHED, zorder=2)
    for name in ("lower", "upper"):
        x = float(chart.x(points[name]["tau2"]))
        top = float(chart.y(points[name]["loglik"]))
        chart.rule(x, x, top, chart.bottom, colour=INK, points=0.9, style=DOTTED, zorder=2)
    chart.curve(chart.x(curve["tau2"].to_numpy()), chart.y(curve["loglik"].to_numpy()), points=1.6)
    for _, peak in frame[(frame["kind"] == "peak") & (frame["loglik"] >= _floor(frame))].iterrows():
        chart.circles(
            [float(chart.x(peak["tau2"]))], [float(chart.y(peak["loglik"]))], [0.05], fill="white", edge=POINT
        )
    best = points["maximum"]
    x, top = float(chart.x(best["tau2"])), float(chart.y(best["loglik"]))
    chart.circles([x], [top], [0.05], fill=POINT, zorder=5)
