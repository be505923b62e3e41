"""The posterior of one quantity from draws, with the Monte-Carlo error of each number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import Marginal
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable
from alliance_meta.tables.format import fixed

# Probability between the mean and one standard deviation above and below a normal.
_ONE_SD = (0.15865525393145707, 0.8413447460685429)
_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class SampledMarginal(Marginal):
    """The posterior distribution of one quantity from draws.

    As `Marginal`, and each number has a Monte-Carlo standard error: how much it would vary between runs with
    other seeds.

    Attributes
    ----------
    chains : ndarray of shape (chain, draw)
    lowest : float
        Where the quantity begins: 0 for a standard deviation.
    problems : tuple of str
        Codes of the checks of convergence that the fit fails.

    Notes
    -----
    Effective numbers of draws as in Vehtari et al. (2021, doi:10.1214/20-BA1221). The density is that of a Gaussian
    kernel, mirrored at `lowest`; it is for drawing, and smooths what it shows.
    """

    name: str
    chains: Array
    lowest: float = -np.inf
    problems: tuple[str, ...] = ()

    def as_r(self) -> SampledMarginal:
        """Return a Fisher z as a correlation."""
        return SampledMarginal(f"{self.name} as r", np.tanh(self.chains), -np.inf, self.problems)

    @cached_property
    def mcse_mean(self) -> float:
        """Monte-Carlo standard error of the mean."""
        return self._spread / np.sqrt(arviz_bridge.ess(self.chains, "mean"))

    @cached_property
    def mcse_sd(self) -> float:
        """Monte-Carlo standard error of the standard deviation."""
        square = (self.chains - self.chains.mean()) ** 2
        size = arviz_bridge.ess(square, "mean")
        if size != size:
            return size
        return float(square.std() / np.sqrt(size) / (2.0 * np.sqrt(square.mean())))

    @property
    def mcse_median(self) -> float:
        """Monte-Carlo standard error of the median."""
        return self.mcse_quantile(0.5)

    def mcse_quantile(self, probability: float) -> float:
        """Return the Monte-Carlo standard error of a quantile."""
        if not 0 < probability < 1:
            raise InputError(f"probability={probability!r} must lie strictly between 0 and 1")
        size = arviz_bridge.ess(self.chains, "quantile", prob=probability)
        if size != size:
            return size
        beta = stats.beta(size * probability + 1.0, size * (1.0 - probability) + 1.0)
        share = [float(beta.ppf(one)) for one in _ONE_SD]
        n = len(self._sorted)
        low, high = max(int(np.floor(share[0] * n)), 1), min(int(np.ceil(share[1] * n)), n)
        return float(self._sorted[high - 1] - self._sorted[low - 1]) / 2.0

    def mcse_prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the Monte-Carlo standard error of a probability; where no draw or every draw is inside, a bound."""
        share = self.prob(lower, upper)
        inside = (self.chains > lower) & (self.chains <= upper)
        if inside.all() or not inside.any():
            size = arviz_bridge.ess(self.chains, "bulk")
            return size if size != size else 1.0 / (size + 2.0)
        size = arviz_bridge.ess(inside.astype(float), "mean")
        return size if size != size else float(np.sqrt(share * (1.0 - share) / size))

    def mcse_cdf(self, x: float) -> float:
        """Return the Monte-Carlo standard error of `cdf` at `x`."""
        return self.mcse_prob(upper=x)

    def __str__(self) -> str:
        failed = f"; FAILS ITS CHECKS: {', '.join(self.problems)}" if self.problems else ""
        error = self.mcse_median
        shown = "" if error != error else f"; Monte-Carlo error of the median {fixed(error)}"
        return f"{super().__str__()}{shown}{failed}"

    @property
    def _lowest(self) -> float:
        return self.lowest

    @cached_property
    def _sorted(self) -> Array:
        return np.sort(self.chains, axis=None)

    @property
    def _spread(self) -> float:
        if self.chains.size < 2:
            return NotApplicable("needs at least 2 draws")
        return float(self.chains.std(ddof=1))

    def _expect(self, order: int) -> float:
        return float(self.chains.mean()) if order == 1 else self._spread

    def _shortest(self, level: float) -> tuple[float, float]:
        return arviz_bridge.shortest_interval(self.chains, level)

    def _cdf(self, x: Array) -> Array:
        return np.searchsorted(self._sorted, x, side="right") / len(self._sorted)

    def _sf(self, x: Array) -> Array:
        return 1.0 - self._cdf(x)

    def _pdf(self, x: Array) -> Array:
        values = self._sorted
        quarter, three = np.quantile(values, [0.25, 0.75])
        spread = min(float(values.std()), float(three - quarter) / 1.349) or float(values.std())
        if spread == 0:
            raise InputError(f"{self.name}: the draws never change, so that they have no density")
        width = 0.9 * spread * len(values) ** -0.2
        density = _kernel(values, x, width)
        if np.isfinite(self.lowest):
            density = np.where(x >= self.lowest, density + _kernel(values, 2.0 * self.lowest - x, width), 0.0)
        return density

    def _quantile(self, p: Array) -> Array:
        return np.quantile(self._sorted, p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(np.mean(function(self.chains)))


def _kernel(values: Array, x: Array, width: float) -> Array:
    step = max(1, _BLOCK // len(values))
    parts = [
        np.exp(-0.5 * ((x[i : i + step, None] - values) / width) ** 2).mean(axis=1) for i in range(0, len(x), step)
    ]
    return np.concatenate([np.empty(0), *parts]) / (width * np.sqrt(2.0 * np.pi))
