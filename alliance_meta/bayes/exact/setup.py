"""From effects, moderators and priors to the integrals that have to be solved, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.priors import BETA_SD, MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, Prior, TauPrior
from alliance_meta.core.bayes.quadrature import TauDensity
from alliance_meta.core.bayes.scale import TPrior
from alliance_meta.core.bayes.two_level import ExactPosterior, ExactProblem, conditional, log_likelihood, prepare
from alliance_meta.core.dependent import SamplingCovariance
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError
from alliance_meta.notes import NotApplicable, Note, did_you_mean, warn_note
from alliance_meta.tables.format import brief

# Quantiles of the prior of tau that show where its mass is.
MARKS = (1e-6, 0.5, 1.0 - 1e-6)


class Priors:
    """What the priors of every model say of themselves, in the order in which they are printed."""

    if TYPE_CHECKING:

        @property
        def names(self) -> tuple[str, ...]:
            """Coefficients, (p,)."""

        @property
        def coefficients(self) -> tuple[EffectPrior, ...]:
            """Theirs, (p,)."""

        @property
        def taus(self) -> tuple[TauPrior, ...]:
            """Those of the standard deviations."""

        @property
        def tau_names(self) -> tuple[str, ...]:
            """What these are called."""

    @property
    def named(self) -> dict[str, Prior]:
        """Every parameter with its prior."""
        return dict(zip((*self.names, *self.tau_names), (*self.coefficients, *self.taus), strict=True))

    def __str__(self) -> str:
        return "; ".join(f"{name} ~ {prior}" for name, prior in self.named.items())

    @property
    def proper(self) -> bool:
        """Whether every prior integrates to 1."""
        return not self.improper

    @property
    def improper(self) -> list[str]:
        """Which parameters have an improper prior."""
        return [name for name, prior in self.named.items() if not prior.proper]

    def which(self, name: str) -> int | None:
        """Return the place of the standard deviation that is meant, which may go by the last part of its term."""
        for i, known in enumerate(self.tau_names):
            if name in (known, f"tau[{known[4:-1].split('/')[-1]}]"):
                return i
        return None

    def evidence(self, log_marginal: float) -> float:
        """Return the log marginal likelihood; not applicable with an improper prior."""
        improper = self.improper
        return NotApplicable(f"the prior of {' and '.join(improper)} is improper") if improper else log_marginal

    def with_mu(self, mu: EffectPrior) -> Self:
        """Return the same with another prior of the mean effect."""
        chosen = [mu if name == "mu" else one for name, one in zip(self.names, self.coefficients, strict=True)]
        return replace(self, coefficients=tuple(chosen))  # type: ignore[type-var]

    def with_taus(self, *taus: TauPrior) -> Self:
        """Return the same with other priors of the standard deviations."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class PriorSet(Priors):
    """The priors of a model."""

    # Coefficients, (p,). The intercept stands for ``mu``: its prior is that of the mean effect at the average of the
    # moderators.
    names: tuple[str, ...]
    coefficients: tuple[EffectPrior, ...]  # theirs, (p,)
    tau: TauPrior

    tau_names = ("tau",)

    @property
    def taus(self) -> tuple[TauPrior]:
        """The prior of tau."""
        return (self.tau,)

    def with_taus(self, *taus: TauPrior) -> PriorSet:
        """Return the same with another prior of tau."""
        return replace(self, tau=taus[0])


def choose_priors(
    design: Design,
    mu: EffectPrior,
    tau: TauPrior,
    beta: EffectPrior | Mapping[str, EffectPrior] | None,
) -> PriorSet:
    """Give each coefficient of the design its prior."""
    slopes = [name for name in design.names if name != INTERCEPT]
    given = dict(beta) if isinstance(beta, Mapping) else {} if beta is None else dict.fromkeys(slopes, beta)
    unknown = sorted(set(given) - set(slopes))
    if unknown:
        known = ", ".join(slopes) or "none"
        raise InputError(
            f"beta_prior names {', '.join(map(repr, unknown))}{did_you_mean(unknown[0], slopes)} "
            f"Coefficients: {known}; the mean effect has mu_prior"
        )
    for name, prior in given.items():
        check_kind(prior, EffectPrior, f"beta_prior of {name}")
    lacking = [name for name in slopes if name not in given]
    if lacking and not design.has_intercept:
        raise DesignError(
            f"mods={design.formula!r} has no intercept, so that mu_prior has nothing to apply to and the default for "
            f"differences does not fit; give beta_prior for {', '.join(lacking)}"
        )
    chosen = [_prior_of(name, column, mu, given) for name, column in zip(design.names, design.X.T, strict=True)]
    names = tuple("mu" if name == INTERCEPT else name for name in design.names)
    return PriorSet(names, tuple(chosen), tau)


