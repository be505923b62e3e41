"""The p-curve of the significant results, and the z values of all with the curve of z-curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bias.given import Given, given
from alliance_meta.bias.p_values import PCurveResult, ZCurveResult, pcurve
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, merge_notes
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.tables.format import (
    brief,
    fixed,
    format_count,
    format_estimate,
    format_level,
    format_p,
    format_percent,
    plural,
)

P_SIZE = (5.8, 4.6)
P_PANEL = (3.2, 2.6)
LINES = {"none": ("dotted", "Expected without effect"), "third": ("dashed", "Expected with a power of 33%")}


def p_curve_data(
    fit: Any, *, result: PCurveResult | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a p-curve: the share of significant p-values in each fifth up to .05.

    Parameters
    ----------
    fit : a fitted model without moderators
    result : PCurveResult, optional
        Of `bias.pcurve`; by default what it makes of the fit.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        One row per interval: ``label``, ``p_from``, ``p_to``, ``count`` of significant results in it, and the shares
        ``observed``, ``none`` (expected without effect) and ``third`` (with a power of 33%). No row where no effect
        is significant.

    Raises
    ------
    InputError
        What `bias.pcurve` refuses, or the result of other effects.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.p_curve_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame[["label", "count"]].values.tolist()[0], round(float(frame["third"].iloc[0]), 2)
    (['0 to .01', 5.0], 0.44)
    """
    found = pcurve(fit) if result is None else result
    source = given(fit, "p_curve")
    if not isinstance(found, PCurveResult):
        raise InputError(f"p_curve needs the result of bias.pcurve, not {type(found).__name__}")
    known = np.abs(source.yi / source.sei).round(8)
    if found.studies != source.studies or not np.isin(found.z.round(8), known).all():
        raise InputError("p_curve: the result is not of the effects of this fit")
    curve = found.curve()
    edges = [0.0, *curve["upper"]]
    rows = [
        {"kind": "interval", "label": f"{_p(lb)} to {_p(ub)}", "p_from": lb, "p_to": ub,
         "count": round(row["observed"] * found.significant), **{name: row[name] for name in ("observed", *LINES)}}
        for lb, ub, row in zip(edges[:-1], edges[1:], curve.to_dict("records"), strict=True)
    ]  # fmt: skip
    said = _said(found, source.k)
    return chart_frame(
        "p_curve", "p-curve", rows, source.effects.provenance, notes=merge_notes(fit.notes, found.notes), title=title,
        show_cautions=show_cautions, said=" ".join(said), axis_label="Share of significant results",
        x_label="Two-sided p-value", level=found.level, model_label=fit.model_label,
        key=[["line", f"Observed, {plural(found.significant, 'significant result')}"], *map(list, LINES.values())],
        bottom=[*said, "It measures neither bias nor the mean effect"],
    )  # fmt: skip


def _p(value: float) -> str:
    return brief(value, 4).removeprefix("0") or "0"


def _said(found: PCurveResult, k: int) -> list[str]:
    side = "positive" if found.side == "right" else "negative"
    each = ", one of each study," if found.k < k else ""
    is_or_are = "is" if found.significant == 1 else "are"
    text = f"{found.significant} of {counted(found.k)}{each} {is_or_are} significant and {side}"
    if not found.significant:
        return [f"{text}: there is no curve."]
    tests = {"Right skew": (found.right_full_p, found.right_half_p),
             "Flatter than a power of 33%": (found.flat_full_p, found.flat_half_p)}  # fmt: skip
    shown = [f"{name}: {format_p(full, name='p')}, of the half below p = {_p(found.alpha / 2)}: {_or_none(half)}"
             for name, (full, half) in tests.items()]  # fmt: skip
    power = format_estimate(found.power, found.power_lb, found.power_ub, leading_zero=False)
    return [f"{text}.", f"{'; '.join(shown)}.", f"Average power {power} ({format_level(found.level)} CI)."]


def _or_none(half: float) -> str:
    return f"none ({half.reason})" if isinstance(half, NotApplicable) else format_p(half, name="p")


