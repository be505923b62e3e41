"""The random-effects model of `BayesianModel`, written in PyMC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import LOG_2PI, EffectPrior, TauPrior
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    add_data,
    add_mean,
    choose,
    for_other_data,
    notes_of,
    printed_priors,
    random_variable,
    take_part,
)
from alliance_meta.bayes.pymc.recipe import Draws, Recipe, normal_scatter
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes

if TYPE_CHECKING:
    import pymc as pm

# With fewer effects the default steps of the sampler diverge where tau is near 0, and draws are worth less.
FEW, CAREFUL, MORE = 12, 0.99, 2000


def normal_normal(
    effects: EffectSizes,
    *,
    mods: str = "1",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model, or meta-regression, with each study's own true effect integrated out.

    Studies differ. The model estimates the mean of their true effects and how much these vary, starting from
    what was plausible before (the priors). It is the model that `BayesianModel` solves exactly and in
    milliseconds; in PyMC it is there to check the one by the other, and to build on.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects between studies; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        Of each other coefficient as it is printed (per unit of the moderator), or one for each by name. By
        default normal around 0 with standard deviation .25 for what one standard deviation of the moderator
        changes.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` and, with moderators, ``beta`` (per unit) and ``intrcpt``; ``mu`` is then
        the mean effect at the average of the moderators. The data are ``yi``, ``vi`` and ``X`` (centred).
        ``.recipe`` says how the model was made.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior is of the wrong kind; the prior of tau is improper.
    DesignError
        An unknown moderator, one with a single level.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    BayesianModel : The same model, solved exactly.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta, v_i + \tau^2)

    The studies' true effects are integrated out because sampling them as well goes wrong when tau is near 0.
    With k = 1 the data hardly speak about tau, and its posterior is close to its prior. With few effects tau may be
    near 0, where larger steps diverge, and draws resemble one another: `bayes.sample` then takes smaller steps and
    more draws. The model assumes independent effects. R: ``bayesmeta(y, sigma, mu.prior = c(0, 0.5), tau.prior =
    function(t) dhalfnormal(t, scale = 0.3))``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("kolden2011"))
    >>> model = am.bayes.pymc.normal_normal(es)
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'tau']
    """
    effects, design = take_part(effects, mods, who="normal_normal")
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        mean = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        pm.Normal("y", mean, pm.math.sqrt(vi + tau**2), observed=yi, dims="study")

    model.recipe = _recipe(effects, design, priors)
    return model


def _recipe(effects: EffectSizes, design: Design, priors: PriorSet) -> Recipe:
    def log_likelihood(draws: Draws) -> Array:
        return normal_logpdf(effects.yi - recipe.fitted(draws), effects.vi + draws["tau"][:, None] ** 2)

    def cdf(draws: Draws) -> Array:
        return ndtr((effects.yi - recipe.fitted(draws)) / np.sqrt(effects.vi + draws["tau"][:, None] ** 2))

    def true_effects(draws: Draws, rng: np.random.Generator) -> Array:
        return shrunken(effects, recipe.fitted(draws), draws["tau"][:, None], rng)

    few = effects.k < FEW
    recipe = Recipe(
        model="normal_normal",
        effects=effects,
        design=design,
        priors=printed_priors(priors),
        words="the true effects of studies follow a normal distribution",
        scatter=normal_scatter("tau"),
        log_likelihood=log_likelihood,
        units=tuple(effects.slab),
        rebuilt=for_other_data(design, lambda other, coded: _recipe(other, coded, priors)),
        notes=notes_of(effects, design, priors),
        cdf=cdf,
        true_effects=true_effects,
        target_accept=CAREFUL if few else None,
        draws=MORE if few else None,
    )
    return recipe


def shrunken(effects: EffectSizes, fitted: Array, tau: Array, rng: np.random.Generator) -> Array:
    """Draw true effects given their mean (S, k), their standard deviation (S, 1) or (S, k) and the results."""
    own = tau**2 / (effects.vi + tau**2)
    return fitted + own * (effects.yi - fitted) + np.sqrt(own * effects.vi) * rng.standard_normal(fitted.shape)


def normal_logpdf(deviation: Array, variance: Array) -> Array:
    """Return the log density of a normal with mean 0."""
    return -0.5 * (LOG_2PI + np.log(variance) + deviation**2 / variance)
