"""The random-effects model with t-distributed true effects, written in PyMC."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet
from alliance_meta.bayes.priors import MU, TAU, Gamma
from alliance_meta.bayes.priors.prior import LOG_2PI, EffectPrior, Prior, TauPrior
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
from alliance_meta.bayes.pymc.recipe import Draws, Recipe
from alliance_meta.core.distributions import FARTHEST, LEFT, NODES, RIGHT, cdf, log_density
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note

if TYPE_CHECKING:
    import pymc as pm

NU = Gamma(2.0, 10.0)
# Below this many studies the data cannot tell one outlier from heavy tails.
FEW_FOR_NU = 10


def t_effects(
    effects: EffectSizes,
    *,
    mods: str = "1",
    nu: TauPrior | float = NU,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model whose true effects have heavier tails than a normal distribution: a t distribution.

    Now and then a study lies far from all others. A normal distribution of true effects can only make room for it by
    a larger tau, and lets it pull the mean. A t distribution expects a few such studies, and gives them less weight.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`, k >= 1.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    nu : TauPrior or float
        Prior of the degrees of freedom, or a fixed number of them, 1 or more. Small: heavy tails; from about 30 on the
        distribution is all but normal. By default ``Gamma(2, 10)``, with mean 20.
    mu_prior : EffectPrior
        Of the centre of the true effects; with moderators, of the centre at their average.
    tau_prior : TauPrior
        Of tau, the scale of true effects; proper.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        As in `normal_normal`.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau``, ``nu`` unless it is fixed and, with moderators, ``beta`` and ``intrcpt``. The
        studies' true effects are integrated out.

    Raises
    ------
    InputError
        `effects` are not EffectSizes; a prior is of the wrong kind or improper; a fixed `nu` below 1.
    DesignError
        An unknown moderator, one with a single level.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `RandomEffectsModel`; each also stands in the notes.

    See Also
    --------
    normal_normal : The limit of large `nu`.

    Notes
    -----
    .. math:: y_i \sim N(\theta_i, v_i), \quad (\theta_i - x_i'\beta) / \tau \sim t_\nu

    ``tau`` is the scale: the standard deviation of true effects is :math:`\tau \sqrt{\nu / (\nu - 2)}`, and infinite
    for nu up to 2. The default prior of nu is that of Juárez & Steel (2010, J. Business & Economic Statistics 28,
    52-66), in rates ``gamma(2, 0.1)``. A t distribution is a mixture of normals; the sum over its components takes 48
    nodes, and the log density is then right to 1e-5 for nu >= 1. Few studies say little about nu. R: ``brm(yi | se(sei)
    ~ 1 + (1 | gr(study_id, dist = "student")))``, where nu is at least 1.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> [parameter.name for parameter in am.bayes.pymc.t_effects(es).free_RVs]
    ['mu', 'tau', 'nu']
    >>> [parameter.name for parameter in am.bayes.pymc.t_effects(es, nu=4).free_RVs]
    ['mu', 'tau']
    """
    effects, design = take_part(effects, mods, who="t_effects")
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)
    _check_nu(nu)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab)}) as model:
        yi, vi = add_data(effects)
        mean = add_mean(design, priors)
        tau = random_variable("tau", priors.tau)
        df = random_variable("nu", nu) if isinstance(nu, Prior) else np.float64(nu)
        pm.CustomDist("y", mean, vi, tau, df, logp=_log_density, dist=_draw, observed=yi, dims="study")

    model.recipe = _recipe(effects, design, priors, nu)
    return model


def _check_nu(nu: Any) -> None:
    if isinstance(nu, TauPrior):
        return
    number = isinstance(nu, int | float | np.number) and not isinstance(nu, bool)
    if not number or not 1 <= nu < np.inf:
        raise InputError(
            f"nu={nu!r} must be a prior of positive values, such as am.priors.Gamma(2, 10), or a number of 1 or more; "
            "without heavy tails take normal_normal"
        )


def _log_density(value: Any, mean: Any, v: Any, tau: Any, nu: Any) -> Any:
    """Return the log density of results as a function of PyTensor's variables; as in `core.student_effects`."""
    pt = load("pytensor.tensor")
    half = 0.5 * nu
    root = pt.sqrt(half)
    low = -1.0 / (1.0 / FARTHEST + 1.0 / (LEFT[0] / half + LEFT[1] / root))
    high = pt.log1p(RIGHT[0] / half + RIGHT[1] / root)
    u = low + (high - low) * np.linspace(0.0, 1.0, NODES)
    log = half * (u - pt.exp(u))
    # At the top of the weights, u = 0, half * (u - exp(u)) is -half.
    weight = log - pt.log(pt.exp(log + half).sum()) + half
    total = v[:, None] + (tau**2 * pt.exp(-u))[None, :]
    away = (value - mean)[:, None] if value.ndim else value - mean
    each = weight[None, :] - 0.5 * (pt.log(total) + away**2 / total)
    # What is taken out of the sum is put back, so that it has no slope.
    top = load("pytensor.gradient").disconnected_grad(each.max(axis=1, keepdims=True))
    return (top[:, 0] + pt.log(pt.exp(each - top).sum(axis=1))) - 0.5 * LOG_2PI


def _draw(mean: Any, v: Any, tau: Any, nu: Any, size: Any) -> Any:
    """Return results to be drawn, as variables of PyTensor."""
    pm = load("pymc")
    # One for each study, also where all have the same mean.
    theta = pm.StudentT.dist(nu=nu, mu=mean + 0.0 * v, sigma=tau, size=size)
    return pm.Normal.dist(theta, pm.math.sqrt(v), size=size)


def _recipe(effects: EffectSizes, design: Design, priors: PriorSet, nu: TauPrior | float) -> Recipe:
    free = isinstance(nu, Prior)

    def df(draws: Draws) -> Array:
        return draws["nu"] if free else np.full(len(draws["tau"]), float(nu))  # type: ignore[arg-type]

    def of(function: Callable[..., Array]) -> Callable[[Draws], Array]:
        return lambda draws: function(effects.yi - recipe.fitted(draws), effects.vi, draws["tau"], df(draws))

    def scatter(draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        tau, m = draws["tau"], 1 if newdata is None else len(newdata)
        return tau[:, None] * rng.standard_t(df(draws)[:, None], (len(tau), m))

    degrees = "degrees of freedom estimated" if free else f"{nu:g} degrees of freedom"
    recipe = Recipe(
        model="t_effects",
        effects=effects,
        design=design,
        priors=printed_priors(priors, **({"nu": nu} if isinstance(nu, Prior) else {})),
        words=f"the true effects of studies follow a t distribution with {degrees}, so that outlying studies pull less",
        scatter=scatter,
        log_likelihood=of(log_density),
        cdf=of(cdf),
        units=tuple(effects.slab),
        rebuilt=for_other_data(design, lambda other, coded: _recipe(other, coded, priors, nu)),
        notes=notes_of(effects, design, priors, *_notes(effects.k, free=free)),
    )
    return recipe


def _notes(k: int, *, free: bool) -> list[Note]:
    if k >= FEW_FOR_NU or not free:
        return []
    message = f"k = {k}: so few effects say little about nu, whose posterior rests on its prior."
    return [Note("prior-bound", message)]