def p_curve(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how the significant p-values spread between 0 and .05.

    A line that falls from left to right is what true effects bring; a flat one is what no effect brings; one that
    rises suggests results that were pushed over the line. Below the dashed line the tests look weaker than such that
    find a third of what is there.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        Without moderators, or a frame from `p_curve_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.p_curve(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    '9 of 16 effects are significant and positive. Right skew: p < .001, ...'
    """
    frame = as_frame(fit_or_frame, "p_curve", p_curve_data, data)
    with charting(frame, ax, *P_SIZE, panel=P_PANEL) as chart:
        chart.numbers("y", [], (0.0, 1.03))
        chart.ax.yaxis.set_major_formatter(lambda share, _: format_percent(100.0 * share, 0))
        chart.limits("x", -0.5, max(len(frame), 1) - 0.5)
        if len(frame):
            chart.names("x", [_under(row) for row in frame.to_dict("records")])
            _curves(chart, frame)
        else:
            chart.no_axis("x")
    return chart.made


def _curves(chart: Chart, frame: pd.DataFrame) -> None:
    at = np.arange(len(frame))
    for name, (mark, _) in LINES.items():
        chart.line(at, frame[name], mark)
    chart.line(at, frame["observed"], "line", zorder=5)
    chart.dots(at, frame["observed"], "mean", zorder=6, clip_on=False)


def _under(row: dict[Any, Any]) -> str:
    """Return an interval, and under it the share and the number of results in it."""
    return f"{row['label']}\n{format_percent(100.0 * row['observed'], 0)} ({format_count(row['count'])})"


Z_SIZE = (6.2, 4.6)
Z_PANEL = (3.6, 2.6)
HIGHEST, BINS = 6.0, 30
RATES = {"odr": "Observed discovery rate", "edr": "Expected discovery rate", "err": "Expected replication rate"}


def z_curve_data(
    fit: Any, *, result: ZCurveResult | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a z-curve plot: how many effects have which z, and the curve behind the significant ones.

    Parameters
    ----------
    fit : a fitted model without moderators
    result : ZCurveResult, optional
        Of `bias.zcurve`; by default what it makes of the fit.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: bin (``lb`` to ``ub``: the ``count`` of effects and their ``density``, 1 being all
        significant ones up to 6; where studies have several effects, each study counts once), fitted (the ``density``
        at ``z`` that was fitted to significant results) and expected (its continuation: what the tests behind them
        lead one to expect of results that are not significant).

    Raises
    ------
    InputError
        What `bias.zcurve` refuses, or the result of other effects.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.z_curve_data(RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit())
    >>> int(frame.loc[frame["kind"] == "bin", "count"].sum())
    150
    """
    from alliance_meta.bias.p_values import zcurve

    found = zcurve(fit) if result is None else result
    source = given(fit, "z_curve")
    if not isinstance(found, ZCurveResult):
        raise InputError(f"z_curve needs the result of bias.zcurve, not {type(found).__name__}")
    z = np.abs(source.yi) / source.sei
    if found.z.shape != z.shape or not np.allclose(found.z, z):
        raise InputError("z_curve: the result is not of the effects of this fit")
    critical = critical_value(1.0 - found.alpha, None)
    curve = found.curve()
    rows = _bins(source, z, critical)
    rows += [{"kind": "fitted" if row["fitted"] else "expected", "z": row["z"], "density": row["density"]}
             for row in curve.to_dict("records")]  # fmt: skip
    beyond = int((z > HIGHEST).sum())
    said = [
        _rates(found),
        *([f"{counted(beyond)} beyond z = 6 {'is' if beyond == 1 else 'are'} not drawn"] if beyond else []),
    ]
    return chart_frame(
        "z_curve", "z-curve", rows, source.effects.provenance, notes=merge_notes(fit.notes, found.notes), title=title,
        show_cautions=show_cautions,
        said=f"z-curve of {counted(found.k)}, {found.significant} of them significant. {'. '.join(said)}.",
        axis_label="Density (of significant z up to 6)" if found.significant else "Density", x_label="|z|",
        level=found.level, model_label=fit.model_label,
        key=[["bar", f"{counted(found.k)}" + (", each study counting once" if source.dependent else "")],
             *([["line", "Fitted to significant results"], ["dashed", "Expected of the others"]] if len(curve) else []),
             ["dotted", f"Significant: z = {fixed(critical, 2)}"]],
        bottom=said, critical=critical,
    )  # fmt: skip


def _bins(source: Given, z: Any, critical: float) -> list[dict[str, Any]]:
    """Return the histogram of |z| up to 6, one border at the critical value."""
    share = 1.0 / np.bincount(source.cluster)[source.cluster]
    significant = float(share[(z > critical) & (z <= HIGHEST)].sum())
    width = HIGHEST / BINS
    below, above = max(round(critical / width), 1), max(round((HIGHEST - critical) / width), 1)
    edges = np.concatenate([np.linspace(0.0, critical, below + 1)[:-1], np.linspace(critical, HIGHEST, above + 1)])
    counts, weights = np.histogram(z, edges)[0], np.histogram(z, edges, weights=share)[0]
    total = significant or float(share.sum())
    heights = weights / np.diff(edges) / total
    names = ("lb", "ub", "count", "density")
    found = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), heights.tolist(), strict=True)
    return [{"kind": "bin", **dict(zip(names, row, strict=True))} for row in found]


def _rates(found: ZCurveResult) -> str:
    if isinstance(found.edr, NotApplicable):
        return f"No curve: {found.edr.reason}"
    texts = [
        f"{label} {format_estimate(*(getattr(found, name + end) for end in ('', '_lb', '_ub')), leading_zero=False)}"
        for name, label in RATES.items()
    ]
    return f"{'; '.join(texts)} ({format_level(found.level)} CI)"


def z_curve(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how the z values of all effects lie, with the curve that is fitted to the significant ones.

    The dashed part says how many results that are not significant the same tests must have brought. Bars that stay far
    below it are results that were not published; bars that reach it are no sign of selection.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        Without moderators, or a frame from `z_curve_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.z_curve(RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()).plot_description
    'z-curve of 160 effects, 81 of them significant. ...'
    """
    frame = as_frame(fit_or_frame, "z_curve", z_curve_data, data)
    with charting(frame, ax, *Z_SIZE, panel=Z_PANEL) as chart:
        bins = frame[frame["kind"] == "bin"]
        chart.numbers("x", [], (0.0, HIGHEST))
        chart.numbers("y", [0.0, float(frame["density"].max()) * 1.03], floor=0.0)
        chart.bars(bins["lb"], bins["ub"], bins["density"], "bar")
        for kind, mark in (("expected", "dashed"), ("fitted", "line")):
            part = frame[frame["kind"] == kind]
            chart.line(part["z"], part["density"], mark)
        chart.rule("x", float(frame.attrs["critical"]), "dotted", zorder=3)
    return chart.made
