"""How hard each effect or study pulls: deletion residuals, Cook's distances and their relatives, for every model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.univariate.wls import make_batch, wls_weighted
from alliance_meta.notes import Note, check_cores, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import Noun, records_of
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import by_name
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.deletion.left_out import lost_notes
from alliance_meta.sensitivity.deletion.rows import check_known
from alliance_meta.sensitivity.deletion.without import Many, Units, read_units, variances_of, without
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import fixed

# Conventions of metafor's influence(): three standard deviations of DFFITS, three times the mean leverage, half of a
# chi-squared distribution, one standard error.
FAR, HALF, ONE = 3.0, 0.5, 1.0
MOST_SHOWN = 10
NO_SPREAD = "the effects that are left tell no variance to compare with"
NO_HAT = "a posterior has no hat matrix, and no weights of single effects where they are nested"
MEASURES = ("rstudent", "dffits", "cook_d", "cov_r", "tau2_del", "QE_del", "hat", "weight")
DELETED = {"I2_del": "I2", "pi_lb_del": "pi_lb", "pi_ub_del": "pi_ub", "QM_del": "QM"}


@dataclass(frozen=True, eq=False, repr=False)
class Influence(Result):
    """What the result owes to each effect or study.

    Made by `influence`.

    Attributes
    ----------
    fit : any fitted model
        The model of all effects; of cluster-robust results the model beneath.
    by : str
        What is left out: ``"effect"``, ``"study"``, or a column.
    labels : tuple of str
    sizes : ndarray of shape (J,)
        Effects that each unit has.
    rstudent, dffits, cook_d, cov_r, hat, weight : ndarray of shape (J,)
        NaN where they cannot be computed; `tidy` says why.
    dfbetas : ndarray of shape (J, p)
    """

    fit: Any
    by: str
    labels: tuple[str, ...]
    sizes: IntArray
    rstudent: Array
    dffits: Array
    cook_d: Array
    cov_r: Array
    hat: Array
    weight: Array
    dfbetas: Array
    _many: Many
    notes: tuple[Note, ...] = ()

    names = Noun[tuple[str, ...]]("_many.names", "Coefficients, (p,).")

    @property
    def cutoffs(self) -> dict[str, float]:
        """The values beyond which a unit is flagged, by measure: those of metafor's ``influence``."""
        J, p = len(self.labels), len(self.names)
        return {
            "dffits": FAR * float(np.sqrt(p / (J - p))) if p < J else np.inf,
            "cook_d": float(special.chdtri(p, 1.0 - HALF)),
            "hat": FAR * p / J,
            "dfbs": ONE,
        }

    @cached_property
    def influential(self) -> Mask:
        """Units beyond a cut-off of DFFITS, Cook's distance, leverage, or any DFBETAS, (J,)."""
        cut = self.cutoffs
        with np.errstate(invalid="ignore"):
            far = (np.abs(self.dffits) > cut["dffits"]) | (self.cook_d > cut["cook_d"]) | (self.hat > cut["hat"])
            far |= (np.abs(self.dfbetas) > cut["dfbs"]).any(axis=1)
        return np.asarray(far)

    def tidy(self) -> pd.DataFrame:
        """Return one row per effect or study, unrounded.

        Returns
        -------
        DataFrame
            ``label``; ``rstudent dffits cook_d cov_r tau2_del QE_del hat weight``; ``dfbs_<coefficient>`` for each;
            ``influential``; ``k`` (effects of the unit); ``I2_del pi_lb_del pi_ub_del QM_del``, those numbers
            without the unit. `NotApplicable` where something cannot be computed.
        """
        many = self._many
        columns: dict[str, Any] = {"label": list(self.labels)}
        for name in MEASURES:
            if name in ("tau2_del", "QE_del"):
                columns[name] = many.cells(name[:-4], many.model[name[:-4]])
            else:
                columns[name] = self._cells(name, getattr(self, name))
        columns |= {f"dfbs_{name}": self._cells("dfbs", self.dfbetas[:, i]) for i, name in enumerate(self.names)}
        columns |= {"influential": self.influential, "k": self.sizes}
        columns |= {name: many.cells(of, many.model[of]) for name, of in DELETED.items()}
        return pd.DataFrame(columns)

    def _cells(self, name: str, values: Array) -> Any:
        return self._many.cells(name, values, NO_HAT if name in ("hat", "weight") else NO_SPREAD)

    def _values(self) -> dict[str, Any]:
        return {"by": self.by, "cutoffs": self.cutoffs, "units": records_of(self.tidy())}

    def _content(self) -> Document:
        order = np.argsort(-np.nan_to_num(self.cook_d, nan=-1.0), kind="stable")[:MOST_SHOWN]
        rows = []
        for i in order:
            sizes = np.abs(np.nan_to_num(self.dfbetas[i]))
            largest = int(np.argmax(sizes))
            numbers = [self.weight[i], self.rstudent[i], self.dffits[i], self.cook_d[i], self.cov_r[i], self.hat[i]]
            shown = [fixed(x, 2) if x == x else "n/a" for x in (*numbers, self.dfbetas[i, largest])]
            rows.append((self.labels[i], str(self.sizes[i]), *shown, "*" if self.influential[i] else ""))
        head = ("", "k", "weight", "rstudent", "dffits", "cook_d", "cov_r", "hat", "dfbs", "")
        flagged = int(self.influential.sum())
        return self._document(
            f"Influence of {len(self.labels)} ({self.by}); {flagged} flagged *", Table(head, tuple(rows))
        )


