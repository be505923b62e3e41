"""The z values of the effects, and the curve that z-curve fits to the significant ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bias.given import Given, given
from alliance_meta.bias.p_values import ZCurveResult
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, merge_notes
from alliance_meta.plots.sheet.chart import Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.tables.format import fixed, format_estimate, format_level

SIZE = (6.2, 4.6)
PANEL = (3.6, 2.6)
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
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
        bins = frame[frame["kind"] == "bin"]
        chart.numbers("x", [], (0.0, HIGHEST))
        chart.numbers("y", [0.0, float(frame["density"].max()) * 1.03], floor=0.0)
        chart.bars(bins["lb"], bins["ub"], bins["density"], "bar")
        for kind, mark in (("expected", "dashed"), ("fitted", "line")):
            part = frame[frame["kind"] == kind]
            chart.line(part["z"], part["density"], mark)
        chart.rule("x", float(frame.attrs["critical"]), "dotted", zorder=3)
    return chart.made
