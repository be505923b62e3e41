"""`aggregate`: several dependent effects per study averaged into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.effects.dependent.averaging import by_matrix, by_rho, correlations, on_r
from alliance_meta.effects.dependent.collapse import collapse
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import check_option

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
    each = correlations(rho, clusters) if V is None else np.zeros(clusters.n)
    equal = how == "mean" or weighted is False
    if how in ("gleser-olkin", "composite"):
        yi, vi, lowest, notes = on_r(effects, clusters, each, how)
    elif V is None:
        yi, vi, lowest, notes = by_rho(effects, clusters, each, equal)
    else:
        yi, vi, lowest, notes = by_matrix(effects, clusters, V, equal)
    if V is None:
        alone = clusters.sizes == 1
        first = clusters.first
        yi, vi = np.where(alone, effects.yi[first], yi), np.where(alone, effects.vi[first], vi)
    out, more = collapse(effects, clusters, addk=addk)
    assumed = _assumed(rho, V)
    way = how if how != "CS" or not equal else "CS with equal weights"
    step = f"aggregate cluster={clusters.name}, how={way}, {assumed}: k = {effects.k} to {clusters.n}"
    said = [_summary(effects, clusters, how if not equal else "mean", assumed), *notes, *_negative(clusters, lowest)]
    return replace(
        out,
        yi=yi,
        vi=vi,
        provenance=effects.provenance.after(step),
        notes=merge_notes(effects.notes, said, more),
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
