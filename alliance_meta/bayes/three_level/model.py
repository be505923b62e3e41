"""Three-level models with priors, solved exactly: effects within studies, with a covariance of sampling errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta.bayes.exact.model_notes import multilevel_notes
from alliance_meta.bayes.exact.setup import check_kind, choose_priors, coordinates, gaussians
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.priors import TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.three_level.quantities import MultilevelPriors
from alliance_meta.bayes.three_level.results import BayesianMultilevelResults
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.three_level.posterior import MultilevelData, multilevel_data, proper, solve_multilevel
from alliance_meta.design import Design, design_of
from alliance_meta.effects.dependent.groups import ROWS, expand, factor, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean, merge_notes


@dataclass(frozen=True, eq=False)
class TwoTerms:
    """A grouping and the rows within it.

    Attributes
    ----------
    names : tuple of str
        As `MultilevelModel` has them.
    group : ndarray of int, shape (k,)
        Group of each row, numbered as they first appear.
    levels : tuple of str
        What each group is called.
    """

    names: tuple[str, str]
    group: IntArray
    levels: tuple[str, ...]


def read_terms(random: str | Sequence[str], effects: EffectSizes) -> TwoTerms:
    """Read ``"~ 1 | study_id/es_id"``, ``"study_id/es_id"`` or ``("lab", "es_id")``.

    Raises
    ------
    InputError
        An unknown column or one with missing values; other terms than a grouping and the rows within it.
    """
    items = [random] if isinstance(random, str) else [str(one) for one in random]
    paths: list[str] = []
    for item in items:
        left, right = sides(item)
        if left != "1":
            raise _refused(random, f"{item.strip()!r} is no random intercept")
        paths += expand(right)
    repeated = sorted({name for name in paths if paths.count(name) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    found = [(name, *factor(name, effects)) for name in paths]
    if len(found) != 2:
        raise _refused(random, f"{len(found)} term{'s' if len(found) != 1 else ''} where there must be two")
    (outer, levels, group), (inner, _, rows) = sorted(found, key=lambda one: len(one[1]))
    if len(np.unique(rows)) < effects.k:
        raise _refused(random, f"several rows share one {inner}")
    return TwoTerms((outer, inner), group, tuple(levels))


def _refused(random: object, why: str) -> InputError:
    return InputError(
        f"random={random!r}: {why}. Exact posteriors are there for random intercepts of a grouping and of the rows "
        f"within it, random='~ 1 | study_id/{ROWS}'. Slopes, crossed factors, outcomes within studies, a single term "
        "or more levels need a sampler: write them with bayes.pymc, such as bayes.pymc.multilevel"
    )


def fit_multilevel(
    effects: EffectSizes,
    *,
    mods: str,
    random: str | Sequence[str],
    V: Any,
    mu_prior: EffectPrior,
    tau_prior: TauPrior | Mapping[str, TauPrior],
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None,
    level: float,
    interval: IntervalKind,
) -> BayesianMultilevelResults:
    """Solve a model with random terms by quadrature over both standard deviations."""
    V = _covariance(V, effects)
    design = design_of(mods, effects)
    if not design.rows.all():
        effects = effects.take(design.rows, step=f"{int(design.rows.sum())} effects with every moderator")
        V = None if V is None else V.take(design.rows)
    terms = read_terms(random, effects)
    _check_blocks(terms, V)
    taus = _tau_priors(tau_prior, terms, effects)
    chosen = choose_priors(design, mu_prior, taus[0], beta_prior)
    priors = MultilevelPriors(terms.names, chosen.names, chosen.coefficients, taus)
    data = problem(effects, design, priors, terms, V)
    exact = solve_multilevel(data, *priors.densities)
    return BayesianMultilevelResults(
        effects=effects,
        design=design,
        priors=priors,
        level=level,
        interval=interval,
        exact=exact,
        group=terms.group,
        levels=terms.levels,
        V=V,
        notes=merge_notes(
            effects.notes, design.notes, () if V is None else V.notes, multilevel_notes(effects, priors, exact)
        ),
    )


def problem(
    effects: EffectSizes, design: Design, priors: MultilevelPriors, terms: TwoTerms, V: SamplingCovariance | None
) -> MultilevelData:
    """Return the integrals of one model.

    Raises
    ------
    InputError
        A prior that is neither normal nor flat; the posterior is improper.
    """
    mean, precision = gaussians(priors, "the exact three-level model takes normal and flat priors")
    X = design.X @ coordinates(design)
    v = effects.vi if V is None else V.vi
    blocks = None if V is None else V.blocks
    data = multilevel_data(effects.yi, X, v, terms.group, mean, precision, blocks=blocks)
    if not proper(data, *priors.densities):
        raise InputError(_improper(data, priors))
    return data


def _improper(data: MultilevelData, priors: MultilevelPriors) -> str:
    flat = int((data.precision == 0).sum())
    groups, k = len(data.starts), len(data.y)
    beside = f" and {flat} flat coefficient{'s' if flat > 1 else ''}" if flat else ""
    counts = zip(priors.terms, priors.taus, (groups, k), ("groups", "effects"), strict=True)
    short = [
        f"the prior {prior} of tau[{term}]{beside} need at least {int(np.floor(1.0 - prior.tail + flat)) + 1} {of}"
        for term, prior, n, of in counts
        if not prior.tail + n - flat > 1.0
    ]
    return (
        f"k = {k} effect{'s' if k > 1 else ''} in {groups} group{'s' if groups > 1 else ''} leave the posterior "
        f"improper, it does not integrate to 1: {'; '.join(short)}. Or take a proper prior of tau such as "
        "HalfNormal(0.3)"
    )


def _covariance(V: Any, effects: EffectSizes) -> SamplingCovariance | None:
    if V is None:
        return None
    made = V if isinstance(V, SamplingCovariance) else SamplingCovariance.from_matrix(V)
    if made.k != effects.k:
        raise InputError(f"V has {made.k} rows for {effects.k} effects; make it from the same effects")
    return made


def _check_blocks(terms: TwoTerms, V: SamplingCovariance | None) -> None:
    for rows, _ in () if V is None else V.blocks:
        if (terms.group[rows] != terms.group[rows][:, :1]).any():
            raise InputError(
                f"V correlates effects of different groups of {terms.names[0]!r}; its blocks must lie within them"
            )


def _tau_priors(
    given: TauPrior | Mapping[str, TauPrior], terms: TwoTerms, effects: EffectSizes
) -> tuple[TauPrior, TauPrior]:
    names = list(terms.names)
    # The rows may be called by their last name.
    short = {name.split("/")[-1]: name for name in names}
    if isinstance(given, Mapping):
        unknown = sorted(name for name in given if name not in names and name not in short)
        if unknown:
            raise InputError(
                f"tau_prior names {unknown[0]!r}{did_you_mean(unknown[0], names)} Terms: {', '.join(names)}"
            )
        by_name = {short.get(name, name): prior for name, prior in given.items()}
        found = [by_name.get(name, TAU) for name in names]
    else:
        found = [given, given]
    for name, one in zip(names, found, strict=True):
        check_kind(one, TauPrior, f"tau_prior of {name}")
    return found[0].given(effects.vi), found[1].given(effects.vi)
