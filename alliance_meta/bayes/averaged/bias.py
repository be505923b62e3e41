"""`bayes.robma`: Bayesian averaging over models of effect, heterogeneity and publication bias."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np

from alliance_meta.bayes.averaged.bias_results import (
    PEESE,
    PET,
    PSMA,
    BiasModel,
    EnsembleModel,
    RobmaResults,
    WeightFunction,
)
from alliance_meta.bayes.exact.setup import check_kind
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, TauPrior
from alliance_meta.bayes.priors.tau import InverseGamma
from alliance_meta.core.bayes.quadrature import TauDensity
from alliance_meta.core.selection.robma import BiasKind, BiasProblem, solve_bias
from alliance_meta.effects.studies import dependence_notes, refuse_dependent
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import Note, check_level, check_option, merge_notes, warn_note
from alliance_meta.tables.format import brief

Direction = Literal["positive", "negative"]

MU = Normal(0.0, 1.0)
TAU = InverseGamma(1.0, 0.15)
# A model that counts and is less accurate than this is worth a warning.
WORST_ERROR = 1e-3
FEW = 10


def robma(
    effects: EffectSizes,
    *,
    mu_prior: Normal = MU,
    tau_prior: TauPrior = TAU,
    bias: Sequence[BiasModel] = PSMA,
    p_effect: float = 0.5,
    p_heterogeneity: float = 0.5,
    p_bias: float = 0.5,
    direction: Direction = "positive",
    level: float = 0.95,
    dependent: Literal["ignore"] | None = None,
) -> RobmaResults:
    r"""Average over whether there is an effect, heterogeneity and publication bias: robust Bayesian meta-analysis.

    Nobody knows how a literature was selected, and each correction for publication bias rests on one guess. This
    weighs guesses by how well they predict the data: six ways in which p-values may decide about publication, and
    two in which small studies report larger effects, each with and without an effect, with and without
    heterogeneity, beside the models without bias: 36 models. The answer is how strongly the data speak for an
    effect, for heterogeneity and for bias, and the effect averaged over all models.

    Parameters
    ----------
    effects : EffectSizes
        Independent effects, one of each study, k >= 2.
    mu_prior : Normal
        Of the mean effect, if there is one.
    tau_prior : TauPrior
        Of the standard deviation between studies, if they differ; proper.
    bias : sequence of WeightFunction, PET or PEESE
        Models of publication bias with their prior weights; empty for none.
    p_effect, p_heterogeneity, p_bias : float
        Prior probability that there is an effect, heterogeneity, bias; 0 or 1 leaves the other models out.
    direction : {"positive", "negative"}
        Which results authors and editors favour.
    level : float
        Probability inside every interval, a fraction.
    dependent : {"ignore"}, optional
        Go on although several effects come from one study, as if each were a study.

    Returns
    -------
    RobmaResults
        ``inclusion`` the evidence, ``tidy()`` the estimates, ``models`` each model, ``weight_function()``.

    Raises
    ------
    InputError
        Several effects of one study, a prior that is improper or not normal, probabilities outside 0 to 1, k < 2.

    Warns
    -----
    ConvergenceWarning
        An integral that matters is not accurate to .001.

    Notes
    -----
    Bartoš et al. (2023, doi:10.1002/jrsm.1594), with the priors of R's RoBMA put on the analysis scale as they
    are: ``RoBMA(y=yi, se=sei)``. Given r and n, RoBMA puts them on Cohen's d instead; on Fisher's z, half as large,
    that is about ``mu_prior=Normal(0, 0.5)``, ``tau_prior=InverseGamma(1, 0.075)`` and ``PEESE(10)``. RoBMA samples
    and bridges; here every marginal likelihood is an integral in at most five dimensions that is worked out by
    quadrature. ``models["error"]`` estimates the error of each log marginal likelihood: about 1e-6 to 1e-5, and
    sometimes 1e-4 for models far from the data, which have no weight. Densities of mu and tau under the
    selection models are accurate to about .1% of their height, publication probabilities to two or three digits.
    The p-values of `WeightFunction` are those of y / se.

    Examples
    --------
    >>> import alliance_meta as am
    >>> found = am.bayes.robma(am.escalc(am.load_dataset("molloy2014")))
    >>> found.inclusion.loc[["effect", "heterogeneity", "bias"], "bf10"].round(2).tolist()
    [0.38, 52.52, 10.17]
    """
    _check(effects, mu_prior, tau_prior, bias, direction)
    check_level(level)
    refuse_dependent(effects, dependent, "robma")
    prior = _prior_probabilities(bias, p_effect, p_heterogeneity, p_bias)
    given = tau_prior.given(effects.vi)
    problem = BiasProblem(
        y=effects.yi,
        se=np.sqrt(effects.vi),
        mean=float(mu_prior.mean),
        sd=float(mu_prior.sd),
        tau=TauDensity(given.logpdf, given.upper, given.tail, (), True),
        sign=1.0 if direction == "positive" else -1.0,
    )
    models = []
    for one, effect, heterogeneity in prior:
        kind = BiasKind("none") if one is None else one.kind
        solved = solve_bias(problem, kind, effect=effect, heterogeneity=heterogeneity)
        models.append(EnsembleModel(one, effect, heterogeneity, prior[one, effect, heterogeneity], solved))
    found = RobmaResults(
        effects=effects,
        mu_prior=mu_prior,
        tau_prior=given,
        bias=tuple(bias),
        direction=direction,
        ensemble=tuple(models),
        level=level,
        notes=merge_notes(effects.notes, _notes(effects, mu_prior, tau_prior), dependence_notes(effects, stacklevel=4)),
    )
    return found.with_notes(_accuracy(found))


def _check(effects: object, mu: object, tau: object, bias: Sequence[BiasModel], direction: str) -> None:
    if not isinstance(effects, EffectSizes):
        raise InputError(f"robma needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    if effects.k < 2:
        raise InputError("robma needs at least 2 effects: one says nothing about bias or heterogeneity")
    check_kind(mu, EffectPrior, "mu_prior")
    if not isinstance(mu, Normal):
        raise InputError(f"mu_prior={mu}: robma integrates a normal prior of the mean effect only")
    check_kind(tau, TauPrior, "tau_prior")
    assert isinstance(tau, TauPrior)
    if not tau.proper:
        raise InputError(f"tau_prior={tau}: models cannot be compared under an improper prior")
    strange = [repr(one) for one in bias if not isinstance(one, WeightFunction | PET | PEESE)]
    if strange:
        raise InputError(f"bias holds {', '.join(strange)}; it takes WeightFunction, PET and PEESE")
    if len(set(bias)) < len(bias):
        raise InputError("bias holds one model twice")
    check_option("direction", direction, Direction)


def _prior_probabilities(
    bias: Sequence[BiasModel], effect: float, heterogeneity: float, biased: float
) -> dict[tuple[BiasModel | None, bool, bool], float]:
    """Return the prior probability of each model that has one."""
    for name, value in (("p_effect", effect), ("p_heterogeneity", heterogeneity), ("p_bias", biased)):
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value!r} is a probability and must lie between 0 and 1")
    if not bias and biased == 1:
        raise InputError("p_bias=1 needs a model of bias")
    total = sum(one.weight for one in bias)
    share: dict[BiasModel | None, float] = {None: 1.0 - biased if bias else 1.0}
    share |= {one: biased * one.weight / total for one in bias}
    found = {}
    for (one, p), with_effect, varying in product(share.items(), (False, True), (False, True)):
        q = p * (effect if with_effect else 1.0 - effect) * (heterogeneity if varying else 1.0 - heterogeneity)
        if q > 0:
            found[one, with_effect, varying] = q
    return found


def _notes(effects: EffectSizes, mu: Normal, tau: TauPrior) -> list[Note]:
    notes = []
    if effects.measure not in ("ZCOR", "COR", "UCOR") and (mu == MU or tau == TAU):
        message = (
            f"The default priors are meant for correlations; these effects are on another scale "
            f"({effects.scale_label}). Choose mu_prior and tau_prior."
        )
        notes.append(Note("prior-scale", message))
    if effects.k < FEW:
        message = f"k = {effects.k}: so few effects say little about publication bias; the priors decide much of this."
        notes.append(Note("prior-bound", message))
    return notes


def _accuracy(found: RobmaResults) -> list[Note]:
    worst = float((found.posterior_probabilities * found.errors).sum())
    if worst < WORST_ERROR:
        return []
    message = f"The integrals of the models that count are only accurate to about {brief(worst, 1)}."
    return [warn_note("not-converged", message, ConvergenceWarning)]
