"""Baujat plots: which effects or studies make the heterogeneity, and which of these move the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, deletions, stacks
from alliance_meta.core.resampling import BLOCK, Recipe, full_rank, refit
from alliance_meta.core.robust.sandwich import DiagonalWorking
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.sensitivity.outliers.units import MOST_SHOWN, By, Units, read_units
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, plural

NEEDED = "without it a coefficient cannot be estimated, or has no variance"
# Those beyond this quantile on either axis are named in the plot.
HIGH = 0.9
# Singular values below this share of the largest are 0.
FLAT = 1e-10


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Baujat(Result):
    """What each effect or study adds to the heterogeneity, and how far the result moves without it.

    Attributes
    ----------
    by : {"effect", "study"}
    labels : tuple of str
        The n effects or studies.
    sizes : ndarray of int, shape (n,)
        Effects of each.
    x : ndarray of shape (n,)
        Squared distance from the fitted value in units of the model's standard deviation: its part of Q.
    y : ndarray of shape (n,)
        Squared change of its fitted value when it is left out, in units of that value's variance; NaN where without it
        a coefficient cannot be estimated, or, all other effects being alike, has no variance.
    provenance : Provenance
    """

    by: By
    labels: tuple[str, ...]
    sizes: IntArray
    x: Array
    y: Array
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def far(self) -> Mask:
        """Those in the highest tenth on either axis."""
        known = self.y[np.isfinite(self.y)]
        high = self.x > np.quantile(self.x, HIGH)
        return high | (self.y > np.quantile(known, HIGH)) if known.size else high

    def tidy(self) -> pd.DataFrame:
        """Return one row per effect or study: ``k x y far``."""
        gone = NotApplicable(NEEDED)
        columns = zip(self.sizes.tolist(), self.x.tolist(), self.y.tolist(), self.far.tolist(), strict=True)
        rows = [{"k": k, "x": x, "y": gone if np.isnan(y) else y, "far": far} for k, x, y, far in columns]
        return frame_of(rows, pd.Index(self.labels, name="label"))

    def _content(self) -> Document:
        order = np.argsort(-np.nan_to_num(self.x * self.y), kind="stable")[:MOST_SHOWN]
        table = table_of(
            self.tidy().iloc[order], {"k": 0, "x": 3, "y": 3}, heads={"x": "part of Q", "y": "change"}, label=self.by
        )
        made = 100.0 * self.x[order[0]] / self.x.sum() if self.x.sum() > 0 else 0.0
        line = f"{self.labels[order[0]]} makes {fixed(made, 0)}% of the heterogeneity statistic."
        return self._document(f"Baujat plot of {len(self.labels)} by {self.by}", table, lines=(line,))


def baujat(fit: Any, *, by: By | None = None) -> Baujat:
    r"""Say which effects or studies lie far from the rest, and which of these move the result.

    An effect far off that is small changes nothing; one that moves the result but fits the others is only large. The
    upper right corner of the plot holds those that are both: look there for a slip of coding or another population.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, RVEResults, LocationScaleResults, or ``robust()`` of one
        With or without moderators.
    by : {"effect", "study"}, optional
        By default studies where some have several effects.

    Returns
    -------
    Baujat
        ``plots.baujat`` draws it.

    Raises
    ------
    InputError
        Another kind of fit, or too few effects to leave any out.

    Notes
    -----
    With residuals :math:`e_j` of unit j, their covariance :math:`M_j` under the model, its rows :math:`X_j` and the
    coefficients b: :math:`x_j = e_j' M_j^{-1} e_j`; :math:`y_j = d_j' (X_j V_{(j)} X_j')^{+} d_j` with
    :math:`d_j = X_j (b - b_{(j)})` and :math:`V_{(j)}` the covariance of the coefficients without the unit. For one
    effect that is R's ``baujat(fit)``. A univariate model estimates tau2 anew without each unit; other models hold
    their variances. Baujat, Mahé, Pignon & Hill (2002, doi:10.1002/sim.1221).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> found = sensitivity.baujat(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> found.tidy().sort_values("y").index[-1], round(float(found.y.max()), 3)
    ("O'Cleirigh et al. 2007", 0.227)
    """
    units = read_units(fit, "baujat", by)
    X, k, p = units.fit.design.X, len(units.unit), units.fit.p
    if k - int(units.sizes.max()) <= p:
        raise InputError(
            f"baujat leaves out each {units.by} in turn, and {plural(k, 'effect')} of {units.n} cannot spare the "
            f"largest for {plural(p, 'coefficient')}: ask for by='effect', or look at the effects themselves"
        )
    notes = list[Note]()
    if isinstance(units.fit, RandomEffectsResults):
        change, vb, _ = refitted(units, recipe(units.fit, "baujat"))
    else:
        change, vb = _held(units)
        notes.append(Note("variances-held", "Variances and correlations stay as estimated from all effects."))
    x, y = np.empty(units.n), np.full(units.n, np.nan)
    for rows, M in units.blocks(units.unit):
        at = units.unit[rows[:, 0]]
        e = units.resid[rows]
        x[at] = np.einsum("js,js->j", e, np.linalg.solve(M, e[:, :, None])[:, :, 0])
        # The comparison is false where there is none.
        fine = np.einsum("jpp->jp", vb[at]).min(axis=1) > 0
        y[at[fine]] = _moved(X[rows[fine]], change[at[fine]], vb[at[fine]])
    lost = [units.labels[i] for i in np.flatnonzero(np.isnan(y))]
    if lost:
        notes.append(Note("cluster-needed", f"{', '.join(lost[:5])}: {NEEDED}."))
    origin = units.fit.effects.provenance
    return Baujat(units.by, units.labels, units.sizes, x, y, origin, merge_notes(units.fit.notes, notes))


def refitted(units: Units, how: Recipe) -> tuple[Array, Array, Array]:
    """Return how the coefficients change without each unit (n, p), their covariance then, and tau2 anew (n,)."""
    fit = units.fit
    k, p, n = len(units.unit), fit.p, units.n
    change, vb, tau2 = np.full((n, p), np.nan), np.full((n, p, p), np.nan), np.full(n, np.nan)
    weights = fit.fitted.own_weights
    size = max(1, BLOCK // k)
    for start in range(0, n, size):
        at = np.arange(start, min(start + size, n))
        present = units.unit != at[:, None]
        fine = full_rank(how.X, present)
        if not fine.any():
            continue
        shape = (int(fine.sum()), k)
        y, v = (np.broadcast_to(one, shape) for one in (fit.effects.yi, fit.effects.vi))
        batch = make_batch(y, v, how.X, present[fine].astype(float))
        beta, vb[at[fine]], tau2[at[fine]] = refit(how, batch, weights=weights)
        change[at[fine]] = fit.beta - beta
    return change, vb, tau2


def _held(units: Units) -> tuple[Array, Array]:
    """Return the same with the covariance of the effects held as it is, for least squares with its inverse."""
    if isinstance(units.work, DiagonalWorking) and units.work.weights is not None:
        raise InputError("baujat of a robust model needs the weights of its working model: fit without weights=")
    Gr = units.work.solve(units.resid[:, None])[:, 0]
    found = deletions(units.vb, units.weighted, Gr, list(_inverses(units)), units.n)
    return found.change, found.vb


def _inverses(units: Units) -> Any:
    """Yield number, rows and the block of M^-1 of the units of each size."""
    if units.by == "effect" or units.whole:
        # M^-1 has the blocks of the effects that M ties together.
        diagonal = np.empty(len(units.unit))
        groups = units.tied if units.by == "effect" else units.unit
        for rows, M in units.blocks(groups):
            inverse = np.linalg.inv(M)
            if units.by == "study":
                yield units.unit[rows[:, 0]], rows, 0.5 * (inverse + np.swapaxes(inverse, 1, 2))
            else:
                diagonal[rows] = np.einsum("jss->js", inverse)
        if units.by == "effect":
            yield units.unit, np.arange(len(diagonal))[:, None], diagonal[:, None, None]
        return
    for rows in stacks(units.unit):
        inverse = np.empty((*rows.shape, rows.shape[1]))
        for i, own in enumerate(rows):
            E = np.zeros((len(units.unit), own.size))
            E[own, np.arange(own.size)] = 1.0
            inverse[i] = units.work.solve(E)[own]
        yield units.unit[rows[:, 0]], rows, 0.5 * (inverse + np.swapaxes(inverse, 1, 2))


def _moved(X: Array, change: Array, vb: Array) -> Array:
    """Return d'(X V X')^+ d with d = X change, for rows X (m, s, p), changes (m, p) and covariances V (m, p, p)."""
    L = np.linalg.cholesky(vb)
    z = np.linalg.solve(L, change[:, :, None])[:, :, 0]
    _, size, turned = np.linalg.svd(X @ L, full_matrices=False)
    seen = size > FLAT * size[:, :1]
    return np.asarray((seen * np.einsum("mrp,mp->mr", turned, z) ** 2).sum(axis=1))
