"""Meta-regression on a moderator that is measured with error, written in PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import MU, TAU, HalfNormal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.pymc.independent import normal_logpdf, shrunken
from alliance_meta.bayes.pymc.measured import Measured, Measurement, measured_in, one_moderator
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    add_data,
    add_mean,
    choose,
    for_other_data,
    notes_of,
    printed_priors,
    random_variable,
    random_vector,
    slopes,
    take_part,
)
from alliance_meta.bayes.pymc.recipe import Draws, Recipe, normal_scatter
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes

if TYPE_CHECKING:
    import pymc as pm


def measurement_error(
    effects: EffectSizes,
    *,
    mods: str,
    error: Measured | None = None,
    reliability: Measured | None = None,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
    moderator_mean_prior: EffectPrior | None = None,
    moderator_sd_prior: TauPrior | None = None,
    moderator_beta_prior: EffectPrior | None = None,
) -> pm.Model:
    r"""Meta-regression on a moderator that was itself only estimated, such as a mean age, a dose or a quality rating.

    A moderator that is measured with error looks less important than it is: with a reliability of .5, an ordinary
    meta-regression finds on average half of the slope, and what it misses it counts as differences between studies.
    This model estimates the slope over the moderator's true values, and says how much less certain it is for that.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    mods : str
        Right-hand side of a formula that has the moderator as a term of its own, and possibly others:
        ``"quality"``, ``"quality + rater"``.
    error : mapping of str to str or float, optional
        The moderator -> its standard error: a column with one for each effect, or one number for all;
        ``{"quality": "quality_se"}``. Either this or `reliability`, for one moderator.
    reliability : mapping of str to str or float, optional
        The moderator -> its reliability, above 0 and up to 1: how much of its variance between studies (at equal
        values of the other moderators) is true; a column or a number.
    mu_prior, tau_prior, beta_prior
        As in `normal_normal`. The slope is that over true values; by default its prior is scaled by the standard
        deviation of the measured ones.
    moderator_mean_prior : EffectPrior, optional
        Of the moderator's true mean; by default normal around the mean measured value, with the standard deviation of
        measured values.
    moderator_sd_prior : TauPrior, optional
        Of the standard deviation of its true values given the other moderators; by default half-normal, scaled by the
        standard deviation of measured values.
    moderator_beta_prior : EffectPrior, optional
        Of how much the true value differs per unit of each other moderator; by default normal around 0, one standard
        deviation of measured values for one of the other moderator.

    Returns
    -------
    pymc.Model
        Parameters as in `normal_normal`; ``mu`` is the mean effect where every moderator has its average measured
        value. Further ``moderator_mean``, ``moderator_sd`` and, with other moderators, ``moderator_beta``. Predictions
        are for true values of the moderator.

    Raises
    ------
    InputError
        Not exactly one moderator in `error` and `reliability`; an unknown column; a standard error below 0 or a
        reliability outside (0, 1], missing ones included; a prior of the wrong kind or improper.
    DesignError
        The moderator is not a numeric term of its own in `mods`, or is in an interaction or a curve too; no intercept.

    Warns
    -----
    SuspiciousInputWarning
        The errors are as large as the differences between measured values: the moderator says next to nothing.
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    missing_moderators : Where a moderator was not measured at all.

    Notes
    -----
    With :math:`w_i` the measured and :math:`x_i` the true value,

    .. math:: y_i \sim N(\ldots + \beta x_i, v_i + \tau^2), \quad w_i \sim N(x_i, s_i^2), \quad
        x_i \sim N(\mu_x + z_i'\delta, \sigma_x^2)

    Effects and measured values are jointly normal, so that true values are integrated out exactly: with
    :math:`\lambda_i = \sigma_x^2 / (\sigma_x^2 + s_i^2)` the slope is attenuated to :math:`\lambda_i \beta` and
    :math:`\beta^2 \sigma_x^2 (1 - \lambda_i)` is added to the variance. Errors of measurement are taken to be
    independent of the true value and of the sampling error of the effect; where both come from the same clients they
    are not. R: ``brm(yi | se(sei, sigma = TRUE) ~ me(quality, quality_se))``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> model = am.bayes.pymc.measurement_error(es, mods="meanage", error={"meanage": 2.0})
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'beta', 'tau', 'moderator_mean', 'moderator_sd']
    """
    name, by_error, source = one_moderator(error, reliability)
    effects, design = take_part(effects, mods, who="measurement_error")
    measured = measured_in(effects, design, name, source, by_error=by_error)
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    given = (moderator_mean_prior, moderator_sd_prior, moderator_beta_prior)
    own = _priors(effects, design, measured, *given)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        naive = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        sd, expected = _add_moderator(model, design, measured, own)
        w = pm.Data("w", measured.w, dims="study")
        size = pm.Data("error", measured.size, dims="study")
        total, share = split(sd**2, size, by_error=by_error)
        pm.Normal("measured", expected, pm.math.sqrt(total), observed=w, dims="study")
        beta = model["beta"][measured.place]
        mean = naive - beta * (1.0 - share) * (w - expected)
        variance = vi + tau**2 + beta**2 * sd**2 * (1.0 - share)
        pm.Normal("y", mean, pm.math.sqrt(variance), observed=yi, dims="study")

    model.recipe = _recipe(effects, design, priors, measured, own, design.X[:, slopes(design)].mean(axis=0))
    return model


def _priors(
    effects: EffectSizes,
    design: Design,
    measured: Measurement,
    mean: EffectPrior | None,
    sd: TauPrior | None,
    beta: EffectPrior | None,
) -> dict[str, Any]:
    """Return the priors of the moderator's mean and standard deviation, and of what each other column changes."""
    spread = float(measured.w.std())
    mean = Normal(float(measured.w.mean()), spread) if mean is None else mean
    sd = HalfNormal(spread) if sd is None else sd
    check_kind(mean, EffectPrior, "moderator_mean_prior")
    check_kind(sd, TauPrior, "moderator_sd_prior")
    if beta is not None:
        check_kind(beta, EffectPrior, "moderator_beta_prior")
    others = _others(design, measured)
    columns = design.X[:, [slopes(design)[j] for j in others]].T
    each = [Normal(0.0, spread / float(column.std())) if beta is None else beta for column in columns]
    names = [design.names[slopes(design)[j]] for j in others]
    return {"mean": mean, "sd": sd.given(effects.vi), "beta": dict(zip(names, each, strict=True))}


