"""Studies ranked by what all of them together make of each one, beside what each of them found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import KINDS, Posterior
from alliance_meta.core.dependent import IntArray
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes
from alliance_meta.plots.caterpillar_plot import HAIR, MOST_POINTS, draw_ranked
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.levels.means import means_of, variables_of
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, reference, usual
from alliance_meta.plots.sheet.measure import band, is_correlation
from alliance_meta.results.fit import Fit
from alliance_meta.results.multilevel import MultilevelResults, study_term
from alliance_meta.results.robust import RobustResults
from alliance_meta.tables.format import brief, format_count, format_level, format_number, plural

# Above this many rows they have no names.
MOST_NAMED = 40
SIZE = (7.0, 5.2)
PITCH = 0.24
OBSERVED = 5.5
# Shrunken effects that differ by less are one and the same.
ALIKE = 1e-6
WORKING = "Shrunken effects are those of the working model: robust standard errors do not change them."


def ranks_data(
    fit: Fit,
    *,
    smallest_effect: float | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of ranked studies: each one's shrunken effect, and beside it what was observed.

    Parameters
    ----------
    fit : a fitted model
        Any that has `blup`: random-effects, location-scale, multilevel (a row per study), also under robust standard
        errors, and posteriors.
    smallest_effect : float, optional
        The smallest effect of interest, as the axis reads (a correlation): marked, and compared with. Where effects of
        interest are negative so is it, and what lies below it counts.
    level : float, optional
        Of the intervals; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: study (the shrunken effect, ``yi ci_lb ci_ub`` on the analysis scale, of a posterior the median and
        credible interval) or observed (``yi``; a study may have several); ``row``, 0 for the largest; ``label``;
        ``r r_lb r_ub`` as correlations. Of posteriors also ``p_mean`` and ``p_smallest``, the probability that the true
        effect of a study is above the mean effect, and beyond the smallest effect of interest.

    Raises
    ------
    InputError
        A model without predictions of its studies, a `smallest_effect` that is none.

    Notes
    -----
    Ranks of studies are uncertain even where their intervals are narrow: of neighbours nobody knows which is larger.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.ranks_data(fit, smallest_effect=0.1)
    >>> frame[["label", "r", "p_smallest"]].round(3).values.tolist()[0]
    ["O'Cleirigh et al. 2007", 0.245, 0.98]
    """
    if not isinstance(fit, Fit):
        raise InputError(f"ranks need a fitted model, not {type(fit).__name__}; call .fit() first")
    model = fit.fit if isinstance(fit, RobustResults) else fit
    used, measure = model._level(level), fit.effects.measure
    limit = None if smallest_effect is None else math.copysign(band(abs(smallest_effect), measure), smallest_effect)
    labels, values, groups = _shrunken(model, used)
    order = np.argsort(-values[:, 0], kind="stable")
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    chances = _chances(model, labels, limit)
    rows: list[dict[str, Any]] = [
        {"kind": "study", "row": at, "label": labels[i], **dict(zip(("yi", "ci_lb", "ci_ub"), values[i], strict=True)),
         "position": i, **{name: one[i] for name, one in chances.items()}}
        for at, i in enumerate(order.tolist())
    ]  # fmt: skip
    rows += [
        {"kind": "observed", "row": place[own], "label": slab, "yi": y, "position": i}
        for i, (slab, own, y) in enumerate(zip(fit.effects.slab, groups, fit.effects.yi, strict=True))
    ]
    for row in rows:
        row |= {"above": _chance(row["p_mean"])} if "p_mean" in row else {}
        row |= {"beyond": _chance(row["p_smallest"])} if "p_smallest" in row else {}
    made = [with_r(measure, row) for row in rows]
    return chart_frame(
        "ranks", "Ranked studies", made, fit.effects.provenance, title=title, show_cautions=show_cautions,
        notes=merge_notes(fit.notes, [Note("working-model", WORKING)] if model is not fit else []), measure=measure,
        axis_label="Study" if len(labels) < fit.k else "Effect", x_label=parts.axis_label(measure), level=used,
        model_label=fit.model_label, limit=limit, **_about(fit, model, made, len(labels), used, limit),
    )  # fmt: skip


