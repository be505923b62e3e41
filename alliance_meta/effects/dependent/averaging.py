"""The ways in which `aggregate` makes the effects of a cluster one: estimates, variances, smallest weights, notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import r_to_z, var_r, var_z
from alliance_meta.core.dependent import aggregation as core
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray, nested, stacks
from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.effects.studies import listed
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.tables.format import brief, fixed

LEAST_N = {"ZCOR": 4, "COR": 2}
SAME_VARIANCE = 1e-8
Averages = tuple[Array, Array, Array, list[Note]]


def correlations(rho: Any, clusters: Clusters) -> Array:
    """Return the assumed correlation of each cluster, (n,), checked against its size."""
    if isinstance(rho, Mapping):
        by_label = {str(key): float(value) for key, value in rho.items()}
        missing = [clusters.labels[int(i)] for i in clusters.several if clusters.labels[int(i)] not in by_label]
        unknown = sorted(set(by_label) - set(clusters.labels))
        if missing or unknown:
            raise InputError(
                "rho by cluster"
                + (f" lacks {listed(missing)}" if missing else "")
                + (f"{' and' if missing else ''} names what is no cluster: {listed(unknown)}" if unknown else "")
            )
        values = np.array([by_label.get(label, 0.0) for label in clusters.labels])
    else:
        if isinstance(rho, bool) or not isinstance(rho, int | float | np.number):
            raise InputError(f"rho={rho!r} must be a number, or a mapping from cluster to number")
        values = np.full(clusters.n, float(rho))
    if not (np.abs(values) <= 1).all():
        wrong = values[~(np.abs(values) <= 1)][0]
        raise InputError(f"rho={wrong:g} is a correlation and must lie between -1 and 1")
    floor = -1.0 / np.maximum(clusters.sizes - 1.0, 1.0)
    impossible = np.flatnonzero((clusters.sizes > 1) & (values <= floor))
    if len(impossible):
        largest = int(impossible[np.argmax(clusters.sizes[impossible])])
        raise InputError(
            f"rho={values[largest]:g} is impossible for {clusters.sizes[largest]} effects of one cluster: not all "
            f"pairs can correlate as low as -1/(m - 1) = {brief(floor[largest], 4)} or lower; too low for: "
            f"{clusters.named(impossible)}"
        )
    return values


def by_rho(effects: EffectSizes, clusters: Clusters, rho: Array, equal: bool) -> Averages:
    """Aggregate with one assumed correlation per cluster."""
    if not equal:
        _refuse_one(clusters, rho, "how='CS'")
    use = core.mean_of if equal else core.gls_of
    return *use(effects.yi, effects.vi, clusters.codes, rho), []


def _refuse_one(clusters: Clusters, rho: Array, what: str) -> None:
    singular = np.flatnonzero((clusters.sizes > 1) & (rho >= 1))
    if len(singular):
        raise InputError(
            f"rho=1 makes the covariance matrix of several effects singular, and {what} must invert it; "
            f"use how='mean', which need not, or rho below 1 (clusters: {clusters.named(singular)})"
        )


def by_matrix(effects: EffectSizes, clusters: Clusters, V: Any, equal: bool) -> Averages:
    """Aggregate with the covariance matrix that was given, clusters of one size at a time."""
    source = _as_blocks(V, effects, clusters)
    yi, vi, lowest = np.empty(clusters.n), np.empty(clusters.n), np.empty(clusters.n)
    bad: list[int] = []
    off = 0
    for rows in stacks(clusters.codes):
        block = np.asarray(source.block(rows), dtype=float)
        which = clusters.codes[rows[:, 0]]
        share = core.smallest_eigenvalues(block)
        wrong = (share < 0) if equal else (share <= 0)
        wrong |= block.sum(axis=(1, 2)) <= 0
        if wrong.any():
            bad += which[wrong].tolist()
            continue
        off += int((~np.isclose(np.einsum("nii->ni", block), effects.vi[rows], rtol=SAME_VARIANCE, atol=0)).sum())
        use = core.mean_of_blocks if equal else core.gls_of_blocks
        yi[which], vi[which], lowest[which] = use(effects.yi[rows], block)
    if bad:
        mend = "no covariance matrix has that" if equal else "it cannot be inverted; use how='mean', or mend V"
        raise InputError(
            f"V is not positive {'semi-' if equal else ''}definite in {len(bad)} cluster{'s' if len(bad) > 1 else ''} "
            f"({clusters.named(sorted(bad))}): {mend}"
        )
    message = f"V has other variances than the table for {off} of {effects.k} effects; those of V were used."
    return yi, vi, lowest, [Note("v-variances", message)] if off else []


class _Dense:
    """A dense matrix that gives its blocks."""

    def __init__(self, V: Array) -> None:
        self.V = V

    def block(self, rows: IntArray, /) -> Array:
        return self.V[rows[:, :, None], rows[:, None, :]]


def _as_blocks(V: Any, effects: EffectSizes, clusters: Clusters) -> SamplingCovariance | _Dense:
    if isinstance(V, SamplingCovariance):
        if effects.k != V.k:
            raise InputError(f"V is for {V.k} effects, the table has {effects.k}")
        if V.rho != 0 and not nested(V.codes, clusters.codes):
            raise InputError(
                f"V links effects of different clusters of {clusters.name}, and averages within them would lose that; "
                "widen the clusters, or make V for these clusters"
            )
        return V
    dense = np.asarray(V, dtype=float)
    if dense.shape != (effects.k, effects.k):
        raise InputError(f"V has the shape {dense.shape}; {effects.k} effects need ({effects.k}, {effects.k})")
    if not (np.isfinite(dense).all() and np.allclose(dense, dense.T, rtol=SAME_VARIANCE, atol=0)):
        raise InputError("V must be symmetric and without missing values")
    across = (dense != 0) & (clusters.codes[:, None] != clusters.codes)
    if across.any():
        i, j = np.argwhere(across)[0]
        raise InputError(
            f"V has covariances between clusters (such as {effects.slab[i]} and {effects.slab[j]}), which averages "
            "within clusters would lose; widen the clusters, or set these covariances to 0"
        )
    return _Dense(dense)


def on_r(effects: EffectSizes, clusters: Clusters, rho: Array, how: str) -> Averages:
    """Aggregate raw correlations and return to the table's scale."""
    r, ni = _raw(effects, clusters, how)
    if how == "gleser-olkin":
        return _gleser_olkin(effects, clusters, rho, r, ni)
    joined, factor = core.composite(r, clusters.codes, rho)
    over = np.flatnonzero((np.abs(joined) >= 1) & (clusters.sizes > 1))
    if len(over):
        raise InputError(
            f"the composite of {clusters.named(over)} is {fixed(joined[over[0]], 3)}: measures that each correlate so "
            f"highly with the outcome cannot correlate with each other by only {rho[over[0]]:g}; raise rho, or use "
            "how='mean'"
        )
    joined = np.where(clusters.sizes > 1, joined, 0.0)
    on_z = effects.measure == "ZCOR"
    yi, vi = (r_to_z(joined), var_z(ni)) if on_z else (joined, var_r(joined, ni, vtype=effects.vtype or "LS"))
    large = float(factor[clusters.several].max(initial=1.0))
    note = Note(
        "composite-larger",
        f"A composite is the correlation with the sum of a study's measures and larger than the mean of its effects, "
        f"here by up to {fixed(large, 3)} times; it does not compare with studies that report a single measure.",
    )
    return yi, vi, np.zeros(clusters.n), [note] if len(clusters.several) else []


