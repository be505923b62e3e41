"""Models of dependent effects: levels within levels, and raters who cut across studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, priors_by_name, sampling_covariance
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.pymc.intercepts import (
    TERM,
    Intercepts,
    add_arrays,
    add_drawn,
    add_likelihood,
    arrays_of,
    drawn_dims,
    drawn_effects,
    read_intercepts,
    recoded,
)
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    TauPriors,
    add_mean,
    add_taus,
    choose,
    for_other_data,
    notes_of,
    random_variable,
    take_part,
)
from alliance_meta.bayes.pymc.recipe import Draws, NormalScatter, Recipe
from alliance_meta.core.dependent import SamplingCovariance
from alliance_meta.core.mixed.nested import log_densities
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.dependent.groups import ROWS, as_level
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import merge_notes

if TYPE_CHECKING:
    import pymc as pm

# Few raters leave little to say about the deviation between them: a funnel that needs small steps.
CAREFUL = 0.99


def multilevel(
    effects: EffectSizes,
    *,
    V: SamplingCovariance | Any = None,
    mods: str = "1",
    random: str | Sequence[str] = f"{STUDY}/{ROWS}",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPriors = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Effects within studies, studies within countries: any number of levels, each with a tau of its own.

    Effects of one study resemble each other because they share patients, therapists and measures. The model says how
    much true effects vary at each level, and does not take ten effects of one study for ten studies. For two levels and
    normal priors `BayesianModel` with ``random=`` solves the same model exactly; this one takes more levels and any
    prior.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    V : SamplingCovariance or array-like of shape (k, k), optional
        From `impute_V`. Without it sampling errors are taken as independent.
    random : str or sequence of str
        Levels, each within another, as in `MultilevelModel`: ``"study_id/es_id"``, ``"country/study_id/es_id"``.
        ``"es_id"`` are the effects.
    tau_prior : TauPrior or mapping of str to TauPrior
        Of the standard deviation of each level, or one for each by name.
    mods, mu_prior, beta_prior
        As in `normal_normal`.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (one for each level) and, with moderators, ``beta`` and ``intrcpt``. Everything
        else is integrated out, but for a level whose groups `V` connects: its effects are drawn, as ``u_<level>``.
        ``.recipe`` says how the model was made; what is left out at once in cross-validation are groups of the
        outermost level.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; levels that cut across one another, that are alike, or that `V`
        reaches beyond.

    See Also
    --------
    crossed : For factors that cut across studies, such as raters.
    MultilevelModel : Without priors.

    Notes
    -----
    .. math:: y = X\beta + \sum_l Z_l u_l + e, \quad u_l \sim N(0, \tau_l^2 I), \quad e \sim N(0, V)

    The blocks of V are made diagonal once; the likelihood then takes two sums for each group and no matrix (Harville
    1977, doi:10.1080/01621459.1977.10480998). A level of fewer than 5 groups leaves its tau to the prior, and a note
    says so. R: ``brm(yi | se(sei) ~ 1 + (1 | study_id/es_id))``, with ``fcor(V)`` for dependent errors.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("crede2010"))
    >>> model = am.bayes.pymc.multilevel(es, V=am.impute_V(es, rho=0.6))
    >>> sorted(parameter.name for parameter in model.free_RVs), list(model.coords["term"])
    (['mu', 'tau'], ['study_id', 'study_id/es_id'])
    """
    effects, design = take_part(effects, mods, who="multilevel")
    V = _taken(V, design)
    terms = read_intercepts(random, effects, V)
    if terms.across:
        other = terms.names[terms.across[0]]
        raise InputError(
            f"{other} cuts across the groups of {terms.names[terms.chain[-1]]}: effects of one {other} are in several "
            "of them; use crossed"
        )
    plan = _Plan("multilevel", random, V, mu_prior, tau_prior, beta_prior)
    return _build(plan, effects, design, terms)


