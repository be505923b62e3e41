"""Observed results beside replications from the fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.predictive import STATISTICS, SURPRISE, PredictiveCheck
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.plots.forests import parts
from alliance_meta.plots.resampled_plot import draw_histogram, histogram
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.tables.format import fixed, format_count, format_number

WIDTH, HEIGHT = 5.5, 4.0
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
        at least as large as observed), study (``value``, ``expected`` and the 95 % of that place ``ci_lb ci_ub``),
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
        As in `caterpillar`, and so is what is returned.

    Raises
    ------
    InputError
        Something that was not checked, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> check = bayes.predictive_check(BayesianModel(escalc(load_dataset("molloy2014"))).fit(), seed=1)
    >>> plots.predictive(check, what="Q").plot_description
    'Posterior predictive check of Q, heterogeneity around the equal-effects fit. Observed 38.16; p = .506. ...'
    """
    frame = as_frame(check_or_frame, "predictive", predictive_data, data)
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
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
