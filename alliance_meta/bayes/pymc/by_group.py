"""A random-effects model in which some groups of studies differ more among themselves than others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, Prior, TauPrior
from alliance_meta.bayes.pymc.independent import normal_logpdf, shrunken
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    TauPriors,
    add_data,
    add_mean,
    add_taus,
    choose,
    for_other_data,
    named_priors,
    notes_of,
    priors_by_name,
    random_variable,
    take_part,
)
from alliance_meta.bayes.pymc.recipe import Draws, Recipe
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.design import Design
from alliance_meta.effects.dependent.groups import as_level, factor
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note, did_you_mean

if TYPE_CHECKING:
    import pymc as pm

DIM = "group"


def group_tau(
    effects: EffectSizes,
    *,
    by: str,
    mods: str = "1",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPriors = TAU,
    spread_prior: TauPrior | None = None,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Random-effects model with a tau of its own for each group of studies.

    Effects rated by clients may scatter more than those rated by observers. One tau for all would then be too large
    for the one group and too small for the other, and with it every study's weight. Here each group has its own.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`; at least two groups.
    by : str
        The column whose levels are the groups, such as ``"rater"``. The mean effect is the same in all groups unless
        `mods` names the column, too.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    mu_prior : EffectPrior
        Of the mean effect; with moderators, of the mean effect at their average.
    tau_prior : TauPrior or mapping of str to TauPrior
        Of the tau of each group, or one for each by name; with `spread_prior`, of the tau of a typical group.
    spread_prior : TauPrior, optional
        Makes the groups learn from one another: log tau then varies between groups around that of a typical group,
        normally, with a standard deviation of this prior. ``HalfNormal(0.5)`` says that two thirds of the groups
        lie within a factor of about 1.4 of the typical one. Useful where some groups have few studies.
    beta_prior : EffectPrior or mapping of str to EffectPrior, optional
        As in `normal_normal`.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (one for each group) and, with moderators, ``beta`` and ``intrcpt``; with
        `spread_prior` also ``tau_typical`` and ``spread``. ``.recipe`` says how the model was made.

    Raises
    ------
    InputError
        As in `normal_normal`; `by` is no column or has empty cells, or `tau_prior` names no group of it.
    DesignError
        The groups are fewer than two.

    Warns
    -----
    DroppedRowsWarning, RedundantModeratorWarning
        As in `normal_normal`.

    See Also
    --------
    alliance_meta.subgroups : The same question without priors.

    Notes
    -----
    .. math:: y_i \sim N(x_i'\beta, v_i + \tau_{g(i)}^2)

    With `spread_prior` :math:`\tau_g = \tau e^{\sigma z_g}, z_g \sim N(0, 1)`. A group of one study says
    next to nothing about its tau: that rests on its prior, and a note says so. Without new data, predictions are for a
    new study from a group drawn as often as it occurs. R: ``brm(yi | se(sei) ~ 1 + (1 | gr(study_id, by = rater)))``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> model = am.bayes.pymc.group_tau(es, by="design")
    >>> {parameter.name: model.named_vars_to_dims.get(parameter.name) for parameter in model.free_RVs}
    {'mu': None, 'tau': ('group',)}
    """
    effects, design = take_part(effects, mods, who="group_tau")
    levels, group = _groups(effects, by)
    taus = _tau_priors(tau_prior, spread_prior, levels, effects, by)
    priors = choose(effects, design, mu_prior=mu_prior, tau_prior=taus[0], beta_prior=beta_prior)
    pm = load("pymc")
    with pm.Model(coords={"study": list(effects.slab), DIM: list(levels)}) as model:
        yi, vi = add_data(effects)
        of = pm.Data("group_of", group, dims="study")
        mean = add_mean(design, priors)
        tau = add_taus("tau", taus, dims=DIM) if spread_prior is None else _related(priors.tau, spread_prior)
        pm.Normal("y", mean, pm.math.sqrt(vi + tau[of] ** 2), observed=yi, dims="study")
    printed = _printed(priors, taus, levels, spread_prior)
    model.recipe = _recipe(effects, design, priors, by, levels, printed)
    return model


def _groups(effects: EffectSizes, by: Any) -> tuple[tuple[str, ...], IntArray]:
    if not isinstance(by, str):
        raise InputError(f"by={by!r} must name a column; add the groups to the moderators of the effects")
    known = [str(name) for name in effects.moderators]
    if by not in known:
        raise InputError(
            f"by={by!r} is not a column{did_you_mean(by, known) or '.'} Columns: {', '.join(known) or 'none'}"
        )
    levels, group = factor(by, effects)
    if len(levels) < 2:
        raise DesignError(f"by={by!r} is {levels[0]!r} throughout: a single group has a single tau; use normal_normal")
    # In the order of the alphabet, as levels are everywhere.
    order = np.argsort(np.array(levels, dtype=str), kind="stable")
    place = np.empty(len(levels), dtype=np.intp)
    place[order] = np.arange(len(levels))
    return tuple(levels[i] for i in order), place[group]


