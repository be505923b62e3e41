"""`BayesianMultilevelResults`: the posterior of a three-level model, with the two-level result's nouns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.leave_out import LeaveOneOut
from alliance_meta.bayes.exact.predict import predict, predict_rows
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import LACKS, IntervalKind, Marginal
from alliance_meta.bayes.powers import PowerScaling, power_scaling
from alliance_meta.bayes.predictive import PredictiveCheck, predictive_check
from alliance_meta.bayes.priors.prior import EffectPrior
from alliance_meta.bayes.three_level import draws as multilevel_draws
from alliance_meta.bayes.three_level import evidence as multilevel_evidence
from alliance_meta.bayes.three_level import export as multilevel_export
from alliance_meta.bayes.three_level import r_code as multilevel_r
from alliance_meta.bayes.three_level import text as multilevel_text
from alliance_meta.bayes.three_level.leave_out import leave_out
from alliance_meta.bayes.three_level.prior_grid import TauPriors, prior_grid
from alliance_meta.bayes.three_level.priors import MultilevelPriors
from alliance_meta.bayes.three_level.quantities import MultilevelQuantities
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.three_level.posterior import MultilevelPosterior, given_deviations
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import Scale


@dataclass(frozen=True, eq=False, repr=False)
class BayesianMultilevelResults(MultilevelQuantities):
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
    lacks: ClassVar[Mapping[str, str]] = LACKS
    _words, _tables = multilevel_text, multilevel_export

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

    @property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data under model and priors; not applicable with an improper prior."""
        if self.priors.improper:
            return NotApplicable(f"the prior of {' and '.join(self.priors.improper)} is improper")
        return self.exact.log_marginal

    @property
    def error_bound(self) -> float:
        """Estimate of the numerical error of the log marginal likelihood."""
        return self.exact.error

    def tidy(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return one row per quantity, unrounded, on the analysis scale.

        Parameters
        ----------
        level : float, optional
        interval : {"eti", "hdi"}, optional

        Returns
        -------
        DataFrame
            Indexed by ``mu`` (with moderators, the coefficients), ``tau[<term>]`` for both terms, ``theta_new`` (the
            true effect of a row in a new group; with moderators, at their average) and ``theta[<label>]`` (that of
            each row), with columns ``mean sd median ci_lb ci_ub``. Kind and probability of the interval are in
            ``.attrs``.
        """
        used, kind = self._interval(level, interval)
        return multilevel_export.tidy(self, level=used, kind=kind)

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
        interval: IntervalKind | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the true effect of a row in a new group, for given moderators.

        Parameters and columns are those of `BayesianResults.predict`; the prediction interval holds the variation
        between groups and within them.

        Examples
        --------
        >>> import alliance_meta as am
        >>> es = am.escalc(am.load_dataset("crede2010"))
        >>> fit = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
        >>> fit.predict(scale="r").round(3)[["pred", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]].values.tolist()
        [[0.417, 0.369, 0.466, -0.032, 0.728]]
        """
        used, kind = self._interval(level, interval)
        return predict(self, newdata, scale=scale, level=used, kind=kind)  # type: ignore[arg-type]

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        return predict_rows(self, X, scale=scale, level=level, kind=self.interval)  # type: ignore[arg-type]

    def blup(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return the posterior of each row's true effect: ``mean sd median ci_lb ci_ub``, on the analysis scale."""
        table = self.tidy(level=level, interval=interval).iloc[-self.k :]
        return table.set_axis(pd.Index(self.effects.slab), axis=0)

    def posterior(self, what: str | Mapping[str, float], *, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity.

        Parameters
        ----------
        what : str or mapping of str to float
            ``"mu"`` (with moderators, the mean effect at their average), a coefficient, ``"tau[<term>]"``;
            ``"tau"``, the standard deviation of all true effects together, with ``"tau2"`` and ``"I2"``;
            ``"icc"``, the share of tau2 that lies between groups; ``"theta_new"``, ``"theta[<label>]"``; or weights
            of a linear combination of coefficients and true effects, ``{"theta[Smith 1]": 1, "theta[Smith 2]": -1}``.
        scale : {"z", "r"}, optional
            ``"r"`` for correlations: tanh of a mean or true effect.

        Returns
        -------
        Marginal
        """
        return self._marginal(what, scale)

    def prob(self, statement: str, *, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau[study_id] < 0.2"``."""
        stated = read_hypothesis(statement)
        if stated.is_point:
            raise InputError(
                f"{statement!r}: a single value has probability 0; state a range, or ask for a Bayes factor"
            )
        return self.posterior(stated.name, scale=scale).prob(stated.lower, stated.upper)

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

    def prior_sensitivity(
        self,
        *,
        tau_priors: TauPriors | None = None,
        mu_priors: Sequence[EffectPrior] | None = None,
    ) -> pd.DataFrame:
        """Return what other priors would have given, one row per combination.

        Parameters
        ----------
        tau_priors : sequence of TauPrior or mapping of str to sequence of TauPrior, optional
            For both terms in every combination, or for each by the name of its term. By default those of the fit and
            `priors.sensitivity_set` for both.
        mu_priors : sequence of EffectPrior, optional
            Of the mean effect; by default that of the fit.

        Returns
        -------
        DataFrame
            ``mu_prior``, the prior of each term, median and interval of mu and of both standard deviations, the
            prediction interval ``pi_lb pi_ub``, and ``log_marginal_likelihood``.
        """
        return prior_grid(self, tau_priors=tau_priors, mu_priors=mu_priors)

    def power_scaling(self) -> PowerScaling:
        """Return how far each posterior moves when priors or data get a little stronger; see `bayes.power_scaling`."""
        return power_scaling(self)

    def predictive_check(self, *, seed: int, draws: int = 4000) -> PredictiveCheck:
        """Compare the observed results with replications from the model; see `bayes.predictive_check`."""
        return predictive_check(self, seed=seed, draws=draws)

    def to_arviz(self, *, draws: int = 4000, seed: int, chains: int = 4) -> Any:
        """Return independent draws from the posterior in the container of the installed ArviZ.

        Parameters
        ----------
        draws : int
            In all chains together.
        seed : int
            The same seed gives the same draws.
        chains : int
            The draws are independent; chains only give ArviZ's diagnostics something to compare.

        Returns
        -------
        arviz.InferenceData or xarray.DataTree
            ``mu`` (with moderators ``beta`` by coefficient), ``tau`` by term, ``theta_new`` and ``theta`` by effect.
        """
        return multilevel_draws.to_arviz(self, draws=draws, seed=seed, chains=chains)

    def r_code(self) -> str:
        """Return the R code (brms) that fits the same model by sampling, as far as it can."""
        return multilevel_r.r_code(self)

    @cached_property
    def _bayes_factors(self) -> dict[str, BayesFactor]:
        """The Bayes factors of every summary."""
        names = ["mu", *self.names] if "mu" not in self.names else list(self.names)
        stated = [name for name in names if name != "intrcpt"] + list(self.priors.tau_names)
        return {f"{one} = 0": self.bayes_factor(f"{one} = 0") for one in stated}
