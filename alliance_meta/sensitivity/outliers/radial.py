"""Radial (Galbraith) plots: effects in units of their standard deviation, against their precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import critical_value
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.sensitivity.outliers.units import MOST_SHOWN, By, read_units
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, format_count, format_level


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Radial(Result):
    """Effects or studies by their precision.

    Attributes
    ----------
    by : {"effect", "study"}
    labels : tuple of str
        The n effects or studies.
    sizes : ndarray of int, shape (n,)
        Effects of each.
    x : ndarray of shape (n,)
        Precision, one over the standard deviation that the model gives the effect or the mean of the study.
    y : ndarray of shape (n,)
        The effect, or mean, over the same standard deviation.
    estimate, ci_lb, ci_ub : float
        Mean effect of the model: the slope of the line from the origin.
    level : float
        Confidence level, a fraction; also that of the band around the line.
    measure : str
    provenance : Provenance
    """

    by: By
    labels: tuple[str, ...]
    sizes: IntArray
    x: Array
    y: Array
    estimate: float
    ci_lb: float
    ci_ub: float
    level: float
    measure: str
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def stat(self) -> Array:
        """Height above the line: how many standard deviations an effect lies above the mean, (n,)."""
        return self.y - self.estimate * self.x

    @property
    def outside(self) -> Mask:
        """Those beyond the band, which holds the share `level` of effects if the model is right."""
        return np.abs(self.stat) > critical_value(self.level, None)

    def tidy(self) -> pd.DataFrame:
        """Return one row per effect or study: ``k yi x y stat outside``, `yi` being the effect or mean itself."""
        columns: dict[str, Any] = {"k": self.sizes, "yi": self.y / self.x, "x": self.x, "y": self.y}
        columns |= {"stat": self.stat, "outside": self.outside}
        return pd.DataFrame(columns, index=pd.Index(self.labels, name="label"))

    def _content(self) -> Document:
        order = np.argsort(-np.abs(self.stat), kind="stable")[:MOST_SHOWN]
        lost, n = int(self.outside.sum()), len(self.labels)
        line = (
            f"{format_count(lost)} of {format_count(n)} lie outside the band; "
            f"{fixed((1.0 - self.level) * n, 1)} are expected by chance."
        )
        return self._document(
            f"Radial plot by {self.by} ({format_level(self.level)} band)",
            table_of(self.tidy().iloc[order], {"k": 0, "yi": 4, "x": 2, "y": 2, "stat": 2}, label=self.by),
            lines=(line,),
        )


def radial(fit: Any, *, by: By | None = None, level: float | None = None) -> Radial:
    r"""Put each effect, in units of its standard deviation, against its precision.

    All effects would lie around one line from the origin, whose slope is the mean effect, and within a band of the
    same width for small and for large studies. Those outside do not fit the model; if the small ones all lie on one
    side, small studies find other effects than large ones.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, RVEResults, LocationScaleResults, or ``robust()`` of one
        Without moderators.
    by : {"effect", "study"}, optional
        By default studies where some have several effects; a study then stands at its best mean under the model.
    level : float, optional
        Of the band and of the interval of the mean; by default that of the fit.

    Returns
    -------
    Radial
        ``plots.radial`` draws it.

    Raises
    ------
    InputError
        A model with moderators or another kind of fit, and ``by="effect"`` where the model ties effects together.

    Notes
    -----
    :math:`x_i = 1 / \sqrt{v_i + \tau^2}`, :math:`y_i = y_i x_i`; R: ``radial(fit)``. With :math:`M_j` the covariance
    of a study's effects, its mean has weights :math:`M_j^{-1} 1` and variance :math:`1 / (1' M_j^{-1} 1)`.
    Galbraith (1988, doi:10.1002/sim.4780070807).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> found = sensitivity.radial(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> found.tidy()[["x", "y"]].round(3).iloc[0].tolist(), int(found.outside.sum())
    ([7.55, 1.429], 0)
    """
    units = read_units(fit, "radial", by, moderators=False)
    units.check_whole("radial")
    used = fit._level(level)
    sd = np.sqrt(units.means[1])
    mean = units.mean(fit.effects.yi)
    own = fit.predict(level=used).iloc[0]
    estimate, lower, upper = (float(own[name]) for name in ("pred", "ci_lb", "ci_ub"))
    return Radial(
        units.by, units.labels, units.sizes, 1.0 / sd, mean / sd, estimate, lower, upper, used,
        fit.effects.measure, fit.effects.provenance, tuple(fit.notes),
    )  # fmt: skip
