"""The profile of the likelihood over tau2: how sharply the data tell the between-study variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.marginals import Posterior
from alliance_meta.core.mixed.profile import ProfileCurve
from alliance_meta.core.univariate.search import log_likelihood, turning_points
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Chart, Drawn, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import cut, line_height, size_in_inches, wrap
from alliance_meta.results.fit import Fit
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.sensitivity.likelihood import ProfileLikelihood
from alliance_meta.sensitivity.likelihood import profile as likelihoods
from alliance_meta.tables.format import format_interval, format_level, format_number, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from alliance_meta.results.coefficients import Interval

PANEL_WIDTH, PANEL_HEIGHT = 2.4, 1.5
NARROWEST = 1.8
GAP_ACROSS = 0.3
MOST_ACROSS = 3
TITLE_LINES = 2
# Room beside a panel for its ticks and their label, above for its title and interval, and below for its ticks.
LEFT = 0.62
HEAD = (TITLE_LINES + 1.6) * line_height(SMALL)
TAIL = 1.9 * line_height(SIZE)
# The curve is shown down to so many times the depth of the cut-off.
DEPTH = 2.0
POINTS = 41
SHAPES = {
    "edge": "falls from the edge of its range",
    "flat": "is flat on one side: not identified",
    "higher": "is higher elsewhere than at the estimate",
    "several": "has more than one peak",
}


def profiles_data(
    result: Fit | ProfileLikelihood,
    *,
    level: float | None = None,
    points: int = POINTS,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the profile log-likelihood of every variance and correlation of a multilevel model.

    Parameters
    ----------
    result : MultilevelResults, RobustResults or ProfileLikelihood
        A fitted model (under robust standard errors the model itself), or what `sensitivity.profile` made of one. For a
        random-effects model see `profile_data`, whose frame is then returned.
    level, points
        For a fitted model: passed to `sensitivity.profile`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: curve (points around the interval), maximum (the estimate), lower and upper (the limits of
        ``fit.confint()``, where they exist); ``label`` (the component), ``value`` and its ``loglik``.
        ``.attrs["cutoff"]`` is the log-likelihood that the values of an interval reach, ``.attrs["peak"]`` the fit's.

    Raises
    ------
    InputError
        Another kind of result.

    Warns
    -----
    NotIdentifiedWarning, ConvergenceWarning
        As `sensitivity.profile` does.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> frame = plots.profiles_data(fit, points=11)
    >>> frame[frame["kind"] == "maximum"].set_index("label")["value"].round(4).to_dict()
    {'sigma2[study_id]': 0.023, 'sigma2[study_id/es_id]': 0.0329}
    """
    result = under(result)
    if isinstance(result, RandomEffectsResults):
        _refuse_points(points)
        return profile_data(result, level=level, title=title, show_cautions=show_cautions)
    if isinstance(result, MultilevelResults):
        result = likelihoods(result, level=level, points=points)
    elif not isinstance(result, ProfileLikelihood):
        raise InputError(why_not(result))
    elif level is not None:
        raise InputError("level: give this to sensitivity.profile, which made the curves")
    fit, rows = result.fit, []
    for label, curve in result.curves.items():
        rows += [{"kind": "curve", "label": label, "value": v, "loglik": y} for v, y in _points(curve)]
        rows.append({"kind": "maximum", "label": label, "value": curve.estimate, "loglik": curve.peak})
        ends = {"lower": (curve.lb, curve.edges[0]), "upper": (curve.ub, curve.edges[1])}
        rows += [
            {"kind": kind, "label": label, "value": value, "loglik": curve.cutoff}
            for kind, (value, edge) in ends.items()
            if math.isfinite(value) and value != edge
        ]
    name = "Restricted log-likelihood" if fit.method == "REML" else "Log-likelihood"
    one = next(iter(result.curves.values()))
    text = format_level(result.level)
    lines = {label: _words(curve) for label, curve in result.curves.items()}
    odd = [f"{label} {SHAPES[c.verdict]}" for label, c in result.curves.items() if c.verdict in SHAPES]
    words = "; ".join(f"{label} {line}" for label, line in lines.items())
    about = f"{name} over each component with {text} profile-likelihood intervals. {words}."
    return chart_frame(
        "profiles", "Profiles of variances", rows, fit.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=" ".join([about, *(f"{one}." for one in odd)]),
        axis_label=f"{name}, less its maximum", level=result.level, model_label=fit.model_label,
        key=[
            ["line", "Profile"],
            ["dot", "Estimate"],
            ["dashed", f"Cut-off of the {text} interval"],
            ["dotted", "Its limits"],
        ],
        bottom=[f"{fit.model_label}, k = {fit.k}, {fit.effects.scale_label} scale", *odd], peak=one.peak,
        cutoff=one.cutoff, intervals=lines,
    )  # fmt: skip


