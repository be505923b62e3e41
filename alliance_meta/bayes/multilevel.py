"""Three-level models with priors, solved exactly: effects within studies, with a covariance of sampling errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alliance_meta.bayes.effect_priors import Flat, Normal
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.multilevel_results import BayesianMultilevelResults, MultilevelPriors
from alliance_meta.bayes.prior import EffectPrior, TauPrior
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.setup import check_kind, choose_priors, coordinates
from alliance_meta.core.bayes_exact import TauDensity
from alliance_meta.core.bayes_multilevel import MultilevelData, multilevel_data, proper, solve_multilevel
from alliance_meta.core.clusters import IntArray, codes
from alliance_meta.core.sampling_covariance import SamplingCovariance
from alliance_meta.design import Design, build_design
from alliance_meta.effects.grouping import grouping
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.options import did_you_mean

ROWS = "es_id"
# Above this error bound not every printed digit can be trusted.
WORST_ERROR = 1e-8
FEW_GROUPS = 5


def fit_multilevel(
    effects: EffectSizes,
    *,
    V: Any = None,
    mods: str = "1",
    random: str | Sequence[str] = ("study_id", ROWS),
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior | Mapping[str, TauPrior] = TAU,
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None = None,
    level: float = 0.95,
    interval: IntervalKind = "eti",
) -> BayesianMultilevelResults:
    """Solve a three-level model by quadrature over both standard deviations, between studies and within them.

    Parameters
    ----------
    effects : EffectSizes
    V : SamplingCovariance or array-like of shape (k, k), optional
        Without it sampling errors are taken as independent. Its blocks must lie within groups.
    mods : str
    random : sequence of str
        A grouping column and ``"es_id"``, the rows within it; or ``"study_id/es_id"``.
    mu_prior, beta_prior : EffectPrior
        Normal or flat.
    tau_prior : TauPrior or mapping of str to TauPrior
        Of both standard deviations, or of each by the name of its term.
    level : float
    interval : {"eti", "hdi"}

    Returns
    -------
    BayesianMultilevelResults

    Raises
    ------
    InputError
        Other random terms than a grouping and the rows within it, a `V` that reaches beyond groups, priors that
        are neither normal nor flat, an improper posterior.
    """
    outer = _outer(random)
    V = _covariance(V, effects)
    design = build_design(mods, effects.moderators, labels=effects.slab)
    if not design.rows.all():
        effects = effects.take(design.rows, step=f"{int(design.rows.sum())} effects with every moderator")
        V = None if V is None else V.take(design.rows)
    terms = (outer, ROWS)
    taus = _tau_priors(tau_prior, terms, effects)
    chosen = choose_priors(design, mu_prior, taus[0], beta_prior)
    group = _groups(effects, outer, V)
    data = _data(effects, design, MultilevelPriors(terms, chosen.names, chosen.coefficients, taus), group, V)
    densities = [TauDensity(one.logpdf, one.upper, one.tail, (), one.proper) for one in taus]
    if not proper(data, *densities):
        raise InputError(
            f"k = {effects.k} effects in {len(data.starts)} groups leave the posterior improper under these priors; "
            "take a proper prior of tau such as HalfNormal(0.3)"
        )
    exact = solve_multilevel(data, *densities)
    return BayesianMultilevelResults(
        effects=effects,
        design=design,
        priors=MultilevelPriors(terms, chosen.names, chosen.coefficients, taus),
        level=level,
        interval=interval,
        exact=exact,
        group=group,
        V=V,
        notes=merge_notes(
            effects.notes, design.notes, () if V is None else V.notes, _notes(exact.error, outer, len(data.starts))
        ),
    )


def _outer(random: str | Sequence[str]) -> str:
    """Return the grouping column of the random terms."""
    names = [part.strip() for part in random.split("/")] if isinstance(random, str) else [str(one) for one in random]
    if len(names) == 2 and "/" in names[1]:
        names[1] = names[1].split("/")[-1].strip()
    others = [name for name in names if name != ROWS]
    if len(names) != 2 or len(others) != 1 or any("|" in name or "/" in name for name in others):
        raise InputError(
            f"random={random!r}: the exact three-level model takes a grouping column and {ROWS!r}, the rows within "
            f"it, such as ('study_id', {ROWS!r}); for other random terms see bayes.pymc"
        )
    return others[0]


def _covariance(V: Any, effects: EffectSizes) -> SamplingCovariance | None:
    if V is None:
        return None
    made = V if isinstance(V, SamplingCovariance) else SamplingCovariance.from_matrix(V)
    if made.k != effects.k:
        raise InputError(f"V has {made.k} rows for {effects.k} effects; make it from the same effects")
    return made


def _tau_priors(
    given: TauPrior | Mapping[str, TauPrior], terms: tuple[str, str], effects: EffectSizes
) -> tuple[TauPrior, TauPrior]:
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(terms))
        if unknown:
            raise InputError(
                f"tau_prior names {unknown[0]!r}{did_you_mean(unknown[0], list(terms))} Terms: {', '.join(terms)}"
            )
        found = [given.get(name, TAU) for name in terms]
    else:
        found = [given, given]
    for name, one in zip(terms, found, strict=True):
        check_kind(one, TauPrior, f"tau_prior of {name}")
    return found[0].given(effects.vi), found[1].given(effects.vi)


def _groups(effects: EffectSizes, outer: str, V: SamplingCovariance | None) -> IntArray:
    group = codes(grouping(effects, outer, "random").codes)
    if int(group.max()) + 1 == effects.k:
        raise InputError(
            f"every row is a group of its own in {outer!r}: the two levels cannot be told apart; leave random out"
        )
    for rows, _ in () if V is None else V.blocks:
        if (group[rows] != group[rows][:, :1]).any():
            raise InputError(f"V correlates effects of different groups of {outer!r}; its blocks must lie within them")
    return group


def _data(
    effects: EffectSizes, design: Design, priors: MultilevelPriors, group: IntArray, V: SamplingCovariance | None
) -> MultilevelData:
    mean, precision = np.zeros(design.p), np.zeros(design.p)
    for j, prior in enumerate(priors.coefficients):
        if isinstance(prior, Normal):
            mean[j], precision[j] = prior.mean, prior.sd**-2.0
        elif not isinstance(prior, Flat):
            raise InputError(
                f"the prior of {priors.names[j]}, {prior}: the exact three-level model takes normal and flat priors"
            )
    X = design.X @ coordinates(design)
    v = effects.vi if V is None else V.vi
    return multilevel_data(effects.yi, X, v, group, mean, precision, blocks=None if V is None else V.blocks)


def _notes(error: float, outer: str, groups: int) -> list[Note]:
    notes = []
    if groups < FEW_GROUPS:
        message = f"{outer} has {groups} groups: what is said about tau[{outer}] rests on its prior."
        notes.append(Note("prior-bound", message))
    if error > WORST_ERROR:
        message = f"The integrals are only accurate to about {error:.1g}; do not rely on more digits than that."
        notes.append(warn_note("not-converged", message, ConvergenceWarning))
    return notes