def _prior_of(name: str, column: Array, mu: EffectPrior, given: Mapping[str, EffectPrior]) -> EffectPrior:
    if name == INTERCEPT:
        return mu
    return given[name] if name in given else Normal(0.0, BETA_SD / float(column.std()))


def priors_by_name(
    given: TauPrior | Mapping[str, TauPrior], names: Sequence[str], effects: EffectSizes, *, what: str
) -> tuple[TauPrior, ...]:
    """Check the priors and give each name its own: one for all, or those of a mapping and the default for the rest.

    A term may go by the last part of its name.
    """
    if isinstance(given, Mapping):
        full = {name.split("/")[-1]: name for name in names} | {name: name for name in names}
        unknown = sorted(set(given) - set(full))
        if unknown:
            hint = did_you_mean(unknown[0], list(names)) or "."
            raise InputError(f"tau_prior names {unknown[0]!r}{hint} {what}: {', '.join(names)}")
        chosen = {full[name]: prior for name, prior in given.items()}
        found = [chosen.get(name, TAU) for name in names]
    else:
        found = [given] * len(names)
    for name, prior in zip(names, found, strict=True):
        check_kind(prior, TauPrior, f"tau_prior of {name}" if isinstance(given, Mapping) else "tau_prior")
    return tuple(prior.given(effects.vi) for prior in found)


def sampling_covariance(V: Any, k: int) -> SamplingCovariance | None:
    """Return the sampling covariance of k effects, None where errors are independent."""
    if V is None:
        return None
    made = V if isinstance(V, SamplingCovariance) else SamplingCovariance.from_matrix(V)
    if made.k != k:
        raise InputError(f"V has {made.k} rows for {k} effects; make it from the same effects")
    return made


def check_kind(prior: object, kind: type, who: str) -> None:
    """Raise an `InputError` unless the argument is a prior of the right kind."""
    if not isinstance(prior, kind):
        of_tau = kind is TauPrior
        wanted = "tau, such as am.priors.HalfNormal(0.3)" if of_tau else "an effect, such as am.priors.Normal(0, 0.5)"
        raise InputError(f"{who}={prior!r} is not a prior of {wanted}")


def coordinates(design: Design) -> Array:
    """Return T (p, p): the coefficients are T times those of the design with centred moderators."""
    T = np.eye(design.p)
    if design.has_intercept:
        j = design.names.index(INTERCEPT)
        others = np.arange(design.p) != j
        T[j, others] = -design.X[:, others].mean(axis=0)
    return T


def exact_problem(effects: EffectSizes, design: Design, priors: PriorSet) -> ExactProblem:
    """Return the integrals of one model.

    Raises `InputError`: the posterior is improper.
    """
    _check_t(priors)
    mean, precision = gaussians(priors, "the exact integration takes normal, flat, t and Cauchy priors", heavy=True)
    heavy = next((TPrior(j, *one.student) for j, one in enumerate(priors.coefficients) if one.student), None)
    model = prepare(effects.yi, effects.vi, design.X @ coordinates(design), mean, precision)
    tau = priors.tau.given(effects.vi)
    return _checked(ExactProblem(model, tau_density(tau), heavy), tau)


def gaussians(priors: Priors, refused: str, *, heavy: bool = False) -> tuple[Array, Array]:
    """Return mean and precision of normal and flat priors, (p,) each; others are `refused`, or have 0."""
    found = [(0.0, 0.0) if heavy and one.student else one.gaussian for one in priors.coefficients]
    for name, one, pair in zip(priors.names, priors.coefficients, found, strict=True):
        if pair is None:
            raise InputError(f"the prior of {name}, {one}: {refused}")
    mean, precision = np.array(found, dtype=float).T
    return mean, precision


def _check_t(priors: PriorSet) -> None:
    pairs = zip(priors.names, priors.coefficients, strict=True)
    heavy = [name for name, prior in pairs if prior.student]
    if len(heavy) > 1:
        raise InputError(
            f"{' and '.join(heavy)} have Student t or Cauchy priors; the exact integration takes one of these, "
            "the other coefficients need normal or flat priors"
        )


def with_tau(problem: ExactProblem, prior: TauPrior) -> ExactProblem:
    """Return the same integrals with another prior of tau, if they exist."""
    return _checked(replace(problem, tau=tau_density(prior)), prior)


def _checked(problem: ExactProblem, prior: TauPrior) -> ExactProblem:
    if not problem.tail > 1.0:
        raise InputError(_improper(problem, prior))
    return problem


