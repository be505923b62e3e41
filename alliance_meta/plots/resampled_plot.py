"""Observed values beside what chance gives: permutations, bootstraps, replications from a fitted model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.predictive import STATISTICS, SURPRISE, PredictiveCheck
from alliance_meta.core.resampling import BootstrapInterval
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, did_you_mean, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.sensitivity.bootstrapping import Bootstrap
from alliance_meta.sensitivity.permutation import SIGNS, PermutationTest, WildBootstrap, as_extreme
from alliance_meta.tables.format import (
    brief,
    fixed,
    format_count,
    format_interval,
    format_level,
    format_number,
    format_p,
)

SIZE = (5.5, 4.0)
FEWEST_BINS, MOST_BINS = 12, 60
LONG_NULL = 40
NAMES = {"tau2": "τ²", "tau": "τ", "I2": "I² in percent", "H2": "H²"}


def resampled_data(
    result: PermutationTest | Bootstrap | WildBootstrap,
    *,
    quantity: str | None = None,
    kind: BootstrapInterval = "percentile",
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the histogram of resampled values, and what it is compared with.

    Parameters
    ----------
    result : PermutationTest, Bootstrap or WildBootstrap
        From `sensitivity.permutation_test`, `sensitivity.bootstrap` or `sensitivity.wild_bootstrap`.
    quantity : str, optional
        A coefficient, ``"QM"`` (permutation), ``"tau2"``, ``"tau"``, ``"I2"`` or ``"H2"`` (bootstrap). By default
        the coefficient of a model with one, else ``"QM"``; for a bootstrap the first coefficient. A wild
        bootstrap has one statistic only, ``"F"``.
    kind : {"percentile", "basic", "bca"}
        Bootstrap interval.
    level : float, optional
        Confidence level of that interval; the fit's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: bin (``lb ub count``, and ``tail``: how many of them are at least as extreme as the observed
        statistic), observed (``value``), and for a bootstrap lower and upper (``value``).

    Raises
    ------
    InputError
        An unknown quantity, or another result.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots, sensitivity
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.2, 0.5, 0.4, 0.3, 0.2], [0.002] * 7)
    >>> test = sensitivity.permutation_test(RandomEffectsModel(es, method="DL", test="t").fit())
    >>> frame = plots.resampled_data(test)
    >>> int(frame["count"].sum()), int(frame["tail"].sum()), float(test.pval[0]) * 128
    (128, 2, 2.0)
    """
    if isinstance(result, PermutationTest):
        rows, meta, more = _of_permutation(result, quantity)
        origin, name = result.provenance, "Permutation test"
    elif isinstance(result, Bootstrap):
        rows, meta, more = _of_bootstrap(result, quantity, kind, level)
        origin, name = result.fit.effects.provenance, "Bootstrap"
    elif isinstance(result, WildBootstrap):
        rows, meta, more = _of_wild(result, quantity)
        origin, name = result.provenance, "Cluster wild bootstrap"
    else:
        raise InputError(f"resampled_data needs a permutation test or a bootstrap, not {type(result).__name__}")
    notes = merge_notes(result.notes, more)
    words = f"Histogram of {meta['x_label']}. {' '.join(line + '.' for line in meta['bottom'])}"
    return chart_frame(
        "resampled", name, rows, origin, notes=notes, title=title, show_cautions=show_cautions, said=words, **meta
    )


