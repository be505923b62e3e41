"""How draws and syntheses went: the chains of a sampler, and a posterior from year to year."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.bayes.sequence import SURPRISE, SequentialResults
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import DOTTED, SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.measure import INK, SUMMARY, WARNING, line_height, text_width, wrap
from alliance_meta.plots.sheet.points import held_steps, rising_numbers, step_axis
from alliance_meta.tables.format import fixed, format_count, format_level, format_number, plural

TRACE_WIDTH, RANK_WIDTH = 2.3, 0.85
NARROWEST = 0.35
ROW_HEIGHT = 0.8
LEFT, GAP = 0.45, 0.12
HEAD = 1.6 * line_height(SMALL)
TAIL = 1.6 * line_height(SMALL)
MOST_POINTS = 250
MOST_BINS, PER_BIN = 20, 10
MOST_ROWS = 12
# Colours of the traces, in turn.
TRACES = (SUMMARY, "#b8860b", "#5b8fc2", "#8a5a83")


def chains_data(
    posterior: SampledPosterior,
    *,
    what: Sequence[str] | str | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the course of each chain, and the histogram of the ranks of its draws.

    Parameters
    ----------
    posterior : SampledPosterior
        From `bayes.sample`, of a model of `bayes.pymc`.
    what : str or sequence of str, optional
        Rows of ``posterior.tidy()``, or other parameters, at most 12; by default the two with the largest R-hat and
        ``mu`` and ``tau`` where there are such.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: trace (every so many draws: ``chain``, ``draw``, ``value``) or rank (``chain``, ``count`` draws whose
        rank among those of all chains lies from ``lb`` to ``ub``, as shares of 1; ``expected``, and ``ci_lb ci_ub``,
        between which 95% of counts lie if the chains agree and their draws are independent), by ``label``.

    Raises
    ------
    InputError
        Another result, an unknown parameter, more than 12, or a single draw.

    Notes
    -----
    Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021, doi:10.1214/20-BA1221). Where chains agree, each histogram is
    flat; a chain that stays low or high has a slope, one that moves too little a hill or a valley.

    Examples
    --------
    >>> import alliance_meta as am
    >>> from alliance_meta.bayes import arviz_bridge
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> draws, recipe = am.BayesianModel(es).fit().to_arviz(seed=1), am.bayes.pymc.normal_normal(es).recipe
    >>> frame = am.plots.chains_data(am.bayes.SampledPosterior(draws, (), 1, recipe), what=["mu", "tau"])
    >>> frame.groupby("kind").size().to_dict()
    {'rank': 160, 'trace': 2000}
    """
    if not isinstance(posterior, SampledPosterior):
        raise InputError(f"chains_data needs the result of bayes.sample, not {type(posterior).__name__}")
    origin, names = posterior.effects.provenance, _chosen(posterior, what)
    found = {name: posterior._marginal(name).chains for name in names}
    count, length = next(iter(found.values())).shape
    if length < 2:
        raise InputError("one draw per chain is no course to draw; take more")
    rows = [row for name, chains in found.items() for row in (*_trace(name, chains), *_ranks(name, chains))]
    words = {name: _words(chains) for name, chains in found.items()}
    said = "; ".join(f"{name}: {text}" for name, text in words.items())
    number = f"{plural(count, 'chain')} of {format_count(length)} draws"
    alarm = [f"Fails its checks: {', '.join(note.code for note in posterior.problems)}"] if posterior.problems else []
    text = f"Course of {number} and histograms of their ranks. {said}."
    return chart_frame(
        "chains", "Chains of the sampler", rows, origin, notes=posterior.notes, title=title,
        show_cautions=show_cautions, said=" ".join([text, *(f"{one}." for one in alarm)]), axis_label="", x_label="",
        model_label=posterior.made.model,
        key=[
            ["bar", "Draws by rank"],
            ["tail", "Outside the limits"],
            ["hair", "If chains agree, with 95% limits"],
        ],
        bottom=[*alarm, f"{number}; left: their course, right: ranks among the draws of all chains"], words=words,
        alarm=alarm,
    )  # fmt: skip


