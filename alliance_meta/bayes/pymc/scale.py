"""The random-effects model whose tau depends on moderators, written in PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, TauPrior
from alliance_meta.bayes.pymc.independent import normal_logpdf, shrunken
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    add_data,
    add_mean,
    choose,
    for_other_data,
    moderators,
    notes_of,
    printed_priors,
    random_variable,
    random_vector,
    slopes,
    take_part,
)
from alliance_meta.bayes.pymc.recipe import Draws, Recipe
from alliance_meta.design import Design, design_of
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    import pymc as pm

# Of what one standard deviation of a moderator changes in log(tau2).
ALPHA_SD = 1.0
# Fewer effects than this per coefficient of the scale part say little about it.
FEW_PER_COEFFICIENT = 10


def location_scale(
    effects: EffectSizes,
    *,
    scale: str,
    mods: str = "1",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
    alpha_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model in which the amount of heterogeneity depends on moderators as well.

    An ordinary meta-regression asks whether the *mean* effect differs between kinds of studies. This model also asks
    whether effects *vary more* in some kinds of studies than in others.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    scale : str
        Right-hand side of a formula for log(tau2), with an intercept and at least one moderator.
    mods : str
        Right-hand side of a formula for the mean effect, ``"1"`` for none.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior
        Of tau at the average of the moderators in `scale`; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        As in `normal_normal`.
    alpha_prior : EffectPrior or mapping of str to EffectPrior, optional
        Of each coefficient of log(tau2) as it is printed (per unit of the moderator), or one for each by name. By
        default normal around 0 with standard deviation 1 for what one standard deviation of the moderator changes:
        one standard deviation more then multiplies tau by .38 to 2.7, with 95 % probability.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (at the average of the moderators in `scale`), ``alpha`` (per unit) and
        ``alpha_intrcpt``, log(tau2) where these moderators are 0; with `mods`, ``beta`` and ``intrcpt`` as well. The
        studies' true effects are integrated out.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior is of the wrong kind; the prior of tau is improper; `alpha_prior` names
        an unknown coefficient.
    DesignError
        An unknown moderator, one with a single level, a `scale` without moderators or without an intercept.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    LocationScaleModel : The same model by (restricted) maximum likelihood, without priors.
    group_tau : A tau of its own for each group.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta,\; v_i + \tau_i^2), \quad \log \tau_i^2 = z_i'\alpha

    Viechtbauer & López-López (2022, doi:10.1002/jrsm.1562). Predictions without new data are for a study at the
    average of the moderators. R: ``brm(bf(yi | se(sei, sigma = TRUE) ~ x, sigma ~ z))``, where ``sigma`` has half of
    alpha.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("mcdaniel1994").query("struct.notna()"))
    >>> model = am.bayes.pymc.location_scale(es, scale="struct")
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'tau', 'alpha']
    """
    effects, design, spread = _take_part(effects, mods, scale)
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    alphas = _alpha_priors(spread, alpha_prior)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab), "scale_coefficient": list(alphas)}) as model:
        yi, vi = add_data(effects)
        Z = pm.Data("Z", moderators(spread), dims=("study", "scale_coefficient"))
        mean = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        alpha = random_vector("alpha", list(alphas.values()), dims="scale_coefficient")
        centre = spread.X[:, slopes(spread)].mean(axis=0)
        pm.Deterministic("alpha_intrcpt", 2.0 * pm.math.log(tau) - (alpha * centre).sum())
        tau2 = tau**2 * pm.math.exp((Z * alpha).sum(axis=-1))
        pm.Normal("y", mean, pm.math.sqrt(vi + tau2), observed=yi, dims="study")

    model.recipe = _recipe(effects, design, Spread(spread, centre), priors, alphas)
    return model


@dataclass(frozen=True)
class Spread:
    """A `Recipe.scatter`: normal, with a standard deviation that depends on moderators.

    Attributes
    ----------
    design : Design
        Of log(tau2).
    centre : ndarray of shape (q - 1,)
        Averages of its columns without the intercept, at which tau is tau.
    """

    design: Design
    centre: Array

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, m), or at the average of the moderators, (S, 1)."""
        if newdata is None:
            return draws["tau"][:, None]
        return self.of(draws, self.design.new_rows(newdata)[0])

    def of(self, draws: Draws, Z: Array) -> Array:
        """Return the standard deviation of true effects for rows of the design, (S, m)."""
        return draws["tau"][:, None] * np.exp(0.5 * draws["alpha"] @ (Z[:, slopes(self.design)] - self.centre).T)

    def __call__(self, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw, (S, m) or (S, 1)."""
        total = self.sd(draws, newdata)
        return total * rng.standard_normal(total.shape)


