"""Effects under the covariance that the model gives them: Baujat, normal quantile and radial plots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import given
from alliance_meta.core.dependent import IntArray, components, deletions, nested, stacks
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.resampling import BLOCK, Recipe, blocks_of, full_rank, refit, stream
from alliance_meta.core.robust.sandwich import DiagonalWorking, WorkingCovariance
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import STUDY
from alliance_meta.errors import InputError
from alliance_meta.notes import (
    NotApplicable,
    Note,
    check_cores,
    check_iterations,
    check_level,
    check_option,
    check_seed,
    merge_notes,
)
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, format_count, format_level, plural

By = Literal["effect", "study"]
# Rows of a table of effects or studies that a summary shows.
MOST_SHOWN = 10
MODELS = (RandomEffectsResults, MultilevelResults, RVEResults, LocationScaleResults)


@dataclass(frozen=True, eq=False)
class Units:
    """The effects of a fit, one by one or by study."""

    fit: Any
    by: By
    labels: tuple[str, ...]  # what the n units are called
    unit: IntArray  # (k,): unit of each effect
    work: WorkingCovariance  # covariance M of the effects under the model

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.labels)

    @property
    def sizes(self) -> IntArray:
        """Effects of each unit, (n,)."""
        return np.bincount(self.unit, minlength=self.n)

    @cached_property
    def resid(self) -> Array:
        """Effects less their fitted values, (k,)."""
        return np.asarray(self.fit.effects.yi - self.fit.design.X @ self.fit.beta)

    @property
    def weights(self) -> Array:
        """What the model weights its design by, WX (k, p): M^-1 X, or its own weights times X."""
        own = self.work.weights if isinstance(self.work, DiagonalWorking) else None
        return self.weighted if own is None else own[:, None] * self.fit.design.X

    @cached_property
    def weighted(self) -> Array:
        """M^-1 X, (k, p)."""
        return self.work.solve(self.fit.design.X)

    @cached_property
    def vb(self) -> Array:
        """Covariance of the coefficients if M is right, (p, p)."""
        found = np.linalg.inv(self.fit.design.X.T @ self.weighted)
        return 0.5 * (found + found.T)

    @cached_property
    def tied(self) -> IntArray:
        """The finest groups of effects that M does not tie together, (k,)."""
        terms = [term.ties for term in getattr(self.fit, "random", ())]
        V = getattr(self.fit, "V", None)
        ties = terms if V is None else [*terms, V.codes]
        return components(*ties) if ties else np.arange(len(self.unit))

    @property
    def whole(self) -> bool:
        """Tell whether units are independent of each other under M."""
        return nested(self.tied, self.unit)

    def check_whole(self, who: str) -> None:
        """Raise an `InputError` where M ties units together."""
        if not self.whole:
            apart = "effects of one study" if self.by == "effect" else "different studies"
            raise InputError(
                f"{who}: the model ties {apart} together, so that each is no point of its own; "
                + ("ask for by='study'" if self.by == "effect" else "fit without crossed random terms")
            )

    def blocks(self, groups: IntArray) -> Iterator[tuple[IntArray, Array]]:
        """Yield rows (m, size) and covariances of the groups of each size."""
        for rows in stacks(groups):
            yield rows, self.work.block(rows)

    @cached_property
    def means(self) -> tuple[Array, Array]:
        """Weights (k,) that make the best mean of each unit from its own effects alone, and its variance (n,)."""
        weights, variance = np.empty(len(self.unit)), np.empty(self.n)
        for rows, M in self.blocks(self.unit):
            solved = np.linalg.solve(M, np.ones((*rows.shape, 1)))[:, :, 0]
            total = solved.sum(axis=1)
            weights[rows] = solved / total[:, None]
            variance[self.unit[rows[:, 0]]] = 1.0 / total
        return weights, variance

    def mean(self, values: Array) -> Array:
        """Return the best mean of each unit of values (k,) or (k, m): (n,) or (n, m)."""
        weights = self.means[0]
        if self.by == "effect":
            return values
        order = np.argsort(self.unit, kind="stable")
        first = np.flatnonzero(np.diff(self.unit[order], prepend=-1))
        return np.asarray(np.add.reduceat((weights * values.T).T[order], first))


def read_units(fit: Any, who: str, by: By | None, *, moderators: bool = True) -> Units:
    """Return the units of a fit: by default studies where some have several effects."""
    found = given(fit, who, moderators=moderators)
    model: Any = fit.fit if isinstance(fit, RobustResults) else fit
    if not isinstance(model, MODELS):
        raise InputError(
            f"{who} needs a model that says how effects scatter around their mean: fit RandomEffectsModel, "
            f"MultilevelModel or che() to the same effects, not {model.called}"
        )
    if by is not None:
        check_option("by", by, By)
    work = model.working() if hasattr(model, "working") else DiagonalWorking(model.effects.vi + model.tau2)
    chosen: By = by or ("study" if found.dependent else "effect")
    if chosen == "effect":
        return Units(model, chosen, tuple(model.effects.slab), np.arange(model.k), work)
    clusters = read_clusters(model.effects, STUDY)
    return Units(model, chosen, tuple(clusters.labels), clusters.codes, work)


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
