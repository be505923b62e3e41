"""Models of dependent effects: levels within levels, raters who cut across studies, what is integrated out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.exact.setup import PriorSet, priors_by_name, sampling_covariance
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.pymc.parts import (
    BetaPrior,
    Draws,
    NormalScatter,
    Recipe,
    TauPriors,
    add_mean,
    add_taus,
    choose,
    for_other_data,
    notes_of,
    random_variable,
    take_part,
)
from alliance_meta.core.dependent import IntArray, SamplingCovariance, codes, nested
from alliance_meta.core.mixed.nested import Chain, lay_out, log_densities, simulate, split
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.dependent.groups import ROWS, as_level, expand, factor, sides
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, merge_notes

if TYPE_CHECKING:
    import pymc as pm

FEW_GROUPS = 5
# A variance below this share of the largest is rounding.
SINGULAR = 1e-12
TERM = "term"


@dataclass(frozen=True, eq=False)
class Intercepts:
    """Random intercepts: one for each level of each term."""

    names: tuple[str, ...]  # terms, as they were written
    labels: tuple[tuple[str, ...], ...]  # levels of each
    groups: tuple[IntArray, ...]  # (k,) each: code of each row's level
    rows: int | None  # position of the term that varies from row to row
    chain: tuple[int, ...]  # positions of the terms that are integrated out of the model, the finest first
    unit: IntArray  # (k,): cluster of each row: a group of the coarsest of these
    units: tuple[str, ...]  # what the clusters are called, by code
    within: tuple[int, ...]  # positions of the terms that are drawn and vary within clusters
    across: tuple[int, ...]  # positions of the terms that are drawn and cut across clusters

    def variable(self, i: int) -> str:
        """Return the name of the drawn effects of a term; files of draws take slashes for folders."""
        return f"u_{self.names[i]}".replace("/", "_")

    @property
    def drawn(self) -> tuple[int, ...]:
        """Positions of the terms whose effects are parameters of the model."""
        return self.within + self.across

    def notes(self, k: int) -> list[Note]:
        """Say which terms rest on their priors, and where rows are taken to share a true effect."""
        few = [
            Note("prior-bound", f"{name} has {len(labels)} groups: what is said about tau[{name}] rests on its prior.")
            for name, labels in zip(self.names, self.labels, strict=True)
            if len(labels) < FEW_GROUPS
        ]
        if self.rows is None:
            few.append(
                Note(
                    "no-row-level",
                    f"No random term varies by row (there are {k}): effects of one group are taken to share one true "
                    f"effect. Add {ROWS!r} unless that is meant.",
                )
            )
        return few


def read_intercepts(random: str | Sequence[str], effects: EffectSizes, V: SamplingCovariance | None) -> Intercepts:
    """Read the random terms and decide which of them can be integrated out."""
    names, labels, groups = _terms(random, effects)
    for i, j in combinations(range(len(names)), 2):
        if (codes(groups[i]) == codes(groups[j])).all():
            raise InputError(
                f"{names[i]} and {names[j]} put the effects into the same groups, so that they cannot be told apart; "
                "leave one out"
            )
    k = effects.k
    rows = next((i for i, group in enumerate(groups) if int(group.max()) == k - 1), None)
    coarse = [i for i in range(len(names)) if i != rows]
    base = None if V is None else V.codes
    chain, other = split([groups[i] for i in coarse], base) if coarse else ((), ())
    if coarse and not chain:
        _refuse_wide_V(names[coarse[0]])
    unit, units = np.arange(k, dtype=np.intp), effects.slab
    if chain:
        unit, units = groups[coarse[chain[-1]]], labels[coarse[chain[-1]]]
    elif V is not None:
        unit, units = V.codes, V.labels
    within = tuple(coarse[i] for i in other if nested(groups[coarse[i]], unit))
    return Intercepts(
        names=names,
        labels=labels,
        groups=groups,
        rows=rows,
        chain=tuple(coarse[i] for i in chain),
        unit=unit,
        units=tuple(units),
        within=within,
        across=tuple(coarse[i] for i in other if coarse[i] not in within),
    )


def _refuse_wide_V(name: str) -> None:
    raise InputError(f"V correlates effects of different groups of {name!r}; its blocks must lie within them")


def _terms(
    random: str | Sequence[str], effects: EffectSizes
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[IntArray, ...]]:
    items = [random] if isinstance(random, str) else list(random)
    wide = [item for item in items if sides(item)[0] != "1"]
    if wide or not items:
        raise InputError(
            f"random={random!r}: these models take intercepts, such as ('study_id', {ROWS!r}); for other random terms "
            "see MultilevelModel"
        )
    paths = [path for item in items for path in expand(sides(item)[1])]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    found = [factor(path, effects) for path in paths]
    return tuple(paths), tuple(tuple(levels) for levels, _ in found), tuple(group for _, group in found)


def recoded(new: Intercepts, old: Intercepts) -> Intercepts:
    """Return the terms of other effects with the codes of the drawn effects that the model has."""
    if (new.chain, new.within, new.across, new.rows) != (old.chain, old.within, old.across, old.rows):
        raise InputError(
            f"{', '.join(new.names)} lie within one another otherwise than in the data the model was made with; make "
            "the model anew from these effects"
        )
    labels, groups = list(new.labels), list(new.groups)
    for i in old.drawn:
        place = {label: at for at, label in enumerate(old.labels[i])}
        strange = [label for label in labels[i] if label not in place]
        if strange:
            raise InputError(
                f"{old.names[i]} has {strange[0]!r}, for which the compiled model has no effect; make it anew from "
                "these effects"
            )
        groups[i] = np.array([place[label] for label in labels[i]], dtype=np.intp)[groups[i]]
        labels[i] = old.labels[i]
    return replace(new, labels=tuple(labels), groups=tuple(groups))


def arrays_of(terms: Intercepts, effects: EffectSizes, V: SamplingCovariance | None) -> dict[str, Any]:
    """Return what of the effects and their groups stands in the model as data."""
    above = [terms.groups[i] for i in terms.chain]
    chain = lay_out(effects.vi if V is None else V.vi, None if V is None else V.blocks, above)
    if terms.rows is None and not chain.d.min() > SINGULAR * chain.d.max():
        raise InputError(f"V is singular: add a random term for each row, {ROWS!r}")
    data: dict[str, Any] = {"yi": effects.yi, "vi": chain.d}
    if chain.members is not None:
        data |= {"W": chain.W, "Q": chain.Q, "members": chain.members.ravel()}
    data |= {f"parent_{level}": parent for level, parent in enumerate(chain.parents, start=1)}
    return data | {f"group_{i}": terms.groups[i] for i in terms.drawn}


def add_drawn(terms: Intercepts, tau: Any) -> dict[int, Any]:
    """Add the drawn effects of each such term to the model in context."""
    pm = load("pymc")
    found = {}
    for i in terms.drawn:
        name, dim = terms.variable(i), terms.names[i]
        z = pm.Normal(f"z{name[1:]}", 0.0, 1.0, dims=dim)
        found[i] = pm.Deterministic(name, tau[i] * z, dims=dim)
    return found


def add_likelihood(terms: Intercepts, data: dict[str, Any], mean: Any, drawn: dict[int, Any], tau: Any) -> None:
    """Add the data to the model in context; `data` are its `pymc.Data` by name."""
    pm = load("pymc")
    pt = load("pytensor.tensor")
    for i, effects in drawn.items():
        mean = mean + effects[data[f"group_{i}"]]
    levels = [data[f"parent_{level}"] for level in range(1, len(terms.chain) + 1)]
    Q = data.get("Q")

    def logp(value: Any, mean: Any, tau: Any) -> Any:
        """Return the log density of all results."""
        e, W, rows = value - mean, data.get("W"), 0.0 if terms.rows is None else tau[terms.rows] ** 2
        if Q is not None:
            e = (Q * e[data["members"]].reshape(Q.shape)).sum(axis=1)
        total = data["vi"] + rows
        w = 1.0 / total
        size, sums = (w, e * w) if W is None else (W**2 * w, W * e * w)
        logs, squares = pt.log(total).sum(), (e**2 * w).sum()
        for at, parent in zip(terms.chain, levels, strict=True):
            size, sums = _sum_by(pt, size, parent), _sum_by(pt, sums, parent)
            variance = tau[at] ** 2
            inner = 1.0 + variance * size
            logs, squares = logs + pt.log(inner).sum(), squares - variance * (sums**2 / inner).sum()
            size, sums = size / inner, sums / inner
        return -0.5 * (value.shape[0] * np.log(2.0 * np.pi) + logs + squares)

    def random(mean: Any, tau: Any, rng: Any = None, size: Any = None) -> Any:
        """Draw results."""
        return _simulate(terms, data, np.asarray(mean), np.asarray(tau), rng, size)

    mean = mean + pt.zeros_like(data["yi"])
    pm.CustomDist("y", mean, tau, logp=logp, random=random, signature="(k),(l)->(k)", observed=data["yi"], dims="study")


def _sum_by(pt: Any, values: Any, parent: Any) -> Any:
    """Return the sums of values by group."""
    return pt.inc_subtensor(pt.zeros(parent.max() + 1)[parent], values)


def _simulate(terms: Intercepts, data: dict[str, Any], mean: Array, tau: Array, rng: Any, size: Any) -> Array:
    """Draw the effects; with the data that the model has at this moment."""
    now = {name: one.get_value() for name, one in data.items()}
    Q = now.get("Q")
    members = None if Q is None else now["members"].reshape(Q.shape)
    parents = tuple(now[f"parent_{level}"] for level in range(1, len(terms.chain) + 1))
    chain = Chain(now["vi"], now.get("W", np.ones(len(now["vi"]))), members, Q, parents)
    batch = np.broadcast_shapes(mean.shape[:-1], tau.shape[:-1])
    batch = batch if size is None else tuple(size)
    mean, tau = (np.broadcast_to(one, (*batch, one.shape[-1])) for one in (mean, tau))
    out = np.empty((*batch, len(now["vi"])))
    for at in np.ndindex(*batch):
        rows = 0.0 if terms.rows is None else float(tau[at][terms.rows])
        out[at] = simulate(chain, mean[at], tau[at][list(terms.chain)], rows, rng)
    return out


def add_arrays(arrays: dict[str, Any]) -> dict[str, Any]:
    """Add the data to the model in context."""
    pm = load("pymc")
    by_row = ("yi", "vi")
    return {name: pm.Data(name, one, dims="study" if name in by_row else None) for name, one in arrays.items()}


def drawn_dims(terms: Intercepts) -> dict[str, list[str]]:
    """Return the dimension of each term that is drawn, with its labels."""
    return {terms.names[i]: list(terms.labels[i]) for i in terms.drawn}


def drawn_effects(terms: Intercepts, draws: Any, which: Sequence[int]) -> Array | float:
    """Return what the drawn effects of some terms add to the mean of each row, (S, k)."""
    return sum((draws[terms.variable(i)][:, terms.groups[i]] for i in which), start=0.0)


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
