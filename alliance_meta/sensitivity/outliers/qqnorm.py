"""Normal quantile plots of residuals, with the envelope that data from the model itself fill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.resampling import BLOCK, blocks_of, stream
from alliance_meta.core.robust.sandwich import DiagonalWorking
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_cores, check_iterations, check_level, check_option, check_seed, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.outliers.baujat import refitted
from alliance_meta.sensitivity.outliers.units import MOST_SHOWN, By, Units, read_units
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, format_count, format_level

Residuals = Literal["rstandard", "rstudent"]
# Residuals with a smaller share of the effect's variance are 0 whatever the data.
NO_FREEDOM = 1e-10
FIXED = "its residual is 0 whatever the data: a coefficient rests on it alone"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QQNorm(Result):
    """Residuals in their order against the quantiles of a normal distribution.

    Attributes
    ----------
    by : {"effect", "study"}
    type : {"rstandard", "rstudent"}
    labels : tuple of str
        The n effects or studies from the lowest to the highest residual.
    x, y : ndarray of shape (n,)
        Normal quantile and residual.
    lower, upper : ndarray of shape (n,)
        Where the residual of this rank lies in the share `level` of data sets drawn from the model.
    outside_p : float
        Share of the data sets drawn from the model with as many residuals outside the envelope.
    iterations, seed : int
    level : float
    provenance : Provenance
    """

    by: By
    type: Residuals
    labels: tuple[str, ...]
    x: Array
    y: Array
    lower: Array
    upper: Array
    outside_p: float
    iterations: int
    seed: int
    level: float
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def outside(self) -> Mask:
        """Residuals outside the envelope."""
        return (self.y < self.lower) | (self.y > self.upper)

    def tidy(self) -> pd.DataFrame:
        """Return one row per effect or study, the lowest residual first: ``x y lower upper outside``."""
        columns = self._these("x", "y", "lower", "upper", "outside")
        return pd.DataFrame(columns, index=pd.Index(self.labels, name="label"))

    def _content(self) -> Document:
        n, lost = len(self.labels), int(self.outside.sum())
        order = np.sort(np.argsort(-np.abs(self.y), kind="stable")[:MOST_SHOWN])
        line = (
            f"{format_count(lost)} of {format_count(n)} lie outside; as many or more in "
            f"{fixed(100.0 * self.outside_p, 0)}% of data sets from the model."
        )
        return self._document(
            f"Normal quantile plot of {self.type} by {self.by} ({format_level(self.level)} envelope of "
            f"{format_count(self.iterations)} data sets from the model, seed {self.seed})",
            table_of(self.tidy().iloc[order], {"x": 2, "y": 2, "lower": 2, "upper": 2}, label=self.by),
            lines=(line,),
        )


def qqnorm(
    fit: Any,
    *,
    seed: int | None = None,
    type: Residuals = "rstandard",
    by: By | None = None,
    iterations: int = 1000,
    level: float | None = None,
    cores: int = 1,
) -> QQNorm:
    r"""Compare the residuals with a normal distribution, and with those of data that the model itself makes.

    If true effects are normal, the points lie along the diagonal. Points that leave the envelope at the ends are
    outliers, or say that effects have heavier tails; a bend says that they are skewed, two slopes that there are two
    kinds of study. With few studies nearly anything stays inside.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, LocationScaleResults, or ``robust()`` of one
        With or without moderators.
    seed : int
        Of the envelope.
    type : {"rstandard", "rstudent"}
        Residuals over their standard deviation; ``"rstudent"`` takes each from a fit without it (univariate models).
    by : {"effect", "study"}, optional
        By default studies where some have several effects; a study's residual is that of its best mean.
    iterations : int
        Data sets drawn.
    level : float, optional
        Of the envelope at each rank; by default that of the fit.
    cores : int
        Blocks at a time; they do not change the result.

    Returns
    -------
    QQNorm
        ``plots.qqnorm`` draws it.

    Raises
    ------
    InputError
        No seed, a model of robust variance estimation, which supposes no distribution, or another kind of fit.

    Notes
    -----
    Quantiles and residuals are those of R's ``qqnorm(fit)``. Its envelope is of :math:`(I - H) \epsilon` with equal
    variances (Cook & Weisberg 1982); here data are drawn with the covariance that the model gives them and their
    residuals are standardised as the model's are. Variances are not estimated again.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> found = sensitivity.qqnorm(fit, seed=1)
    >>> found.tidy().round(3)[["x", "y"]].iloc[-1].tolist(), int(found.outside.sum())
    ([1.863, 1.755], 0)
    """
    used = check_seed(seed, "simulated envelopes")
    check_iterations(iterations)
    check_cores(cores)
    check_option("type", type, Residuals)
    units = read_units(fit, "qqnorm", by)
    if isinstance(units.fit, RVEResults):
        raise InputError("robust variance estimation supposes no distribution to compare with: fit che() instead")
    level = fit._level(level)
    check_level(level)
    variance = residual_variance(units)
    free = np.flatnonzero(variance > NO_FREEDOM * units.means[1])
    if free.size < 2:
        raise InputError(f"qqnorm needs at least 2 residuals that the data can move, not {free.size}")
    z = (units.mean(units.resid) / np.sqrt(np.where(variance > 0, variance, 1.0)))[free]
    draws = _simulated(units, variance, free, iterations, used, cores)
    if type == "rstudent":
        z = np.asarray(_studentised(units)[free])
    notes = [_lost(units, np.setdiff1d(np.arange(units.n), free, assume_unique=True))]
    order = np.argsort(z, kind="stable")
    tail = 0.5 * (1.0 - level)
    lower, upper = np.asarray(np.quantile(draws, [tail, 1.0 - tail], axis=0))
    y = z[order]
    many = ((draws < lower) | (draws > upper)).sum(axis=1)
    beyond = float((many >= ((y < lower) | (y > upper)).sum()).mean())
    return QQNorm(
        units.by, type, tuple(units.labels[free[i]] for i in order), _quantiles(free.size), y, lower, upper, beyond,
        iterations, used, level, fit.effects.provenance, merge_notes(fit.notes, *notes),
    )  # fmt: skip


def residual_variance(units: Units) -> Array:
    """Return the variance of the residual of each unit's mean if the model is right, (n,)."""
    X, W = units.fit.design.X, units.weights
    bread = np.linalg.inv(X.T @ W)
    mean = units.mean(X) @ bread
    if isinstance(units.work, DiagonalWorking):
        WM = W * units.work.variance[:, None]
        crossed, spread = units.mean(WM), WM.T @ W
    else:
        # The weights are M^-1.
        crossed, spread = units.mean(X), X.T @ W
    return np.asarray(
        units.means[1] - 2.0 * np.einsum("np,np->n", mean, crossed) + np.einsum("np,pq,nq->n", mean, spread, mean)
    )


