"""What a reader of a Bayesian fit must know: too few effects, a scale the priors do not fit, a prior in conflict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.exact.setup import PriorSet
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.three_level.quantities import MultilevelPriors
from alliance_meta.core.bayes.two_level import ExactPosterior, ExactProblem, conditional, log_likelihood
from alliance_meta.core.three_level.posterior import MultilevelData, MultilevelPosterior, given_deviations
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, NotIdentifiedWarning
from alliance_meta.notes import Note, warn_note
from alliance_meta.tables.format import brief

# Above this error bound not every printed digit can be trusted.
WORST_ERROR = 1e-8
FEW_FOR_TAU = 5
# Data are in conflict with a normal prior that lies this many standard deviations away (p = .001) ...
CONFLICT = 3.29
# ... and with a prior of tau all but this much of which is left of or right of values e^3 times as likely.
OUTSIDE = 1e-3
FAR_MORE_LIKELY = 3.0
# Values of tau at which the likelihood is looked at; where there are two, of each.
LOOK, LOOK_TWICE = 64, 20


def two_level_notes(effects: EffectSizes, priors: PriorSet, exact: ExactPosterior) -> list[Note]:
    """Return the notes of a random-effects model or meta-regression."""
    return [
        *_scale_notes(effects, priors.coefficients, priors.names, [priors.tau]),
        *_size_notes(effects.k),
        *_conflict_notes(exact.problem, priors),
        *_error_notes(exact.error),
        *dependence_notes(effects),
    ]


def multilevel_notes(effects: EffectSizes, priors: MultilevelPriors, exact: MultilevelPosterior) -> list[Note]:
    """Return the notes of a three-level model."""
    return [
        *_scale_notes(effects, priors.coefficients, priors.names, priors.taus),
        *_group_notes(exact.data, priors),
        *_multilevel_conflict(exact.data, priors),
        *_error_notes(exact.error),
    ]


def _scale_notes(
    effects: EffectSizes, coefficients: Sequence[EffectPrior], names: Sequence[str], taus: Sequence[TauPrior]
) -> list[Note]:
    of_mean = [prior for name, prior in zip(names, coefficients, strict=True) if name == "mu"]
    default = [*(["mu_prior"] if MU in of_mean else []), *(["tau_prior"] if TAU in taus else [])]
    if effects.measure in ("ZCOR", "COR", "UCOR") or not default:
        return []
    message = (
        f"The default priors (mu: {MU}; tau: {TAU}) are meant for correlations; these effects are on another scale "
        f"({effects.scale_label}). Choose {' and '.join(default)}."
    )
    return [Note("prior-scale", message)]


def _size_notes(k: int) -> list[Note]:
    if k >= FEW_FOR_TAU:
        return []
    says = "says nothing" if k == 1 else "say little"
    message = (
        f"k = {k}: {'one effect' if k == 1 else 'so few effects'} {says} about tau, whose posterior rests on its "
        "prior; prior_sensitivity() shows what other priors give."
    )
    return [Note("prior-bound", message)]


def _group_notes(data: MultilevelData, priors: MultilevelPriors) -> list[Note]:
    groups, k = len(data.starts), len(data.y)
    (outer, inner), (between, within) = priors.terms, priors.tau_names
    if groups == k:
        message = (
            f"Every row is a group of its own in {outer}: the data only tell about {between}^2 + {within}^2, and how "
            f"it divides rests on the priors. Leave random out, or group by another column."
        )
        return [*_size_notes(k), warn_note("not-identified", message, NotIdentifiedWarning, stacklevel=6)]
    if groups < FEW_FOR_TAU:
        message = (
            f"{outer} has {groups} group{'s' if groups > 1 else ''}: what is said about {between} rests on its prior; "
            "prior_sensitivity() shows what other priors give."
        )
        return [Note("prior-bound", message)]
    if k - groups < FEW_FOR_TAU:
        message = (
            f"Only {k - groups} row{'s' if k - groups > 1 else ''} more than groups of {outer}: what is said about "
            f"{within}, the variation of {inner}, rests mostly on its prior; prior_sensitivity() shows what other "
            "priors give."
        )
        return [Note("prior-bound", message)]
    return []


def _error_notes(error: float) -> list[Note]:
    if not error > WORST_ERROR:
        return []
    message = (
        f"The integrals are only accurate to about {brief(error, 1)}; do not rely on more digits than that. "
        "Look for an extreme variance or an extreme prior."
    )
    return [warn_note("not-converged", message, ConvergenceWarning, stacklevel=5)]


def _conflict_notes(problem: ExactProblem, priors: PriorSet) -> list[Note]:
    """Say where the data by themselves lie far out in the prior."""
    model = problem.model
    given = conditional(model, np.array([np.sqrt(model.tau2)]))
    surprise = _surprise(given.mean[0], given.root[0], model.mean, model.precision)
    parts = _coefficients(surprise, priors.names, priors.coefficients)
    if _tau_conflict(problem, priors.tau):
        parts.append(f"tau (prior {priors.tau})")
    return _conflict(parts)


def _multilevel_conflict(data: MultilevelData, priors: MultilevelPriors) -> list[Note]:
    v = data.laid.restore_diagonal(data.d)
    largest = np.sqrt(max(float(v.max()), float(np.ptp(data.y)) ** 2))
    around = np.append(0.0, np.geomspace(1e-2 * float(np.sqrt(v.min())), 1e2 * largest, LOOK_TWICE - 1))
    limits = [_limits(prior) for prior in priors.taus]
    most = 1e3 * around[-1]
    values = [np.unique(np.append(around, [] if ends is None else np.minimum(ends, most))) for ends in limits]
    between, within = (one.ravel() for one in np.meshgrid(*values, indexing="ij"))
    given = given_deviations(data, between, within)
    best = int(np.argmax(given.loglik))
    surprise = _surprise(given.mean[best], given.root[best], data.mean + data.centre, data.precision)
    parts = _coefficients(surprise, priors.names, priors.coefficients)
    table = given.loglik.reshape(len(values[0]), -1)
    for i, ends in enumerate(limits):
        if ends is not None and _far_more_likely(values[i], table.max(axis=1 - i), ends):
            parts.append(f"{priors.tau_names[i]} (prior {priors.taus[i]})")
    return _conflict(parts)


def _conflict(parts: list[str]) -> list[Note]:
    if not parts:
        return []
    message = (
        f"Data and prior disagree about {' and '.join(parts)}: the posterior is a compromise that neither supports. "
        "Reconsider the prior, or take one with a heavy tail, such as Cauchy or HalfCauchy, which gives way."
    )
    return [Note("prior-conflict", message)]


def _coefficients(surprise: Array, names: Sequence[str], priors: Sequence[EffectPrior]) -> list[str]:
    return [f"{names[j]} (prior {priors[j]})" for j in np.flatnonzero(surprise > CONFLICT).tolist()]


def _surprise(mean: Array, root: Array, prior_mean: Array, precision: Array) -> Array:
    """Return how many standard deviations of the prior predictive lie between data and a normal prior, (p,).

    Mean and root are those of the posterior at a tau that the data by themselves suggest, so that a conflict cannot
    hide in tau; 0 for priors that are not normal.
    """
    posterior = 1.0 / (root**2).sum(axis=0)
    data = posterior - precision
    tells = (precision > 0) & (data > 1e-9 * posterior)
    data = np.where(tells, data, 1.0)
    prior = np.where(tells, precision, 1.0)
    own = (posterior * mean - precision * prior_mean) / data
    return np.where(tells, np.abs(own - prior_mean) / np.sqrt(1.0 / data + 1.0 / prior), 0.0)


def _tau_conflict(problem: ExactProblem, prior: TauPrior) -> bool:
    """Return whether the likelihood of tau is far higher outside what the prior allows than inside."""
    v = problem.model.v
    sizes = np.sqrt([v.min(), v.max(), np.ptp(problem.model.y) ** 2])
    around = np.geomspace(1e-2 * sizes[0], 1e2 * sizes.max(), LOOK)
    ends = _limits(prior)
    if ends is None:
        return False
    tau = np.append(around, np.minimum(ends, 1e3 * around[-1]))
    return _far_more_likely(tau, log_likelihood(problem, tau), ends)


def _limits(prior: TauPrior) -> Array | None:
    """Return the values between which practically all of the prior lies; None for an improper one.

    What lies below all of them is outside only where the density is low there: a flat prior pulls nowhere, however
    little of it is left of the values that the data suggest.
    """
    if not prior.proper:
        return None
    lower, upper = prior.quantile([OUTSIDE, 1.0 - OUTSIDE])
    near, middle = prior.logpdf([0.5 * lower, prior.quantile(0.5)])
    return np.array([lower if middle - near > FAR_MORE_LIKELY else 0.0, upper])


def _far_more_likely(tau: Array, loglik: Array, ends: Array) -> bool:
    inside: Mask = (tau >= ends[0]) & (tau <= ends[1])
    return bool(inside.any() and (~inside).any() and loglik[~inside].max() - loglik[inside].max() > FAR_MORE_LIKELY)
