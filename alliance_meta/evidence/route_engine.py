"""Follow hundreds of routes at once.

Samples of one size are one batch, and routes that only differ in inference share their fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.univariate.fit import ROUNDING
from alliance_meta.core.univariate.tau2 import estimate_tau2
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.evidence.route_samples import Sample, of_size
from alliance_meta.evidence.routes import METHODS, Route

Columns = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Followed:
    """Routes and what each gives: by name, one number per route, NaN where a route has none."""

    routes: tuple[Route, ...]
    values: Columns

    def of(self, place: int) -> dict[str, float]:
        """Return what one route gives."""
        return {name: float(column[place]) for name, column in self.values.items() if not np.isnan(column[place])}


def join(parts: Sequence[Followed]) -> Followed:
    """Put routes together."""
    names = list(dict.fromkeys(name for part in parts for name in part.values))
    columns = {
        name: np.concatenate([part.values.get(name, np.full(len(part.routes), np.nan)) for part in parts])
        for name in names
    }
    return Followed(tuple(route for part in parts for route in part.routes), columns)


def one_level(samples: Sequence[Sample], tests: Sequence[str], *, scale: str, level: float) -> Iterator[Followed]:
    """Fit every sample by every estimator, with every inference."""
    for k, group in of_size(samples).items():
        y, v = np.stack([one.y for one in group]), np.stack([one.v for one in group])
        people = _people(group)
        back = np.array([scale == "r" and one.stem.measure == "ZCOR" for one in group])
        if k == 1:
            single = _values(y[:, 0], np.sqrt(v[:, 0]), None, back, level)
            routes = tuple(replace(one.stem, method="EE", test="z") for one in group)
            yield Followed(routes, {"k": np.ones(len(group)), "n_effects": np.ones(len(group)), "N": people, **single})
            continue
        fitted = _Batch(y, v)
        for method in METHODS:
            shared, beta, variance, s2w = fitted(method)
            for test in tests:
                factor = {"knha": s2w, "adhoc": np.maximum(s2w, 1.0)}.get(test, np.ones_like(s2w))
                df = None if test == "z" else k - 1.0
                values = _values(beta, np.sqrt(variance * factor), df, back, level)
                if method != "EE":
                    values |= _prediction(beta, variance * factor + shared["tau2"], df, back, level)
                counts = {"k": np.full(len(group), float(k)), "n_effects": np.full(len(group), float(k)), "N": people}
                yield Followed(
                    tuple(replace(one.stem, method=method, test=test) for one in group), {**counts, **shared, **values}
                )


def simple_means(samples: Sequence[Sample], tests: Sequence[str], *, scale: str, level: float) -> Iterator[Followed]:
    """Average every sample weighted by its sample sizes and by nothing, with the standard error SD / √k."""
    kinds = {"ni": (("COR", "LS"),), "equal": (("COR", "LS"), ("ZCOR", "LS"), ("GEN", None))}
    plain = [one for one in samples if one.k > 1 and (one.stem.per is None or one.stem.how == "mean r")]
    for k, group in of_size(plain).items():
        for method, measures in kinds.items():
            own = [one for one in group if (one.stem.measure, one.stem.vtype) in measures]
            own = [one for one in own if method == "equal" or one.n is not None]
            if not own:
                continue
            y = np.stack([one.y for one in own])
            n = None if method == "equal" else np.stack([one.n for one in own if one.n is not None])
            yield from _simple(own, y, n, k, [test for test in ("z", "t") if test in tests], scale, level)


def _simple(
    own: Sequence[Sample], y: Array, n: Array | None, k: int, tests: Sequence[str], scale: str, level: float
) -> Iterator[Followed]:
    w = np.ones_like(y) if n is None else n
    total = w.sum(axis=1)
    mean = (w * y).sum(axis=1) / total
    spread = (w * (y - mean[:, None]) ** 2).sum(axis=1) / total
    values = {"k": np.full(len(own), float(k)), "n_effects": np.full(len(own), float(k)), "N": _people(own)}
    if n is None:
        spread = spread * k / (k - 1.0)
    else:
        error = (w * ((1.0 - mean[:, None] ** 2) ** 2 / (n - 1.0))).sum(axis=1) / total
        values["tau2"] = np.maximum(spread - error, 0.0)
        values["tau"] = np.sqrt(values["tau2"])
    back = np.array([scale == "r" and one.stem.measure == "ZCOR" for one in own])
    for test in tests:
        found = _values(mean, np.sqrt(spread / k), None if test == "z" else k - 1.0, back, level)
        method = "equal" if n is None else "ni"
        yield Followed(tuple(replace(one.stem, model="mean", method=method, test=test) for one in own), values | found)


def _people(group: Sequence[Sample]) -> Array:
    return np.array([np.nan if one.n is None else one.n.sum() for one in group])


class _Batch:
    """Samples of one size, fitted by one estimator after another; what does not depend on it is computed once."""

    def __init__(self, y: Array, v: Array) -> None:
        B, k = y.shape
        self.batch = make_batch(y, v, np.ones((k, 1)))
        self.df = float(k - 1)
        fixed = wls(self.batch, np.zeros(B))
        self.Q, self.vt = fixed.rss, self.df / fixed.traces[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            self.share = np.where(self.Q > 0, 100.0 * np.maximum(0.0, (self.Q - self.df) / self.Q), 0.0)

    def __call__(self, method: str) -> tuple[Columns, Array, Array, Array]:
        """Return heterogeneity, estimates, their variances, and the factor of Knapp and Hartung."""
        found = estimate_tau2(self.batch, method=method)
        tau2 = np.where(found.converged, found.tau2, np.nan)
        fit = wls(self.batch, np.where(found.converged, found.tau2, 0.0))
        lost = np.where(found.converged, 1.0, np.nan)
        equal = method == "EE"
        shared = {
            "tau2": tau2,
            "tau": np.sqrt(tau2),
            "se_tau2": found.se,
            "I2": self.share if equal else 100.0 * tau2 / (tau2 + self.vt),
            "I2_Q": self.share,
            "H2": self.Q / self.df if equal else tau2 / self.vt + 1.0,
            "QE": self.Q,
            "QEdf": np.full_like(tau2, self.df),
            "QEp": special.chdtrc(self.df, self.Q),
        }
        scale = np.einsum("bk,bk,bk->b", fit.w, fit.batch.y, fit.batch.y)
        rss = np.where(fit.rss > ROUNDING**2 * scale, fit.rss, 0.0)
        return shared, fit.beta[:, 0] * lost, fit.vb[:, 0, 0] * lost, rss / self.df


def _values(mean: Array, se: Array, df: float | None, back: Array, level: float) -> Columns:
    half = critical_value(level, df) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        stat = np.where(mean == 0, 0.0, mean / se)
    none = np.full_like(mean, np.nan)
    slope = np.where(back, 1.0 - np.tanh(mean) ** 2, 1.0)
    return {
        "estimate": _on(mean, back),
        "se": se * slope,
        "ci_lb": _on(mean - half, back),
        "ci_ub": _on(mean + half, back),
        "stat": stat,
        "pval": two_sided_p(stat, df),
        "ddf": none if df is None else np.full_like(mean, df),
        "z": stat if df is None else none,
        "t": none if df is None else stat,
    }


def _prediction(mean: Array, variance: Array, df: float | None, back: Array, level: float) -> Columns:
    half = critical_value(level, df) * np.sqrt(variance)
    return {"pi_lb": _on(mean - half, back), "pi_ub": _on(mean + half, back)}


def _on(values: Array, back: Array) -> Array:
    """Return Fisher's z as r where the result is wanted there."""
    return np.where(back, np.tanh(values), values)