def influence(fit: Any, *, by: Any = None, reestimate: bool = True, cores: int = 1) -> Influence:
    r"""Say how hard each effect, study or sample pulls the result.

    Is the result that of all studies, or of one? Each is left out in turn, everything is estimated anew, and several
    measures say how far it lies from the others (``rstudent``), how much it had to say (``hat``, ``weight``) and how
    much the result moves without it (``cook_d dffits dfbs cov_r``). What is flagged is worth reading again; it is no
    reason to throw it out.

    Parameters
    ----------
    fit : any fitted model
        Random-effects, location-scale, multilevel, robust variance estimation, or Bayesian (exact). For cluster-robust
        results the measures are those of the model beneath.
    by : {"effect", "study"}, column or array-like of shape (k,), optional
        What is left out. By default studies where some have several effects, else effects.
    reestimate : bool
        ``False``: variances stay as all effects have them; of random-effects and multilevel models.
    cores : int
        Processes, where the model must be fitted once for each; they do not change the result.

    Returns
    -------
    Influence
        ``tidy()``: ``label rstudent dffits cook_d cov_r tau2_del QE_del hat weight dfbs_<name> influential k I2_del
        pi_lb_del pi_ub_del QM_del``, one row per unit. ``plots.influence`` draws it.

    Raises
    ------
    InputError
        Another kind of result; a single unit, without which nothing is left.

    See Also
    --------
    leave_one_out : the result itself without each.

    Notes
    -----
    With :math:`d_i` the change of the coefficients when unit i is left out, :math:`v` their covariance, :math:`X_i` its
    rows, and the index (i) for estimates without it: ``cook_d`` is :math:`d_i' v^{-1} d_i`; ``cov_r`` is
    :math:`|v_{(i)}| / |v|`; ``dfbs`` is each change over its standard error with all effects and the variances without
    the unit. ``rstudent`` is :math:`1'G^{-1} e / \sqrt{1'G^{-1} 1}` with :math:`e = y_i - X_i b_{(i)}` and G its
    covariance, for one effect the residual over its standard error: normal if the model is right. ``dffits`` is the
    change of the unit's mean fitted value over its standard error. Flagged are, as in metafor, :math:`|dffits| > 3
    \sqrt{p / (J - p)}`, a Cook's distance beyond the median of chi2(p), ``hat`` beyond 3 p / J, and any ``dfbs`` beyond
    1, with J units. The standard errors of ``dfbs`` and ``dffits`` of robust variance estimation and of Bayesian models
    are those of the fit. Viechtbauer & Cheung (2010, doi:10.1002/jrsm.11). R: ``influence(fit)``;
    ``cooks.distance(fit, cluster = study)``, ``dfbetas``, ``rstudent`` of ``rma.mv``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    >>> found = sensitivity.influence(fit).tidy().set_index("label")
    >>> found["cook_d"].idxmax(), round(float(found["cook_d"].max()), 3), int(found["influential"].sum())
    ('Jerant et al. 2011', 0.22, 0)
    """
    check_known(fit, "influence")
    check_cores(cores)
    model = fit.fit if isinstance(fit, RobustResults) else fit
    units = read_units(model.effects, by)
    many = without(model, units, whole=True, held=not reestimate, cores=cores)
    if not reestimate:
        many = replace(many, theta=np.tile(_Spread(model).theta, (units.J, 1)))
    beta, vb = np.asarray(model.beta, dtype=float), np.asarray(model.vb, dtype=float)
    # Effects without any residual leave coefficients without an error to compare with.
    known = bool(np.linalg.eigvalsh(vb)[0] > 0)
    change, root = beta - many.terms["beta"], np.linalg.inv(vb) if known else np.full_like(vb, np.nan)
    whole = _whole(model, many)
    error = np.sqrt(many.s2w[:, None] * np.einsum("jpp->jp", whole))
    with np.errstate(invalid="ignore", divide="ignore"):
        cov_r = np.linalg.det(np.nan_to_num(many.vb)) / (np.linalg.det(vb) if known else np.nan)
        dfbetas = np.where(error > 0, change / error, np.nan)
    hat, weights = _hat(model), np.asarray(getattr(model, "weights", np.full(model.k, np.nan)))
    notes = merge_notes(fit.notes, lost_notes(units.labels, many))
    rstudent, dffits = _residuals(model, units, many, change, hat)
    return Influence(
        fit=model,
        by=units.name,
        labels=units.labels,
        sizes=units.sizes,
        rstudent=rstudent,
        dffits=dffits,
        cook_d=np.einsum("jp,pq,jq->j", change, root, change),
        cov_r=np.where(many.usable, cov_r, np.nan),
        hat=np.full(units.J, np.nan) if hat is None else _summed(hat, units),
        weight=_summed(weights, units),
        dfbetas=dfbetas,
        _many=many,
        notes=notes,
    )