def crossed(
    effects: EffectSizes,
    *,
    V: SamplingCovariance | Any = None,
    mods: str = "1",
    random: str | Sequence[str] = (f"{STUDY}/{ROWS}", "rater"),
    mu_prior: EffectPrior = MU,
    tau_prior: TauPriors = TAU,
    beta_prior: BetaPrior = None,
) -> pm.Model:
    r"""Effects of studies and of raters at once: each effect belongs to one study and one kind of rater.

    Clients, therapists and observers rate the same alliances in many studies. An effect then resembles others of its
    study and others of its rater. The model tells the two apart and says how much true effects vary between studies,
    between raters, and between the effects of one study and rater.

    Parameters
    ----------
    effects, V, mods
        As in `multilevel`; blocks of V lie within studies.
    random : sequence of str
        Factors, as in `MultilevelModel`. Name the clusters first: what fits into one line of levels with them is
        integrated out; the effects of the other factors, which should have few levels, are drawn.
    mu_prior, tau_prior, beta_prior
        As in `multilevel`, with a standard deviation of each factor.

    Returns
    -------
    pymc.Model
        Parameters ``mu``, ``tau`` (one for each factor), ``u_rater`` (how far each rater lies from the mean),
        ``mu_seen`` (the mean effect of the raters that were seen, where ``mu`` is that of all there may be) and, with
        moderators, ``beta`` and ``intrcpt``. ``.recipe`` says how the model was made; what is left out at once in
        cross-validation are the clusters.

    Raises
    ------
    InputError
        As in `normal_normal`, warnings too; no factor cuts across another, two are alike, or `V` reaches beyond
        clusters.

    See Also
    --------
    multilevel : For levels within levels.

    Notes
    -----
    .. math:: y_{i} = x_i'\beta + s_{j(i)} + r_{g(i)} + w_i + e_i

    with normal deviations of studies, raters and rows. Three kinds of raters say little about the variation between
    raters: tau of that factor rests on its prior, and `bayes.sample` takes smaller steps here. If the question is how
    these three differ, put ``rater`` into `mods` instead. A prediction for new data that name a rater of the model uses
    that rater's own deviation. R: ``brm(yi | se(sei) ~ 1 + (1 | study_id) + (1 | rater) + (1 | es_id))``.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("crede2010"))
    >>> model = am.bayes.pymc.crossed(es, random=("study_id/es_id", "criterion"))
    >>> sorted(parameter.name for parameter in model.free_RVs), list(model.coords["criterion"])
    (['mu_seen', 'tau', 'z_criterion'], ['grade', 'gpa'])
    """
    effects, design = take_part(effects, mods, who="crossed")
    V = _taken(V, design)
    terms = read_intercepts(random, effects, V)
    if not terms.across:
        raise InputError(
            f"no factor of {', '.join(terms.names)} cuts across another: each level lies within one level of the next; "
            "use multilevel"
        )
    plan = _Plan("crossed", random, V, mu_prior, tau_prior, beta_prior)
    return _build(plan, effects, design, terms)


