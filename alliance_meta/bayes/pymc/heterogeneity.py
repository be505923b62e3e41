"""Models in which studies of some kinds differ more among themselves than others, written in PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import check_kind, priors_by_name
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, Prior, TauPrior
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    Draws,
    TauPriors,
    add_data,
    add_mean,
    add_taus,
    choose,
    independent_recipe,
    moderators,
    normal_effects,
    random_variable,
    random_vector,
    results,
    slopes,
    take_part,
)
from alliance_meta.core.dependent import IntArray
from alliance_meta.design import Design, design_of
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
    tau_prior : TauPrior or mapping of str to TauPrior
        Of the tau of each group, or one for each by name; with `spread_prior`, of the tau of a typical group.
    spread_prior : TauPrior, optional
        Makes the groups learn from one another: log tau then varies between groups around that of a typical group,
        normally, with a standard deviation of this prior. ``HalfNormal(0.5)`` says that two thirds of the groups
        lie within a factor of about 1.4 of the typical one. Useful where some groups have few studies.
    mods, mu_prior, beta_prior
        As in `normal_normal`.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (one for each group) and, with moderators, ``beta`` and ``intrcpt``; with
        `spread_prior` also ``tau_typical`` and ``spread``. ``.recipe`` says how the model was made.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; `by` is no column or has empty cells, or `tau_prior` names no group of it.
    DesignError
        The groups are fewer than two.

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
    if spread_prior is None:
        printed: dict[str, Prior] = {f"tau[{level}]": prior for level, prior in zip(levels, taus, strict=True)}
    else:
        printed = {"tau_typical": priors.tau, "spread": spread_prior}
    related = "" if spread_prior is None else ", its logarithm normal between groups"

    def own(some: EffectSizes) -> dict[str, Any]:
        """Return what depends on how often each group occurs."""
        codes = _codes(some, by, levels)
        return {"scatter": _GroupScatter(codes, by, levels), "notes": _lone(codes, levels, by)}

    model.recipe = independent_recipe(
        effects,
        design,
        priors,
        **normal_effects(lambda draws, some: draws["tau"][:, _codes(some, by, levels)]),
        model="group_tau",
        printed={"tau": None, **printed},
        words=f"the true effects of studies follow a normal distribution, with a tau for each level of {by}{related}",
        own=own,
        arrays=lambda some: results(some) | {"group_of": _codes(some, by, levels)},
    )
    return model


@dataclass(frozen=True, eq=False)
class _GroupScatter:
    """A `Recipe.scatter`: normal, with the tau of the group, drawn as often as it occurs where none is named."""

    group: IntArray
    by: str
    levels: tuple[str, ...]

    def __call__(self, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw, (S, m) or (S, 1)."""
        tau = draws["tau"]
        if newdata is None:
            own = tau[np.arange(len(tau)), rng.choice(self.group, len(tau))]
            return (own * rng.standard_normal(len(tau)))[:, None]
        return tau[:, _new_codes(newdata, self.by, self.levels)] * rng.standard_normal((len(tau), len(newdata)))


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
    tau_prior : TauPrior
        Of tau at the average of the moderators in `scale`; proper.
    mu_prior, beta_prior
        As in `normal_normal`.
    alpha_prior : EffectPrior or mapping of str to EffectPrior, optional
        Of each coefficient of log(tau2) as it is printed (per unit of the moderator), or one for each by name. By
        default normal around 0 with standard deviation 1 for what one standard deviation of the moderator changes:
        one standard deviation more then multiplies tau by .38 to 2.7, with 95% probability.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (at the average of the moderators in `scale`), ``alpha`` (per unit) and
        ``alpha_intrcpt``, log(tau2) where these moderators are 0; with `mods`, ``beta`` and ``intrcpt`` as well. The
        studies' true effects are integrated out.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; `alpha_prior` names an unknown coefficient.
    DesignError
        A `scale` without moderators or without an intercept.

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

    scatter = Spread(spread, centre)
    model.recipe = independent_recipe(
        effects,
        design,
        priors,
        **normal_effects(lambda draws, some: scatter.sd(draws, some.moderators)),
        model="location_scale",
        printed={f"alpha[{name}]": prior for name, prior in alphas.items()},
        words="the true effects of studies follow a normal distribution whose log variance depends on "
        f"{spread.formula}",
        scatter=scatter,
        own=lambda some: {"notes": [*spread.notes, *_few_for_scale(some.k, spread)]},
        arrays=lambda some: results(some) | {"Z": scatter.columns(some.moderators)},
    )
    return model


@dataclass(frozen=True)
class Spread:
    """A `Recipe.scatter`: normal, with a standard deviation that depends on moderators."""

    design: Design  # of log(tau2)
    centre: Array  # (q - 1,): averages of its columns without the intercept, at which tau is tau

    def columns(self, data: pd.DataFrame) -> Array:
        """Return the moderators of log(tau2) less their averages, (m, q - 1)."""
        return self.design.new_rows(data)[0][:, slopes(self.design)] - self.centre

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, m), or at the average of the moderators, (S, 1)."""
        tau = draws["tau"][:, None]
        return tau if newdata is None else tau * np.exp(0.5 * draws["alpha"] @ self.columns(newdata).T)

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


def _few_for_scale(k: int, spread: Design) -> list[Note]:
    if k >= FEW_PER_COEFFICIENT * spread.p:
        return []
    message = (
        f"k = {k} effects for {spread.p} coefficients of the scale part: fewer than {FEW_PER_COEFFICIENT} each, so "
        "what is said about differences in heterogeneity rests on its prior."
    )
    return [Note("few-for-scale", message)]
