"""`BayesianModel`: a random-effects model, meta-regression or three-level model with priors, solved exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.exact.setup import check_kind, choose_priors, exact_problem, two_level_notes
from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults, fit_multilevel
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.two_level import solve
from alliance_meta.design import design_of
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import check_level, check_option, merge_notes


@dataclass(frozen=True, eq=False)
class BayesianModel:
    r"""Bayesian random-effects model or meta-regression, solved by quadrature and not by simulation.

    Studies differ. The model estimates the mean of their true effects and how much these vary, starting from
    what was plausible before (the priors). The answer is a probability for each value of the mean, of the
    spread, of each study's own true effect, and of the effect to expect in a new study.

    Where studies give several effects, `random` says so: true effects then vary between studies and between the
    effects of one study, each with a standard deviation of its own.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    random : str or sequence of str, optional
        For dependent effects, as in `MultilevelModel`: ``"~ 1 | study_id/es_id"`` or ``("study_id", "es_id")``, a
        grouping and the rows within it. ``es_id`` are the rows unless the effects have a column of that name. Without
        it effects are independent.
    V : SamplingCovariance or array-like of shape (k, k), optional
        With `random`: the covariance of sampling errors, from `impute_V` or `rcalc`, within the groups. Without it
        sampling errors are taken as independent.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior or mapping of str to TauPrior
        Of tau, the standard deviation of true effects between studies; with `random` of the standard deviation of
        each term, or one for each by the name of its term.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        Of each other coefficient as it is printed (per unit of the moderator), or one for each by name. By
        default normal around 0 with standard deviation .25 for what one standard deviation of the moderator
        changes.
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        ``eti``: equal-tailed intervals; ``hdi``: the shortest ones.

    See Also
    --------
    RandomEffectsModel : The same model without priors.
    MultilevelModel : That for dependent effects.

    Notes
    -----
    .. math:: y_i \sim N(\theta_i, v_i), \quad \theta_i \sim N(x_i'\beta, \tau^2)

    Given tau everything is normal, so that only tau has to be integrated numerically (Röver 2020,
    doi:10.18637/jss.v093.i06), here by Gauss-Legendre quadrature on intervals that are halved until the error is
    at the level of rounding; ``.error_bound`` of the result says how large it is. A Student t or Cauchy prior of one
    coefficient is integrated as a mixture of normals. `priors` explains the default priors. They are meant for
    correlations on Fisher's z. R: ``bayesmeta(y, sigma, mu.prior = c(0, 0.5), tau.prior = function(t)
    dhalfnormal(t, scale = 0.3))``.

    Without `random` the model assumes independent effects. With it,

    .. math:: y_{ij} = x_{ij}'\beta + u_i + w_{ij} + e_{ij}, \quad u_i \sim N(0, \tau_1^2), \quad
              w_{ij} \sim N(0, \tau_2^2), \quad e \sim N(0, V)

    and both standard deviations are integrated, on a grid that is refined until the error is below 1e-10; priors of
    coefficients must be normal or flat. R has no exact counterpart; ``.r_code()`` of the result gives brms.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> fit = am.BayesianModel(es).fit()
    >>> fit.tidy().loc[["mu", "tau"], ["median", "ci_lb", "ci_ub"]].round(3).values.tolist()
    [[0.148, 0.082, 0.221], [0.096, 0.04, 0.185]]
    >>> round(fit.prob("mu > 0.1"), 3)
    0.929
    >>> print(fit.bayes_factor("mu = 0"))
    BF10 = 85.28: the data are 85.28 times as likely if mu is not 0 as if mu = 0

    Several effects from one study:

    >>> es = am.escalc(am.load_dataset("crede2010"))
    >>> fit = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
    >>> {term: round(tau, 3) for term, tau in fit.taus.items()}
    {'study_id': 0.136, 'study_id/es_id': 0.193}
    """

    effects: EffectSizes
    mods: str = "1"
    random: str | Sequence[str] | None = None
    V: Any = None
    mu_prior: EffectPrior = MU
    tau_prior: TauPrior | Mapping[str, TauPrior] = TAU
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None = None
    level: float = 0.95
    interval: IntervalKind = "eti"

    def __post_init__(self) -> None:
        if not isinstance(self.effects, EffectSizes):
            raise InputError(
                f"BayesianModel needs EffectSizes, not {type(self.effects).__name__}; make them with escalc"
            )
        check_kind(self.mu_prior, EffectPrior, "mu_prior")
        if self.random is None and self.V is not None:
            raise InputError("V is for dependent effects; say what varies too, such as random='~ 1 | study_id/es_id'")
        if self.random is None and isinstance(self.tau_prior, Mapping):
            raise InputError("tau_prior by term needs random=, such as random='~ 1 | study_id/es_id'")
        if not isinstance(self.tau_prior, Mapping):
            check_kind(self.tau_prior, TauPrior, "tau_prior")
        if self.beta_prior is not None and not isinstance(self.beta_prior, Mapping):
            check_kind(self.beta_prior, EffectPrior, "beta_prior")
        check_level(self.level)
        check_option("interval", self.interval, IntervalKind)

    def fit(self) -> BayesianResults | BayesianMultilevelResults:
        """Solve the model.

        Returns
        -------
        BayesianResults or BayesianMultilevelResults
            The latter with `random`.

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, more coefficients than effects.
        InputError
            The priors leave the posterior improper; more than one coefficient has a Student t or Cauchy prior. With
            `random`: any such prior, an unknown column or one with missing values, other terms than a grouping and
            the rows within it, a `V` of another size or one that reaches beyond the groups.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, ConvergenceWarning, NotIdentifiedWarning, DependenceWarning
            Each also stands in ``.notes`` of the result.
        """
        if self.random is not None:
            return fit_multilevel(
                self.effects,
                mods=self.mods,
                random=self.random,
                V=self.V,
                mu_prior=self.mu_prior,
                tau_prior=self.tau_prior,
                beta_prior=self.beta_prior,
                level=self.level,
                interval=self.interval,
            )
        assert isinstance(self.tau_prior, TauPrior)
        design = design_of(self.mods, self.effects)
        effects = design.taking_part(self.effects)
        chosen = choose_priors(design, self.mu_prior, self.tau_prior.given(effects.vi), self.beta_prior)
        exact = solve(exact_problem(effects, design, chosen))
        return BayesianResults(
            effects=effects,
            design=design,
            priors=chosen,
            level=self.level,
            interval=self.interval,
            exact=exact,
            notes=merge_notes(effects.notes, design.notes, two_level_notes(effects, chosen, exact)),
        )