def _tau_priors(
    given: TauPriors, spread: TauPrior | None, levels: tuple[str, ...], effects: EffectSizes, by: str
) -> tuple[TauPrior, ...]:
    if spread is None:
        return priors_by_name(given, levels, effects, what=by)
    check_kind(spread, TauPrior, "spread_prior")
    if isinstance(given, Mapping):
        raise InputError("with spread_prior the groups share one tau_prior, that of a typical group; give a single one")
    return priors_by_name(given, ("tau",), effects, what=by)


def _related(typical: TauPrior, spread: TauPrior) -> Any:
    pm = load("pymc")
    tau, sd = random_variable("tau_typical", typical), random_variable("spread", spread)
    return pm.Deterministic("tau", tau * pm.math.exp(sd * pm.Normal("z", 0.0, 1.0, dims=DIM)), dims=DIM)


def _printed(
    priors: PriorSet, taus: tuple[TauPrior, ...], levels: tuple[str, ...], spread: TauPrior | None
) -> dict[str, Prior]:
    if spread is None:
        return named_priors(priors, "tau", levels, taus)
    chosen = dict(zip(priors.names, priors.coefficients, strict=True))
    return {**chosen, "tau_typical": priors.tau, "spread": spread}


def _recipe(
    effects: EffectSizes,
    design: Design,
    priors: PriorSet,
    by: str,
    levels: tuple[str, ...],
    printed: dict[str, Prior],
) -> Recipe:
    group = _codes(effects, by, levels)

    def log_likelihood(draws: Draws) -> Array:
        return normal_logpdf(effects.yi - recipe.fitted(draws), effects.vi + draws["tau"][:, group] ** 2)

    def cdf(draws: Draws) -> Array:
        return ndtr((effects.yi - recipe.fitted(draws)) / np.sqrt(effects.vi + draws["tau"][:, group] ** 2))

    def true_effects(draws: Draws, rng: np.random.Generator) -> Array:
        return shrunken(effects, recipe.fitted(draws), draws["tau"][:, group], rng)

    def scatter(draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        tau = draws["tau"]
        if newdata is None:
            return (tau[np.arange(len(tau)), rng.choice(group, len(tau))] * rng.standard_normal(len(tau)))[:, None]
        return tau[:, _new_codes(newdata, by, levels)] * rng.standard_normal((len(tau), len(newdata)))

    def arrays(new: EffectSizes) -> dict[str, Any]:
        return {"yi": new.yi, "vi": new.vi, "group_of": _codes(new, by, levels)}

    def again(new: EffectSizes, coded: Design) -> Recipe:
        return _recipe(new, coded, priors, by, levels, printed)

    related = ", its logarithm normal between groups" if "spread" in printed else ""
    recipe = Recipe(
        model="group_tau",
        effects=effects,
        design=design,
        priors=printed,
        words=f"the true effects of studies follow a normal distribution, with a tau for each level of {by}{related}",
        scatter=scatter,
        log_likelihood=log_likelihood,
        units=tuple(effects.slab),
        rebuilt=for_other_data(design, again, data=arrays),
        notes=notes_of(effects, design, priors, *_lone(group, levels, by)),
        cdf=cdf,
        true_effects=true_effects,
    )
    return recipe


def _codes(effects: EffectSizes, by: str, levels: tuple[str, ...]) -> IntArray:
    if by not in effects.moderators:
        raise InputError(f"by={by!r} is not a column of these effects; the model needs it")
    return _known(effects.moderators[by], by, levels, "the effects have")


def _new_codes(newdata: Any, by: str, levels: tuple[str, ...]) -> IntArray:
    if by not in newdata:
        raise InputError(f"newdata lacks {by}; the model has a tau for each of its levels: {', '.join(levels)}")
    return _known(newdata[by], by, levels, "newdata:")


def _known(column: Any, by: str, levels: tuple[str, ...], where: str) -> IntArray:
    place = {as_level(level): i for i, level in enumerate(levels)}
    values = [as_level(value) for value in column]
    strange = sorted(set(values) - set(place))
    if strange:
        hint = did_you_mean(strange[0], list(levels)) or "."
        said = f"{where} {by}={strange[0]!r}, which is not a group of the model"
        raise InputError(f"{said}{hint} Groups: {', '.join(levels)}")
    return np.array([place[value] for value in values], dtype=np.intp)


def _lone(group: IntArray, levels: tuple[str, ...], by: str) -> list[Note]:
    counts = np.bincount(group, minlength=len(levels))
    lone = [f"{by}={level}" for level, n in zip(levels, counts, strict=True) if n < 2]
    if not lone:
        return []
    message = f"{', '.join(lone)}: a single study says next to nothing about tau, which rests on its prior there."
    return [Note("prior-bound", message)]
