"""What PyMC models share: data, mean effect, priors, and how draws become a table, a prediction, a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, check_kind, choose_priors, scale_notes
from alliance_meta.bayes.priors.prior import LOG_2PI, EffectPrior, Flat, Prior, TauPrior
from alliance_meta.design import INTERCEPT, Design, design_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes

# Draws of each parameter, all chains in a row: (S, ...).
Draws = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a PyMC model was made, and what its draws mean."""

    model: str  # name of the function in `bayes.pymc`
    effects: EffectSizes  # those that take part
    design: Design  # of the moderators
    # Parameter -> its prior, in the order in which they are printed; ``mu`` is the mean effect at the average of the
    # moderators.
    priors: Mapping[str, Prior]
    words: str  # a sentence for a methods section: what the model assumes about the studies
    # ``scatter(draws, newdata, rng)`` draws how far the true effect of a new study lies from the mean effect, (S, m)
    # for m rows of new data or (S, 1) without new data. If it is normal, it may have a method ``sd(draws, newdata)``,
    # (S, m) or (S, 1), which makes averages over studies exact.
    scatter: Callable[[Draws, pd.DataFrame | None, np.random.Generator], Array]
    # ``log_likelihood(draws)`` gives the log density of the data of each unit with its own true effect integrated out,
    # (S, units).
    log_likelihood: Callable[[Draws], Array]
    units: tuple[str, ...]  # what is left out at once in cross-validation: studies, or clusters of effects
    # ``rebuilt(effects)`` gives the recipe and the arrays of ``pymc.Data`` for other effects, or raises an `InputError`
    # where these do not fit the model; None where the model cannot take other data.
    rebuilt: Callable[[EffectSizes], tuple[Recipe, dict[str, Array]]] | None = None
    notes: tuple[Note, ...] = ()
    # ``shift(draws, data)`` gives what is added to the mean effect that the coefficients give, (S, m) for m rows of
    # moderators: a curve.
    shift: Callable[[Draws, pd.DataFrame], Array] | None = None
    curve: str | None = None  # the moderator over which the mean effect follows a curve
    # What `bayes.sample` takes unless told otherwise, for models that need small steps.
    target_accept: float | None = None
    # What `bayes.sample` takes unless told otherwise, for models whose draws resemble one another.
    draws: int | None = None
    # ``cdf(draws)`` gives the probability of a result up to the observed one, (S, k), with the study's own true effect
    # integrated out; for models whose units are studies with one effect.
    cdf: Callable[[Draws], Array] | None = None
    # ``replicate(draws, rng)`` draws new results of the same studies with true effects of their own, (S, k); by default
    # mean effect, scatter and normal errors of variance ``vi``.
    replicate: Callable[[Draws, np.random.Generator], Array] | None = None
    # ``true_effects(draws, rng)`` draws each study's own true effect given its result, (S, k), where the model has
    # integrated it out.
    true_effects: Callable[[Draws, np.random.Generator], Array] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "priors", MappingProxyType(dict(self.priors)))

    def coefficients(self, draws: Draws) -> Array:
        """Return the draws of the coefficients as they are printed, (S, p)."""
        if self.design.p == 1 and self.design.has_intercept:
            return draws["mu"][:, None]
        if not self.design.has_intercept:
            return draws["beta"]
        j = self.design.names.index(INTERCEPT)
        return np.insert(draws["beta"], j, draws["intrcpt"], axis=1)

    def fitted(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the mean effect of each row, (S, k), or of m rows of new data, (S, m)."""
        X = self.design.X if newdata is None else self.design.new_rows(newdata)[0]
        mean = self.coefficients(draws) @ X.T
        data = self.effects.moderators if newdata is None else newdata
        return mean if self.shift is None else mean + self.shift(draws, data)


@dataclass(frozen=True)
class NormalScatter:
    """A `Recipe.scatter`: normal, with variances that are sums of squares of these parameters."""

    names: tuple[str, ...]

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, 1)."""
        return np.sqrt(sum(draws[name] ** 2 for name in self.names))[:, None]

    def __call__(self, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw, (S, m) or (S, 1)."""
        total = self.sd(draws)
        return total * rng.standard_normal((len(total), 1 if newdata is None else len(newdata)))


BetaPrior = EffectPrior | Mapping[str, EffectPrior] | None


def take_part(effects: EffectSizes, mods: str, *, who: str) -> tuple[EffectSizes, Design]:
    """Return the effects with every moderator and their design."""
    if not isinstance(effects, EffectSizes):
        raise InputError(f"{who} needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    design = design_of(mods, effects)
    return design.taking_part(effects), design


def prepared(
    effects: EffectSizes, mods: str, mu_prior: EffectPrior, tau_prior: TauPrior, beta_prior: BetaPrior, *, who: str
) -> tuple[EffectSizes, Design, PriorSet]:
    """Return the effects with every moderator, their design, and the priors."""
    effects, design = take_part(effects, mods, who=who)
    return effects, design, choose(effects, design, mu_prior=mu_prior, tau_prior=tau_prior, beta_prior=beta_prior)


def choose(
    effects: EffectSizes, design: Design, *, mu_prior: EffectPrior, tau_prior: TauPrior, beta_prior: BetaPrior
) -> PriorSet:
    """Check the priors and give each coefficient its own."""
    check_kind(mu_prior, EffectPrior, "mu_prior")
    check_kind(tau_prior, TauPrior, "tau_prior")
    return choose_priors(design, mu_prior, tau_prior.given(effects.vi), beta_prior)


def add_data(effects: EffectSizes) -> tuple[Any, Any]:
    """Add ``yi`` and ``vi`` to the model in context."""
    pm = load("pymc")
    return pm.Data("yi", effects.yi, dims="study"), pm.Data("vi", effects.vi, dims="study")


def add_mean(design: Design, priors: PriorSet, *, mu: Any = None) -> Any:
    """Add ``mu`` unless given, ``beta`` and ``intrcpt`` to the model in context; return the mean effect of each row."""
    pm = load("pymc")
    columns = slopes(design)
    if mu is None:
        mu = random_variable("mu", priors.coefficients[design.names.index(INTERCEPT)]) if design.has_intercept else 0.0
    if not columns:
        return mu
    pm.modelcontext(None).add_coord("coefficient", [design.names[j] for j in columns])
    beta = random_vector("beta", [priors.coefficients[j] for j in columns], dims="coefficient")
    if design.has_intercept:
        pm.Deterministic("intrcpt", mu - (beta * design.X[:, columns].mean(axis=0)).sum())
    X = pm.Data("X", moderators(design), dims=("study", "coefficient"))
    return mu + (X * beta).sum(axis=-1)


def moderators(design: Design) -> Any:
    """Return the columns of the moderators, (k, p - 1), centred if there is an intercept."""
    X = design.X[:, slopes(design)]
    return X - X.mean(axis=0) if design.has_intercept else X


def for_other_data(
    design: Design,
    make: Callable[[EffectSizes, Design], Recipe],
    arrays: Callable[[EffectSizes], Mapping[str, Any]],
    *,
    k: int | None = None,
) -> Callable[[EffectSizes], tuple[Recipe, dict[str, Array]]]:
    """Return a `Recipe.rebuilt` for models of the data `arrays` and moderators around the averages of this design.

    Give `k` where a parameter belongs to each study, so that their number is part of the model.
    """
    columns = slopes(design)
    centre = design.X[:, columns].mean(axis=0) if design.has_intercept else 0.0

    def rebuilt(effects: EffectSizes) -> tuple[Recipe, dict[str, Array]]:
        """Return the recipe and the data of other effects."""
        if k is not None and effects.k != k:
            raise InputError(
                f"the compiled model has a parameter for each of its {k} studies and cannot take {effects.k}; make the "
                "model anew from these effects"
            )
        X = design.new_rows(effects.moderators)[0] if design.variables else np.ones((effects.k, 1))
        found = dict(arrays(effects)) | ({"X": X[:, columns] - centre} if columns else {})
        return make(effects, replace(design, X=X, rows=np.ones(effects.k, dtype=bool))), found

    return rebuilt


def results(effects: EffectSizes) -> dict[str, Any]:
    """Return the data of a model of results with known sampling variances."""
    return {"yi": effects.yi, "vi": effects.vi}


def independent_recipe(
    effects: EffectSizes,
    design: Design,
    priors: PriorSet,
    *,
    own: Callable[[EffectSizes], Mapping[str, Any]] = lambda _: {},
    printed: Mapping[str, Prior | None] = MappingProxyType({}),
    arrays: Callable[[EffectSizes], Mapping[str, Any]] = results,
    read: Callable[[EffectSizes], EffectSizes] = lambda some: some,
    k: int | None = None,
    **given: Any,
) -> Recipe:
    """Return the recipe of a model of independent effects.

    The callables `log_likelihood`, `cdf`, `true_effects` and `replicate` of a `Recipe` take draws, the mean effects
    that these give, and the effects. `own` has what else depends on the effects, further notes among it; `printed`
    are priors beside those of coefficients and tau, and None for one that is not printed; `arrays` the data of the
    model; `read` turns other effects into those of the model.
    """
    names = given.keys() & {"log_likelihood", "cdf", "true_effects", "replicate"}

    def bound(function: Callable[..., Array]) -> Callable[..., Array]:
        """Return it as a function of draws, and of a generator of random numbers where it takes one."""
        return lambda draws, *rng: function(draws, recipe.fitted(draws), effects, *rng)

    def again(other: EffectSizes, coded: Design) -> Recipe:
        """Return the recipe for other effects."""
        more: dict[str, Any] = {"own": own, "printed": printed, "arrays": arrays, "read": read, "k": k}
        return independent_recipe(read(other), coded, priors, **more, **given)

    def data(other: EffectSizes) -> Mapping[str, Any]:
        """Return the data of the model."""
        return arrays(read(other))

    rest: dict[str, Any] = {name: bound(one) if name in names else one for name, one in given.items()} | dict(
        own(effects)
    )
    notes = notes_of(effects, design, priors, *rest.pop("notes", ()))
    listed = dict(zip(priors.names, priors.coefficients, strict=True)) | {"tau": priors.tau} | dict(printed)
    recipe = Recipe(
        effects=effects,
        design=design,
        priors={name: prior for name, prior in listed.items() if prior is not None},
        units=tuple(effects.slab),
        rebuilt=for_other_data(design, again, data, k=k),
        notes=notes,
        **rest,
    )
    return recipe


def normal_effects(sd: Callable[[Draws, EffectSizes], Array]) -> dict[str, Any]:
    """Return what `independent_recipe` needs for normal true effects of standard deviation `sd`, (S, k) or (S, 1)."""

    def log_likelihood(draws: Draws, fitted: Array, effects: EffectSizes) -> Array:
        """Return the log density of each result."""
        variance = effects.vi + sd(draws, effects) ** 2
        return -0.5 * (LOG_2PI + np.log(variance) + (effects.yi - fitted) ** 2 / variance)

    def cdf(draws: Draws, fitted: Array, effects: EffectSizes) -> Array:
        """Return the probability of results up to each."""
        return ndtr((effects.yi - fitted) / np.sqrt(effects.vi + sd(draws, effects) ** 2))

    def true_effects(draws: Draws, fitted: Array, effects: EffectSizes, rng: np.random.Generator) -> Array:
        """Draw true effects given the results."""
        tau2 = sd(draws, effects) ** 2
        own = tau2 / (effects.vi + tau2)
        return fitted + own * (effects.yi - fitted) + np.sqrt(own * effects.vi) * rng.standard_normal(fitted.shape)

    return {"log_likelihood": log_likelihood, "cdf": cdf, "true_effects": true_effects}


def random_variable(name: str, prior: Prior, *, dims: Any = None, shift: Any = None) -> Any:
    """Add one parameter with this prior to the model in context; with `dims`, one for each label.

    With `shift` the prior, one of an effect, is moved by so much, which may depend on other parameters; a flat one
    stays where it is.

    Raises `InputError`: the prior is improper (but for a flat prior of an effect), or there is no PyMC distribution for
    it.
    """
    pm = load("pymc")
    if not prior.proper and prior.pymc != Flat.pymc:
        raise InputError(
            f"the prior {prior} of {name} is improper, which PyMC's models do not take; give a proper one, such as "
            "HalfNormal(0.3), or use the exact BayesianModel"
        )
    if prior.pymc is not None:
        kind, parameters = prior.pymc
        # PyTensor takes a plain 10.0 for single precision, with constants that are off by 1e-7.
        found: dict[str, Any] = {key: np.float64(getattr(prior, own)) for key, own in parameters.items()}
        if shift is not None and parameters:
            found[next(key for key, own in parameters.items() if own == "mean")] += shift
        return getattr(pm, kind)(name, dims=dims, **found)
    if not prior.by_quantile:
        raise InputError(f"there is no PyMC distribution for the prior {prior}")
    uniform = pm.Uniform(f"{name}_share", 0.0, 1.0, dims=dims)
    return pm.Deterministic(name, prior._quantile(uniform, load("pytensor.tensor")), dims=dims)  # type: ignore[call-arg]


def random_vector(name: str, priors: Sequence[Prior], *, dims: str) -> Any:
    """Add a vector whose elements have these priors to the model in context; `name_1` ... where they differ in kind."""
    pm = load("pymc")
    if len({type(prior) for prior in priors}) == 1 and priors[0].pymc is not None:
        kind, parameters = priors[0].pymc
        found = {key: np.array([getattr(prior, own) for prior in priors]) for key, own in parameters.items()}
        return getattr(pm, kind)(name, dims=dims, **found)
    single = [random_variable(f"{name}_{i}", prior) for i, prior in enumerate(priors, start=1)]
    return pm.Deterministic(name, pm.math.stack(single), dims=dims)


def notes_of(
    effects: EffectSizes, design: Design, priors: PriorSet, *others: Note, dependent: bool = False
) -> tuple[Note, ...]:
    """Return the notes of a model: of its data, its moderators and its priors, then others.

    A model that is not meant for `dependent` effects says so where it meets them.
    """
    alone = [] if dependent else dependence_notes(effects, stacklevel=7)
    return merge_notes(
        effects.notes,
        design.notes,
        scale_notes(effects, priors.coefficients, priors.names, [priors.tau]),
        others,
        alone,
    )


def slopes(design: Design) -> list[int]:
    """Return the positions of all coefficients but the intercept."""
    return [j for j, name in enumerate(design.names) if name != INTERCEPT]


TauPriors = TauPrior | Mapping[str, TauPrior]


def add_taus(name: str, priors: Sequence[TauPrior], *, dims: str) -> Any:
    """Add a vector of standard deviations with these priors to the model in context."""
    for prior in priors:
        if not prior.proper or all(prior == one for one in priors):
            return random_variable(name, prior, dims=dims)
    return random_vector(name, priors, dims=dims)