def tau_density(prior: TauPrior) -> TauDensity:
    """Return a prior of tau as the quadrature needs it."""
    marks: tuple[float, ...] = ()
    if prior.proper:
        marks = tuple(float(q) for q in prior.quantile(MARKS) if 0 < q < np.inf)
    return TauDensity(prior.logpdf, prior.upper, prior.tail, marks, prior.proper)


def _improper(problem: ExactProblem, prior: TauPrior) -> str:
    k, flat = problem.model.k, problem.flat
    needed = k + int(np.floor(1.0 - problem.tail)) + 1
    beside = f" and {flat} flat coefficient{'s' if flat > 1 else ''}" if flat else ""
    return (
        f"k = {k} effect{'s' if k > 1 else ''} with the prior {prior} of tau{beside} leave the posterior "
        f"improper: it does not integrate to 1. At least {needed} effects are needed, or a proper prior of tau such "
        "as HalfNormal(0.3)"
    )


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
        *scale_notes(effects, priors.coefficients, priors.names, [priors.tau]),
        *size_notes(effects.k),
        *_conflict_notes(exact.problem, priors),
        *error_notes(exact.error),
        *(dependence_notes(effects) if effects.n_studies < effects.k else ()),
    ]


def scale_notes(
    effects: EffectSizes, coefficients: Sequence[EffectPrior], names: Sequence[str], taus: Sequence[TauPrior]
) -> list[Note]:
    """Say so where default priors meet effects that are not correlations."""
    of_mean = [prior for name, prior in zip(names, coefficients, strict=True) if name == "mu"]
    default = [*(["mu_prior"] if MU in of_mean else []), *(["tau_prior"] if TAU in taus else [])]
    if effects.measure in ("ZCOR", "COR", "UCOR") or not default:
        return []
    message = (
        f"The default priors (mu: {MU}; tau: {TAU}) are meant for correlations; these effects are on another scale "
        f"({effects.scale_label}). Choose {' and '.join(default)}."
    )
    return [Note("prior-scale", message)]


def size_notes(k: int) -> list[Note]:
    """Say that few effects leave tau to its prior."""
    if k >= FEW_FOR_TAU:
        return []
    says = "says nothing" if k == 1 else "say little"
    message = (
        f"k = {k}: {'one effect' if k == 1 else 'so few effects'} {says} about tau, whose posterior rests on its "
        "prior; prior_sensitivity() shows what other priors give."
    )
    return [Note("prior-bound", message)]


def error_notes(error: float) -> list[Note]:
    """Say so where the integrals are not accurate."""
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
    surprise = distance_from_prior(given.mean[0], given.root[0], model.mean, model.precision)
    parts = far_out(surprise, priors.names, priors.coefficients)
    if _tau_conflict(problem, priors.tau):
        parts.append(f"tau (prior {priors.tau})")
    return conflict_note(parts)


def conflict_note(parts: list[str]) -> list[Note]:
    """Say which parameters data and prior disagree about."""
    if not parts:
        return []
    message = (
        f"Data and prior disagree about {' and '.join(parts)}: the posterior is a compromise that neither supports. "
        "Reconsider the prior, or take one with a heavy tail, such as Cauchy or HalfCauchy, which gives way."
    )
    return [Note("prior-conflict", message)]


def far_out(surprise: Array, names: Sequence[str], priors: Sequence[EffectPrior]) -> list[str]:
    """Return the coefficients with their priors that lie far from what the data say by themselves."""
    return [f"{names[j]} (prior {priors[j]})" for j in np.flatnonzero(surprise > CONFLICT).tolist()]


def distance_from_prior(mean: Array, root: Array, prior_mean: Array, precision: Array) -> Array:
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
    ends = prior_limits(prior)
    if ends is None:
        return False
    tau = np.append(around, np.minimum(ends, 1e3 * around[-1]))
    return far_more_likely(tau, log_likelihood(problem, tau), ends)


def prior_limits(prior: TauPrior) -> Array | None:
    """Return the values between which practically all of the prior lies; None for an improper one.

    What lies below all of them is outside only where the density is low there: a flat prior pulls nowhere, however
    little of it is left of the values that the data suggest.
    """
    if not prior.proper:
        return None
    lower, upper = prior.quantile([OUTSIDE, 1.0 - OUTSIDE])
    near, middle = prior.logpdf([0.5 * lower, prior.quantile(0.5)])
    return np.array([lower if middle - near > FAR_MORE_LIKELY else 0.0, upper])


def far_more_likely(tau: Array, loglik: Array, ends: Array) -> bool:
    """Return whether a deviation outside of the ends is far more likely than any inside."""
    inside: Mask = (tau >= ends[0]) & (tau <= ends[1])
    return bool(inside.any() and (~inside).any() and loglik[~inside].max() - loglik[inside].max() > FAR_MORE_LIKELY)
