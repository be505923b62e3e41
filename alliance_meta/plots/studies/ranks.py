"""Studies in order: sorted by effect (caterpillar), or ranked by what all together make of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import KINDS, Posterior
from alliance_meta.core.dependent import IntArray
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.parts import described, pooled_texts, prediction_label, records
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.forests.rows import forest_data
from alliance_meta.plots.levels import means_of, variables_of
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import COLUMNS, EFFECT, as_frame, chart_frame, counted, make_chart, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, reference, usual
from alliance_meta.plots.sheet.measure import GREY, INK, SUMMARY, band, is_correlation
from alliance_meta.results.fit import Fit
from alliance_meta.results.multilevel import MultilevelResults, study_term
from alliance_meta.results.robust import RobustResults
from alliance_meta.tables.format import brief, format_count, format_interval, format_level, format_number, plural

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults

WIDTH, HEIGHT = 7.0, 4.5
HAIR = 0.4
# Above this many effects the points touch and are drawn as one line.
MOST_POINTS = 250
DENSE_GREY = "#949494"


def caterpillar_data(
    fit: RandomEffectsResults, *, level: float | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a caterpillar plot: every effect, smallest first, then the pooled one.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, RobustResults or RVEResults
        A fitted model. With moderators there is no single mean, and only the effects are in the frame.
    level : float, optional
        Confidence level of every interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (study, summary, prediction), ``label``; ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale;
        ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations; ``weight`` in percent; ``position`` in
        ``fit.effects``. The numbers are those of `forest_data`.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.5, 0.1, 0.3], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> plots.caterpillar_data(RandomEffectsModel(es).fit())["label"].tolist()[:3]
    ['Study 2', 'Study 3', 'Study 1']
    """
    forest = forest_data(fit, order="effect", level=level, title=title, show_cautions=show_cautions)
    # Of several means that of all models.
    forest = forest[(forest["kind"] != "summary") | (forest["yi"] == forest.attrs["pooled"])]
    single = forest["kind"].isin(("study", "effect"))
    effects = forest[single].sort_values("yi", kind="stable")
    effects = effects.assign(kind="study", label=[fit.effects.slab[int(i)] for i in effects["position"]])
    columns = [name for names in COLUMNS["caterpillar"] for name in names]
    rows = pd.concat([effects, forest[forest["kind"].isin(("summary", "prediction"))]])[columns].to_dict("records")
    attrs = dict(forest.attrs)
    simple = attrs["pooled"] is not None
    name = fit.effects.provenance.title or fit.effects.provenance.source
    meta = {key: attrs[key] for key in ("measure", "level", "model_label", "notes", "cautions", "synthetic")}
    return make_chart(
        rows,
        meta
        | {
            "plot": "caterpillar",
            "title": title if title is not None else f"Caterpillar plot: {name}",
            "description": _description(forest, fit),
            "x_label": attrs["axis_label"],
            "key": _key(fit.k, attrs["level"], forest, simple),
            "bottom": [*_pooled_line(forest), *([] if simple else [_no_mean(fit)]), attrs["bottom"][0]],
            "show_cautions": show_cautions,
        },
    )


def caterpillar(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw a caterpillar plot: all effects sorted, each with its interval, and the pooled effect behind them.

    It shows at a glance how far effects scatter, however many there are, where a forest plot would need pages.
    The steeper the caterpillar leans, the more the effects differ.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A fitted model, or a frame from `caterpillar_data`.
    ax : matplotlib Axes, optional
        Draw on this axes. Its units are those that its labels read (correlations as such, placed by Fisher's z), so
        that limits, ticks and title can be set and other marks added; key and notes stand below it. By default a
        figure of its own.
    xlim : (float, float), optional
        Limits of the horizontal axis as its labels read; thick and thin intervals that leave them end in an arrow.
        By default they hold every interval, as far as |r| = .95.
    **data
        Passed to the function that makes the frame, here `caterpillar_data`, unless a frame is given.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        What the function that makes the frame refuses, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.caterpillar(RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit())
    >>> figure.get_size_inches().tolist()
    [7.0, 4.5]
    """
    frame = as_frame(fit_or_frame, "caterpillar", caterpillar_data, data)
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        chart.effects("x", frame[list(EFFECT)], xlim)
        _background(chart, frame)
        studies = frame[frame["kind"] == "study"]
        chart.count_beyond(studies["yi"], "x")
        draw_ranked(chart, studies, HAIR)
    return chart.made


def _key(k: int, level: float, forest: pd.DataFrame, simple: bool) -> list[list[str]]:
    key = [["hair", f"{counted(k)} with {format_level(level)} CI"]]
    if simple:
        key += [["line", "Pooled effect"], ["ci", f"Its {format_level(level)} CI"]]
        if (forest["kind"] == "prediction").any():
            key.append(["pi", prediction_label(level)])
    return key


def _pooled_line(forest: pd.DataFrame) -> list[str]:
    end = records(forest[forest["kind"].isin(("summary", "prediction"))])
    return ["; ".join(pooled_texts(forest.attrs["measure"], forest.attrs["model_label"], end))] if end else []


def _no_mean(fit: RandomEffectsResults) -> str:
    return f"No pooled effect is drawn: the model {fit.design.formula} ({fit.model_label}) has moderators"


def _description(forest: pd.DataFrame, fit: RandomEffectsResults) -> str:
    studies = forest[forest["kind"].isin(("study", "effect"))]
    zero = not is_correlation(fit.effects.measure)
    values = studies["yi" if zero else "r"]
    span = format_interval(values.min(), values.max(), leading_zero=zero).strip("[]").replace(", ", " to ")
    text = f"Caterpillar plot of {counted(fit.k)}, sorted, from {span}."
    return described(" ".join([text, *(f"{line}." for line in _pooled_line(forest))]), forest.attrs["synthetic"])


def _background(chart: Chart, frame: pd.DataFrame) -> None:
    for kind, names, fill in (("prediction", ("pi_lb", "pi_ub"), "pi"), ("summary", ("ci_lb", "ci_ub"), "ci")):
        for row in frame[frame["kind"] == kind].to_dict("records"):
            ends = chart.shown([row[name] for name in names])
            chart.span("x", ends[0], ends[1], fill)
            for x in ends if kind == "prediction" else ():
                chart.rule("x", x, "dotted", color=SUMMARY, linewidth=0.7, zorder=6)
    chart.zero("x")
    for value in frame.loc[frame["kind"] == "summary", "yi"]:
        chart.rule("x", float(chart.shown(value)), "line", zorder=6)


def draw_ranked(chart: Chart, rows: pd.DataFrame, hair: float) -> None:
    """Draw sorted effects from top to bottom with their intervals; very many points become one line."""
    k = len(rows)
    chart.no_axis("y")
    chart.ax.spines["left"].set_visible(False)
    margin = 0.02 * k + 0.5
    chart.limits("y", k - 1 + margin, -margin)
    lb, yi, ub = (chart.shown(rows[name].to_numpy()) for name in ("ci_lb", "yi", "ci_ub"))
    many = k > MOST_POINTS
    chart.intervals("x", lb, ub, np.arange(k), "hair", linewidth=hair, color=DENSE_GREY if many else GREY, zorder=3)
    if many:
        chart.line(yi, np.arange(k), "line", color=INK, linewidth=1.2, zorder=5)
    else:
        diameter = min(4.3, max(1.6, 220.0 / k))
        chart.dots(yi, np.arange(k), s=diameter**2, facecolors=INK, edgecolors="none")


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