def _take_part(effects: EffectSizes, mods: str, scale: str) -> tuple[EffectSizes, Design, Design]:
    """Return the effects with every moderator of either part, and both designs."""
    effects, design = take_part(effects, mods, who="location_scale")
    try:
        spread = design_of(scale, effects)
    except DesignError as error:
        raise DesignError(str(error).replace("mods=", "scale=").replace("of mods", "of scale")) from error
    if not spread.has_intercept:
        raise DesignError(f"scale={scale!r} has no intercept, so that tau_prior has nothing to apply to; leave out '0'")
    if not slopes(spread):
        raise DesignError(f"scale={scale!r} names no moderator: with one tau for all studies, use normal_normal")
    if not spread.rows.all():
        effects = effects.take(spread.rows, step=f"{int(spread.rows.sum())} effects with every moderator of tau2")
        effects, again = take_part(effects, mods, who="location_scale")
        design = replace(again, notes=(*design.notes, *again.notes))
    return effects, design, spread


def _alpha_priors(spread: Design, given: BetaPrior) -> dict[str, EffectPrior]:
    names = {spread.names[j]: spread.X[:, j] for j in slopes(spread)}
    chosen = given if isinstance(given, Mapping) else {} if given is None else dict.fromkeys(names, given)
    for name, prior in chosen.items():
        if name not in names:
            hint = did_you_mean(name, list(names)) or "."
            raise InputError(f"alpha_prior names {name!r}{hint} Coefficients of the scale part: {', '.join(names)}")
        check_kind(prior, EffectPrior, f"alpha_prior of {name}")
    return {name: chosen.get(name) or Normal(0.0, ALPHA_SD / float(column.std())) for name, column in names.items()}


def _recipe(
    effects: EffectSizes, design: Design, spread: Spread, priors: PriorSet, alphas: dict[str, EffectPrior]
) -> Recipe:
    def variance(draws: Draws) -> Array:
        return effects.vi + spread.of(draws, spread.design.X) ** 2

    def log_likelihood(draws: Draws) -> Array:
        return normal_logpdf(effects.yi - recipe.fitted(draws), variance(draws))

    def cdf(draws: Draws) -> Array:
        return special.ndtr((effects.yi - recipe.fitted(draws)) / np.sqrt(variance(draws)))

    def true_effects(draws: Draws, rng: np.random.Generator) -> Array:
        return shrunken(effects, recipe.fitted(draws), spread.of(draws, spread.design.X), rng)

    def rows(new: EffectSizes) -> Array:
        return spread.design.new_rows(new.moderators)[0]

    def arrays(new: EffectSizes) -> dict[str, Any]:
        return {"yi": new.yi, "vi": new.vi, "Z": rows(new)[:, slopes(spread.design)] - spread.centre}

    def again(new: EffectSizes, coded: Design) -> Recipe:
        other = replace(spread.design, X=rows(new), rows=np.ones(new.k, dtype=bool))
        return _recipe(new, coded, replace(spread, design=other), priors, alphas)

    formula = spread.design.formula
    recipe = Recipe(
        model="location_scale",
        effects=effects,
        design=design,
        priors=printed_priors(priors, **{f"alpha[{name}]": prior for name, prior in alphas.items()}),
        words=f"the true effects of studies follow a normal distribution whose log variance depends on {formula}",
        scatter=spread,
        log_likelihood=log_likelihood,
        cdf=cdf,
        true_effects=true_effects,
        units=tuple(effects.slab),
        rebuilt=for_other_data(design, again, data=arrays),
        notes=notes_of(effects, design, priors, *spread.design.notes, *_notes(effects.k, spread.design)),
    )
    return recipe


def _notes(k: int, spread: Design) -> list[Note]:
    if k >= FEW_PER_COEFFICIENT * spread.p:
        return []
    message = (
        f"k = {k} effects for {spread.p} coefficients of the scale part: fewer than {FEW_PER_COEFFICIENT} each, so "
        "what is said about differences in heterogeneity rests on its prior."
    )
    return [Note("few-for-scale", message)]
