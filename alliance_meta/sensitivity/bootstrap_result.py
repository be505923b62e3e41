"""What a bootstrap returns: estimates from resampled data, and intervals read off them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core import resampling
from alliance_meta.core.resampling import Recipe, Refits
from alliance_meta.encoding import plain
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import check_level, check_option, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.coefficients import Interval
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.sensitivity.refitting import recipe
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import level_text

BootstrapKind = Literal["parametric", "nonparametric"]
BootstrapInterval = Literal["percentile", "basic", "bca"]
HETEROGENEITY = ("tau2", "tau", "I2", "H2")
LOWEST = {"tau2": 0.0, "tau": 0.0, "I2": 0.0, "H2": 1.0}
HIGHEST = {"I2": 100.0}
# A note says so where more than this share of the samples has an estimate on its bound.
MANY_AT_BOUND = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Result):
    """Estimates from resampled data.

    Attributes
    ----------
    fit : RandomEffectsResults
        The model whose data were resampled.
    kind : {"parametric", "nonparametric"}
    iterations : int
        Samples that could be fitted.
    seed : int
    samples : mapping of str to ndarray
        Quantity -> its estimates, (B,): every coefficient, ``tau2``, ``tau``, ``I2``, ``H2``. The last four are
        absent where the model does not estimate them.
    notes : tuple of Note
    """

    fit: Any
    kind: BootstrapKind
    iterations: int
    seed: int
    samples: dict[str, Array]
    notes: tuple[Note, ...] = ()

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was bootstrapped."""
        return tuple(self.samples)

    def estimate(self, quantity: str) -> float:
        """Return the estimate of the fit itself."""
        if quantity in self.fit.names:
            return float(self.fit.beta[self.fit.names.index(quantity)])
        return float(getattr(self.fit, quantity))

    def confint(
        self, quantity: str = "tau2", *, kind: BootstrapInterval = "percentile", level: float | None = None
    ) -> Interval:
        r"""Return a bootstrap confidence interval.

        Parameters
        ----------
        quantity : str
            A coefficient's name, ``"tau2"``, ``"tau"``, ``"I2"`` or ``"H2"``.
        kind : {"percentile", "basic", "bca"}
            ``percentile``: quantiles of the samples. ``basic``: these mirrored at the estimate. ``bca``:
            percentiles shifted for bias and for a standard error that changes with the estimate (Efron 1987,
            doi:10.1080/01621459.1987.10478410), the acceleration from leaving out one effect at a time.
        level : float, optional
            The fit's own by default.

        Returns
        -------
        Interval
            Limits of heterogeneity never lie below the lowest possible value. `NotApplicable` for what the model
            does not estimate, and for BCa where every sample lies on one side of the estimate.

        Raises
        ------
        InputError
            An unknown quantity, or BCa from a parametric bootstrap.
        """
        check_option("kind", kind, BootstrapInterval)
        used = self.fit.level if level is None else level
        check_level(used)
        if kind == "bca" and self.kind == "parametric":
            raise InputError("kind='bca' describes resampled effects; bootstrap with kind='nonparametric'")
        label = f"{kind}, {self.kind} bootstrap"
        reason = self._why_not(quantity)
        if reason is not None:
            gone = NotApplicable(reason)
            return Interval(gone, gone, gone, used, label, quantity)
        estimate = self.estimate(quantity)
        lb, ub = self._limits(quantity, estimate, kind, used)
        # A basic interval mirrors the distribution and can leave the range of the quantity.
        lowest, highest = self._range(quantity)
        lb, ub = (x if np.isnan(x) else min(max(x, lowest), highest) for x in (lb, ub))
        return Interval(estimate, lb, ub, used, label, quantity)

    def tidy(self, *, kind: BootstrapInterval = "percentile", level: float | None = None) -> pd.DataFrame:
        """Return one row per quantity: ``estimate bias se ci_lb ci_ub``; the bias is not taken off."""
        return pd.DataFrame.from_dict(self._rows(kind, level), orient="index")

    def to_dict(self) -> dict[str, Any]:
        """Return every number but the single samples as JSON-ready values."""
        intervals = tuple(get_args(BootstrapInterval))[: 2 if self.kind == "parametric" else 3]
        return plain(
            {
                "kind": self.kind,
                "iterations": self.iterations,
                "seed": self.seed,
                "level": self.fit.level,
                "quantities": {kind: self._rows(kind, None) for kind in intervals},
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        rows = pd.DataFrame.from_dict(self._rows("percentile", None), orient="index")
        return self._document(
            f"Bootstrap, {self.kind}: {self.iterations} samples, seed {self.seed}; "
            f"percentile intervals, {level_text(self.fit.level)}",
            table_of(rows, dict.fromkeys(("estimate", "bias", "se", "ci_lb", "ci_ub"), 4)),
        )

    def _rows(self, kind: BootstrapInterval, level: float | None) -> dict[str, dict[str, float]]:
        rows = {}
        for name, values in self.samples.items():
            interval = self.confint(name, kind=kind, level=level)
            rows[name] = {
                "estimate": interval.estimate,
                "bias": float(values.mean()) - interval.estimate,
                "se": float(values.std(ddof=1)),
                "ci_lb": interval.lb,
                "ci_ub": interval.ub,
            }
        return rows

    def _range(self, quantity: str) -> tuple[float, float]:
        """Return the lowest and the highest value that a quantity can have."""
        lowest = LOWEST.get(quantity, -np.inf) if self.fit.settings.tau2_min == 0 else -np.inf
        return lowest, HIGHEST.get(quantity, np.inf)

    def _why_not(self, quantity: str) -> str | None:
        if quantity in self.samples:
            return None
        known = [*self.fit.names, *HETEROGENEITY]
        if quantity not in known:
            raise InputError(
                f"{quantity!r} was not bootstrapped; known: {', '.join(known)}{did_you_mean(quantity, known)}"
            )
        if self.fit.method == "EE":
            return "an equal-effects model has no tau2"
        return "tau2 was given, not estimated"

    def _limits(self, quantity: str, estimate: float, kind: str, level: float) -> tuple[float, float]:
        values = self.samples[quantity]
        tails = np.array([0.5 * (1.0 - level), 0.5 * (1.0 + level)])
        if kind == "bca":
            shifted = self._bca(quantity, estimate, tails)
            if shifted is None:
                gone = NotApplicable("every sample lies on one side of the estimate")
                return gone, gone
            tails = shifted
        # Quantile number p of B values is the (B + 1) p-th, between the neighbours where that is no whole number.
        low, high = np.quantile(values, tails, method="weibull").tolist()
        return (2.0 * estimate - high, 2.0 * estimate - low) if kind == "basic" else (low, high)

    def _bca(self, quantity: str, estimate: float, tails: Array) -> Array | None:
        values = self.samples[quantity]
        below = float((values < estimate).mean() + 0.5 * (values == estimate).mean())
        if not 0 < below < 1:
            return None
        bias = special.ndtri(below)
        gap = self._left_out[quantity].mean() - self._left_out[quantity]
        spread = float((gap**2).sum())
        acceleration = float((gap**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0
        z = bias + special.ndtri(tails)
        return special.ndtr(bias + z / (1.0 - acceleration * z))

    @cached_property
    def _left_out(self) -> dict[str, Array]:
        """The quantities without one effect at a time, those that can be fitted."""
        how, data = recipe(self.fit, "bootstrap"), self.fit
        parts = [fit_counts(data, how, counts) for counts in resampling.leave_one_out(data.k)]
        return quantities_of(data, resampling.join(parts))


def fit_counts(fit: RandomEffectsResults, how: Recipe, counts: AnyArray) -> Refits:
    """Fit samples in which each row stands so often, (B, k), leaving out those that cannot be fitted."""
    weights = fit.fitted.own_weights
    usable = resampling.full_rank(how.X, counts) & (counts.sum(axis=1) > fit.p)
    if not usable.any():
        empty = np.empty(0)
        return {"beta": np.empty((0, fit.p)), "tau2": empty, "I2": empty, "H2": empty}
    batch, rows = resampling.counted_batch(fit.effects.yi, fit.effects.vi, how.X, counts[usable])
    return resampling.refit_estimates(how, batch, weights=None if weights is None else weights[rows])


def quantities_of(fit: RandomEffectsResults, found: Refits) -> dict[str, Array]:
    """Return the estimates of the samples by the name of the quantity."""
    out = {name: found["beta"][:, i] for i, name in enumerate(fit.names)}
    if fit.settings.tau2 is None and fit.method != "EE":
        out |= {"tau2": found["tau2"], "tau": np.sqrt(np.maximum(found["tau2"], 0.0))}
    if fit.settings.tau2 is None and "I2" in found:
        out |= {"I2": found["I2"], "H2": found["H2"]}
    return out
