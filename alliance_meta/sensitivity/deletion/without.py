"""A fitted model without each effect, study or other unit: all at once where that can be done, else one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, components, nested, stacks
from alliance_meta.core.mixed.covariance import Scaled
from alliance_meta.core.mixed.deletion import MixedDeletions, Stack, Surfaces, delete_by_surface, delete_units
from alliance_meta.core.univariate.deletion import Subsets, covariances, delete_each
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.sensitivity.deletion.many import NEEDED, Many, fits_of, interval_of_new, of_subsets, omnibus, tested
from alliance_meta.sensitivity.deletion.rows import check_known
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.format import plural

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