def resampled(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the distribution of a permutation test or a bootstrap, and where the data's own value lies in it.

    For a permutation test or a wild bootstrap the dark bars are arrangements at least as extreme as the data: their
    share is the p-value. For a bootstrap the dashed lines are the limits of the interval; a lump at the edge is a
    bound, such as tau2 = 0.

    Parameters
    ----------
    fit_or_frame : PermutationTest, Bootstrap, WildBootstrap or DataFrame
        The result of resampling, or a frame from `resampled_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> boot = sensitivity.bootstrap(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit(), seed=1)
    >>> plots.resampled(boot, quantity="tau2").plot_title
    'Bootstrap: Conscientiousness and medication adherence: 16 studies of Molloy et al. (2014)'
    """
    frame = as_frame(fit_or_frame, "resampled", resampled_data, data)
    marks, bins = frame[frame["kind"] != "bin"], frame[frame["kind"] == "bin"]
    with charting(frame, ax, *SIZE) as chart:
        values = np.concatenate([bins["lb"], bins["ub"], marks["value"]])
        chart.effects("x", values, xlim, zero=False)
        draw_histogram(chart, bins)
        for kind, value in zip(marks["kind"], chart.shown(marks["value"]), strict=True):
            if math.isfinite(value):
                chart.rule("x", value, "line" if kind == "observed" else "dashed", zorder=4)
    return chart.made


def draw_histogram(chart: Chart, bins: pd.DataFrame) -> None:
    """Draw bars of counts, the part of each that counts as extreme below in the darker colour."""
    lower, upper = chart.shown(bins["lb"]), chart.shown(bins["ub"])
    count, tail = (np.nan_to_num(bins[name].to_numpy()) for name in ("count", "tail"))
    chart.numbers("y", [0.0, np.nanmax(bins[["count", *(name for name in ("ci_ub", "expected") if name in bins)]])],
                  whole=True, floor=0.0)  # fmt: skip
    chart.bars(lower, upper, count - tail, "bar", tail)
    chart.bars(lower, upper, tail, "tail")


Found = tuple[list[dict[str, Any]], dict[str, Any], list[Note]]


def _of_permutation(result: PermutationTest, quantity: str | None) -> Found:
    known = [*result.names, "QM"]
    name = quantity or (result.names[0] if len(result.names) == 1 else "QM")
    _check(name, known)
    if name == "QM":
        observed, values, p = result.QM, result.QMs, result.QMp
        signed = np.array([observed])
    else:
        i = result.names.index(name)
        observed, values, p = float(result.stat[i]), result.stats[:, i], float(result.pval[i])
        if result.exact and result.scheme == SIGNS:
            values = np.concatenate([values, -values])
        signed = np.array([-abs(observed), abs(observed)])
    extreme = as_extreme(
        values if name == "QM" else np.abs(values), np.array(observed if name == "QM" else abs(observed))
    )
    rows, lost = histogram(values, extreme)
    rows += [{"kind": "observed", "value": float(value)} for value in signed if math.isfinite(value)]
    how = "every arrangement" if result.exact else f"{format_count(result.iterations)} at random, seed {result.seed}"
    label = "QM" if name == "QM" else f"{name}: test statistic"
    error = 0.0 if result.exact else math.sqrt(p * (1.0 - p) / result.iterations)
    text = f"Observed {format_number(observed)}; {format_p(p, name='p')} by {result.scheme} ({how})"
    if error > 0:
        text += f"; simulation error of p {format_number(error, 3, leading_zero=False)}"
    meta = {
        "axis_label": "Arrangements",
        "x_label": f"{label} under rearrangement",
        "key": [["bar", "Less extreme"], ["tail", "As extreme as the data, or more"], ["line", _observed_word(signed)]],
        "bottom": [text, *lost],
        "quantity": name,
        "pval": p,
    }
    return rows, meta, [Note("not-drawn", line) for line in lost]


def _of_bootstrap(result: Bootstrap, quantity: str | None, kind: BootstrapInterval, level: float | None) -> Found:
    name = quantity or result.quantities[0]
    _check(name, list(result.quantities))
    interval = result.confint(name, kind=kind, level=level)
    values, fit = result.samples[name], result.fit
    estimate = result.estimate(name)
    rows, lost = histogram(values, np.zeros(len(values), dtype=bool))
    limits = {"observed": estimate, "lower": float(interval.lb), "upper": float(interval.ub)}
    rows += [{"kind": key, "value": value} for key, value in limits.items()]
    mean = fit.p == 1 and fit.design.has_intercept and name == fit.names[0]
    measure = fit.effects.measure if mean else "GEN"
    decimals = 1 if name == "I2" else 2 if name in ("H2", "tau") or mean else 4
    shown = [math.tanh(v) if measure == "ZCOR" else v for v in limits.values()]
    covers = format_level(interval.level)
    zero = measure not in ("ZCOR", "COR", "UCOR")
    text = (
        f"Estimate {format_number(shown[0], decimals, leading_zero=zero)}, {covers} {kind} interval "
        f"{format_interval(shown[1], shown[2], decimals, leading_zero=zero)}; {result.kind} bootstrap, "
        f"{format_count(result.iterations)} samples, seed {result.seed}"
    )
    scaled = name.startswith(("tau", "sigma2")) or (not mean and name in fit.names)
    scale = f" ({fit.effects.scale_label} scale)" if scaled else ""
    meta = {
        "measure": measure,
        "axis_label": "Samples",
        "x_label": parts.axis_label(measure) if mean else f"{NAMES.get(name, name)}{scale}",
        "level": interval.level,
        "model_label": fit.model_label,
        "key": [
            ["bar", "Samples"],
            ["line", "Estimate of the data"],
            ["dashed", f"{format_level(interval.level)} interval"],
        ],
        "bottom": [text, *_at_bound(name, values), *lost],
        "quantity": name,
    }
    return rows, meta, [Note("not-drawn", line) for line in lost]


def _of_wild(result: WildBootstrap, quantity: str | None) -> Found:
    _check(quantity or "F", ["F"])
    if isinstance(result.stat, NotApplicable):
        raise InputError(f"there is no observed statistic to draw: {result.stat.reason}")
    rows, lost = histogram(result.stats, as_extreme(result.stats, np.array(result.stat)))
    rows.append({"kind": "observed", "value": result.stat})
    how = f"{format_count(result.iterations)} at random, seed {result.seed}"
    if result.exact:
        how = "every sign vector, mirror images once"
    drawn = f"{result.weights.capitalize()}, {how}"
    text = f"Observed {format_number(result.stat)}; {format_p(result.pval, name='p')} ({drawn})"
    if result.mc_se > 0:
        text += f"; simulation error of p {format_number(result.mc_se, 3, leading_zero=False)}"
    meta = {
        "axis_label": "Replicates",
        "x_label": f"Robust F ({result.type}) if {result.null if len(result.null) < LONG_NULL else 'the null is true'}",
        "key": [["bar", "Smaller"], ["tail", "As large as in the data, or larger"], ["line", "Observed"]],
        "bottom": [text, *lost],
        "quantity": "F",
        "pval": result.pval,
    }
    return rows, meta, [Note("not-drawn", line) for line in lost]


def _check(name: str, known: list[str]) -> None:
    if name not in known:
        raise InputError(f"{name!r} was not resampled; known: {', '.join(known)}{did_you_mean(name, known)}")


def _observed_word(signed: Array) -> str:
    return "Observed" if len(signed) == 1 else "Observed, ±"


def _at_bound(name: str, values: Array) -> list[str]:
    bound = {"tau2": 0.0, "tau": 0.0, "I2": 0.0, "H2": 1.0}.get(name)
    if bound is None:
        return []
    share = float((values <= bound).mean())
    return [f"{fixed(100 * share, 1)}% of the samples are at the bound {brief(bound)}"] if share > 0 else []


def histogram(values: Array, extreme: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Count values and extreme values in bins, by the rule of Freedman and Diaconis within bounds."""
    there = np.isfinite(values)
    shown = values[there]
    lost = int((~there).sum())
    lines = [f"{format_count(lost)} infinite or undefined values are not drawn"] if lost else []
    if not shown.size:
        raise InputError("no resampled value is finite: there is nothing to draw")
    lo, hi = float(shown.min()), float(shown.max())
    if hi - lo <= 1e-12 * max(1.0, abs(hi)):
        lo, hi = lo - 0.5, hi + 0.5
    spread = float(np.subtract(*np.quantile(shown, [0.75, 0.25])))
    width = 2.0 * spread / len(shown) ** (1 / 3)
    number = min(MOST_BINS, max(FEWEST_BINS, math.ceil((hi - lo) / width) if width > 0 else FEWEST_BINS))
    edges = np.linspace(lo, hi, number + 1)
    count = np.histogram(shown, bins=edges)[0]
    tail = np.histogram(shown[extreme[there]], bins=edges)[0]
    rows = [
        {"kind": "bin", "lb": a, "ub": b, "count": n, "tail": m}
        for a, b, n, m in zip(edges[:-1], edges[1:], count, tail, strict=True)
    ]
    return rows, lines


# Statistics that are effects themselves.
ON_EFFECTS = ("mean", "smallest", "largest")
MOST_NAMED = 3


def predictive_data(
    check: PredictiveCheck, *, what: str = "effects", title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return what a predictive check compares.

    Parameters
    ----------
    check : PredictiveCheck
        From `bayes.predictive_check`.
    what : str
        ``"effects"``: how many effects lie where; ``"studies"``: the probability of each result given the other
        studies, beside what chance would give; or a statistic such as ``"Q"``: its replications.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: bin (``lb ub``, the ``count``; of effects also ``expected ci_lb ci_ub``, of a statistic the ``tail``
        at least as large as observed), study (``value``, ``expected`` and the 95% of that place ``ci_lb ci_ub``),
        observed (``value``).

    Raises
    ------
    InputError
        Another result, an unknown statistic, or studies of a three-level model.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> check = bayes.predictive_check(BayesianModel(escalc(load_dataset("molloy2014"))).fit(), seed=1)
    >>> plots.predictive_data(check)[["count", "expected"]].round(2).head(3).values.tolist()
    [[0.0, 0.33], [1.0, 0.9], [4.0, 2.45]]
    """
    if not isinstance(check, PredictiveCheck):
        raise InputError(f"predictive_data needs the result of bayes.predictive_check, not {type(check).__name__}")
    known = ["effects", "studies", *check.table.index]
    if what not in known:
        raise InputError(f"what={what!r} was not checked{did_you_mean(what, known)} Known: {', '.join(known)}")
    made = _effects(check) if what == "effects" else _studies(check) if what == "studies" else _statistic(check, what)
    rows, more = made
    words = f"Posterior predictive check of {more['x_label']}. {' '.join(f'{line}.' for line in more['bottom'])}"
    return chart_frame(
        "predictive", "Posterior predictive check", rows, check.effects.provenance, notes=check.notes, title=title,
        show_cautions=show_cautions, said=words, what=what, **more,
    )  # fmt: skip


def predictive(check_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw observed results beside replications from the fitted model.

    Of effects: bars are the observed numbers, dots with lines what the model leads one to expect. Of a statistic: the
    dark bars are replications at least as large as the observed value. Of studies: dots outside the band are results
    that the other studies do not predict.

    Parameters
    ----------
    check_or_frame : PredictiveCheck or DataFrame
        From `bayes.predictive_check`, or a frame from `predictive_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> check = bayes.predictive_check(BayesianModel(escalc(load_dataset("molloy2014"))).fit(), seed=1)
    >>> plots.predictive(check, what="Q").plot_description
    'Posterior predictive check of Q, heterogeneity around the equal-effects fit. Observed 38.16; p = .506. ...'
    """
    frame = as_frame(check_or_frame, "predictive", predictive_data, data)
    with charting(frame, ax, *SIZE) as chart:
        (_draw_studies if frame.attrs["what"] == "studies" else _draw_bins)(chart, frame, xlim)
    return chart.made


Made = tuple[list[dict[str, Any]], dict[str, Any]]


def _effects(check: PredictiveCheck) -> Made:
    measure = check.effects.measure
    renamed = check.bins.rename(columns={"observed": "count"}).to_dict("records")
    rows: list[dict[str, Any]] = [{"kind": "bin"} | {str(name): one for name, one in row.items()} for row in renamed]
    out = sum(not row["ci_lb"] <= row["count"] <= row["ci_ub"] for row in rows)
    return rows, {
        "measure": measure,
        "axis_label": "Number of effects",
        "x_label": parts.axis_label(measure),
        "key": [["bar", "Observed"], ["dot", "Expected if the model holds"], ["thin", "95% of the replications"]],
        "bottom": [
            f"{counted(check.effects.k)}; {format_count(check.draws)} replications, seed {check.seed}",
            f"{out} of {len(rows)} bars end outside 95% of their replications",
        ],
    }


def _statistic(check: PredictiveCheck, what: str) -> Made:
    values = check.replicated[what].to_numpy()
    observed, p, error = (float(check.table[name].loc[what]) for name in ("observed", "p_value", "mcse"))
    if what == "negative":
        rows = _whole(values, observed, check.effects.k)
    else:
        rows, _ = histogram(values, values >= observed)
    rows.append({"kind": "observed", "value": observed})
    measure = check.effects.measure if what in ON_EFFECTS else "GEN"
    correlation = is_correlation(measure)
    said = format_number(to_reader(observed, measure), 3 if abs(observed) < 1 else 2, leading_zero=not correlation)
    name = STATISTICS[what][:1].upper() + STATISTICS[what][1:]
    return rows, {
        "measure": measure,
        "axis_label": "Replications",
        "x_label": f"{name}: {parts.axis_label(measure)}" if correlation else name,
        "key": [["bar", "Smaller"], ["tail", "At least as large as observed"], ["line", "Observed"]],
        "bottom": [
            f"Observed {said}; p = {format_number(p, 3, leading_zero=False)}",
            f"{format_count(check.draws)} replications, seed {check.seed}; simulation error of p "
            f"{format_number(error, 3, leading_zero=False)}",
        ],
        "pval": p,
    }  # fmt: skip


def _whole(values: Array, observed: float, k: int) -> list[dict[str, Any]]:
    """Count shares of k effects, one bar for each possible number."""
    numbers = np.rint(values * k).astype(int)
    count = np.bincount(numbers)
    middle = np.arange(numbers.min(), numbers.max() + 1)
    return [
        {"kind": "bin", "lb": (i - 0.5) / k, "ub": (i + 0.5) / k, "count": count[i],
         "tail": count[i] if i / k >= observed - 0.25 / k else 0}
        for i in middle
    ]  # fmt: skip


def _studies(check: PredictiveCheck) -> Made:
    pit = check.studies["pit"].astype(float).dropna().sort_values() if len(check.studies) else pd.Series(dtype=float)
    if not len(pit):
        raise InputError("no study could be left out, so that there are no probabilities of studies to draw")
    k = len(pit)
    place = np.arange(1, k + 1)
    lower, upper = (special.betaincinv(place, k + 1 - place, q) for q in (SURPRISE, 1.0 - SURPRISE))
    rows = [
        {"kind": "study", "label": label, "value": value, "expected": i / (k + 1), "ci_lb": low, "ci_ub": high}
        for label, value, i, low, high in zip(pit.index, pit, place, lower, upper, strict=True)
    ]
    out = check.surprising
    named = ", ".join(out[:MOST_NAMED]) + (f" and {len(out) - MOST_NAMED} more" if len(out) > MOST_NAMED else "")
    lines = [f"{counted(k)}, each predicted from the others, exactly"]
    lines.append(
        f"Outside the central 95% of their prediction: {named or 'none'} (about {fixed(0.05 * k, 1)} expected)"
    )
    return rows, {
        "axis_label": "Probability of a result up to the observed one",
        "x_label": "Expected, smallest to largest",
        "key": [["dot", "Study"], ["ci", "Where 95% lie if the model holds"]],
        "bottom": lines,
    }


def _draw_bins(chart: Chart, frame: pd.DataFrame, xlim: Limits | None) -> None:
    bins = frame[frame["kind"] == "bin"]
    chart.effects("x", frame[["lb", "ub", "value"]], xlim, zero=False)
    draw_histogram(chart, bins)
    if bins["expected"].notna().any():
        middle = (chart.shown(bins["lb"]) + chart.shown(bins["ub"])) / 2
        chart.intervals("y", bins["ci_lb"], bins["ci_ub"], middle, "thin")
        chart.dots(middle, bins["expected"], s=5.0**2)
    for value in chart.shown(frame.loc[frame["kind"] == "observed", "value"]):
        chart.rule("x", value, "line", zorder=4)


def _draw_studies(chart: Chart, frame: pd.DataFrame, xlim: Limits | None) -> None:
    for which in ("x", "y"):
        chart.numbers(which, [], (0.0, 1.0) if which == "y" or xlim is None else xlim)
    chart.area(frame["expected"], frame["ci_lb"], frame["ci_ub"], "ci")
    chart.line([0.0, 1.0], [0.0, 1.0], "hair", zorder=1)
    chart.dots(frame["expected"], frame["value"], s=5.8**2)
