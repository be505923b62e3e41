"""`aggregate`: several dependent effects per study averaged into one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core import dependent as core
from alliance_meta.core.correlations.pearson import r_to_z, var_r, var_z
from alliance_meta.core.dependent import IntArray, SamplingCovariance, nested, stacks
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.studies import listed
from alliance_meta.effects.table import EffectSizes, unique_labels
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_option, merge_notes
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
        """Return the covariances of some clusters, one set of rows each."""
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


def averages(effects: EffectSizes, clusters: Clusters, rho: Any, how: str, *, equal: bool) -> Averages:
    """Average clusters by the correlations assumed; an effect alone in its cluster passes unchanged."""
    each = correlations(rho, clusters)
    if how in ("gleser-olkin", "composite"):
        yi, vi, lowest, notes = on_r(effects, clusters, each, how)
    else:
        yi, vi, lowest, notes = by_rho(effects, clusters, each, equal)
    alone, first = clusters.sizes == 1, clusters.first
    return np.where(alone, effects.yi[first], yi), np.where(alone, effects.vi[first], vi), lowest, notes


MIXED = "mixed"
# The letters that `unique_labels` put behind a label.
LETTERED = re.compile(r"^(.*\d)[a-z]+$|^(.*\D) [a-z]+$", re.S)


def collapse(effects: EffectSizes, clusters: Clusters, *, addk: bool = False) -> tuple[EffectSizes, list[Note]]:
    """Return the first row of each cluster with what the cluster's rows agree on, and notes on what they do not."""
    out = effects.take(clusters.first)
    if clusters.n == effects.k:
        return (replace(out, _moderators=_counted(out.moderators, clusters)) if addk else out), []
    notes = []
    frame, varying = _moderators(effects.moderators, clusters)
    if varying:
        named = ", ".join(f"{name} ({count})" for name, count in varying.items())
        notes.append(
            Note(
                "aggregated-mixed",
                "Differs within some clusters (how many in brackets), and is missing there or, if text, "
                f"{MIXED!r}: {named}.",
            )
        )
    ni = effects.ni
    if ni is not None:
        uneven = _uneven(_codes(ni), clusters)[0]
        ni = np.where(uneven, clusters.mean(ni), ni[clusters.first])
        if uneven.any():
            shown = clusters.named(np.flatnonzero(uneven))
            message = f"The sample size differs within {shown}; the mean of each cluster stands there."
            notes.append(Note("aggregated-n", message))
    return (
        replace(
            out,
            ni=ni,
            slab=unique_labels(_labels(effects, clusters)),
            study_id=_study_ids(effects, clusters),
            _moderators=_counted(frame, clusters) if addk else frame,
            # r and n of the sheet are not those of the averages.
            columns={},
        ),
        notes,
    )


def _counted(frame: pd.DataFrame, clusters: Clusters) -> pd.DataFrame:
    return frame.assign(ki=clusters.sizes)


def _codes(values: Any) -> IntArray:
    return pd.factorize(np.asarray(values) if isinstance(values, tuple | list) else values)[0].astype(np.intp)


def _uneven(codes: IntArray, clusters: Clusters) -> tuple[Mask, Mask]:
    """Return in which clusters the cells (codes, -1 missing) differ, and in which two known ones do."""
    lowest, highest = clusters.extremes(codes)
    known = clusters.extremes(np.where(codes < 0, np.iinfo(np.intp).max, codes))[0]
    differ = lowest < highest
    return differ, differ & (known < highest)


def _moderators(frame: pd.DataFrame, clusters: Clusters) -> tuple[pd.DataFrame, dict[str, int]]:
    varying = {}
    columns: dict[Any, Any] = {}
    for name in frame.columns:
        column = frame[name]
        differ, clash = _uneven(_codes(column), clusters)
        one = column.iloc[clusters.first].reset_index(drop=True)
        if differ.any():
            varying[str(name)] = int(differ.sum())
            one = _blanked(one, differ, clash)
        columns[name] = one
    return pd.DataFrame(columns, index=range(clusters.n)), varying


def _blanked(column: pd.Series[Any], differ: Mask, clash: Mask) -> pd.Series[Any]:
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return _blanked(column.astype(object), differ, clash)
    if pd.api.types.is_bool_dtype(kind):
        return column.astype("boolean").mask(differ)
    if pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        return column.mask(differ)
    return column.mask(differ).mask(clash, MIXED)


