"""A fitted model without each effect, study or other unit: all at once where that can be done, else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults
from alliance_meta.core.dependent import IntArray, components, nested, stacks
from alliance_meta.core.distributions import critical_values, statistic, two_sided_p
from alliance_meta.core.mixed.covariance import Scaled
from alliance_meta.core.mixed.deletion import MixedDeletions, Stack, Surfaces, delete_by_surface, delete_units
from alliance_meta.core.univariate.deletion import Subsets, covariances, delete_each
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.deletion.rows import check_known, on_rows
from alliance_meta.sensitivity.refitting import natural_values, recipe
from alliance_meta.tables.format import plural

NEEDED = "a coefficient cannot be estimated from the effects that are left"
GONE = "no effect of this level is left"
ONE = "no effects to spare beyond the coefficients"
MODERATORS = "the model has moderators: each study has a prediction interval of its own"
OF_TERMS = ("beta", "se", "ddf", "pval", "ci_lb", "ci_ub")
OF_MODEL = ("tau2", "QE", "I2", "QM", "pi_lb", "pi_ub")
# Subsets that one process fits at a time.
CHUNK = 20


@dataclass(frozen=True, eq=False)
class Many:
    """J fits of one model; NaN where a number does not exist."""

    names: tuple[str, ...]  # coefficients
    k: AnyArray  # (J,): effects of each fit
    terms: Mapping[str, Array]  # (J, p) each: ``beta se ddf pval ci_lb ci_ub``
    # (J,) each: ``tau2 QE I2 QM pi_lb pi_ub``, and every variance and correlation by its name.
    model: Mapping[str, Array]
    vb: Array  # (J, p, p)
    theta: Array  # (J, n): variance parameters as the model searches for them
    s2w: Array  # (J,): what small-sample inference multiplied variances by
    # (J, p, p) or None: covariance of the coefficients of all effects at the variances of each fit.
    whole: Array | None = None
    why: dict[int, str] = field(default_factory=dict)  # why a fit does not exist
    lacks: dict[str, str] = field(default_factory=dict)  # why a number does not exist in any fit that has none

    @property
    def usable(self) -> Any:
        """Which fits exist, (J,)."""
        there = np.ones(len(self.k), dtype=bool)
        there[list(self.why)] = False
        return there

    def cells(self, name: str, values: Array, lacking: str | None = None) -> Any:
        """Return a column whose missing numbers say why they are, by default as the number of this name does."""
        if not np.isnan(values).any():
            return values
        reason = self.lacks.get(name, ONE) if lacking is None else lacking
        found = [
            NotApplicable(self.why.get(i, reason)) if value != value else value
            for i, value in enumerate(values.tolist())
        ]
        return pd.Series(found, dtype=object)


def fits_of(fit: Any, sets: Sequence[IntArray], *, cores: int = 1) -> Many:
    """Fit the model to each set of rows, one after the other or in so many processes."""
    spans = [sets[start : start + CHUNK] for start in range(0, len(sets), CHUNK)]
    rows = [row for chunk in _chunks(fit, spans, cores) for row in chunk]
    J, p = len(sets), fit.p
    n = max((len(row["theta"]) for row in rows if "theta" in row), default=0)
    names = list(dict.fromkeys([*OF_MODEL, *(name for row in rows for name in row.get("own", {}))]))
    terms = {name: np.full((J, p), np.nan) for name in OF_TERMS}
    model = {name: np.full(J, np.nan) for name in names}
    vb, theta = np.full((J, p, p), np.nan), np.full((J, n), np.nan)
    why: dict[int, str] = {}
    lacks = dict.fromkeys(names[len(OF_MODEL) :], GONE)
    for i, row in enumerate(rows):
        if "why" in row:
            why[i] = row["why"]
            continue
        for name in (*OF_TERMS, *OF_MODEL):
            (terms if name in terms else model)[name][i] = row[name]
            if isinstance(row[name], NotApplicable):
                lacks[name] = row[name].reason
        for name, value in row["own"].items():
            model[name][i] = value
        vb[i] = row["vb"]
        if len(row["theta"]) == n:
            theta[i] = row["theta"]
    sizes = np.array([len(one) for one in sets])
    return Many(fit.names, sizes, terms, model, vb, theta, np.ones(J), None, why, lacks)


def _chunks(fit: Any, spans: Sequence[Sequence[IntArray]], cores: int) -> Iterator[list[dict[str, Any]]]:
    if cores == 1 or len(spans) == 1:
        yield from (_rows(fit, span) for span in spans)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=cores)(delayed(_rows)(fit, span) for span in spans)


def _rows(fit: Any, sets: Sequence[IntArray]) -> list[dict[str, Any]]:
    found = []
    for rows in sets:
        try:
            found.append(_numbers(on_rows(fit, rows)))
        except InputError as error:
            text = str(error)
            found.append({"why": NEEDED if "do not tell every coefficient" in text else text})
    return found


def _numbers(fit: Any) -> dict[str, Any]:
    """Return the numbers of one fit."""
    model = fit.fit if isinstance(fit, RobustResults) else fit
    found: dict[str, Any] = {name: getattr(fit, name) for name in OF_TERMS}
    found |= {name: _one(getattr(fit, name)) for name in OF_MODEL[:-2]} | prediction(fit)
    multilevel = isinstance(model, MultilevelResults)
    found["own"] = natural_values(model.fitted, model.random) if multilevel else {}
    theta = variances_of(model)
    return found | {"vb": np.asarray(fit.vb, dtype=float), "theta": theta}


def prediction(fit: Any) -> dict[str, Any]:
    """Return the limits of the prediction interval of a model without moderators."""
    if fit.p > 1 or getattr(fit.design, "formula", "1") != "1":
        return dict.fromkeys(OF_MODEL[-2:], NotApplicable(MODERATORS))
    frame = fit.predict()
    if len(frame) > 1:
        return dict.fromkeys(OF_MODEL[-2:], NotApplicable("true effects vary by more in some studies than in others"))
    gone = NotApplicable(str(frame.attrs.get("pi_note", ONE)))
    return {name: float(x) if (x := frame[name].iloc[0]) == x else gone for name in OF_MODEL[-2:]}


def variances_of(model: Any) -> Array:
    """Return the variance parameters of a fit, as the model has them: NaN where it has none."""
    if isinstance(model, MultilevelResults):
        return model.fitted.theta
    if isinstance(model, LocationScaleResults):
        return model.alpha
    if isinstance(model, BayesianMultilevelResults):
        return model.sigma2
    within = np.nan_to_num(model.fitted.working.omega2) if isinstance(model, RVEResults) else 0.0
    return np.array([float(model.tau2), float(within)])


def _one(value: Any) -> float:
    """Return a number of a fit; where each effect has its own, the one that all share."""
    if np.ndim(value) == 0:
        return value if isinstance(value, NotApplicable) else float(value)
    values = np.asarray(value, dtype=float)
    return float(values[0]) if np.ptp(values) == 0 else NotApplicable("it differs between effects")


def of_subsets(fit: RandomEffectsResults, found: Subsets) -> Many:
    """Return the numbers of univariate fits to subsets."""
    settings, level = fit.settings, fit.level
    J, p = found.beta.shape
    spare = found.df > 0
    ddf = np.where(spare, found.df, np.inf) if settings.test != "z" else np.full(J, np.inf)
    terms = tested(found.beta, found.vb, np.repeat(ddf[:, None], p, axis=1), level)
    why = dict.fromkeys(np.flatnonzero(~found.usable).tolist(), NEEDED)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_q = np.where(found.QE > 0, 100.0 * np.maximum(0.0, (found.QE - found.df) / found.QE), 0.0)
        I2 = np.where(spare, from_q if fit.method == "EE" else 100.0 * found.tau2 / (found.tau2 + found.vt), np.nan)
    new = np.full(J, np.nan) if fit.method == "EE" else np.where(spare, found.tau2, np.nan)
    limits, lacks = interval_of_new(fit, terms, new)
    QM = omnibus(found.beta, found.vb, fit.design.tested, f=ddf)
    model = {"tau2": found.tau2, "QE": found.QE, "I2": I2, "QM": QM, **limits}
    k = np.nan_to_num(found.df + p).astype(int)
    return Many(fit.names, k, terms, model, found.vb, found.tau2[:, None], found.s2w, None, why, lacks)


def tested(beta: Array, vb: Array, ddf: Array, level: float) -> dict[str, Array]:
    """Return coefficients with their errors, tests and intervals."""
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.einsum("jpp->jp", vb))
    half = critical_values(level, ddf) * se
    pval = np.where(np.isfinite(se), two_sided_p(statistic(beta, se), ddf), np.nan)
    return {"beta": beta, "se": se, "ddf": ddf, "pval": pval, "ci_lb": beta - half, "ci_ub": beta + half}


def interval_of_new(fit: Any, terms: Mapping[str, Array], new: Array) -> tuple[dict[str, Array], dict[str, str]]:
    """Return prediction limits of fits with these variances of a new true effect (J,), and why they are lacking."""
    why = "an equal-effects model has no prediction interval" if fit.method == "EE" else ONE
    with np.errstate(invalid="ignore"):
        # A tau2 that may be negative can leave no variance of a new effect.
        half = critical_values(fit.level, terms["ddf"][:, 0]) * np.sqrt(terms["se"][:, 0] ** 2 + new)
    if fit.p > 1 or fit.design.formula != "1":
        half, why = half * np.nan, MODERATORS
    beta = terms["beta"][:, 0]
    return {"pi_lb": beta - half, "pi_ub": beta + half}, dict.fromkeys(("pi_lb", "pi_ub"), why)


def omnibus(beta: Array, vb: Array, which: Sequence[int], *, f: Array) -> Array:
    """Return QM of each fit: chi-squared, or F where `f` (J,) has finite degrees of freedom."""
    at = list(which)
    out = np.full(len(beta), np.nan)
    part = vb[:, at][:, :, at]
    with np.errstate(invalid="ignore"):
        good = np.isfinite(part).all(axis=(1, 2)) & (np.einsum("jpp->jp", part) > 0).all(axis=1)
    b = beta[good][:, at]
    out[good] = (b * np.linalg.solve(part[good], b[:, :, None])[:, :, 0]).sum(axis=1)
    return np.where(np.isfinite(f), out / len(at), out)


SINGULAR = 1e-9
# Variances whose likelihood is smooth enough to be laid out over a box.
MOST_VARIANCES = 3
MOST_NODES, FEW_NODES = 4000, 300


@dataclass(frozen=True, eq=False)
class Units:
    """What is left out in turn: its name, labels (J,), and the unit of each effect, (k,)."""

    name: str
    labels: tuple[str, ...]
    of: IntArray

    @property
    def J(self) -> int:
        """Number of units."""
        return len(self.labels)

    @cached_property
    def rows(self) -> list[IntArray]:
        """Effects of each unit."""
        order = np.argsort(self.of, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.of, minlength=self.J))[:-1])

    @cached_property
    def sizes(self) -> IntArray:
        """Effects in each unit."""
        return np.bincount(self.of, minlength=self.J)

    @property
    def single(self) -> bool:
        """Every unit is one effect."""
        return self.of.size == self.J


def read_units(effects: EffectSizes, by: Any) -> Units:
    """Read what to leave out: ``"effect"``, ``"study"``, a column, or one label per effect."""
    if by is None:
        by = "effect" if effects.n_studies == effects.k else "study"
    if isinstance(by, str) and by == "effect":
        units = Units("effect", tuple(effects.slab), np.arange(effects.k))
    else:
        groups = read_clusters(effects, "study_id" if isinstance(by, str) and by == "study" else by)
        order = sorted(range(groups.n), key=groups.labels.__getitem__)
        rank = np.empty(groups.n, dtype=np.intp)
        rank[order] = np.arange(groups.n)
        name = "study" if groups.name == "study_id" else groups.name
        units = Units(name, tuple(groups.labels[i] for i in order), rank[groups.codes])
    if units.J < 2:
        size = "" if units.name == "effect" else f" with {plural(effects.k, 'effect')}"
        raise InputError(
            f"by={units.name!r}: there is one {units.name} ({units.labels[0]}){size}; nothing is left without it"
        )
    return units


def without(fit: Any, units: Units, *, whole: bool = False, held: bool = False, cores: int = 1) -> Many:
    """Fit the model without each unit.

    `whole`: with the covariance of the coefficients of all effects at each fit's variances. `held`: variances stay as
    the fit of all effects has them, as far as the model estimates any.
    """
    check_known(fit, "leaving out effects")
    if isinstance(fit, RandomEffectsResults) and (fit.method != "GENQM" or fit.settings.tau2 is not None):
        return _univariate(fit, units, whole=whole, held=held)
    if isinstance(fit, MultilevelResults):
        return _multilevel(fit, units, whole=whole, held=held, cores=cores)
    if held:
        raise InputError(f"reestimate=False is for random-effects and multilevel models, not for {fit.called}")
    return fits_of(fit, _left(units, np.arange(units.J)), cores=cores)


def _left(units: Units, which: IntArray) -> list[IntArray]:
    return [np.flatnonzero(units.of != j) for j in which]


def _univariate(fit: RandomEffectsResults, units: Units, *, whole: bool, held: bool) -> Many:
    y, v, own = fit.effects.yi, fit.effects.vi, recipe(fit, "leaving out effects")
    if held:
        own = replace(own, tau2=fit.tau2)
    weights = fit.fitted.own_weights
    found: Subsets = delete_each(y, v, own, units.of, units.J, tau2=fit.tau2, weights=weights)
    many = of_subsets(fit, found)
    if not whole or not found.usable.any():
        return many
    all_of = np.full(found.vb.shape, np.nan)
    all_of[found.usable] = covariances(y, v, own.X, found.tau2[found.usable], weights=weights)
    return replace(many, whole=all_of)


def _multilevel(fit: MultilevelResults, units: Units, *, whole: bool, held: bool, cores: int) -> Many:
    if held:
        fit = replace(fit, fitted=replace(fit.fitted, fixed=np.ones_like(fit.fitted.fixed)))
    there = _enough(fit.design.X, units)
    found = _at_once(fit, units, there)
    which = np.flatnonzero(there & ~found.settled) if found is not None else np.arange(units.J)
    many = _assembled(fit, units, found, there) if found is not None else None
    if which.size:
        slow = fits_of(fit, _left(units, which), cores=cores)
        if many is None:
            return slow
        many = _put(many, slow, which)
    assert many is not None
    return many if whole else replace(many, whole=None)


def _enough(X: Array, units: Units) -> Mask:
    """Say without which units every coefficient, and a variance besides, can be estimated."""
    Q = np.linalg.qr(X)[0]
    order = np.argsort(units.of, kind="stable")
    first = np.flatnonzero(np.diff(units.of[order], prepend=-1))
    own = np.add.reduceat(Q[order][:, :, None] * Q[order][:, None, :], first)
    left = np.linalg.eigvalsh(np.eye(Q.shape[1]) - own)[:, 0]
    return np.asarray((left > SINGULAR) & (len(X) - units.sizes > X.shape[1]))


def _at_once(fit: MultilevelResults, units: Units, there: Mask) -> MixedDeletions | None:
    """Return all deletions, with those not settled that must be done one by one; None where all must."""
    structures = [component.structure for component in fit.point.problem.components]
    if not all(isinstance(one, Scaled) for one in structures) or any(term.slopes is not None for term in fit.random):
        return None
    if there.all() and not fit.fitted.fixed.all():
        found = _by_surface(fit, units)
        if found is not None and found.settled.all():
            return found
    else:
        found = None
    if fit.V is not None and not nested(fit.V.codes, units.of):
        return found
    again = np.flatnonzero(there if found is None else ~found.settled)
    made = delete_units(fit.point, fit.fitted.fixed, units.of, again)
    if found is None:
        p, n = fit.p, fit.fitted.theta.size
        gone = [np.full((units.J, *shape), np.nan) for shape in ((n,), (p,), (p, p), (p, p), (), ())]
        theta, beta, vb, whole, QE, vt = gone
        found = MixedDeletions(theta, beta, vb, whole, QE, vt, np.zeros(units.J, dtype=bool))
    for name in ("theta", "beta", "vb", "whole", "QE", "vt", "settled"):
        getattr(found, name)[again] = getattr(made, name)
    return found


def _by_surface(fit: MultilevelResults, units: Units) -> MixedDeletions | None:
    problem = fit.point.problem
    if not 0 < problem.n <= MOST_VARIANCES or any(term.structure.linked for term in fit.random):
        return None
    ties = [term.ties for term in fit.random] + ([] if fit.V is None else [fit.V.codes])
    cluster = components(*ties)
    if not units.single and not nested(cluster, units.of):
        return None
    made = []
    for rows in stacks(cluster):
        m = rows.shape[1]
        V = fit.effects.vi[rows][:, :, None] * np.eye(m) if fit.V is None else np.array(fit.V.block(rows))
        parts = zip(fit.random, problem.components, strict=True)
        made.append(Stack(rows, V, np.stack([term.block(np.ones(1), one.structure, rows) for term, one in parts])))
    least = min(float(np.linalg.eigvalsh(one.V).min()) for one in made) / max(one.rows.shape[1] for one in made)
    if not least > 0:
        return None
    Q, R = np.linalg.qr(fit.design.X)
    Z = np.column_stack([Q, fit.effects.yi - fit.design.X @ fit.beta])
    surfaces = Surfaces(Z, made, units.of, units.single, problem.restricted)
    # Where rows can be taken out of the likelihood itself, a few hundred points cost as much.
    most = MOST_NODES if fit.V is not None and units.single else max(FEW_NODES, units.J)
    try:
        return delete_by_surface(
            surfaces,
            fit.fitted.theta,
            fit.fitted.fixed,
            fit.point.average_information,
            R,
            fit.beta,
            least=least,
            most=most,
        )
    except (ValueError, np.linalg.LinAlgError):
        return None


def _assembled(fit: MultilevelResults, units: Units, found: MixedDeletions, there: Mask) -> Many:
    k = fit.k - units.sizes
    ddf = _degrees(fit, units, k)
    terms = tested(found.beta, found.vb, ddf, fit.level)
    tau2 = found.theta.sum(axis=1)
    f = ddf[:, list(fit.design.tested)].min(axis=1)
    with np.errstate(invalid="ignore"):
        I2 = 100.0 * tau2 / (tau2 + found.vt)
    names = [name for term in fit.random for name in term.parameters]
    limits, lacks = interval_of_new(fit, terms, tau2)
    model = {
        "tau2": tau2,
        "QE": found.QE,
        "I2": I2,
        "QM": omnibus(found.beta, found.vb, fit.design.tested, f=f),
        **limits,
        **{name: found.theta[:, j] for j, name in enumerate(names)},
    }
    why = dict.fromkeys(np.flatnonzero(~there).tolist(), NEEDED)
    lacks |= dict.fromkeys(("QE", "I2"), "V is singular")
    return Many(fit.names, k, terms, model, found.vb, found.theta, np.ones(units.J), found.whole, why, lacks)


def _degrees(fit: MultilevelResults, units: Units, k: IntArray) -> Array:
    """Return the degrees of freedom of each coefficient without each unit, (J, p)."""
    J, p = units.J, fit.p
    if fit.inference == "z":
        return np.full((J, p), np.inf)
    left = np.maximum(k - p, 1.0)
    if fit.degrees == "residual":
        return np.repeat(left[:, None], p, axis=1)
    groupings = [group for term in fit.random for group in term.groupings]
    sizes = [_groups_left(group, units) for group in groupings]
    out = np.repeat(k[:, None].astype(float), p, axis=1)
    for at in range(p):
        x = fit.design.X[:, at]
        for group, n in zip(groupings, sizes, strict=True):
            holds = _constant_without(x, group, units)
            out[:, at] = np.where(holds, np.minimum(out[:, at], n), out[:, at])
    return np.maximum(out - p, 1.0)


def _groups_left(group: IntArray, units: Units) -> Array:
    """Return how many groups are left without each unit."""
    pairs = np.unique(np.column_stack([group, units.of]), axis=0)
    alone = np.bincount(pairs[:, 0]) == 1
    lost = np.bincount(pairs[alone[pairs[:, 0]], 1], minlength=units.J)
    return (int(group.max()) + 1 - lost).astype(float)


def _constant_without(x: Array, group: IntArray, units: Units) -> Mask:
    """Say without which units x does not vary within any group."""
    first = np.empty(int(group.max()) + 1)
    first[group[::-1]] = x[::-1]
    varying = np.unique(group[first[group] != x])
    out = np.full(units.J, varying.size == 0)
    if not varying.size:
        return out
    # A unit must have rows in every group in which x varies.
    inside = np.isin(group, varying)
    pairs = np.unique(np.column_stack([units.of[inside], group[inside]]), axis=0)
    for j in np.flatnonzero(np.bincount(pairs[:, 0], minlength=units.J) == varying.size):
        rest = inside & (units.of != j)
        values = {g: set(x[rest & (group == g)].tolist()) for g in varying}
        out[j] = all(len(one) <= 1 for one in values.values())
    return out


def _put(many: Many, slow: Many, which: IntArray) -> Many:
    """Return the fits with some exchanged for those done one by one."""
    for into, new in ((many.terms, slow.terms), (many.model, slow.model)):
        for name, values in into.items():
            values[which] = new.get(name, np.full(len(which), np.nan))
    many.vb[which] = slow.vb
    why = {i: text for i, text in many.why.items() if i not in which} | {int(which[i]): t for i, t in slow.why.items()}
    if slow.theta.shape[1] == many.theta.shape[1]:
        many.theta[which] = slow.theta
    return replace(many, why=why, lacks=many.lacks | slow.lacks)