def _others(design: Design, measured: Measurement) -> list[int]:
    """Return the places of the other slopes."""
    return [j for j in range(len(slopes(design))) if j != measured.place]


def _add_moderator(model: Any, design: Design, measured: Measurement, own: Mapping[str, Any]) -> tuple[Any, Any]:
    """Add the distribution of true values to the model in context; return its sd and its mean for each study."""
    expected = random_variable("moderator_mean", own["mean"])
    others = _others(design, measured)
    if others:
        labels = list(own["beta"])
        model.add_coord("other", labels)
        delta = random_vector("moderator_beta", list(own["beta"].values()), dims="other")
        expected = expected + (model["X"][:, others] * delta).sum(axis=-1)
    return random_variable("moderator_sd", own["sd"]), expected


def split(true: Any, size: Any, *, by_error: bool) -> tuple[Any, Any]:
    """Return the variance of measured values around their mean, and the share of it that is true."""
    total = true + size**2 if by_error else true / size
    return total, true / total


def _recipe(
    effects: EffectSizes,
    design: Design,
    priors: PriorSet,
    measured: Measurement,
    own: Mapping[str, Any],
    centre: Array,
) -> Recipe:
    others = (design.X[:, slopes(design)] - centre)[:, _others(design, measured)]

    def parts(draws: Draws) -> tuple[Array, Array]:
        """Return what errors change in the mean and add to the variance of each effect, (S, k) each."""
        expected = draws["moderator_mean"][:, None]
        if own["beta"]:
            expected = expected + draws["moderator_beta"] @ others.T
        true = draws["moderator_sd"][:, None] ** 2
        share = split(true, measured.size, by_error=measured.by_error)[1]
        beta = draws["beta"][:, [measured.place]]
        return -beta * (1.0 - share) * (measured.w - expected), beta**2 * true * (1.0 - share)

    def shift(draws: Draws, newdata: pd.DataFrame | None) -> Array:
        return parts(draws)[0] if newdata is None else np.zeros((len(draws["mu"]), len(newdata)))

    def spread(draws: Draws) -> Array:
        """Return the variance of true effects given the measured values, (S, k)."""
        return draws["tau"][:, None] ** 2 + parts(draws)[1]

    def log_likelihood(draws: Draws) -> Array:
        return normal_logpdf(effects.yi - recipe.fitted(draws), effects.vi + spread(draws))

    def cdf(draws: Draws) -> Array:
        return ndtr((effects.yi - recipe.fitted(draws)) / np.sqrt(effects.vi + spread(draws)))

    def true_effects(draws: Draws, rng: np.random.Generator) -> Array:
        return shrunken(effects, recipe.fitted(draws), np.sqrt(spread(draws)), rng)

    def replicate(draws: Draws, rng: np.random.Generator) -> Array:
        return rng.normal(recipe.fitted(draws), np.sqrt(effects.vi + spread(draws)))

    def rebuilt(other: EffectSizes) -> tuple[Recipe, dict[str, Array]]:
        there = measured.of(other)
        around = for_other_data(design, lambda taken, coded: _recipe(taken, coded, priors, there, own, centre))
        made, data = around(other)
        return made, data | {"w": there.w, "error": there.size}

    how = "standard errors" if measured.by_error else "reliability"
    recipe = Recipe(
        model="measurement_error",
        effects=effects,
        design=design,
        priors=printed_priors(priors, **_printed(own)),
        words=(
            f"{measured.name} is measured with known {how}, its true values follow a normal distribution given the "
            "other moderators, and the true effects of studies one around a mean that depends on the true value"
        ),
        scatter=normal_scatter("tau"),
        log_likelihood=log_likelihood,
        units=tuple(effects.slab),
        rebuilt=rebuilt,
        notes=notes_of(effects, design, priors, *measured.notes),
        shift=shift,
        cdf=cdf,
        replicate=replicate,
        true_effects=true_effects,
    )
    return recipe


def _printed(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the priors of the moderator by the names of their parameters."""
    slopes_of = {f"moderator_beta[{label}]": prior for label, prior in own["beta"].items()}
    return {"moderator_mean": own["mean"], **slopes_of, "moderator_sd": own["sd"]}
