"""`BayesianMultilevelResults`: the posterior of a three-level model, with the two-level result's nouns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Drawn
from alliance_meta.bayes.exact.leave_out import LeaveOneOut
from alliance_meta.bayes.exact.results import ExactResults
from alliance_meta.bayes.exact.setup import Priors
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.three_level import evidence as multilevel_evidence
from alliance_meta.bayes.three_level import r_code as multilevel_r
from alliance_meta.bayes.three_level.leave_out import leave_out
from alliance_meta.bayes.three_level.prior_grid import solver
from alliance_meta.bayes.three_level.priors import MultilevelPriors
from alliance_meta.bayes.three_level.quantities import MultilevelQuantities
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.three_level.posterior import (
    MultilevelPosterior,
    draw_deviations,
    draw_effects,
    given_deviations,
)
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import Note
from alliance_meta.results import wording
from alliance_meta.tables.format import brief


@dataclass(frozen=True, eq=False, repr=False)
class BayesianMultilevelResults(MultilevelQuantities, ExactResults):
    """The posterior of a Bayesian three-level model: effects within studies.

    Made by `BayesianModel.fit` with ``random=``. Every number comes from quadrature over the two standard
    deviations, none from random draws. Terms are named as `MultilevelModel` names them, ``study_id`` and
    ``study_id/es_id``; where a name is asked for, the last part of it is enough: ``"tau[es_id]"``.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design : Design
    priors : MultilevelPriors
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed or shortest intervals.
    exact : MultilevelPosterior
        The raw arrays.
    group : ndarray of int, shape (k,)
        Group of each effect, by code.
    levels : tuple of str
        What each group is called, by code.
    V : SamplingCovariance or None
        None: sampling errors are independent.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a Bayesian three-level model"
    _nested = True

    effects: EffectSizes
    design: Design
    priors: MultilevelPriors
    level: float
    interval: IntervalKind
    exact: MultilevelPosterior
    group: IntArray
    levels: tuple[str, ...]
    V: SamplingCovariance | None
    notes: tuple[Note, ...] = ()

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return how much more likely the data are under a hypothesis than under its opposite.

        Parameters
        ----------
        hypothesis : str
            A point, ``"mu = 0"``, ``"year = 0"`` or ``"tau[study_id] = 0"`` (no variation between groups); or a
            range, ``"mu > 0"``, ``"|mu| < 0.1"``, ``"tau[study_id] < 0.1"``.

        Returns
        -------
        BayesFactor
            As of `BayesianResults.bayes_factor`. The priors of everything else stay as they are.
        """
        return multilevel_evidence.bayes_factor(self, read_hypothesis(hypothesis))

    def joint_density(self, between: Any, within: Any) -> Array:
        """Return the joint posterior density of both standard deviations at values that broadcast together."""
        between, within = np.broadcast_arrays(np.asarray(between, dtype=float), np.asarray(within, dtype=float))
        s1, s2 = np.maximum(between.ravel(), 0.0), np.maximum(within.ravel(), 0.0)
        logs = given_deviations(self.exact.data, s1, s2).loglik - self.exact.log_marginal
        for prior, at in zip(self.priors.densities, (s1, s2), strict=True):
            logs = logs + prior.log_density(at)
        return np.where((between >= 0) & (within >= 0), np.exp(logs).reshape(between.shape), 0.0)

    def loo(self, *, cluster: str | None = None) -> LeaveOneOut:
        """Leave out each row in turn, or each whole group, exactly.

        How well do the other rows, or the other studies, predict each one, and what would the synthesis say
        without it? A row is predicted from the rest of its own study too; a study left out whole is not, which is
        the harder test, and the one that counts for new studies.

        Parameters
        ----------
        cluster : str, optional
            The grouping, such as ``"study_id"``: leave out whole groups.

        Returns
        -------
        LeaveOneOut
            ``elpd`` (larger is better), ``elpd_se``, and ``tidy()`` with one row per effect or group.

        Examples
        --------
        >>> import alliance_meta as am
        >>> es = am.escalc(am.load_dataset("crede2010"))
        >>> fit = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
        >>> print(fit.loo(cluster="study_id"))
        elpd = -8.19 (SE 15.00), p_loo = 8.66, 68 groups of study_id; exact leave-one-out
        """
        return leave_out(self, cluster)

    def r_code(self) -> str:
        """Return the R code (brms) that fits the same model by sampling, as far as it can."""
        return multilevel_r.r_code(self)

    @property
    def _model_words(self) -> list[str]:
        outer, inner = self.priors.terms
        size = f"k = {self.k} effects in {self.n_groups} groups; exact, error about {brief(self.error_bound, 1)}"
        return [
            f"Bayesian three-level model ({size})",
            f"Random: {outer}, and {inner} within it; sampling errors: {self._errors}",
        ]

    @property
    def _method_words(self) -> tuple[str, str]:
        outer, inner = self.priors.terms
        taken = "independent" if self.V is None else f"taken as follows: {self._errors}"
        return (
            f"A Bayesian three-level model{wording.with_moderators(self)} was fitted to k = {self.k} effects in "
            f"{self.n_groups} groups, with random effects of {outer} and of {inner} within it; sampling errors were "
            f"{taken}",
            "Coefficients and true effects were integrated analytically, the two standard deviations by quadrature",
        )

    @property
    def _errors(self) -> str:
        return "independent" if self.V is None else self.V.assumption

    def _drawn(self, rng: np.random.Generator, draws: int) -> Drawn:
        between, within = draw_deviations(self.exact, rng.uniform(2.0**-54, 1.0, (draws, 2)))
        coefficients, theta = draw_effects(self.exact, between, within, rng)
        return np.column_stack([between, within]), coefficients, np.hypot(between, within), theta

    def _solver(self, priors: Priors) -> Callable[[Any], MultilevelPosterior]:
        return solver(self, priors)

    @property
    def _nesting(self) -> dict[str, dict[str, Any]]:
        return {
            "model": {"random": list(self.priors.terms), "V": self._errors},
            "statistics": {"groups": self.n_groups},
            "studies": {"group": [self.levels[i] for i in self.group]},
        }
