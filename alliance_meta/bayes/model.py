"""`BayesianModel`: a random-effects model or meta-regression with priors, solved exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.prior import EffectPrior, TauPrior
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.results import BayesianResults
from alliance_meta.bayes.setup import PriorSet, check_kind, choose_priors, exact_problem
from alliance_meta.core.bayes_exact import ExactPosterior, ExactProblem, log_likelihood, solve
from alliance_meta.core.bayes_normal import conditional
from alliance_meta.design import build_design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.options import check_level, check_option

# Above this error bound not every printed digit can be trusted.
WORST_ERROR = 1e-8
FEW_FOR_TAU = 5
# Data are in conflict with a normal prior that lies this many standard deviations away (p = .001) ...
CONFLICT = 3.29
# ... and with a prior of tau all but this much of which is left of or right of values e^3 times as likely.
OUTSIDE = 1e-3
FAR_MORE_LIKELY = 3.0


@dataclass(frozen=True, eq=False)
class BayesianModel:
    r"""Bayesian random-effects model or meta-regression, solved by quadrature and not by simulation.

    Studies differ. The model estimates the mean of their true effects and how much these vary, starting from
    what was plausible before (the priors). The answer is a probability for each value of the mean, of the
    spread, of each study's own true effect, and of the effect to expect in a new study.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects between studies.
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

    Notes
    -----
    .. math:: y_i \sim N(\theta_i, v_i), \quad \theta_i \sim N(x_i'\beta, \tau^2)

    Given tau everything is normal, so that only tau has to be integrated numerically (Röver 2020,
    doi:10.18637/jss.v093.i06), here by Gauss-Legendre panels that are halved until the error is at the level of
    rounding; ``.error_bound`` of the result says how large it is. A Student t or Cauchy prior of one coefficient
    is integrated as a mixture of normals. `priors` explains the default priors. They are meant for correlations
    on Fisher's z. R: ``bayesmeta(y, sigma, mu.prior = c(0, 0.5), tau.prior = function(t) dhalfnormal(t, scale =
    0.3))``. The model assumes independent effects; several effects from one study need a multilevel model.

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
    """

    effects: EffectSizes
    mods: str = "1"
    mu_prior: EffectPrior = MU
    tau_prior: TauPrior = TAU
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None = None
    level: float = 0.95
    interval: IntervalKind = "eti"

    def __post_init__(self) -> None:
        if not isinstance(self.effects, EffectSizes):
            raise InputError(
                f"BayesianModel needs EffectSizes, not {type(self.effects).__name__}; make them with escalc"
            )
        check_kind(self.mu_prior, EffectPrior, "mu_prior")
        check_kind(self.tau_prior, TauPrior, "tau_prior")
        if self.beta_prior is not None and not isinstance(self.beta_prior, Mapping):
            check_kind(self.beta_prior, EffectPrior, "beta_prior")
        check_level(self.level)
        check_option("interval", self.interval, IntervalKind)

    def fit(self) -> BayesianResults:
        """Solve the model.

        Returns
        -------
        BayesianResults

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, more coefficients than effects.
        InputError
            The priors leave the posterior improper; more than one coefficient has a Student t or Cauchy prior.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, ConvergenceWarning
            Each also stands in ``.notes`` of the result.
        """
        design = build_design(self.mods, self.effects.moderators, labels=self.effects.slab)
        effects = self.effects
        if not design.rows.all():
            effects = effects.take(design.rows, step=f"{int(design.rows.sum())} effects with every moderator")
        chosen = choose_priors(design, self.mu_prior, self.tau_prior.given(effects.vi), self.beta_prior)
        exact = solve(exact_problem(effects, design, chosen))
        notes = [*_scale_notes(self, effects), *_size_notes(exact), *_conflict_notes(exact, chosen)]
        if exact.error > WORST_ERROR:
            message = (
                f"The integrals are only accurate to about {exact.error:.1g}; do not rely on more digits than that. "
                "Look for an extreme variance or an extreme prior."
            )
            notes.append(warn_note("not-converged", message, ConvergenceWarning))
        return BayesianResults(
            effects=effects,
            design=design,
            priors=chosen,
            level=self.level,
            interval=self.interval,
            exact=exact,
            notes=merge_notes(effects.notes, design.notes, notes),
        )


def _scale_notes(model: BayesianModel, effects: EffectSizes) -> list[Note]:
    default = [name for name, prior in (("mu_prior", MU), ("tau_prior", TAU)) if getattr(model, name) == prior]
    if effects.measure in ("ZCOR", "COR", "UCOR") or not default:
        return []
    message = (
        f"The default priors (mu: {MU}; tau: {TAU}) are meant for correlations; these effects are on another scale "
        f"({effects.scale_label}). Choose {' and '.join(default)}."
    )
    return [Note("prior-scale", message)]


def _size_notes(exact: ExactPosterior) -> list[Note]:
    k = exact.problem.model.k
    if k >= FEW_FOR_TAU:
        return []
    says = "says nothing" if k == 1 else "say little"
    message = (
        f"k = {k}: {'one effect' if k == 1 else 'so few effects'} {says} about tau, whose posterior rests on its "
        "prior; prior_sensitivity() shows what other priors give."
    )
    return [Note("prior-bound", message)]


def _conflict_notes(exact: ExactPosterior, priors: PriorSet) -> list[Note]:
    """Say where the data by themselves lie far out in the prior."""
    found = [priors.names[j] for j in np.flatnonzero(_surprise(exact.problem) > CONFLICT)]
    parts = [f"{name} (prior {priors.coefficients[priors.names.index(name)]})" for name in found]
    if _tau_conflict(exact.problem, priors.tau):
        parts.append(f"tau (prior {priors.tau})")
    if not parts:
        return []
    message = (
        f"Data and prior disagree about {' and '.join(parts)}: the posterior is a compromise that neither supports. "
        "Reconsider the prior, or take one with a heavy tail, such as Cauchy or HalfCauchy, which gives way."
    )
    return [Note("prior-conflict", message)]


def _surprise(problem: ExactProblem) -> Array:
    """Return how many standard deviations of the prior predictive lie between data and a normal prior, (p,).

    Tau is that of the moments here, so that a conflict cannot hide in it; 0 for priors that are not normal.
    """
    model = problem.model
    given = conditional(model, np.array([np.sqrt(model.tau2)]))
    posterior = 1.0 / (given.root[0] ** 2).sum(axis=0)
    data = posterior - model.precision
    tells = (model.precision > 0) & (data > 1e-9 * posterior)
    data = np.where(tells, data, 1.0)
    prior = np.where(tells, model.precision, 1.0)
    own = (posterior * given.mean[0] - model.precision * model.mean) / data
    return np.where(tells, np.abs(own - model.mean) / np.sqrt(1.0 / data + 1.0 / prior), 0.0)


def _tau_conflict(problem: ExactProblem, prior: TauPrior) -> bool:
    """Return whether the likelihood of tau is far higher outside what the prior allows than inside."""
    if not prior.proper:
        return False
    lowest, highest = prior.quantile([OUTSIDE, 1.0 - OUTSIDE])
    v = problem.model.v
    sizes = np.sqrt([v.min(), v.max(), np.ptp(problem.model.y) ** 2])
    around = np.geomspace(1e-2 * sizes[0], 1e2 * sizes.max(), 64)
    loglik = log_likelihood(problem, np.concatenate([around, [lowest, min(highest, 1e3 * around[-1])]]))
    tau = np.append(around, [lowest, highest])
    inside = (tau >= lowest) & (tau <= highest)
    return bool((~inside).any() and loglik[~inside].max() - loglik[inside].max() > FAR_MORE_LIKELY)