def chains(posterior_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw where the chains of a sampler went, and whether they agree.

    On the left the course of every chain: they should look like one noise. On the right, for each chain, how its
    draws rank among those of all chains: bars inside the dotted limits mean that the chain has seen the same
    distribution as the others.

    Parameters
    ----------
    posterior_or_frame : SampledPosterior or DataFrame
        From `bayes.sample`, or a frame from `chains_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> draws, recipe = am.BayesianModel(es).fit().to_arviz(seed=1), am.bayes.pymc.normal_normal(es).recipe
    >>> am.plots.chains(am.bayes.SampledPosterior(draws, (), 1, recipe), what="mu").plot_description
    'Course of 4 chains of 1,000 draws and histograms of their ranks. mu: R-hat 1.0..., effective draws ...'
    """
    frame = as_frame(posterior_or_frame, "chains", chains_data, data)
    names = list(dict.fromkeys(frame["label"]))
    number = int(frame["chain"].max())
    trace, rank = (TRACE_WIDTH, RANK_WIDTH) if ax is None else (1.2, NARROWEST)
    least = (LEFT + trace + number * (rank + GAP), len(names) * (HEAD + ROW_HEIGHT + TAIL))
    with charting(frame, ax, 4.5, 0.0, least=least) as chart:
        widths = [trace, *[rank] * number]
        panels = chart.grid(len(names), widths, left=LEFT, head=HEAD, tail=TAIL, gap=GAP)
        for i, name in enumerate(names):
            _row(frame[frame["label"] == name], panels[i * len(widths) : (i + 1) * len(widths)])
    return chart.made


def _chosen(posterior: SampledPosterior, what: Sequence[str] | str | None) -> list[str]:
    if what is not None:
        names = [what] if isinstance(what, str) else list(dict.fromkeys(what))
        if not 0 < len(names) <= MOST_ROWS:
            raise InputError(f"what= names {len(names)} parameters; give 1 to {MOST_ROWS}")
        return names
    rhat = posterior.diagnostics.table["rhat"]
    worst = rhat[rhat == rhat].astype(float).sort_values(ascending=False, kind="stable").index[:2]
    first = [name for name in ("mu", "tau") if name in posterior._scalars]
    return list(dict.fromkeys([*first, *map(str, worst)])) or list(posterior._scalars)[:2]


def _trace(name: str, chains: Array) -> list[dict[str, Any]]:
    step = math.ceil(chains.shape[1] / MOST_POINTS)
    at = np.arange(0, chains.shape[1], step)
    return [
        {"kind": "trace", "label": name, "chain": c + 1, "draw": int(i) + 1, "value": float(chain[i])}
        for c, chain in enumerate(chains)
        for i in at
    ]


def _ranks(name: str, chains: Array) -> list[dict[str, Any]]:
    """Count the ranks of each chain in bins of equal width."""
    count, length = chains.shape
    bins = int(np.clip(length // PER_BIN, 2, MOST_BINS))
    rank = (stats.rankdata(chains, method="average").reshape(chains.shape) - 0.5) / chains.size
    place = np.minimum((rank * bins).astype(int), bins - 1)
    inside = stats.hypergeom(chains.size, max(1, round(chains.size / bins)), length)
    low, high = (float(inside.ppf(p)) for p in (0.025, 0.975))
    rows = []
    for c in range(count):
        found = np.bincount(place[c], minlength=bins)
        rows += [
            {
                "kind": "rank", "label": name, "chain": c + 1, "lb": b / bins, "ub": (b + 1) / bins,
                "count": int(found[b]), "expected": length / bins, "ci_lb": low, "ci_ub": high,
            }
            for b in range(bins)
        ]  # fmt: skip
    return rows


def _words(chains: Array) -> str:
    row = arviz_bridge.summarise({"x": chains}).iloc[0]
    if row["rhat"] != row["rhat"]:
        return f"R-hat unknown, {row['rhat'].reason}"
    ess = min(float(row["ess_bulk"]), float(row["ess_tail"]))
    return f"R-hat {format_number(float(row['rhat']), 3)}, effective draws {format_count(round(ess))}"


def _row(frame: pd.DataFrame, panels: Sequence[Chart]) -> None:
    """Draw one parameter: its name, the course of its chains and their ranks."""
    first, *others = panels
    name = str(frame["label"].iloc[0])
    line = f"{name}: {first.attrs['words'][name]}"
    width = first.size[0] + sum(one.size[0] + GAP for one in others)
    shown = line if text_width(line, SMALL) <= width else wrap(line, SMALL, width)[0]
    title = lettered(first.ax.set_title("", loc="left"), shown, SMALL)
    title.set_color(WARNING if first.attrs["alarm"] else INK)
    trace, ranks = frame[frame["kind"] == "trace"], frame[frame["kind"] == "rank"]
    first.numbers("y", trace["value"])
    first.limits("x", 1.0, float(trace["draw"].max()))
    first.no_axis("x")
    tallest = 1.1 * float(max(ranks["count"].max(), ranks["ci_ub"].max()))
    for c, panel in enumerate(others, start=1):
        one = trace[trace["chain"] == c]
        first.line(one["draw"], one["value"], "thin", color=TRACES[(c - 1) % len(TRACES)], linewidth=0.5)
        _histogram(panel, ranks[ranks["chain"] == c], tallest)


def _histogram(chart: Chart, ranks: pd.DataFrame, tallest: float) -> None:
    """Draw how the draws of one chain rank, the bars outside the limits darker."""
    chart.limits("x", 0.0, 1.0)
    chart.limits("y", 0.0, tallest)
    chart.no_axis("x")
    chart.no_axis("y")
    chart.ax.spines["left"].set_visible(False)
    outside = (ranks["count"] < ranks["ci_lb"]) | (ranks["count"] > ranks["ci_ub"])
    for mark, rows in (("bar", ranks[~outside]), ("tail", ranks[outside])):
        chart.bars(rows["lb"], rows["ub"], rows["count"], mark)
    one = ranks.iloc[0]
    for limit, style in (("expected", "solid"), ("ci_lb", DOTTED), ("ci_ub", DOTTED)):
        chart.rule("y", one[limit], "hair", linestyle=style, zorder=4)
    number = f"chain {fixed(one['chain'], 0)}"
    label = number if text_width(number, SMALL) < chart.size[0] else number.removeprefix("chain ")
    lettered(chart.ax.xaxis.label, label, SMALL).set_color(INK)


WIDTH, HEIGHT = 6.5, 4.4
# Diameters in points.
DOT, RING = 5.8, 11.5
CUT_OFF = "Wider prediction intervals are cut off at the edges of the plot"
STEPS = ("mu", "mu_ci_lb", "mu_ci_ub", "pi_lb", "pi_ub")


def sequential_data(
    result: SequentialResults, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a plot of a synthesis over the years: one row per step and one per study.

    Parameters
    ----------
    result : SequentialResults
        From `bayes.sequential`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: step (the synthesis of all studies up to then) or study (the result that came in); ``label``, ``x``
        (the value ordered by; the number of the step where that is no number), ``k``; ``yi ci_lb ci_ub pi_lb
        pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations; of a study ``p``, how
        surprising it was. Steps without a posterior have no estimate.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.sequential_data(bayes.sequential(fit))
    >>> frame.query("kind == 'step'")[["x", "k", "r"]].iloc[-1].round(3).tolist()
    [2012.0, 16.0, 0.147]
    """
    if not isinstance(result, SequentialResults):
        raise InputError(f"sequential_data needs the result of bayes.sequential, not {type(result).__name__}")
    fit, measure = result.fit, result.fit.effects.measure
    table, studies = result.tidy(), result.surprises()
    values = rising_numbers(table["at"])
    named = values is not None
    places = values if values is not None else np.arange(1.0, len(table) + 1.0)
    rows = []
    for x, (label, row) in zip(places, table.iterrows(), strict=True):
        numbers = dict(zip(EFFECT, [float(row[name]) for name in STEPS], strict=True))
        rows.append(with_r(measure, {"kind": "step", "label": str(label), "x": x, "k": row["k"]} | numbers))
    for label, row in studies.iterrows():
        one = {"kind": "study", "label": str(label), "x": places[int(row["step"]) - 1], "yi": float(row["yi"])}
        rows.append(with_r(measure, one | {"p": float(row["p"])}))
    text = format_level(fit.level)
    known = [row for row in rows if row["kind"] == "step" and not math.isnan(row["yi"])]
    surprising = len(result.surprising)
    ringed = f"Ringed: results surprising after those before, p < .05 ({surprising} of {_predicted(studies)})"
    last = f"After all studies: {parts.effect_text(measure, known[-1])}" if known else "No step has a posterior"
    return chart_frame(
        "sequential", "Synthesis from year to year", rows, fit.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=_description(result, known, measure), measure=measure,
        axis_label=parts.axis_label(measure),
        x_label=_x_label(result.order) if named else f"Step, ordered by {result.order}", level=fit.level,
        model_label=f"k = {fit.k}",
        key=[
            ["line", "Mean so far"], ["ci", f"{text} interval"], ["pi", "Prediction interval"],
            ["dot", "Result that came in"],
        ],
        bottom=[
            "Bands hold until the next step: compare a result with the bands on its left", last,
            *([CUT_OFF] if _cut_off(rows) else []), *([ringed] if surprising else []),
        ],
        whole=bool((places == np.round(places)).all()),
    )  # fmt: skip


def sequential(result_or_frame: Any, *, ax: Axes | None = None, ylim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the synthesis as it stood after each year, with the results as they came in.

    The line is the mean effect of all studies up to then, the inner band its credible interval, the outer band the
    prediction interval: where the true effect of a further study was to be expected. A ringed result lay far from
    that.

    Parameters
    ----------
    result_or_frame : SequentialResults or DataFrame
        From `bayes.sequential`, or a frame from `sequential_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the effects as their labels read. By default they hold all results and intervals of the mean, as
        far as |r| = .95; the early prediction intervals may go beyond.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.sequential(bayes.sequential(fit)).plot_description
    'Mean effect after each of 12 steps by year, 16 effects. First .23 [−.31, .58]; last .15 [.08, .22]. ...'
    """
    frame = as_frame(result_or_frame, "sequential", sequential_data, data)

    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        steps, studies = frame[frame["kind"] == "step"], frame[frame["kind"] == "study"]
        chart.effects("y", frame[["yi", "ci_lb", "ci_ub"]], ylim)
        chart.zero("y")
        step_axis(chart, steps["x"].to_numpy(), whole=frame.attrs["whole"])
        edges, held = held_steps(steps)
        for low, high, mark in (("pi_lb", "pi_ub", "pi"), ("ci_lb", "ci_ub", "ci")):
            chart.area(edges, chart.shown(held[low]), chart.shown(held[high]), mark, step="post")
        chart.line(edges, chart.shown(held["yi"]), "line", drawstyle="steps-post")
        far = studies[studies["p"] < SURPRISE]
        chart.dots(far["x"], chart.shown(far["yi"]), "ring", s=RING**2, facecolors="none", edgecolors=INK)
        chart.dots(studies["x"], chart.shown(studies["yi"]), s=DOT**2)
    return chart.made


def _x_label(order: str) -> str:
    return "Year" if order == "year" else "Studies so far" if order == "the order given" else order


def _cut_off(rows: list[dict[str, Any]]) -> bool:
    """Return whether prediction intervals reach further than the results and the intervals of the mean."""
    frame = pd.DataFrame(rows)
    shown, wide = frame[["yi", "ci_lb", "ci_ub"]].to_numpy(), frame[["pi_lb", "pi_ub"]].to_numpy()
    if not np.isfinite(wide).any():
        return False
    return bool(np.nanmin(wide) < np.nanmin(shown) or np.nanmax(wide) > np.nanmax(shown))


def _predicted(studies: pd.DataFrame) -> int:
    return int(studies["p"].astype(float).notna().sum())


def _description(result: SequentialResults, known: list[dict[str, Any]], measure: str) -> str:
    steps = len(result.steps)
    text = f"Mean effect after each of {plural(steps, 'step')} by {result.order}, {counted(result.fit.k)}."
    if known:
        first, last = (parts.effect_text(measure, row) for row in (known[0], known[-1]))
        text += f" First {first}; last {last}."
    return f"{text} Surprising results (p < .05): {len(result.surprising)} of {_predicted(result.studies)}."
