"""One tau for each of several groups or levels: their priors, and the vector in the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alliance_meta.bayes.exact.setup import PriorSet, check_kind
from alliance_meta.bayes.priors import TAU
from alliance_meta.bayes.priors.prior import Prior, TauPrior
from alliance_meta.bayes.pymc.parts import random_variable, random_vector
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

TauPriors = TauPrior | Mapping[str, TauPrior]


def priors_by_name(given: TauPriors, names: Sequence[str], effects: EffectSizes, *, what: str) -> tuple[TauPrior, ...]:
    """Check the priors and give each name its own: one for all, or those of a mapping and the default for the rest."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            hint = did_you_mean(unknown[0], list(names)) or "."
            raise InputError(f"tau_prior names {unknown[0]!r}{hint} {what}: {', '.join(names)}")
        found = [given.get(name, TAU) for name in names]
    else:
        found = [given] * len(names)
    for name, prior in zip(names, found, strict=True):
        check_kind(prior, TauPrior, f"tau_prior of {name}" if isinstance(given, Mapping) else "tau_prior")
    return tuple(prior.given(effects.vi) for prior in found)


def add_taus(name: str, priors: Sequence[TauPrior], *, dims: str) -> Any:
    """Add a vector of standard deviations with these priors to the model in context."""
    for prior in priors:
        if not prior.proper or all(prior == one for one in priors):
            return random_variable(name, prior, dims=dims)
    return random_vector(name, priors, dims=dims)


def named_priors(priors: PriorSet, name: str, labels: Sequence[str], taus: Sequence[TauPrior]) -> dict[str, Prior]:
    """Return the priors by parameter: of the coefficients, then of each tau."""
    found: dict[str, Prior] = dict(zip(priors.names, priors.coefficients, strict=True))
    return found | {f"{name}[{label}]": prior for label, prior in zip(labels, taus, strict=True)}