def _simulated(units: Units, variance: Array, free: Any, iterations: int, seed: int, cores: int) -> Array:
    """Return the sorted standardised residuals of data sets from the model, (iterations, n)."""
    X, W = units.fit.design.X, units.weights
    hat = np.linalg.inv(X.T @ W) @ W.T
    roots = [(rows, np.linalg.cholesky(M)) for rows, M in units.blocks(units.tied)]
    sd = np.sqrt(variance[free])[:, None]

    def task(number: int, start: int, stop: int) -> Array:
        noise = stream(seed, number).standard_normal((len(X), stop - start))
        errors = np.empty_like(noise)
        for rows, root in roots:
            errors[rows] = root @ noise[rows]
        return np.sort(units.mean(errors - X @ (hat @ errors))[free] / sd, axis=0).T

    size = max(1, BLOCK // len(X))
    return np.concatenate(list(blocks_of(task, B=iterations, size=size, cores=cores)))


def _studentised(units: Units) -> Array:
    """Return residuals from fits without the effect, over their standard deviation; as metafor's rstudent."""
    fit = units.fit
    if not isinstance(fit, RandomEffectsResults) or units.by != "effect":
        raise InputError("type='rstudent' is for effects of a RandomEffectsModel; ask for type='rstandard'")
    X = fit.design.X
    how = recipe(fit, "qqnorm")
    change, vb, tau2 = refitted(units, replace(how, test="z"))
    # The factor of Knapp and Hartung stands for all variances.
    factor = refitted(units, how)[1][:, 0, 0] / vb[:, 0, 0] if how.test in ("knha", "adhoc") else 1.0
    resid = units.resid + np.einsum("kp,kp->k", X, change)
    return np.asarray(resid / np.sqrt(factor * (fit.effects.vi + tau2 + np.einsum("kp,kpq,kq->k", X, vb, X))))


def _quantiles(n: int) -> Array:
    """Return the normal quantiles of n ranks, as R's ppoints has them."""
    a = 0.375 if n <= 10 else 0.5
    return np.asarray(special.ndtri((np.arange(1, n + 1) - a) / (n + 1.0 - 2.0 * a)))


def _lost(units: Units, gone: Any) -> list[Note]:
    if not len(gone):
        return []
    named = ", ".join(units.labels[i] for i in gone[:5])
    return [Note("no-residual", f"Not drawn: {named}; {FIXED}.")]