def _study_ids(effects: EffectSizes, clusters: Clusters) -> tuple[str, ...]:
    differ = _uneven(_codes(effects.study_id), clusters)[0]
    return tuple(
        clusters.labels[c] if differ[c] else effects.study_id[int(row)] for c, row in enumerate(clusters.first)
    )


def _labels(effects: EffectSizes, clusters: Clusters) -> tuple[str, ...]:
    """Return the label of each cluster: that of its only row, or what its rows share, or the study, or the cluster."""
    bare = [effects.slab[i] if clusters.sizes[c] == 1 else _bare(effects.slab[i]) for i, c in enumerate(clusters.codes)]
    no_label = _uneven(_codes(bare), clusters)[0]
    no_study = _uneven(_codes(effects.study_id), clusters)[0]
    out = []
    for c, row in enumerate(clusters.first):
        own = effects.study_id[int(row)] if not no_study[c] else clusters.labels[c]
        out.append(own if no_label[c] else bare[int(row)])
    return tuple(out)


def _bare(label: str) -> str:
    match = LETTERED.match(label)
    return next(part for part in match.groups() if part is not None) if match else label


Aggregation = Literal["mean", "CS", "gleser-olkin", "composite"]
# A value other than this is one that was given.
DEFAULT_RHO = 0.5


def aggregate(
    effects: EffectSizes,
    *,
    cluster: Any = "study_id",
    rho: float | Mapping[str, float] = DEFAULT_RHO,
    how: Aggregation = "mean",
    weighted: bool | None = None,
    V: SamplingCovariance | Array | None = None,
    addk: bool = False,
) -> EffectSizes:
    r"""Average the effects of each study, so that every study counts once.

    Several correlations from one sample (by rater, by outcome, by session) share their patients and are not
    independent findings. Averaging them leaves one effect per study for a simple model. How much the average gains
    over a single effect depends on how strongly the measures correlate with each other, which studies seldom report:
    `rho` is an assumption, and `sensitivity.rho_grid` shows what hangs on it.

    Parameters
    ----------
    effects : EffectSizes
    cluster : str, sequence of str, or array-like of shape (k,)
        Column that says which effects belong together (``"study_id"``, ``"slab"`` or a moderator), several columns
        that only together do, or a label per effect.
    rho : float or mapping
        Assumed correlation of the sampling errors of two effects of one cluster, or one per cluster by its label.
        For ``composite`` and ``gleser-olkin`` it is the correlation of the measures themselves.
    how : {"mean", "CS", "gleser-olkin", "composite"}
        ``mean``: the plain mean on the analysis scale; the variance is the sum of the cluster's covariance matrix
        over m squared. ``CS``: the mean of least variance under that matrix. ``gleser-olkin``: r as d of two equal
        groups, the mean of least variance under the covariance of multiple endpoints, and back. ``composite``: the
        correlation with the *sum* of the measures, which is larger than the mean (by 1.265 for four effects and
        rho = 0.5). The last two work on r and n whatever the scale, and give it back in that scale.
    weighted : bool, optional
        For ``CS`` only: False gives equal weights, as ``mean`` does.
    V : SamplingCovariance or ndarray of shape (k, k), optional
        The covariance matrix itself in place of `rho`, for ``mean`` and ``CS`` (which is then plain generalised
        least squares).
    addk : bool
        Add the column ``ki``, how many effects were averaged.

    Returns
    -------
    EffectSizes
        One row per cluster, in the order of first appearance. A single effect passes unchanged. Moderators that
        differ within a cluster are missing there (text: ``"mixed"``), the sample size is then their mean; notes
        name both.

    Raises
    ------
    InputError
        Effects without a cluster; a rho outside [-1, 1], or not above -1 / (m - 1) for a cluster of m; a singular
        matrix where it must be inverted (rho = 1); a `how` that the measure does not have; a composite of 1 or
        more.

    See Also
    --------
    select_effects : one effect per study by a declared order of preference, none averaged.
    sensitivity.rho_grid : the pooled result over several assumed correlations.

    Notes
    -----
    With the m effects of a cluster and their covariance matrix :math:`V`, entries :math:`\rho\sqrt{v_i v_j}`:

    .. math:: \bar y = \sum y_i / m, \; v = 1'V1 / m^2 \quad (mean); \qquad
              \bar y = 1'V^{-1}y \, / \, 1'V^{-1}1, \; v = 1 / 1'V^{-1}1 \quad (CS)

    R: ``aggregate(dat, cluster, rho = 0.5)`` for CS, ``weighted = FALSE`` for the mean (metafor); ``agg`` of MAd,
    ``method = "BHHR"`` for the mean and ``"GO1"`` for Gleser-Olkin; ``agg`` of MAc for the composite, whose variance
    is that of one correlation of n people. Gleser-Olkin's variance comes from that of d by the delta method and is
    smaller than 1 / (n - 3): it treats the correlation as a difference between two groups. Borenstein, Hedges,
    Higgins & Rothstein (2009), chapter 24; Gleser & Olkin (1994), in Cooper & Hedges, The handbook of research
    synthesis; Hunter & Schmidt (2004), Methods of meta-analysis. Averaging hides differences within studies; a
    multilevel model keeps them.

    Examples
    --------
    >>> from alliance_meta import aggregate, escalc, load_dataset
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> one = aggregate(es, rho=0.6)
    >>> es.k, one.k
    (67, 54)
    """
    _check_call(effects, how, weighted, V, rho)
    clusters = read_clusters(effects, cluster)
    equal = how == "mean" or weighted is False
    if V is None:
        yi, vi, lowest, notes = averages(effects, clusters, rho, how, equal=equal)
    else:
        yi, vi, lowest, notes = by_matrix(effects, clusters, V, equal)
    out, more = collapse(effects, clusters, addk=addk)
    assumed = _assumed(rho, V)
    way = how if how != "CS" or not equal else "CS with equal weights"
    step = f"aggregate cluster={clusters.name}, how={way}, {assumed}: k = {effects.k} to {clusters.n}"
    said = [_summary(effects, clusters, how if not equal else "mean", assumed), *notes, *_negative(clusters, lowest)]
    return replace(
        out, yi=yi, vi=vi, provenance=effects.provenance.after(step), notes=merge_notes(effects.notes, said, more)
    )


