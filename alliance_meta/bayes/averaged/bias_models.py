"""Models of publication bias that `robma` averages over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.averaged.averages import AveragedMarginal, BinnedMarginal
from alliance_meta.bayes.marginals import GridMarginal, Marginal, MixtureMarginal
from alliance_meta.core.bayes.quadrature import NormalMixture, SincDensity, mixture
from alliance_meta.core.selection.robma import BiasKind, BiasPosterior, OmegaPosterior, omega_posterior
from alliance_meta.core.selection.steps import MOST_STEPS, Sides
from alliance_meta.errors import InputError
from alliance_meta.notes import check_option


@dataclass(frozen=True)
class WeightFunction:
    """Selection by p-value: significant results are more likely to be published.

    Results are published with a probability that falls in steps of the p-value. That of the most significant
    ones counts as 1; the others are smaller or equal, in order, and otherwise unknown (uniform a priori).

    Parameters
    ----------
    steps : tuple of float
        p-values at which the probability falls, increasing, at most three.
    sides : {"one", "two"}
        ``one``: p-values of a one-sided test, so that only results in the favoured direction are significant;
        .025 is then the usual two-sided .05. ``two``: of a two-sided test; the direction does not matter.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.WeightFunction((0.025, 0.05)))
    weight function, one-sided p < .025, .05
    """

    steps: tuple[float, ...]
    sides: Sides = "one"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_option("sides", self.sides, Sides)
        steps = tuple(float(p) for p in np.atleast_1d(self.steps))
        object.__setattr__(self, "steps", steps)
        if not 1 <= len(steps) <= MOST_STEPS:
            raise InputError(f"WeightFunction: steps={steps!r} must hold 1 to {MOST_STEPS} p-values")
        if not all(0 < p < 1 for p in steps) or any(a >= b for a, b in pairwise(steps)):
            raise InputError(f"WeightFunction: steps={steps!r} must lie between 0 and 1 and increase")
        _check_weight(self)

    def __str__(self) -> str:
        return f"weight function, {self.sides}-sided p < {', '.join(f'{p:g}'.lstrip('0') for p in self.steps)}"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("weights", self.steps, self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": "weight function", "steps": list(self.steps), "sides": self.sides, "weight": self.weight}


class _Regression:
    """Bias that grows with the standard error, or with its square; the coefficient has a half-Cauchy prior."""

    scale: float
    weight: float

    def __post_init__(self) -> None:
        if not (isinstance(self.scale, int | float) and np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"{type(self).__name__}: scale={self.scale!r} must be positive")
        _check_weight(self)

    def __str__(self) -> str:
        return f"{type(self).__name__}, coefficient ~ half-Cauchy({self.scale:g})"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("PET" if isinstance(self, PET) else "PEESE", scale=float(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": type(self).__name__, "scale": self.scale, "weight": self.weight}


@dataclass(frozen=True)
class PET(_Regression):
    """Bias that grows with the standard error: the precision-effect test.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the standard error.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PET())
    PET, coefficient ~ half-Cauchy(1)
    """

    scale: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class PEESE(_Regression):
    """Bias that grows with the sampling variance: the precision-effect estimate with standard errors.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the sampling variance.
    weight : float
        As of `PET`.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PEESE())
    PEESE, coefficient ~ half-Cauchy(5)
    """

    scale: float = 5.0
    weight: float = 1.0


def _check_weight(model: WeightFunction | _Regression) -> None:
    if not (isinstance(model.weight, int | float) and np.isfinite(model.weight) and model.weight > 0):
        raise InputError(f"{type(model).__name__}: weight={model.weight!r} must be positive")


BiasModel = WeightFunction | PET | PEESE

# Those of RoBMA-PSMA (Bartoš et al. 2023, doi:10.1002/jrsm.1594): half of the weight on selection by p-value, half
# on the two regressions.
PSMA: tuple[BiasModel, ...] = (
    WeightFunction((0.05,), "two", 1 / 12),
    WeightFunction((0.05, 0.1), "two", 1 / 12),
    WeightFunction((0.05,), "one", 1 / 12),
    WeightFunction((0.025, 0.05), "one", 1 / 12),
    WeightFunction((0.05, 0.5), "one", 1 / 12),
    WeightFunction((0.025, 0.05, 0.5), "one", 1 / 12),
    PET(1.0, 1 / 4),
    PEESE(5.0, 1 / 4),
)

# Weight functions so much less probable than the best change no printed digit of a publication probability.
UNLIKELY = 1e-6
# Other quantities.
LIGHTEST = 1e-12


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """One model of the ensemble."""

    bias: BiasModel | None
    effect: bool
    heterogeneity: bool
    prior: float  # its prior probability
    solved: BiasPosterior


def averaged(
    ensemble: Sequence[EnsembleModel], logs: Array, what: str, *, conditional: bool, omega: dict[int, OmegaPosterior]
) -> AveragedMarginal:
    """Return the posterior of a quantity; with a spike for the models that do not have it, or without these.

    `logs` are the logs of prior times marginal likelihood of each model; `omega` keeps posteriors of publication
    probabilities, by model, for the next time.
    """
    if what.startswith("omega["):
        at, parts = 1.0, _omega_parts(ensemble, logs, what, omega)
    else:
        at, parts = 0.0, [_part(what, one) for one in ensemble]
    there = np.array([part is not None for part in parts])
    chances = special.softmax(logs)
    weights = special.softmax(logs[there]) if conditional else chances[there]
    spike = 0.0 if conditional else float(chances[~there].sum())
    free = [part for part in parts if part is not None]
    heavy = weights > LIGHTEST
    kept = tuple(part for part, counts in zip(free, heavy, strict=True) if counts)
    return AveragedMarginal(what, weights[heavy] / weights[heavy].sum() * weights.sum(), kept, spike, at)


def _part(what: str, model: EnsembleModel) -> Marginal | None:
    """Return the posterior of a quantity under one model, None where the model fixes it at 0."""
    solved = model.solved
    if what == "mu":
        return None if solved.mu is None else _marginal(what, solved.mu)
    if what == "tau":
        return None if solved.tau is None else _marginal(what, solved.tau)
    if what == "theta_new":
        return _new(model, solved)
    own = model.bias is not None and model.bias.kind.kind == what
    return _marginal(what, solved.slope) if own and solved.slope is not None else None


def _marginal(name: str, found: NormalMixture | SincDensity) -> Marginal:
    return GridMarginal(name, found) if isinstance(found, SincDensity) else MixtureMarginal(name, found)


def _new(model: EnsembleModel, solved: BiasPosterior) -> Marginal | None:
    """Return the posterior of the true effect of a new study; that of the mean without heterogeneity."""
    if not model.heterogeneity:
        return None if solved.mu is None else _marginal("theta_new", solved.mu)
    mean, sd, tau, weight = solved.points
    return MixtureMarginal("theta_new", mixture(weight, mean[None], np.hypot(sd, tau)[None]))


def p_intervals(bias: Iterable[BiasModel]) -> list[tuple[float, float]]:
    """Return the intervals of the one-sided p-value within which every weight function is constant."""
    cuts = {0.0, 1.0}
    for one in bias:
        if isinstance(one, WeightFunction):
            cuts |= set(one.steps) if one.sides == "one" else {q for p in one.steps for q in (p / 2, 1 - p / 2)}
    ordered = sorted(cuts)
    return list(pairwise(ordered))


def _omega_parts(
    ensemble: Sequence[EnsembleModel], logs: Array, what: str, omega: dict[int, OmegaPosterior]
) -> list[Marginal | None]:
    found = re.fullmatch(r"omega\[\s*([0-9.eE+-]+)\s*\]", what)
    p = float(found[1]) if found else np.nan
    if not 0 <= p <= 1:
        raise InputError(f"{what!r}: write the one-sided p-value, such as 'omega[0.03]'")
    is_one = np.array([isinstance(one.bias, WeightFunction) for one in ensemble])
    if not is_one.any():
        raise InputError("none of the models is a weight function")
    least = np.log(UNLIKELY) + logs[is_one].max()
    parts: list[Marginal | None] = []
    for i, one in enumerate(ensemble):
        j = _step(one.bias, p)
        if not is_one[i] or logs[i] < least:
            parts.append(None)
        elif j == 0:
            parts.append(AveragedMarginal(what, np.empty(0), (), 1.0, 1.0))
        else:
            if i not in omega:
                omega[i] = _omega_of(one.solved)
            posterior = omega[i]
            first, second = float(posterior.mean[j - 1]), float(posterior.square[j - 1])
            parts.append(BinnedMarginal(what, posterior.mass[j - 1], first, second))
    return parts


def _step(bias: BiasModel | None, p: float) -> int:
    """Return which probability of a weight function applies to a one-sided p-value; 0 for those that are 1."""
    if not isinstance(bias, WeightFunction):
        return 0
    value = p if bias.sides == "one" else 2.0 * min(p, 1.0 - p)
    return int(np.searchsorted(bias.steps, value, side="left"))


def _omega_of(solved: BiasPosterior) -> OmegaPosterior:
    assert solved.data is not None
    mu, _, tau, weight = solved.points
    return omega_posterior(solved.data, mu, tau, weight, level=solved.level)
