"""`bayes.average`: averaging over sets of moderators, over equal and random effects, and over priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.bayes.averaged.results import AveragedResults, ModelSpace
from alliance_meta.bayes.exact.setup import (
    PriorSet,
    check_kind,
    choose_priors,
    coordinates,
    gaussians,
    scale_notes,
    tau_density,
)
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.average import SubsetProblem, average_subsets
from alliance_meta.design import INTERCEPT, Design, design_of
from alliance_meta.effects.studies import dependence_notes, refuse_dependent
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError, quiet
from alliance_meta.notes import check_level, merge_notes

MOST = 14
MOST_PRIORS = 12
EFFECT = "effect"


def average(
    effects: EffectSizes,
    *,
    candidates: Sequence[str] = (),
    always: Sequence[str] = (),
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior | Sequence[TauPrior] = TAU,
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None = None,
    p_effect: float = 1.0,
    p_heterogeneity: float = 0.5,
    p_include: float | Literal["size"] = 0.5,
    level: float = 0.95,
    dependent: Literal["ignore"] | None = None,
) -> AveragedResults:
    r"""Average over every set of moderators, over equal and random effects, and over priors of tau.

    With several moderators no single model is clearly right. This fits all of them, weighs each by how well it
    predicts the data, and answers with probabilities: that a moderator matters, that studies differ beyond chance,
    and how large each effect is, allowing for not knowing which model holds. Models with needless moderators are
    not rewarded for fitting noise. A moderator that no study was selected for may still stand for another that
    was not coded: inclusion is no proof of a cause.

    Parameters
    ----------
    effects : EffectSizes
        Effects that lack any moderator are left out of every model.
    candidates : sequence of str
        Terms of a formula that a model may have, at most 14; a categorical moderator enters whole, an interaction
        only beside those of its parts that are candidates too.
    always : sequence of str
        Terms that every model has.
    mu_prior : Normal or Flat
        Of the mean effect (at the average of the moderators).
    tau_prior : TauPrior or sequence of TauPrior
        Of tau in the random-effects models; several are averaged over with equal weight. Proper.
    beta_prior : Normal or mapping, optional
        Of the other coefficients, as in `BayesianModel`.
    p_effect : float
        Prior probability that the mean effect is not 0; 1 takes that for granted.
    p_heterogeneity : float
        Prior probability that tau is not 0; 1 for random-effects models only, 0 for equal effects only.
    p_include : float or "size"
        Prior probability of each candidate; ``"size"`` makes every number of moderators equally likely, which
        asks for more evidence the more candidates there are.
    level : float
        Probability inside every interval, a fraction.
    dependent : {"ignore"}, optional
        Go on although several effects come from one study, as if each were a study.

    Returns
    -------
    AveragedResults
        ``inclusion`` the evidence, ``tidy()`` the coefficients, ``models``, ``predict()``.

    Raises
    ------
    InputError
        Several effects of one study; a prior that is not normal or improper, more than 14 candidates, a term twice, a
        probability outside 0 to 1.
    DesignError
        An unknown moderator, one that repeats others, an interaction without its parts.

    Warns
    -----
    DroppedRowsWarning
        Effects without a value of some moderator are left out.

    Notes
    -----
    The marginal likelihoods are exact: given tau the coefficients are integrated analytically, for all models from
    one set of cross-products, and tau by adaptive Gauss-Legendre quadrature (`error_bound`). The posterior of a
    coefficient is a mixture of normals with a spike at 0. Without candidates and with ``p_effect=0.5`` these are the
    four models of Gronau et al. (2021, doi:10.1177/25152459211031256). Priors for many candidates: Scott & Berger
    (2010, doi:10.1214/10-AOS792). R: ``metaBMA::meta_bma`` for the four models, ``RoBMA::RoBMA.reg`` by simulation.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> found = am.bayes.average(es, candidates=["design", "meanage", "quality"])
    >>> found.inclusion["posterior"].round(2).to_dict()
    {'design': 0.14, 'meanage': 0.23, 'quality': 0.21, 'heterogeneity': 0.86}
    """
    priors = _check(effects, candidates, always, mu_prior, tau_prior, level)
    for name, value in (("p_effect", p_effect), ("p_heterogeneity", p_heterogeneity)):
        _check_probability(name, value)
    names = _read_terms(effects, [*always, *candidates])
    terms = names[len(always) :]
    design = design_of(" + ".join(names) or "1", effects)
    _check_design(design, names)
    effects = design.taking_part(effects)
    refuse_dependent(effects, dependent, "average")
    chosen = choose_priors(design, mu_prior, priors[0], beta_prior)
    given = tuple(one.given(effects.vi) for one in priors)
    optional = ([EFFECT] if p_effect < 1.0 else []) + terms
    problem = _problem(effects, design, chosen, optional)
    space = _space(optional, terms, p_effect, p_include, p_heterogeneity, len(given))
    found = average_subsets(problem, space.number, space.log_prior, [tau_density(one) for one in given])
    return AveragedResults(
        effects=effects,
        design=design,
        priors=chosen,
        tau_priors=given,
        always=tuple(names[: len(always)]),
        space=space,
        average=found,
        level=level,
        notes=merge_notes(
            effects.notes,
            design.notes,
            scale_notes(effects, [mu_prior], ["mu"], priors),
            dependence_notes(effects, stacklevel=4),
        ),
    )


def _check(
    effects: object,
    candidates: Sequence[str],
    always: Sequence[str],
    mu: object,
    tau: TauPrior | Sequence[TauPrior],
    level: float,
) -> tuple[TauPrior, ...]:
    if not isinstance(effects, EffectSizes):
        raise InputError(f"average needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    if isinstance(candidates, str) or isinstance(always, str):
        raise InputError("candidates and always are lists of terms, such as ['rater', 'year']")
    if len(candidates) > MOST:
        raise InputError(f"{len(candidates)} candidates make {2 ** len(candidates)} models; give at most {MOST}")
    check_kind(mu, EffectPrior, "mu_prior")
    assert isinstance(mu, EffectPrior)
    if mu.gaussian is None:
        raise InputError(f"mu_prior={mu}: averaging takes a normal or a flat prior of the mean effect")
    priors = (tau,) if isinstance(tau, TauPrior) else tuple(tau)
    if not 1 <= len(priors) <= MOST_PRIORS:
        raise InputError(f"tau_prior holds {len(priors)} priors; give 1 to {MOST_PRIORS}")
    for one in priors:
        check_kind(one, TauPrior, "tau_prior")
        if not one.proper:
            raise InputError(f"tau_prior={one}: models cannot be compared under an improper prior")
    check_level(level)
    return priors


def _check_probability(name: str, value: object) -> None:
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise InputError(f"{name}={value!r} is a probability and must lie between 0 and 1")


def _read_terms(effects: EffectSizes, given: Sequence[str]) -> list[str]:
    """Return the names of terms as the formula spells them."""
    names: list[str] = []
    for one in given:
        with quiet():
            made = design_of(str(one), effects)
        found = [name for name in made.terms if name != "1"]
        if len(found) != 1:
            listed = ", ".join(map(repr, found)) or "nothing"
            raise InputError(f"{one!r} is not one term: it stands for {listed}")
        if found[0] in names:
            raise InputError(f"{found[0]!r} is there twice")
        names += found
    return names


def _parts(term: str) -> frozenset[str]:
    return frozenset(part.strip() for part in term.split(":"))


def _check_design(design: Design, names: Sequence[str]) -> None:
    if not design.has_intercept:
        raise DesignError("the models need an intercept; p_effect=0 takes the mean effect as 0")
    if EFFECT in names:
        raise InputError(f"a moderator named {EFFECT!r} would be taken for the mean effect; rename it")
    known = {_parts(name) for name in names}
    for name in names:
        lacking = sorted(part for part in _parts(name) if len(_parts(name)) > 1 and frozenset([part]) not in known)
        if lacking:
            raise DesignError(f"{name!r} needs {' and '.join(map(repr, lacking))} among candidates or always")
        if not design.terms.get(name):
            raise DesignError(f"{name!r} repeats other moderators in these effects; leave it out")


def _problem(effects: EffectSizes, design: Design, chosen: PriorSet, optional: Sequence[str]) -> SubsetProblem:
    slots = {EFFECT: (design.names.index(INTERCEPT),)} | {name: slot for name, slot in design.terms.items()}
    free = [slot for name in optional for slot in slots[name]]
    fixed = [slot for slot in range(design.p) if slot not in free]
    order = [*fixed, *free]
    mean, precision = gaussians(chosen, "averaging takes normal priors")
    for j in free:
        if not chosen.coefficients[j].proper:
            raise InputError(
                f"the prior of {chosen.names[j]} is flat: models with it cannot be compared to those without; "
                "take a normal prior"
            )
    return SubsetProblem(
        y=effects.yi,
        v=effects.vi,
        X=np.ascontiguousarray((design.X @ coordinates(design))[:, order]),
        mean=mean[order],
        precision=precision[order],
        always=len(fixed),
        groups=tuple(len(slots[name]) for name in optional),
        order=tuple(order),
    )


def _space(
    optional: list[str],
    terms: list[str],
    p_effect: float,
    p_include: float | Literal["size"],
    p_heterogeneity: float,
    priors: int,
) -> ModelSpace:
    """Return the models that have a prior probability, with its logarithm."""
    bits = (np.arange(2 ** len(optional))[:, None] >> np.arange(len(optional)) & 1).astype(bool)
    logs = np.zeros(len(bits))
    with np.errstate(divide="ignore"):
        if optional and optional[0] == EFFECT:
            logs += np.where(bits[:, 0], np.log(p_effect), np.log1p(-p_effect))
        own = bits[:, len(optional) - len(terms) :]
        logs += _term_prior(own, p_include)
        logs[~_allowed(own, terms)] = -np.inf
        number: AnyArray = np.flatnonzero(np.isfinite(logs))
        logs = logs[number] - special.logsumexp(logs[number])
        by_tau = np.full(1 + priors, np.log(p_heterogeneity) - np.log(priors))
        by_tau[0] = np.log1p(-p_heterogeneity)
    log_prior: Array = by_tau[:, None] + logs
    return ModelSpace(tuple(optional), tuple(terms), number, bits[number], log_prior)


def _term_prior(own: Mask, p_include: float | Literal["size"]) -> Array:
    n, size = own.shape[1], own.sum(axis=1)
    if p_include == "size":
        return -np.log(n + 1.0) - np.log(special.comb(n, size))
    _check_probability("p_include", p_include)
    return special.xlogy(size, p_include) + special.xlogy(n - size, 1.0 - float(p_include))


def _allowed(own: Mask, terms: Sequence[str]) -> Mask:
    """Return in which sets every interaction has those of its parts that are candidates."""
    allowed = np.ones(len(own), dtype=bool)
    for i, term in enumerate(terms):
        for j, other in enumerate(terms):
            if _parts(other) < _parts(term):
                allowed &= ~own[:, i] | own[:, j]
    return allowed
