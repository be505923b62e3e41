"""`RVEModel`: meta-regression of dependent effects with robust variance estimation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from alliance_meta.core.robust.rve import RVEFit, Working, fit_rve, one_cluster_terms
from alliance_meta.design import design_of
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import DesignError, InputError, TruncationWarning
from alliance_meta.models.random_effects import given_weights
from alliance_meta.notes import Note, check_level, check_option, merge_notes, warn_note
from alliance_meta.results.robust import few_df_notes, one_cluster_notes
from alliance_meta.results.rve import RVEResults, RVESettings
from alliance_meta.tables.format import brief

# Hedges, Tipton & Johnson's uncorrected tests hold their level from about so many clusters (Tipton 2015).
ENOUGH_CLUSTERS = 40


@dataclass(frozen=True, eq=False)
class RVEModel:
    r"""Meta-analysis of dependent effects with weights from a rough model and standard errors that do not trust it.

    Studies of the alliance often report several effects: other raters, other measures, other times. Their sampling
    errors are correlated, and papers rarely say how much. This model weights the effects by a rough guess of the
    dependence, its *working model*, and then reads the standard errors off how much whole studies disagree: these
    are right for any dependence within studies.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    cluster : str, sequence of str, or array-like of shape (k,)
        What makes effects dependent: a column (``"study_id"``), several columns, or one label per effect.
        Clusters must be independent of each other.
    working : {"CORR", "HIER"}
        ``CORR``: effects of a study measure the same thing on the same people, so that their *errors* correlate.
        ``HIER``: a cluster holds effects of different people (several studies of one team), so that *true effects*
        are alike. Choose by what most clusters are.
    rho : float
        For ``CORR``, the assumed correlation of sampling errors within a cluster, 0 to 1. It touches tau2 alone,
        usually little: see `RVEResults.sensitivity`.
    weights : array-like of shape (k,) or "ni", optional
        Weights in place of the working model's; tau2 is not estimated then.
    small : bool
        Correct variance and degrees of freedom for few clusters (CR2, Satterthwaite, HTZ). ``False`` gives the
        original large-sample form, for comparison with old papers.
    level : float
        Confidence level of every interval, a fraction.

    See Also
    --------
    RandomEffectsModel : For one effect per study; with DL its tau2 and coefficients are those of this model.

    Notes
    -----
    With :math:`k_j` effects of mean variance :math:`\bar v_j` in cluster j, weights are
    :math:`1 / \{k_j (\bar v_j + \tau^2)\}` for ``CORR`` and :math:`1 / (v_i + \tau^2 + \omega^2)` for ``HIER``.
    tau2 (between clusters) and omega2 (between effects of a cluster) are moment estimators, cut at 0:
    Hedges, Tipton & Johnson (2010, doi:10.1002/jrsm.5, with its erratum). The variance corrected for few clusters
    and its degrees of freedom: Tipton (2015, doi:10.1037/met0000011); tests of several coefficients: Tipton &
    Pustejovsky (2015). The correction assumes that the working covariance is diagonal, the inverse of the weights;
    for given weights, that it is the mean sampling variance of the cluster.

    R: ``robumeta::robu(yi ~ x, studynum =, var.eff.size =, modelweights = "CORR", rho = 0.8, small = TRUE)`` and
    ``clubSandwich::Wald_test(fit, constrain_zero(2:3), vcov = "CR2")``. With ``userweights`` robumeta 2.1 leaves the
    working covariance out of its degrees of freedom; here and in clubSandwich it stays in.

    Examples
    --------
    >>> from alliance_meta import RVEModel, escalc, load_dataset
    >>> es = escalc(load_dataset("oswald2013_ex1"))
    >>> fit = RVEModel(es, working="CORR", rho=0.8).fit()
    >>> round(float(fit.beta[0]), 3), round(float(fit.se[0]), 3), round(float(fit.ddf[0]), 2), round(fit.tau2, 3)
    (0.277, 0.181, 7.84, 0.185)
    """

    effects: EffectSizes
    mods: str = "1"
    cluster: Any = "study_id"
    working: Working = "CORR"
    rho: float = 0.8
    weights: Any = None
    small: bool = True
    level: float = 0.95

    def __post_init__(self) -> None:
        check_effects(self.effects, "RVEModel")
        check_option("working", self.working, Working)
        check_level(self.level)
        if not 0 <= self.rho <= 1:
            raise InputError(f"rho={self.rho!r} is a correlation of sampling errors and must lie between 0 and 1")

    def fit(self) -> RVEResults:
        """Fit the model.

        Returns
        -------
        RVEResults

        Raises
        ------
        InputError
            A cluster column that is unknown or has empty cells.
        DesignError
            A single cluster; with ``small=False`` no more clusters than coefficients; moderators that leave no
            difference between clusters.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, TruncationWarning, FewStudiesWarning
            Each also stands in ``.notes`` of the result.
        """
        weights = given_weights(self.weights, self.effects)
        clusters = read_clusters(self.effects, self.cluster)
        design = design_of(self.mods, self.effects)
        effects = design.taking_part(self.effects)
        if not design.rows.all():
            weights = None if weights is None else weights[design.rows]
            kept = [clusters.labels[i] for i in clusters.codes[design.rows]]
            clusters = replace(read_clusters(effects, kept), name=clusters.name)
        self._check_size(clusters, design.p)
        try:
            fitted = fit_rve(
                effects.yi,
                effects.vi,
                design.X,
                clusters.codes,
                working=self.working,
                rho=self.rho,
                weights=weights,
                small=self.small,
                level=self.level,
            )
        except ValueError as error:
            raise DesignError(f"mods={self.mods!r}: {error}; use fewer moderators") from error
        notes = [*_variance_notes(fitted, self.working), *_cluster_notes(fitted, design.names, clusters)]
        return RVEResults(
            effects=effects,
            design=design,
            clusters=clusters,
            settings=RVESettings(self.working, float(self.rho), weights, self.small, self.level),
            fitted=fitted,
            notes=merge_notes(effects.notes, design.notes, notes),
        )

    def _check_size(self, clusters: Clusters, p: int) -> None:
        if clusters.n < 2:
            raise DesignError(
                f"cluster={clusters.name!r} puts every effect into one cluster, {clusters.labels[0]!r}: robust "
                "standard errors are read off the differences between clusters and need at least 2. Name a finer "
                "column, or use RandomEffectsModel if the effects are independent"
            )
        if not self.small and clusters.n <= p:
            raise DesignError(
                f"small=False divides by clusters minus coefficients, {clusters.n} - {p}; use small=True or fewer "
                "moderators"
            )


def _variance_notes(fitted: RVEFit, working: Working) -> list[Note]:
    model = fitted.working
    notes = []
    if model.tau2_raw < 0:
        message = (
            f"tau2 ({working}) was set to 0 (before: {brief(model.tau2_raw, 4)}): clusters differ no more than "
            f"{'sampling errors' if working == 'CORR' else 'effects within them'} explain."
        )
        notes.append(warn_note("tau2-truncated", message, TruncationWarning, stacklevel=4))
    if model.omega2_raw < 0:
        message = (
            f"omega2 was set to 0 (before: {brief(model.omega2_raw, 4)}): effects of one cluster vary no more than "
            "their sampling errors explain."
        )
        notes.append(warn_note("omega2-truncated", message, TruncationWarning, stacklevel=4))
    if working == "HIER" and model.omega2 != model.omega2 and model.tau2 == model.tau2:
        message = "These clusters cannot tell omega2 from tau2 (every cluster has one effect): tau2 is the sum of both."
        notes.append(Note("omega2-unidentified", message))
    return notes


def _large_sample_notes(clusters: int) -> list[Note]:
    if clusters >= ENOUGH_CLUSTERS:
        return []
    message = (
        f"small=False with {clusters} clusters: the uncorrected tests reject too often below about {ENOUGH_CLUSTERS}. "
        "Use small=True."
    )
    return [Note("large-sample", message)]


def _cluster_notes(fitted: RVEFit, names: tuple[str, ...], clusters: Clusters) -> list[Note]:
    resting = [(clusters.labels[at], which) for at, which in one_cluster_terms(fitted.model, clusters.codes)]
    notes = one_cluster_notes(names, resting, stacklevel=5)
    if not fitted.small:
        return [*notes, *_large_sample_notes(clusters.n)]
    return [*notes, *few_df_notes(names, fitted.tests.df, clusters=clusters.n, stacklevel=5)]
