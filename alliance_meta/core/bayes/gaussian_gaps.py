"""Normal variables that follow one from another, some of them not observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LOG_2PI = 1.8378770664093453


@dataclass(frozen=True, eq=False)
class Absorbed:
    """What the observed variables say of all.

    Attributes
    ----------
    mean : list of array
        Of each variable given the observed ones; an observed variable is its own mean.
    cov : list of list of array
        Between variables given the observed ones, 0 where either is observed.
    log_density : array
        Of the observed variables.
    """

    mean: list[Any]
    cov: list[list[Any]]
    log_density: Any


def absorb(
    start: Sequence[Any],
    slope: Sequence[Sequence[Any]],
    sd: Sequence[Any],
    value: Sequence[Any],
    seen: Sequence[Any],
    *,
    log: Callable[[Any], Any],
) -> Absorbed:
    r"""Condition :math:`u_j = a_j + \sum_{l<j} b_{jl} u_l + s_j \epsilon_j` on those u that are seen (1) or not (0).

    Everything broadcasts, and only arithmetic is used, so that arrays may be NumPy's or symbols of a sampler.
    """
    mean: list[Any] = []
    cov: list[list[Any]] = []
    log_density: Any = 0.0
    for j, (own, b) in enumerate(zip(start, slope, strict=True)):
        expected = own + sum(b[m] * mean[m] for m in range(j))
        across = [sum(b[m] * cov[m][i] for m in range(j)) for i in range(j)]
        variance = sd[j] ** 2 + sum(b[m] * across[m] for m in range(j))
        rest = value[j] - expected
        log_density = log_density - 0.5 * seen[j] * (LOG_2PI + log(variance) + rest**2 / variance)
        gain = [seen[j] * one / variance for one in across]
        mean = [mean[i] + gain[i] * rest for i in range(j)] + [expected + seen[j] * rest]
        left = [(1.0 - seen[j]) * one for one in across]
        cov = [[cov[i][m] - gain[i] * across[m] for m in range(j)] + [left[i]] for i in range(j)]
        cov.append([*left, (1.0 - seen[j]) * variance])
    return Absorbed(mean, cov, log_density)