def _summed(values: Array, units: Units) -> Array:
    return np.bincount(units.of, values, minlength=units.J).astype(float)


def _whole(model: Any, many: Many) -> Array:
    """Return the covariance of the coefficients of all effects at the variances of each fit, (J, p, p)."""
    J, p = many.terms["beta"].shape
    out = np.full((J, p, p), np.nan) if many.whole is None else many.whole.copy()
    for j in np.flatnonzero(np.isnan(out[:, 0, 0]) & many.usable):
        out[j] = _whole_at(model, many.theta[j])
    return out


def _whole_at(model: Any, theta: Array) -> Array:
    if isinstance(model, MultilevelResults):
        problem = by_name(model).point.problem
        if np.isfinite(theta).all() and theta.size == problem.n:
            return problem.at(theta).vb
    if isinstance(model, LocationScaleResults):
        tau2 = _tau2_of(model, theta, model.scale_design.X)
        batch = make_batch(model.effects.yi, model.effects.vi, model.design.X)
        return np.asarray(wls_weighted(batch, 1.0 / (batch.v + tau2)).vb[0])
    return np.asarray(model.vb, dtype=float)


def _tau2_of(model: LocationScaleResults, alpha: Array, Z: Array) -> Array:
    linear = Z @ alpha
    return np.exp(linear) if model.link == "log" else np.maximum(linear, 0.0)


def _hat(model: Any) -> Array | None:
    """Return the diagonal of the hat matrix, (k,); None where there is none."""
    if isinstance(model, RandomEffectsResults):
        return model.fitted.leverage
    X = model.design.X
    if isinstance(model, MultilevelResults):
        return np.einsum("kp,pq,kq->k", X, model.point.vb, model.working().solve(X))
    if isinstance(model, LocationScaleResults):
        w: Array = 1.0 / (model.effects.vi + model.tau2)
    elif isinstance(model, RVEResults):
        w = model.fitted.working.weights
    else:
        return None
    return np.asarray(w * np.einsum("kp,pq,kq->k", X, np.linalg.inv((X * w[:, None]).T @ X), X))


