"""The joint distribution of effects and moderators with gaps, the same for symbols of PyMC and for arrays of draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.bayes.pymc.gaps import Coding, Rows, explaining
from alliance_meta.bayes.pymc.parts import slopes
from alliance_meta.core.bayes.gaussian_gaps import absorb


@dataclass(frozen=True)
class Algebra:
    """What symbols and draws do differently; draws have one more axis, the first.

    Attributes
    ----------
    dot : callable
        Of an array (k, C, n) and a vector of parameters (n,).
    pick : callable
        One element of a vector of parameters, or a single one, such that it broadcasts with (k, C).
    log, exp : callable
    log_sum : callable
        The log of the sum of exponentials along the last axis.
    """

    dot: Callable[[Any, Any], Any]
    pick: Callable[..., Any]
    log: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    log_sum: Callable[[Any], Any]


def _log_sum(values: Array) -> Array:
    most = values.max(axis=-1, keepdims=True)
    return np.asarray(most[..., 0] + np.log(np.exp(values - most).sum(axis=-1)))


NUMBERS = Algebra(
    dot=lambda array, vector: np.einsum("kcn,sn->skc", array, vector),
    pick=lambda vector, j=None: (vector if j is None else vector[:, j])[:, None, None],
    log=np.log,
    exp=np.exp,
    log_sum=_log_sum,
)


def symbols() -> Algebra:
    """Return the algebra of PyMC's symbols."""
    pt = load("pytensor.tensor")

    def log_sum(values: Any) -> Any:
        most = values.max(axis=-1, keepdims=True)
        return most[..., 0] + pt.log(pt.exp(values - most).sum(axis=-1))

    return Algebra(
        dot=lambda array, vector: (array * vector).sum(axis=-1),
        pick=lambda vector, j=None: vector if j is None else vector[j],
        log=pt.log,
        exp=pt.exp,
        log_sum=log_sum,
    )


@dataclass(frozen=True, eq=False)
class Joint:
    """What the observed moderators of each effect say, for each combination of levels: (k, C), or (S, k, C) of draws.

    Attributes
    ----------
    log_weight
        Log density of the observed moderators together with the combination.
    mean, variance
        Of the true effect given these and the combination; without tau^2 in the variance.
    mixture : bool
        Whether there is more than one combination.
    """

    log_weight: Any
    mean: Any
    variance: Any
    mixture: bool


def labels(coding: Coding) -> dict[str, list[str]]:
    """Return the elements of each vector of parameters that moderators with gaps bring."""
    numeric = [one.name for one in coding.numeric]
    beta = [
        f"{one.name} on {other}"
        for j, one in enumerate(coding.numeric)
        for other in coding.predictors(j, of_factor=False)
    ]
    logit = [
        f"{one.name}[{level}] on {other}"
        for j, one in enumerate(coding.factors)
        for level in one.levels[1:]
        for other in ["1", *coding.predictors(j, of_factor=True)]
    ]
    return {"gap_mean": numeric, "gap_beta": beta, "gap_sd": numeric, "gap_logit": logit}


def arrays(coding: Coding, rows: Rows) -> dict[str, Array]:
    """Return the data of the model by name, but for the effects."""
    columns = slopes(coding.design)
    centre = coding.design.X[:, columns].mean(axis=0) if coding.design.has_intercept else 0.0
    found = {"X": rows.X[:, :, columns] - centre, "closed": np.where(rows.open, 0.0, -np.inf)}
    for j in range(len(coding.factors)):
        given = explaining(coding, rows, j, of_factor=True)
        found[f"level_given_{j}"] = np.concatenate([np.ones((*given.shape[:2], 1)), given], axis=2)
    for j in range(len(coding.numeric)):
        found[f"value_given_{j}"] = explaining(coding, rows, j, of_factor=False)
        found[f"change_{j}"] = rows.change[:, :, j, :][:, :, columns]
        for name, values in (("value", rows.u), ("seen", rows.seen)):
            found[f"{name}_{j}"] = np.repeat(values[:, [j]], len(coding.combinations), axis=1)
    return found


def solve(coding: Coding, data: Mapping[str, Any], parameters: Mapping[str, Any], algebra: Algebra) -> Joint:
    """Integrate over the numeric values that are missing, for each combination of levels."""
    log_weight = data["closed"] + _levels(coding, data, parameters, algebra)
    mean: Any = algebra.pick(parameters["mu"]) + algebra.dot(data["X"], parameters["beta"])
    variance: Any = 0.0 * mean
    if coding.numeric:
        values = _values(coding, data, parameters, algebra)
        change = [algebra.dot(data[f"change_{j}"], parameters["beta"]) for j in range(len(coding.numeric))]
        log_weight = log_weight + values.log_density
        for j, one in enumerate(change):
            mean = mean + one * values.mean[j]
            variance = variance + one * sum(values.cov[j][m] * other for m, other in enumerate(change))
    return Joint(log_weight, mean, variance, len(coding.combinations) > 1)


def _levels(coding: Coding, data: Mapping[str, Any], parameters: Mapping[str, Any], algebra: Algebra) -> Any:
    """Return the log probability of each combination of levels."""
    total: Any = 0.0
    at = 0
    for j, one in enumerate(coding.factors):
        given = data[f"level_given_{j}"]
        size = 1 + len(coding.predictors(j, of_factor=True))
        chosen = np.array([levels[j] for levels in coding.combinations])
        eta = []
        for _ in one.levels[1:]:
            eta.append(algebra.dot(given, parameters["gap_logit"][..., at : at + size]))
            at += size
        # Each level's log odds against the first lie within hundreds, so that their exponentials are finite.
        total = total - algebra.log(1.0 + sum(algebra.exp(one) for one in eta))
        for level, log_odds in enumerate(eta, start=1):
            total = total + (chosen == level).astype(float) * log_odds
    return total


def _values(coding: Coding, data: Mapping[str, Any], parameters: Mapping[str, Any], algebra: Algebra) -> Any:
    """Return what the observed numeric moderators say of all that have gaps."""
    start, slope = [], []
    at = 0
    for j in range(len(coding.numeric)):
        size = len(coding.predictors(j, of_factor=False)) - j
        own = algebra.pick(parameters["gap_mean"], j)
        if size:
            own = own + algebra.dot(data[f"value_given_{j}"], parameters["gap_beta"][..., at : at + size])
        start.append(own)
        slope.append([algebra.pick(parameters["gap_beta"], at + size + m) for m in range(j)])
        at += size + j
    b = range(len(coding.numeric))
    return absorb(
        start,
        slope,
        [algebra.pick(parameters["gap_sd"], j) for j in b],
        [data[f"value_{j}"] for j in b],
        [data[f"seen_{j}"] for j in b],
        log=algebra.log,
    )