def _check_call(effects: Any, how: Any, weighted: bool | None, V: Any, rho: Any) -> None:
    if not isinstance(effects, EffectSizes):
        raise InputError(f"aggregate needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    check_option("how", how, Aggregation)
    if weighted is not None and how != "CS" and not (how == "mean" and weighted is False):
        raise InputError(
            f"weighted={weighted!r} is a choice within how='CS'; "
            + ("the weighted mean is how='CS'" if how == "mean" else f"how={how!r} has its own weights")
        )
    if V is not None and how in ("gleser-olkin", "composite"):
        raise InputError(f"how={how!r} makes its own covariance matrix from rho; V goes with how='mean' or 'CS'")
    if V is not None and rho != DEFAULT_RHO:
        raise InputError("give either V, which holds every covariance, or rho")


def _assumed(rho: Any, V: Any) -> str:
    if V is not None:
        return "V given"
    return "rho by cluster" if isinstance(rho, Mapping) else f"rho={float(rho):g}"


def _summary(effects: EffectSizes, clusters: Clusters, how: str, assumed: str) -> Note:
    several = clusters.sizes[clusters.several]
    if not len(several):
        return Note("aggregated", f"Each {clusters.name} has one effect: nothing was averaged.")
    ways = {
        "mean": f"as plain means on the {effects.scale_label} scale",
        "CS": f"as means of least variance on the {effects.scale_label} scale",
        "gleser-olkin": "by Gleser and Olkin's method for several endpoints, r taken as d of two equal groups",
        "composite": "as composite correlations, those with the sum of the measures",
    }
    size = f"{several.min()} to {several.max()}" if several.min() < several.max() else f"{several.min()}"
    return Note(
        "aggregated",
        f"{effects.k} effects became {clusters.n}, one per {clusters.name}: {len(several)} cluster"
        f"{'s' if len(several) > 1 else ''} of {size} effects {ways[how]}, with {assumed}"
        f"{', an assumption' if assumed.startswith('rho') else ''}.",
    )


def _negative(clusters: Clusters, lowest: Array) -> list[Note]:
    # Rounding leaves weights that should be 0 a hair below.
    below = np.flatnonzero(lowest < -1e-12)
    if not len(below):
        return []
    return [
        Note(
            "negative-weights",
            f"Some effects have a negative weight in {clusters.named(below)}: the assumed correlation is high for "
            "variances that differ this much, and the average can lie outside its effects. Prefer how='mean'.",
        )
    ]