def _gleser_olkin(effects: EffectSizes, clusters: Clusters, rho: Array, r: Array, n: Array) -> Averages:
    _refuse_one(clusters, rho, "how='gleser-olkin'")
    back = core.d_to_z if effects.measure == "ZCOR" else core.d_to_r
    yi, vi, lowest = np.empty(clusters.n), np.empty(clusters.n), np.empty(clusters.n)
    for rows in stacks(clusters.codes):
        which = clusters.codes[rows[:, 0]]
        d, v, lowest[which] = core.gleser_olkin(core.r_to_d(r[rows]), n[which], rho[which])
        yi[which], vi[which] = back(d, v)
    return yi, vi, lowest, []


def _raw(effects: EffectSizes, clusters: Clusters, how: str) -> tuple[Array, Array]:
    """Return r of each effect and the mean n of each cluster."""
    if effects.measure not in LEAST_N:
        raise InputError(
            f"how={how!r} is defined for raw correlations; these effects are {effects.measure!r}. "
            "Use escalc with measure='ZCOR' or 'COR', or how='mean' or 'CS'"
        )
    if effects.measure == "COR" and effects.vtype == "AV":
        raise InputError(f"how={how!r} needs a variance of each row's own; use escalc with vtype='LS', not 'AV'")
    if effects.ni is None:
        raise InputError(f"how={how!r} needs the sample sizes; give ni=, or use how='mean' or 'CS'")
    inside = np.isin(clusters.codes, clusters.several)
    least = LEAST_N[effects.measure]
    small = np.flatnonzero(inside & ~(effects.ni >= least))
    if len(small):
        raise InputError(
            f"how={how!r} needs n >= {least} for {effects.measure}; smaller or missing in "
            f"{listed([effects.slab[int(i)] for i in small])}"
        )
    r = np.tanh(effects.yi) if effects.measure == "ZCOR" else effects.yi
    perfect = np.flatnonzero(inside & ~(np.abs(r) < 1))
    if len(perfect):
        raise InputError(f"a correlation must lie between -1 and 1: {listed([effects.slab[int(i)] for i in perfect])}")
    return np.where(inside, r, 0.0), clusters.mean(np.where(inside, effects.ni, least + 1.0))