def _taken(V: Any, design: Design) -> SamplingCovariance | None:
    made = sampling_covariance(V, len(design.rows))
    return made if made is None or design.rows.all() else made.take(design.rows)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the user asked for."""

    model: str
    random: str | Sequence[str]
    V: SamplingCovariance | None
    mu_prior: EffectPrior
    tau_prior: TauPriors
    beta_prior: BetaPrior


def _build(plan: _Plan, effects: EffectSizes, design: Design, terms: Intercepts) -> pm.Model:
    taus = priors_by_name(plan.tau_prior, terms.names, effects, what="Terms")
    priors = choose(effects, design, mu_prior=plan.mu_prior, tau_prior=taus[0], beta_prior=plan.beta_prior)
    arrays = arrays_of(terms, effects, plan.V)
    pm = load("pymc")
    coords = {"study": list(effects.slab), TERM: list(terms.names), **drawn_dims(terms)}
    with pm.Model(coords=coords) as model:
        data = add_arrays(arrays)
        tau = add_taus("tau", taus, dims=TERM)
        drawn = add_drawn(terms, tau)
        mean = add_mean(design, priors, mu=_mu(design, priors, [drawn[i] for i in terms.across]))
        add_likelihood(terms, data, mean, drawn, tau)
    model.recipe = _recipe(plan, effects, design, terms, priors, taus)
    return model


def _mu(design: Design, priors: PriorSet, across: list[Any]) -> Any:
    """Add the mean of the levels that were seen, about which the data speak, and mu by its difference from that.

    Drawn by themselves, mu and the effects of few levels hardly move: the data only know their sum.
    """
    if not (across and design.has_intercept):
        return None
    pm = load("pymc")
    away = sum(effects.mean() for effects in across)
    seen = random_variable("mu_seen", priors.coefficients[design.names.index(INTERCEPT)], shift=away)
    return pm.Deterministic("mu", seen - away)


def _recipe(
    plan: _Plan,
    effects: EffectSizes,
    design: Design,
    terms: Intercepts,
    priors: PriorSet,
    taus: tuple[TauPrior, ...],
) -> Recipe:
    inside = [i for i in range(len(terms.names)) if i not in terms.across]

    def log_likelihood(draws: Draws) -> Array:
        """Return the log density of each cluster, those across clusters given."""
        residual = effects.yi - recipe.fitted(draws) - drawn_effects(terms, draws, terms.across)
        return log_densities(
            residual,
            effects.vi,
            plan.V,
            groups=[terms.groups[i] for i in inside],
            variances=draws["tau"][:, inside] ** 2,
            unit=terms.unit,
        )

    def again(new: EffectSizes, coded: Design) -> Recipe:
        """Return the recipe for other effects."""
        return _recipe(plan, new, coded, _for_others(plan, terms, effects, new), priors, taus)

    V_notes = () if plan.V is None else plan.V.notes
    recipe = Recipe(
        model=plan.model,
        effects=effects,
        design=design,
        priors=dict(zip(priors.names, priors.coefficients, strict=True))
        | {f"tau[{name}]": prior for name, prior in zip(terms.names, taus, strict=True)},
        words=_words(terms, plan.V),
        scatter=partial(_new_levels, terms) if terms.across else _AllLevels(()),
        log_likelihood=log_likelihood,
        units=terms.units,
        rebuilt=for_other_data(
            design, again, lambda new: arrays_of(_for_others(plan, terms, effects, new), new, plan.V)
        ),
        notes=merge_notes(notes_of(effects, design, priors, dependent=True), V_notes, terms.notes(effects.k)),
        target_accept=CAREFUL if terms.drawn else None,
    )
    return recipe


class _AllLevels(NormalScatter):
    """A `Recipe.scatter`: a new group of every level."""

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, 1)."""
        return np.sqrt((draws["tau"] ** 2).sum(axis=1, keepdims=True))


def _new_levels(terms: Intercepts, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
    """Draw new levels of every factor; those that new data name and the model knows keep their own effect."""
    tau = draws["tau"]
    m = 1 if newdata is None else len(newdata)
    variance, found = np.zeros((len(tau), m)), np.zeros((len(tau), m))
    for i, name in enumerate(terms.names):
        known = np.full(m, -1, dtype=np.intp)
        if i in terms.across and newdata is not None and name in newdata:
            place = {as_level(label): at for at, label in enumerate(terms.labels[i])}
            known = np.array([place.get(as_level(value), -1) for value in newdata[name]], dtype=np.intp)
        if (known >= 0).any():
            found += np.where(known >= 0, draws[terms.variable(i)][:, known], 0.0)
        variance += np.where(known >= 0, 0.0, tau[:, [i]] ** 2)
    return found + np.sqrt(variance) * rng.standard_normal((len(tau), m))


def _for_others(plan: _Plan, terms: Intercepts, effects: EffectSizes, new: EffectSizes) -> Intercepts:
    """Read the terms of other effects; V, if there is one, holds for other effects of the same sizes only."""
    if plan.V is not None and not np.array_equal(effects.vi, new.vi):
        raise InputError("V belongs to the sampling variances that the model was made with; make the model anew")
    return recoded(read_intercepts(plan.random, new, plan.V), terms)


def _words(terms: Intercepts, V: SamplingCovariance | None) -> str:
    named = [name for i, name in enumerate(terms.names) if i != terms.rows]
    levels = [f"levels of {', '.join(named[:-1])}{' and ' if named[:-1] else ''}{named[-1]}"] if named else []
    levels += [] if terms.rows is None else ["rows"]
    errors = "independent sampling errors" if V is None else f"sampling errors correlated as assumed ({V.assumption})"
    return f"true effects vary normally between {', and between '.join(levels)}, with {errors}"