def profiles(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how likely each value of every variance and correlation makes the data, one panel each.

    All panels have one height scale, so that the eye compares them: a narrow peak is a variance that the data tell
    well, a flat curve one that they hardly tell. Where the curve stays above the dashed line to the left edge, the
    variance may as well be 0.

    Parameters
    ----------
    fit_or_frame : MultilevelResults, ProfileLikelihood or DataFrame
        A fitted model, what `sensitivity.profile` made of one, or a frame from `profiles_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, plots
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> plots.profiles(fit, points=11).plot_description
    'Restricted log-likelihood over each component with 95% profile-likelihood intervals. sigma2[study_id] 0.0230 ...'
    """
    if not isinstance(fit_or_frame, pd.DataFrame):
        fit_or_frame, data = profiles_data(fit_or_frame, **data), {}
    if fit_or_frame.attrs.get("plot") == "profile":
        return profile(fit_or_frame, ax=ax, **data)
    frame = as_frame(fit_or_frame, "profiles", profiles_data, data)
    labels = list(dict.fromkeys(frame["label"]))
    most = min(len(labels), 2 if len(labels) == 4 else MOST_ACROSS)
    if ax is not None:
        fitting = int((size_in_inches(ax)[0] - LEFT + GAP_ACROSS) / (NARROWEST + GAP_ACROSS))
        most = max(1, min(most, fitting))
    rows = math.ceil(len(labels) / most)
    wide = NARROWEST if ax is not None else PANEL_WIDTH
    least = (LEFT + most * (wide + GAP_ACROSS) - GAP_ACROSS, rows * (HEAD + PANEL_HEIGHT + TAIL))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        panels = chart.grid(rows, [1.0] * most, left=LEFT, head=HEAD, tail=TAIL, gap=GAP_ACROSS)
        for at, panel in enumerate(panels):
            if at >= len(labels):
                panel.ax.set_visible(False)
                continue
            _panel(panel, frame[frame["label"] == labels[at]])
            if at % most:
                panel.ax.tick_params(labelleft=False)
            else:
                lines = wrap(frame.attrs["axis_label"], SMALL, PANEL_HEIGHT)
                lettered(panel.ax.yaxis.label, "\n".join(lines), SMALL)
    return chart.made


def _refuse_points(points: int) -> None:
    if points != POINTS:
        raise InputError("points: the profile of a single tau2 has points of its own; leave points away")


def under(fit: Any) -> Any:
    """Return the model under robust standard errors, whose likelihood they leave as it is, or the model."""
    return fit.fit if isinstance(fit, RobustResults) else fit


def why_not(fit: Any) -> str:
    """Return why there is no profile of variances of a result, and what to ask instead."""
    called = getattr(fit, "called", type(fit).__name__)
    if isinstance(fit, Posterior):
        mend = "fit.posterior('tau')"
        if isinstance(fit, Quantities):
            mend = f"plots.posterior(fit, what={fit.priors.tau_names[0]!r})"
        return f"{called} has a posterior of its variances, no profile: {mend} has it"
    if isinstance(fit, LocationScaleResults):
        return f"{called} has a tau2 for each effect; fit.predict_tau2() has them with their intervals"
    if isinstance(fit, Fit):
        return f"{called} maximises no likelihood of its variances; fit che() or a MultilevelModel of the same effects"
    return f"a profile needs a fitted RandomEffectsModel or MultilevelModel, not {called}; call .fit() first"


def _points(curve: ProfileCurve) -> list[tuple[float, float]]:
    return list(zip(curve.values.tolist(), curve.loglik.tolist(), strict=True))


def _words(curve: ProfileCurve) -> str:
    digits = 2 if curve.edges[1] == 1.0 else _digits_of(curve.ub if math.isfinite(curve.ub) else curve.estimate)
    value = format_number(curve.estimate, digits)
    if not math.isfinite(curve.ub):
        return f"{value} [{format_number(curve.lb, digits)}, open]"
    return f"{value} {format_interval(curve.lb, curve.ub, digits, leading_zero=True)}"


def _digits_of(value: float) -> int:
    return 2 if value >= 1 else 4 if value == 0 else min(8, max(4, 1 - math.floor(math.log10(abs(value)))))


def _depth(frame: pd.DataFrame) -> float:
    return DEPTH * (float(frame.attrs["peak"]) - float(frame.attrs["cutoff"]))


def _panel(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the profile of one component, its log-likelihood less the maximum."""
    peak, deep = float(chart.attrs["peak"]), _depth(frame)
    label = str(frame["label"].iloc[0])
    lines = [*_fitted(label, chart.size[0]), str(chart.attrs["intervals"][label])]
    lettered(chart.ax.set_title("", loc="left"), "\n".join(lines), SMALL)
    shown = frame[frame["loglik"] - peak >= -deep]
    chart.numbers("x", shown["value"])
    chart.numbers("y", [-deep, 0.0])
    cutoff = float(chart.attrs["cutoff"]) - peak
    chart.rule("y", cutoff, "dashed", zorder=2)
    for value in frame.loc[frame["kind"].isin(("lower", "upper")), "value"]:
        chart.line([value, value], [-2.0 * deep, cutoff], "dotted", zorder=2)
    curve = frame.sort_values("value", kind="stable")
    chart.line(curve["value"], curve["loglik"] - peak, "line")
    best = frame[frame["kind"] == "maximum"]
    chart.dots(best["value"], best["loglik"] - peak)


def _fitted(label: str, width: float) -> list[str]:
    """Return a component's name on at most two lines, cut where it is longer."""
    lines = list(wrap(label, SMALL, width))
    lines = [*lines[: TITLE_LINES - 1], " ".join(lines[TITLE_LINES - 1 :])] if len(lines) > TITLE_LINES else lines
    return [cut(line, SMALL, width) for line in lines]


WIDTH, HEIGHT = 5.5, 4.2
STEPS = 201
BEYOND = 0.12


def profile_data(
    fit: Fit | ProfileLikelihood,
    *,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the profile of the (restricted) log-likelihood over tau2, the between-study variance.

    Parameters
    ----------
    fit : RandomEffectsResults
        Fitted with ``method="ML"`` or ``"REML"``, also under robust standard errors. For a multilevel model see
        `profiles_data`, whose frame is then returned.
    level : float, optional
        Confidence level of the interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

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
    fit = under(fit)
    if isinstance(fit, MultilevelResults | ProfileLikelihood):
        return profiles_data(fit, level=level, title=title, show_cautions=show_cautions)
    if not isinstance(fit, RandomEffectsResults):
        raise InputError(why_not(fit))
    used = fit._level(level)
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
    line = _line(fit, interval, used)
    if others:
        line += f"; {'another peak' if len(others) == 1 else 'other peaks'} at "
        line += " and ".join(format_number(t, _digits(fit)) for t in others)
    text = format_level(used)
    return chart_frame(
        "profile", "Profile of τ²", rows, fit.effects.provenance, notes=fit.notes, title=title,
        show_cautions=show_cautions, said=f"{name} over the between-study variance τ². {line}.", axis_label=name,
        x_label=f"Between-study variance τ²{scale}", level=used, model_label=fit.model_label,
        key=[
            ["line", "Profile"],
            ["dot", "Maximum"],
            *([["ring", "Another peak"]] if others else []),
            ["dashed", f"Cut-off of the {text} interval"],
            ["dotted", "Its limits"],
        ],
        bottom=[line], cutoff=cutoff,
    )  # fmt: skip


def profile(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how likely each value of tau2, the between-study variance, makes the data.

    A narrow peak means that the data tell well how much true effects differ; a flat curve that almost any value
    would do. A maximum at the left edge is an estimate of 0. More than one peak calls for caution.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A model fitted by ML or REML, or a frame from `profile_data`. A multilevel model, or its profile, is drawn
        by `profiles`, one panel per component.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.profile(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> figure.plot_description
    'Restricted log-likelihood over the between-study variance τ². τ² = 0.0081, 95% profile-likelihood interval ...'
    """
    if not isinstance(fit_or_frame, pd.DataFrame):
        fit_or_frame, data = profile_data(fit_or_frame, **data), {}
    if fit_or_frame.attrs.get("plot") == "profiles":
        return profiles(fit_or_frame, ax=ax, **data)
    frame = as_frame(fit_or_frame, "profile", profile_data, data)

    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        curve = frame[~frame["kind"].isin(("lower", "upper"))].sort_values("tau2", kind="stable")
        shown = curve[curve["loglik"] >= _floor(frame)]
        cutoff = float(frame.attrs["cutoff"])
        chart.numbers("x", np.append(shown["tau2"], frame.loc[frame["kind"].isin(("lower", "upper")), "tau2"]))
        chart.numbers("y", np.append(shown["loglik"], cutoff))
        chart.rule("y", cutoff, "dashed", zorder=2)
        for x, top in frame.loc[frame["kind"].isin(("lower", "upper")), ["tau2", "loglik"]].to_numpy():
            chart.line([x, x], [chart.ax.get_ylim()[0], top], "dotted", zorder=2)
        chart.line(curve["tau2"], curve["loglik"], "line")
        for kind, mark in (("peak", "ring"), ("maximum", "dot")):
            one = frame[frame["kind"] == kind]
            chart.dots(one["tau2"], one["loglik"], mark)
    return chart.made


def _check(fit: RandomEffectsResults) -> None:
    if fit.k <= fit.p:
        raise InputError(
            f"{plural(fit.k, 'effect')} and {plural(fit.p, 'coefficient')} leave no likelihood of tau2 to profile; "
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