def _residuals(model: Any, units: Units, many: Many, change: Array, hat: Array | None) -> tuple[Array, Array]:
    """Return the deletion residuals and DFFITS, (J,) each."""
    if units.single and isinstance(model, RandomEffectsResults):
        return _of_effects(model, np.argsort(units.of), many, change, hat)
    X, y = model.design.X, model.effects.yi
    full = _Spread(model)
    rstudent, dffits = np.full(units.J, np.nan), np.full(units.J, np.nan)
    own = np.asarray(model.vb, dtype=float)
    for j in np.flatnonzero(many.usable):
        rows = units.rows[j]
        M = full.at(many.theta[j], rows)
        if M is None or not many.s2w[j] > 0:
            continue
        e, ones = y[rows] - X[rows] @ many.terms["beta"][j], np.ones(len(rows))
        G = many.s2w[j] * M + X[rows] @ many.vb[j] @ X[rows].T
        solved = np.linalg.solve(G, np.column_stack([ones, e]))
        rstudent[j] = ones @ solved[:, 1] / np.sqrt(ones @ solved[:, 0])
        mean = X[rows].mean(axis=0)
        ratio = float(M.sum() / full.here(rows).sum())
        error = mean @ _plain(model, own) @ mean * many.s2w[j] * ratio
        dffits[j] = mean @ change[j] / np.sqrt(error)
    return rstudent, dffits


def _plain(model: Any, vb: Array) -> Array:
    """Return the covariance of the coefficients without a small-sample factor."""
    return model.fitted.vb if isinstance(model, RandomEffectsResults) else vb


def _of_effects(
    model: RandomEffectsResults, at: IntArray, many: Many, change: Array, hat: Array | None
) -> tuple[Array, Array]:
    """Return both for single effects of a random-effects model, `at` the row of each unit, all at once."""
    X, v = model.design.X[at], model.effects.vi[at]
    tau2 = many.theta[:, 0]
    e = model.effects.yi[at] - np.einsum("kp,kp->k", X, many.terms["beta"])
    spread = many.s2w * (v + tau2) + np.einsum("kp,kpq,kq->k", X, many.vb, X)
    if model.fitted.own_weights is None or many.whole is None:
        assert hat is not None
        error = many.s2w * hat[at] * (tau2 + v)
    else:
        error = many.s2w * np.einsum("kp,kpq,kq->k", X, many.whole, X)
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = (X * change).sum(axis=1) / np.sqrt(error)
        return np.where(spread > 0, e / np.sqrt(spread), np.nan), np.where(error > 0, moved, np.nan)


class _Spread:
    """The covariance of some effects around the mean effect, at any variances of the model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.base = by_name(model) if isinstance(model, MultilevelResults) else None

    def here(self, rows: IntArray) -> Array:
        """Return it at the variances of the fit."""
        found = self.at(self.theta, rows)
        assert found is not None
        return found

    @cached_property
    def theta(self) -> Array:
        return variances_of(self.model) if self.base is None else self.base.theta

    def at(self, theta: Array, rows: IntArray) -> Array | None:
        """Return it at other variances; None where these are not all known."""
        model, v = self.model, self.model.effects.vi[rows]
        if not np.isfinite(theta).all():
            return None
        if self.base is not None:
            return self._multilevel(theta, rows)
        if isinstance(model, LocationScaleResults):
            return np.diag(v + _tau2_of(model, theta, model.scale_design.X[rows]))
        if isinstance(model, RVEResults):
            return self._rve(theta, rows, v)
        if isinstance(model, BayesianMultilevelResults):
            errors = np.diag(v) if model.V is None else model.V.take(rows).to_dense()
            same = model.group[rows][:, None] == model.group[rows]
            return np.asarray(errors + theta[0] * same + theta[1] * np.eye(len(rows)))
        return np.diag(v + float(theta.sum()))

    def _multilevel(self, theta: Array, rows: IntArray) -> Array | None:
        model, base = self.model, self.base
        assert base is not None
        problem = base.point.problem
        if theta.size != problem.n:
            return None
        M: Array = model.effects.vi[rows] * np.eye(len(rows)) if model.V is None else model.V.take(rows).to_dense()
        for term, part, component in zip(model.random, problem.slices, problem.components, strict=True):
            M = M + term.block(theta[part], component.structure, rows[None])[0]
        return np.asarray(M)

    def _rve(self, theta: Array, rows: IntArray, v: Array) -> Array:
        """Correlated effects share their true effect, and their errors correlate; hierarchical ones differ."""
        model, (tau2, omega2) = self.model, theta
        same = model.clusters.codes[rows][:, None] == model.clusters.codes[rows]
        one = np.eye(len(rows), dtype=bool)
        rho = 0.0 if model.working_model == "HIER" else model.settings.rho
        errors = np.where(one, 1.0, rho) * np.sqrt(np.outer(v, v))
        return np.asarray(same * (errors + tau2 + omega2 * one))
