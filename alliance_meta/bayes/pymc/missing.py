"""Meta-regression in which studies with a missing moderator take part, written in PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import MU, TAU, HalfNormal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import EffectPrior, Prior, TauPrior
from alliance_meta.bayes.pymc import joint
from alliance_meta.bayes.pymc.gaps import Coding, averaged, code, rows_of
from alliance_meta.bayes.pymc.missing_draws import Gapped, GapScatter, picked
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    add_coefficients,
    add_data,
    choose,
    notes_of,
    printed_priors,
    random_variable,
    random_vector,
)
from alliance_meta.bayes.pymc.recipe import Draws, Recipe, normal_scatter
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note

if TYPE_CHECKING:
    import pymc as pm

# In standard deviations of the observed values.
GAP, GAP_SD = Normal(0.0, 1.0), HalfNormal(1.0)
# Log odds of 3 are probabilities of .05 and .95.
GAP_LOGIT = Normal(0.0, 1.5)


def missing_moderators(
    effects: EffectSizes,
    *,
    mods: str,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
    gap_mean_prior: EffectPrior = GAP,
    gap_sd_prior: TauPrior = GAP_SD,
    gap_beta_prior: EffectPrior = GAP,
    gap_logit_prior: EffectPrior = GAP_LOGIT,
) -> pm.Model:
    r"""Meta-regression in which studies that did not report a moderator take part with what they did report.

    Leaving a study out because it did not report, say, the mean age of its clients wastes its effect and its other
    moderators, and biases the result when reporting depends on the effect. Here every study counts. What may have
    stood in a gap is judged from the study's effect, its other moderators and all other studies, and every possible
    value counts by how plausible it is, so that the doubt about it is in the result.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`; none is left out.
    mods : str
        Right-hand side of a formula over the moderators. A numeric one with gaps may have a straight-line effect, and
        interact with any but another such one.
    mu_prior, tau_prior, beta_prior
        As in `normal_normal`. ``mu`` is the mean effect at the average of the observed values.
    gap_mean_prior, gap_sd_prior : EffectPrior, TauPrior
        Of the mean of a numeric moderator with gaps, at the average of what explains it, and of its standard deviation
        given that; in standard deviations of its observed values, the mean from theirs.
    gap_beta_prior : EffectPrior
        Of how much it differs per standard deviation of another numeric moderator, or between levels.
    gap_logit_prior : EffectPrior
        Of the coefficients of a multinomial logistic regression for a categorical moderator with gaps.

    Returns
    -------
    pymc.Model
        Parameters as in `normal_normal`; further, for numeric moderators with gaps, ``gap_mean``, ``gap_sd`` and
        ``gap_beta``, and for categorical ones ``gap_logit``. Without gaps it is the model of `normal_normal`.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior is of the wrong kind or improper.
    DesignError
        No moderator, an unknown one, one with a single level or without any value; no intercept; a numeric moderator
        with gaps that has a curve, or an interaction with another such one; gaps in so many categorical moderators that
        there are more than 48 combinations of levels.

    Warns
    -----
    RedundantModeratorWarning
        As in `RandomEffectsModel`; it also stands in the notes.

    See Also
    --------
    measurement_error : Where a moderator was measured, but not exactly.
    alliance_meta.moderators.impute_moderators : Gaps filled several times, for curves and interactions too.

    Notes
    -----
    Valid if moderators are missing at random: whether a value was reported may depend on the effect and on the other
    moderators of the formula, not on the unreported value itself. A note says so in every output. Moderators with gaps
    are modelled jointly with the effects, each by those without gaps and those before it: categorical ones first, by
    logistic regressions, then numeric ones, by linear regressions. Numeric values are integrated out exactly,
    as effect and moderators are jointly normal given the levels; missing levels are summed over. Nothing is
    sampled for a gap, so that many gaps cost no more than few. R: ``JointAI::lm_imp``, for one and the same
    precision of all effects.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("mcdaniel1994"))
    >>> model = am.bayes.pymc.missing_moderators(es, mods="struct")
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'beta', 'tau', 'gap_logit']
    """
    if not isinstance(effects, EffectSizes):
        raise InputError(f"missing_moderators needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    coding = code(effects, mods)
    if not coding.design.has_intercept:
        raise DesignError(f"mods={mods!r} has no intercept, which this model needs")
    if coding.design.p == 1:
        raise DesignError(f"mods={mods!r} has no moderator that could have gaps; use normal_normal")
    priors = choose(effects, coding.design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    own = _own_priors(effects, gap_mean_prior, gap_sd_prior, gap_beta_prior, gap_logit_prior)
    arrays = joint.arrays(coding, rows_of(coding, effects.moderators))
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        mu, beta = add_coefficients(coding.design, priors)
        tau = random_variable("tau", priors.tau)
        parameters = {"mu": mu, "beta": beta} | _add_moderators(model, coding, own)
        data = {name: pm.Data(name, values) for name, values in arrays.items()}
        found = joint.solve(coding, data, parameters, joint.symbols())
        _add_effects(found, yi, vi + tau**2, gaps=bool(coding.missing))

    model.recipe = _recipe(effects, coding, priors, own)
    return model


def _own_priors(
    effects: EffectSizes, mean: EffectPrior, sd: TauPrior, beta: EffectPrior, logit: EffectPrior
) -> dict[str, Prior]:
    check_kind(sd, TauPrior, "gap_sd_prior")
    for name, prior in (("gap_mean", mean), ("gap_beta", beta), ("gap_logit", logit)):
        check_kind(prior, EffectPrior, f"{name}_prior")
    return {"gap_mean": mean, "gap_beta": beta, "gap_sd": sd.given(effects.vi), "gap_logit": logit}


def _add_moderators(model: Any, coding: Coding, own: Mapping[str, Prior]) -> dict[str, Any]:
    """Add what the moderators with gaps depend on to the model in context."""
    found = {}
    for name, labels in joint.labels(coding).items():
        if labels:
            dims = "gap" if name in ("gap_mean", "gap_sd") else f"{name}_coefficient"
            model.add_coord(dims, labels)
            found[name] = random_vector(name, [own[name]] * len(labels), dims=dims)
    return found


def _add_effects(found: joint.Joint, yi: Any, variance: Any, *, gaps: bool) -> None:
    """Add the effects, and the moderators as far as they were observed, to the model in context."""
    pm, symbols = load("pymc"), joint.symbols()
    sd = pm.math.sqrt(variance[:, None] + found.variance)
    if not found.mixture:
        if gaps:
            pm.Potential("moderators", found.log_weight.sum())
        pm.Normal("y", found.mean[:, 0], sd[:, 0], observed=yi, dims="study")
        return
    whole = symbols.log_sum(found.log_weight)
    pm.Potential("moderators", whole.sum())

    def logp(value: Any, log_weight: Any, mean: Any, sd: Any) -> Any:
        return symbols.log_sum(log_weight + pm.logp(pm.Normal.dist(mean, sd), value[..., None]))

    def random(log_weight: Array, mean: Array, sd: Array, rng: Any = None, size: Any = None) -> Array:
        return np.asarray(rng.normal(*picked(np.exp(log_weight), rng, mean, sd)))

    pm.CustomDist(
        "y",
        found.log_weight - whole[:, None],
        found.mean,
        sd,
        logp=logp,
        random=random,
        signature="(c),(c),(c)->()",
        observed=yi,
        dims="study",
    )


def _recipe(effects: EffectSizes, coding: Coding, priors: PriorSet, own: Mapping[str, Prior]) -> Recipe:
    rows = rows_of(coding, effects.moderators)
    design, gapped = averaged(coding, rows), Gapped(effects, coding, rows)

    def shift(draws: Draws, newdata: pd.DataFrame | None) -> Array:
        if newdata is not None:
            return np.zeros((len(draws["mu"]), len(newdata)))
        return gapped.expected(draws) - recipe.coefficients(draws) @ design.X.T

    def rebuilt(other: EffectSizes) -> tuple[Recipe, dict[str, Array]]:
        data = joint.arrays(coding, rows_of(coding, other.moderators))
        return _recipe(other, coding, priors, own), {"yi": other.yi, "vi": other.vi} | data

    gaps = f"moderators with gaps ({', '.join(coding.missing)}) are modelled jointly with the effects, given the others"
    used = {name: own[name] for name, labels in joint.labels(coding).items() if labels}
    recipe = Recipe(
        model="missing_moderators",
        effects=effects,
        design=design,
        priors=printed_priors(priors, **used),
        words=f"{gaps if coding.missing else 'no moderator has gaps'}, and the true effects of studies follow a normal "
        "distribution",
        scatter=GapScatter(gapped, normal_scatter("tau")),
        log_likelihood=gapped.log_likelihood,
        units=tuple(effects.slab),
        rebuilt=rebuilt,
        notes=notes_of(effects, design, priors, *_notes(coding, effects)),
        shift=shift,
        cdf=gapped.cdf,
        replicate=gapped.replicate,
        true_effects=gapped.true_effects,
    )
    return recipe


def _notes(coding: Coding, effects: EffectSizes) -> list[Note]:
    if not coding.missing:
        return [Note("nothing-missing", "No moderator is missing: every study takes part with what it reported.")]
    lacking = int(effects.moderators[list(coding.missing)].isna().any(axis=1).sum())
    per_column = ", ".join(f"{name}: {int(effects.moderators[name].isna().sum())}" for name in coding.missing)
    alone = len(coding.design.variables) == 1
    given = "the effect" if alone else f"the effect and the moderators in {coding.design.formula!r} that were reported"
    at_random = (
        f"Valid if moderators are missing at random: whether a value was reported may depend on {given}, not on the "
        "unreported value itself."
    )
    return [
        Note("missing-moderators", f"{lacking} of {effects.k} effects lack a moderator and take part ({per_column})."),
        Note("missing-at-random", at_random),
    ]
