"""What every plot of effects against their standard errors shares: its points, its mean, its two axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.given import Given, given, study_means
from alliance_meta.core.distributions import two_sided_p
from alliance_meta.notes import Note, check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Chart, Limits
from alliance_meta.plots.sheet.chart_frame import counted, with_r

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

By = Literal["effect", "study"]
SIZE = (5.0, 4.5)
PANEL = (3.2, 2.6)
# Room above a standard error of 0 and below the largest, as shares of that, and beside the effects.
TOP, BOTTOM, SIDE = 0.03, 0.05, 0.02


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a plot.

    Attributes
    ----------
    given : Given
        What the fit rests on.
    effects : EffectSizes
        Those drawn: the fit's own, or one of each study.
    sizes : ndarray of shape (n,)
        How many effects each stands for.
    level : float
    notes : list of Note
    """

    given: Given
    effects: EffectSizes
    sizes: Array
    level: float
    notes: list[Note]

    @property
    def sei(self) -> Array:
        """Standard errors, (n,)."""
        return np.asarray(np.sqrt(self.effects.vi))

    @property
    def pval(self) -> Array:
        """Two-sided p-values of no effect, (n,)."""
        return two_sided_p(self.effects.yi / self.sei, None)

    @property
    def deepest(self) -> float:
        """The standard error at the lower edge of the plot."""
        return float(self.sei.max()) * (1.0 + BOTTOM)

    @property
    def called(self) -> str:
        """What they are, counted."""
        if self.effects is self.given.effects:
            return counted(self.given.k)
        return f"{_studies(self.given.studies)}, means of {counted(self.given.k)}"

    @property
    def kind(self) -> str:
        """Effect or study."""
        return "effect" if self.effects is self.given.effects else "study"

    def rows(self, **more: Array) -> list[dict[str, Any]]:
        """Return a row for each, with further columns of numbers."""
        columns: dict[str, Any] = {"yi": self.effects.yi, "se": self.sei, "p": self.pval, "k": self.sizes, **more}
        columns["position"] = np.arange(self.effects.k)
        found = zip(self.effects.slab, *(values.tolist() for values in columns.values()), strict=True)
        measure = self.effects.measure
        return [
            with_r(measure, {"kind": self.kind, **dict(zip(("label", *columns), row, strict=True))}) for row in found
        ]


def read_points(fit: Any, who: str, by: By, level: float | None, rho: float | None = None) -> Points:
    """Return the effects of a fit, or the plain mean of each of its studies."""
    check_option("by", by, By)
    found = given(fit, who, level=level, moderators=True)
    if by == "effect" or not found.dependent:
        effects, notes = found.effects, _on_dependence(found)
    else:
        effects = study_means(found, rho)
        notes = [note for note in effects.notes if note.code == "aggregated"]
    sizes = np.ones(found.k) if effects is found.effects else np.bincount(found.cluster)
    return Points(found, effects, np.asarray(sizes, dtype=float), found.level, notes)


def _on_dependence(found: Given) -> list[Note]:
    if not found.dependent:
        return []
    text = f"The effects come from {_studies(found.studies)}; those of one study resemble each other."
    return [Note("dependent-points", text)]


def _studies(number: int) -> str:
    return counted(number).replace("effects", "studies").replace("effect", "study")


def mean_row(fit: Any, level: float) -> dict[str, Any] | None:
    """Return the row of the mean effect; none for a model with moderators."""
    if fit.design.formula != "1":
        return None
    row = fit.predict(level=level).iloc[0]
    return {"kind": "mean", "label": f"Mean effect ({fit.model_label})",
            **parts.estimate(fit.effects.measure, *(row[name] for name in ("pred", "ci_lb", "ci_ub")))}  # fmt: skip


def se_label(effects: EffectSizes) -> str:
    """Return what is written at the axis of standard errors."""
    scale = {"ZCOR": " of Fisher's z", "COR": " of r", "UCOR": " of r"}.get(effects.measure, "")
    return f"Standard error{scale}"


def scale_axes(chart: Chart, frame: pd.DataFrame, values: Any, xlim: Limits | None) -> None:
    """Scale the axes: effects across, and standard errors down from 0."""
    deepest = float(frame.attrs["deepest"])
    found = np.asarray(values, dtype=float)
    room = SIDE * float(np.ptp(np.append(found, 0.0)))
    chart.effects("x", [found.min() - room, found.max() + room], xlim)
    chart.numbers("y", [], (0.0, deepest))
    chart.limits("y", deepest, -TOP * deepest)


def draw_points(chart: Chart, rows: pd.DataFrame, mark: str = "dot", k: int | None = None, **more: Any) -> None:
    """Draw the points, the smaller and the paler the more there are: `k`, by default as many as `rows`."""
    k = len(rows) if k is None else k
    chart.count_beyond(rows["yi"], "x")
    diameter = float(np.clip(26.0 / math.sqrt(max(k, 1)) + 1.6, 2.0, 5.8))
    alpha = 0.85 if k <= 60 else 0.6 if k <= 400 else 0.35
    looks = {"s": diameter**2, "alpha": alpha, "zorder": 5, **more}
    if k > 400:
        looks = {"linewidths": 0.0, **looks}
    chart.dots(chart.shown(rows["yi"].to_numpy()), rows["se"].to_numpy(), mark, **looks)
