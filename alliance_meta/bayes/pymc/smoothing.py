"""Meta-regression on a curve, written in PyMC."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import BETA_SD, MU, TAU, HalfNormal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.pymc.independent import normal_logpdf, shrunken
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
from alliance_meta.core.smooth_basis import SmoothBasis, smooth_basis
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError

if TYPE_CHECKING:
    import pymc as pm

KNOTS = 6
FEWEST_KNOTS = 4
# Half of what the straight part may be by default: a curve has to be earned.
TAU_SMOOTH = HalfNormal(BETA_SD / 2.0)
# Where both tau and tau_smooth may be 0 the usual steps are a little too long.
TARGET_ACCEPT = 0.97


def smooth(
    effects: EffectSizes,
    *,
    by: str,
    mods: str = "1",
    knots: int = KNOTS,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
    smooth_prior: TauPrior = TAU_SMOOTH,
) -> pm.Model:
    r"""Meta-regression in which the mean effect may follow a curve over time, or over any other numeric moderator.

    Did effects grow and then level off? A straight line cannot say so, and a parabola says so too readily. Here the
    mean effect is a straight line plus a smooth deviation from it. How large that deviation is, the data decide:
    without evidence of a bend the curve is close to the line.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    by : str
        The numeric moderator of the curve, such as ``"year"``; at least 4 different values.
    mods : str
        Right-hand side of a formula over other moderators, ``"1"`` for none.
    knots : int
        Places where the curve may change its bend, at least 4; no more than there are different values. More cost time
        and change little, because the deviation is penalised.
    mu_prior : EffectPrior
        Of the mean effect at the average of the moderators.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects around the curve; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        As in `normal_normal`; the coefficient named `by` is the slope of the line.
    smooth_prior : TauPrior
        Of ``tau_smooth``, how far the curve strays from the line: the standard deviation of that deviation over the
        studies, on the scale of the effects; proper. The default allows half of what the line is allowed to explain.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau``, ``beta`` (one is the slope over `by`), ``intrcpt``, ``tau_smooth`` and ``z``, the
        bends in units of ``tau_smooth``. ``.recipe.fitted(draws, newdata)`` gives the curve at new values.

    Raises
    ------
    InputError
        `by` is not numeric, is also in `mods`, or has fewer than 4 different values; fewer than 4 `knots`; `effects`
        are not EffectSizes; a prior is of the wrong kind or improper.
    DesignError
        An unknown moderator, one with a single level; no intercept.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    normal_normal : With ``mods="year"`` the straight line, to which this model comes down when ``tau_smooth`` is 0.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta + \tau_{smooth} \sum_j g_j(t_i) z_j, v_i + \tau^2), \quad z_j \sim N(0, 1)

    The :math:`g_j` span a natural cubic spline over `by` without its straight part: they are uncorrelated with `by`
    over the studies, so that the slope is that of the straight line through the curve. Small ``tau_smooth`` means small
    :math:`\int f''(t)^2 dt`. Beyond the values of the studies the curve goes on as a straight line, which rests on
    the model alone. True effects are integrated out. R: ``brm(yi | se(sei, sigma = TRUE) ~ s(year, k = 6))``, with
    another basis.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> model = am.bayes.pymc.smooth(es, by="meanage")
    >>> [parameter.name for parameter in model.free_RVs]
    ['mu', 'beta', 'tau', 'tau_smooth', 'z']
    """
    effects, design, basis = _curve(effects, by, mods, knots)
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    check_kind(smooth_prior, TauPrior, "smooth_prior")
    smooth_prior = smooth_prior.given(effects.vi)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab), "bend": [f"{by} {j + 1}" for j in range(basis.m)]}) as model:
        yi, vi = add_data(effects)
        line = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        tau_smooth = random_variable("tau_smooth", smooth_prior)
        z = pm.Normal("z", 0.0, 1.0, dims="bend")
        G = pm.Data("G", basis.at(_values(effects, by)), dims=("study", "bend"))
        curve = tau_smooth * (G * z).sum(axis=-1)
        pm.Normal("y", line + curve, pm.math.sqrt(vi + tau**2), observed=yi, dims="study")

    model.recipe = _recipe(effects, design, priors, smooth_prior, by, basis)
    return model


def _curve(effects: EffectSizes, by: str, mods: str, knots: int) -> tuple[EffectSizes, Design, SmoothBasis]:
    """Return the effects with every moderator, the design of the straight part and the bends."""
    name = by if by.isidentifier() else f"`{by}`"
    others = mods.strip().lstrip("~").strip()
    if re.search(rf"(?<!\w){re.escape(by)}(?!\w)", others):
        raise InputError(f"{by!r} is in mods={mods!r} too; by={by!r} already stands for the line and the curve")
    effects, design = take_part(effects, name if others in ("", "1") else f"{others} + {name}", who="smooth")
    if not design.has_intercept:
        raise DesignError(f"mods={mods!r} has no intercept; the curve is a deviation from a mean, which needs one")
    if by in design.levels or by not in design.names:
        raise InputError(f"by={by!r} is not a number in every effect, or says nothing beyond {others!r}")
    x = _values(effects, by)
    different = len(np.unique(x))
    if isinstance(knots, bool) or not isinstance(knots, int | np.integer) or knots < FEWEST_KNOTS:
        raise InputError(f"knots={knots!r} must be a whole number of at least {FEWEST_KNOTS}")
    if different < FEWEST_KNOTS:
        raise InputError(
            f"{by!r} has {different} different values; a curve needs at least {FEWEST_KNOTS}. Use normal_normal with "
            f"mods={by!r} for a straight line"
        )
    return effects, design, smooth_basis(x, knots=min(int(knots), different))


def _values(effects: EffectSizes, by: str) -> Array:
    return effects.moderators[by].to_numpy(dtype=float)


def _recipe(
    effects: EffectSizes, design: Design, priors: PriorSet, smooth_prior: TauPrior, by: str, basis: SmoothBasis
) -> Recipe:
    own = basis.at(_values(effects, by))

    def shift(draws: Draws, newdata: pd.DataFrame | None) -> Array:
        G = own if newdata is None else basis.at(newdata[by].to_numpy(dtype=float))
        return draws["tau_smooth"][:, None] * (draws["z"] @ G.T)

    def log_likelihood(draws: Draws) -> Array:
        return normal_logpdf(effects.yi - recipe.fitted(draws), effects.vi + draws["tau"][:, None] ** 2)

    def cdf(draws: Draws) -> Array:
        return ndtr((effects.yi - recipe.fitted(draws)) / np.sqrt(effects.vi + draws["tau"][:, None] ** 2))

    def true_effects(draws: Draws, rng: np.random.Generator) -> Array:
        return shrunken(effects, recipe.fitted(draws), draws["tau"][:, None], rng)

    around = for_other_data(design, lambda other, coded: _recipe(other, coded, priors, smooth_prior, by, basis))

    def rebuilt(other: EffectSizes) -> tuple[Recipe, dict[str, Array]]:
        recipe, data = around(other)
        return recipe, data | {"G": basis.at(_values(other, by))}

    recipe = Recipe(
        model="smooth",
        effects=effects,
        design=design,
        priors=printed_priors(priors, tau_smooth=smooth_prior),
        words=(
            f"the mean effect follows a smooth curve over {by} (a straight line and a penalised natural cubic spline "
            f"with {len(basis.knots)} knots), and the true effects of studies a normal distribution around it"
        ),
        scatter=normal_scatter("tau"),
        log_likelihood=log_likelihood,
        units=tuple(effects.slab),
        rebuilt=rebuilt,
        notes=notes_of(effects, design, priors),
        shift=shift,
        curve=by,
        target_accept=TARGET_ACCEPT,
        cdf=cdf,
        true_effects=true_effects,
    )
    return recipe