def ranks(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw studies from the largest to the smallest by their shrunken effects, with what each of them observed.

    A study's own effect (ring) is part truth, part chance; the dot is the better guess of its truth, pulled towards the
    mean the more, the less the study knows. Intervals that overlap say that the order is not certain.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        As in `ranks_data`, or a frame from it.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.ranks(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    "16 effects ranked by their shrunken values: largest O'Cleirigh et al. 2007 .24 [.10, .38]; ..."
    """
    frame = as_frame(fit_or_frame, "ranks", ranks_data, data)
    studies, observed = frame[frame["kind"] == "study"], frame[frame["kind"] == "observed"]
    within = np.concatenate([usual(studies.assign(pi_lb=np.nan, pi_ub=np.nan)), observed["yi"]])

    def draw(chart: Chart) -> None:
        _marks(chart, studies, observed)

    if len(studies) <= MOST_NAMED:
        shown = studies.assign(pi_lb=np.nan, pi_ub=np.nan, r_pi_lb=np.nan, r_pi_ub=np.nan)
        return draw_rows(shown, ax, xlim, within, pitch=PITCH, widest=3.4, draw=draw)
    with charting(frame, ax, *SIZE) as chart:
        chart.effects("x", within, xlim)
        reference(chart)
        _limit(chart)
        chart.dots(chart.shown(observed["yi"].to_numpy()), observed["row"], "ring", s=6.0, alpha=0.9, zorder=4)
        draw_ranked(chart, studies, HAIR)
    return chart.made


def _shrunken(model: Any, level: float) -> tuple[list[str], Array, IntArray]:
    """Return the labels, values with limits (n, 3), and to which of them each effect belongs."""
    try:
        found = model.blup(level=level)
    except InputError as refused:
        raise InputError(f"{refused}; ranks need predictions of studies, as che() or MultilevelModel give") from None
    names = ["median", "ci_lb", "ci_ub"] if isinstance(model, Posterior) else ["pred", "pi_lb", "pi_ub"]
    groups = study_term(model)[1].group if isinstance(model, MultilevelResults) else np.arange(model.k)
    return [str(label) for label in found.index], found[names].to_numpy(dtype=float), groups


def _chances(model: Any, labels: list[str], limit: float | None) -> dict[str, list[float]]:
    """Return the probabilities that a posterior gives; of other models there are none."""
    if not isinstance(model, Posterior):
        return {}
    names = [f"theta[{label}]" for label in labels]
    found = {}
    if not variables_of(model):
        found["p_mean"] = [model._marginal({name: 1.0, "mu": -1.0}).prob(lower=0.0) for name in names]
    if limit is not None:
        side = {"lower": limit} if limit > 0 else {"upper": limit}
        found["p_smallest"] = [model._marginal(name).prob(**side) for name in names]
    return found


def _chance(chance: float) -> str:
    """Return a probability to two digits; what is not certain is never 0 or 1."""
    if min(chance, 1.0 - chance) < 0.005:
        return "< .01" if chance < 0.5 else "> .99"
    return format_number(chance, 2, leading_zero=False)


def _about(
    fit: Any, model: Any, rows: list[dict[str, Any]], n: int, level: float, limit: float | None
) -> dict[str, Any]:
    """Return the words of the plot, its key and the mean to compare with."""
    measure, text, studies = fit.effects.measure, format_level(level), rows[:n]
    kind = (
        f"credible interval ({KINDS[getattr(model, 'interval', 'eti')]})"
        if isinstance(model, Posterior)
        else "interval"
    )
    dots = "dot" if n <= MOST_NAMED else "ink" if n <= MOST_POINTS else "line"
    key = [[dots, f"Shrunken effect, {text} {kind}"], ["ring", "Observed effect"]]
    bottom, more = [*refusal(model), f"Model: {fit.model_label}"], {}
    if variables_of(fit):
        bottom.append(f"Shrunken towards the fitted means of {fit.design.formula}, not towards one mean")
    else:
        (mean,), _, _ = means_of(fit, None, None, level)
        more["reference"] = [mean["yi"], mean["ci_lb"], mean["ci_ub"]]
        key += [["pi", f"Mean effect, {text} interval"]]
        bottom[-1] += f"; mean effect {parts.effect_text(measure, with_r(measure, mean))}"
    counts: dict[str, str] = {"above": "P(> mean)"} if "above" in studies[0] else {}
    if limit is not None:
        shown = _limit_text(limit, measure)
        bottom.append(f"Dotted: smallest effect of interest, {shown}; {_beyond(studies, limit)}")
        counts |= {"beyond": f"P({'>' if limit > 0 else '<'} {shown})"} if "beyond" in studies[0] else {}
    if n > 1 and studies[0]["yi"] - studies[-1]["yi"] < ALIKE and not variables_of(fit):
        bottom.append("The model finds no differences between them: all are the mean, and their order says nothing")
    named = n <= MOST_NAMED
    bottom += [] if named else ["Studies from the largest shrunken effect to the smallest; their names are in the data"]
    what = "Shrunken r" if is_correlation(measure) else "Shrunken effect"
    ends = [
        f"{name} {row['label']} {parts.effect_text(measure, row)}"
        for name, row in zip(("largest", "smallest"), (studies[0], studies[-1])[:n], strict=False)
    ]
    unit = counted(n) if n == fit.k else plural(n, "study", "studies")
    said = f"{unit} ranked by their shrunken values: {'; '.join(ends)}. {'. '.join(bottom)}."
    label = f"{what} [{text} {'credible' if isinstance(model, Posterior) else 'interval'}]"
    return {"said": said, "key": key, "bottom": bottom, "counts": counts, "value_label": label, **more}


def _limit_text(limit: float, measure: str) -> str:
    value = float(np.tanh(limit)) if measure == "ZCOR" else limit
    text = brief(value, 3).replace("-", "−")
    return text.replace("0.", ".", 1) if is_correlation(measure) else text


def _beyond(studies: list[dict[str, Any]], limit: float) -> str:
    sure = sum(row["ci_lb"] > limit if limit > 0 else row["ci_ub"] < limit for row in studies)
    side = "above" if limit > 0 else "below"
    return f"{format_count(sure)} of {format_count(len(studies))} intervals lie {side} it"


def _limit(chart: Chart) -> None:
    if chart.attrs["limit"] is not None:
        chart.rule("x", float(chart.shown(chart.attrs["limit"])), "dotted", zorder=1.2)


def _marks(chart: Chart, studies: pd.DataFrame, observed: pd.DataFrame) -> None:
    _limit(chart)
    lower, upper = (chart.shown(studies[name].to_numpy()) for name in ("ci_lb", "ci_ub"))
    chart.dots(chart.shown(observed["yi"].to_numpy()), observed["row"], "ring", s=OBSERVED**2, zorder=3)
    chart.intervals("x", lower, upper, studies["row"], "thin", linewidth=1.4)
    chart.dots(chart.shown(studies["yi"].to_numpy()), studies["row"])
