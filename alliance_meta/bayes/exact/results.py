"""`BayesianResults`: the posterior of a random-effects model, exact, with the frequentist result's nouns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.exact import evidence, prediction
from alliance_meta.bayes.exact.evidence import (
    LeaveOneOut,
    PowerScaling,
    TauPriors,
    leave_one_out,
    power_scaling,
    prior_grid,
)
from alliance_meta.bayes.exact.prediction import predict, predict_rows
from alliance_meta.bayes.exact.quantities import Drawn, Quantities
from alliance_meta.bayes.exact.setup import Priors, PriorSet, coordinates, exact_problem, with_tau
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.predictive import PredictiveCheck, predictive_check
from alliance_meta.bayes.priors import TAU
from alliance_meta.bayes.priors.prior import EffectPrior
from alliance_meta.core.bayes.two_level import ExactPosterior, components, solve
from alliance_meta.design import Design
from alliance_meta.effects.studies import refuse_dependent
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, Scale
from alliance_meta.results.fit import with_moderators
from alliance_meta.tables.format import brief


def to_arviz(fit: Quantities, *, draws: int, seed: int, chains: int) -> Any:
    """Return draws in the container of the installed ArviZ."""
    if draws < 1 or chains < 1 or draws % chains:
        raise InputError(
            f"draws={draws!r} in chains={chains!r}: give a positive number of draws that the chains share evenly"
        )
    rng = np.random.default_rng(seed)
    tau, coefficients, spread, theta = fit._drawn(rng, draws)
    new = coefficients @ fit._mean_row + spread * rng.standard_normal(draws)
    found: dict[str, Array] = {"tau": tau, "theta_new": new, "theta": theta}
    of_row = fit._row_is
    dims, coords = {"theta": [of_row]}, {of_row: list(fit.effects.slab)}
    if tau.ndim > 1:
        dims["tau"], coords["term"] = ["term"], [name[4:-1] for name in fit.priors.tau_names]
    printed = coefficients @ coordinates(fit.design).T
    if fit.design.formula == "1":
        found["mu"] = printed[:, 0]
    else:
        found["beta"] = printed
        dims["beta"], coords["coefficient"] = ["coefficient"], list(fit.names)
    shaped = {name: values.reshape(chains, -1, *values.shape[1:]) for name, values in found.items()}
    return arviz_bridge.from_draws(shaped, dims=dims, coords=coords)


def draw(exact: ExactPosterior, rng: np.random.Generator, draws: int) -> Drawn:
    """Draw from the posterior of a two-level model."""
    tau = exact.density.quantile(rng.uniform(2.0**-54, 1.0, draws))
    coefficients = _coefficients(exact, tau, rng)
    model = exact.problem.model
    fitted = coefficients @ model.X.T
    own = tau[:, None] ** 2 / (model.v + tau[:, None] ** 2)
    theta = fitted + own * (model.y - fitted) + np.sqrt(own * model.v) * rng.standard_normal(fitted.shape)
    return tau, coefficients, tau, theta


def _coefficients(exact: ExactPosterior, tau: Array, rng: np.random.Generator) -> Array:
    """Draw the coefficients given each tau, (draws, p), in the coordinates of the quadrature."""
    noise = rng.standard_normal((len(tau), exact.problem.model.p))
    chance = rng.random(len(tau))
    out = np.empty(noise.shape)
    for a in range(0, len(tau), 500):
        s = slice(a, a + 500)
        parts = components(exact.problem, tau[s])
        share = np.exp(parts.log_weight - parts.log_weight.max(axis=1, keepdims=True)).cumsum(axis=1)
        pick = np.minimum((share < chance[s, None] * share[:, -1:]).sum(axis=1), share.shape[1] - 1)
        i = np.arange(len(pick))
        out[s] = parts.mean[i, pick] + np.einsum("bij,bi->bj", parts.root[i, pick], noise[s])
    return out


class ExactResults(Quantities):
    """What the exact posteriors of two-level and of three-level models answer alike."""

    _words, _tables = prediction, prediction

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
        interval: IntervalKind | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the true effect of a new study, for given moderators.

        The credible interval says where the mean effect lies; the prediction interval says where the true effect
        of one new, similar study lies: of a three-level model, of a row in a new group.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Moderator values, one row per prediction. By default the mean effect for a model without moderators,
            else the fitted value of each effect.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default. ``"r"``: tanh, the median true correlation. ``"r_mean"``: the mean true
            correlation, averaged over the distribution of effects, with the uncertainty about that
            distribution; prediction limits as for ``"r"``.
        level : float, optional
        interval : {"eti", "hdi"}, optional
            Shortest intervals are found on the scale asked for.

        Returns
        -------
        DataFrame
            ``pred`` (the posterior median), ``se`` (the posterior standard deviation on that scale), ``ci_lb``,
            ``ci_ub``, ``pi_lb``, ``pi_ub``; scale, level and kind of interval are in ``.attrs``.

        Raises
        ------
        InputError
            For an unknown moderator level or a scale these effects do not have.

        Examples
        --------
        >>> import alliance_meta as am
        >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
        >>> fit.predict(scale="r").round(3)[["pred", "ci_lb", "ci_ub"]].values.tolist()
        [[0.147, 0.082, 0.218]]
        """
        used, kind = self._interval(level, interval)
        return predict(self, newdata, scale=scale, level=used, kind=kind)

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        return predict_rows(self, X, scale=scale, level=level, kind=self.interval)

    def blup(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return the posterior of each row's true effect: ``mean sd median ci_lb ci_ub``, on the analysis scale."""
        table = self.tidy(level=level, interval=interval).iloc[-self.k :]
        return table.set_axis(pd.Index(self.effects.slab), axis=0)

    def prior_sensitivity(
        self, *, tau_priors: TauPriors | None = None, mu_priors: Sequence[EffectPrior] | None = None
    ) -> pd.DataFrame:
        """Return what other priors would have given, one row per combination.

        Parameters
        ----------
        tau_priors : sequence of TauPrior or mapping of str to sequence of TauPrior, optional
            By default that of the fit and `priors.sensitivity_set`. Of a three-level model for both terms in every
            combination, or for each by the name of its term.
        mu_priors : sequence of EffectPrior, optional
            Of the mean effect; by default that of the fit.

        Returns
        -------
        DataFrame
            ``mu_prior tau_prior`` (of a three-level model ``prior of tau[<term>]`` for both), median and interval of mu
            and each tau, the prediction interval ``pi_lb pi_ub``, and ``log_marginal_likelihood``.
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
            ``mu`` (with moderators ``beta`` by coefficient), ``tau`` (of a three-level model by term), ``theta_new``
            and ``theta`` by row.
        """
        return to_arviz(self, draws=draws, seed=seed, chains=chains)


@dataclass(frozen=True, eq=False, repr=False)
class BayesianResults(ExactResults):
    """The posterior of a Bayesian random-effects model or meta-regression.

    Made by `BayesianModel.fit`. Every number comes from quadrature, none from random draws.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    priors : PriorSet
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed or shortest intervals.
    exact : ExactPosterior
        The raw arrays.
    """

    called = "a Bayesian model"

    effects: EffectSizes
    design: Design
    priors: PriorSet
    level: float
    interval: IntervalKind
    exact: ExactPosterior
    notes: tuple[Note, ...] = ()

    @cached_property
    def weights(self) -> Array:
        """How much each study counts for the mean effect, in percent of all studies, averaged over tau.

        The prior of the mean counts as well and is left out here, so that the weights sum to 100.
        """
        exact = self._thinned
        weights = 1.0 / (self.effects.vi + exact.tau[:, None] ** 2)
        return 100.0 * exact.weight @ (weights / weights.sum(axis=1, keepdims=True)) / exact.weight.sum()

    def bayes_factor(self, hypothesis: str, *, dependent: Literal["ignore"] | None = None) -> BayesFactor:
        """Return how much more likely the data are under a hypothesis than under its opposite.

        Parameters
        ----------
        hypothesis : str
            A point, ``"mu = 0"``, ``"tau = 0"`` (no heterogeneity) or ``"year = 0"``; or a range, ``"mu > 0"``,
            ``"|mu| < 0.1"``, ``"tau < 0.1"``.
        dependent : {"ignore"}, optional
            Compute it although several effects come from one study, as if each were a study.

        Returns
        -------
        BayesFactor
            ``bf01`` speaks for the hypothesis as stated, ``bf10`` for its opposite. `NotApplicable` where the
            prior of the quantity is improper.

        Notes
        -----
        A Bayes factor depends on the prior under the alternative: the wider that prior, the more it favours a
        point (Lindley's paradox). With moderators and a hypothesis about one coefficient the priors of the
        others stay as they are.
        """
        refuse_dependent(self.effects, dependent, "a Bayes factor")
        return evidence.bayes_factor(self, read_hypothesis(hypothesis))

    def joint_density(self, mu: Any, tau: Any) -> Array:
        """Return the joint posterior density of the mean effect and tau at values that broadcast together."""
        mu, tau = np.broadcast_arrays(np.asarray(mu, dtype=float), np.asarray(tau, dtype=float))
        c = self._mean_row
        parts = components(self.exact.problem, np.maximum(tau.ravel(), 0.0))
        sd = np.sqrt((np.einsum("blij,j->bli", parts.root, c) ** 2).sum(axis=2))
        z = (mu.ravel()[:, None] - parts.mean @ c) / sd
        logs = parts.log_weight - 0.5 * (z**2 + np.log(2.0 * np.pi)) - np.log(sd)
        density = np.exp(logs - self.exact.log_marginal).sum(axis=1).reshape(mu.shape)
        return np.where(tau >= 0, density, 0.0)

    def loo(self) -> LeaveOneOut:
        """Leave out each study in turn, exactly.

        How well do the other studies predict each one, and what would the synthesis say without it?

        Returns
        -------
        LeaveOneOut
            ``elpd`` (larger is better), ``elpd_se``, and ``tidy()`` with one row per study.
        """
        return leave_one_out(self)

    @property
    def _model_words(self) -> list[str]:
        kind = "meta-regression" if self.p > 1 or not self.design.has_intercept else "random-effects model"
        return [f"Bayesian {kind} (k = {self.k}; exact, error at most {brief(self.error_bound, 1)})"]

    @property
    def _method_words(self) -> tuple[str, str]:
        moderators = with_moderators(self)
        return (
            f"A Bayesian random-effects model{moderators} was fitted to {self.effects.counted}",
            "Given tau the coefficients and true effects were integrated analytically, and tau by adaptive "
            "Gauss-Legendre quadrature",
        )

    def _drawn(self, rng: np.random.Generator, draws: int) -> Drawn:
        return draw(self.exact, rng, draws)

    def _solver(self, priors: Priors) -> Callable[[Any], ExactPosterior]:
        assert isinstance(priors, PriorSet)
        changed = priors.coefficients != self.priors.coefficients
        # What does not depend on the prior of tau is done once.
        problem = exact_problem(self.effects, self.design, replace(priors, tau=TAU)) if changed else self.exact.problem
        return lambda tried: solve(with_tau(problem, tried.tau))
