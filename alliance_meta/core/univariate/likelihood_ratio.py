"""Likelihood-ratio inference for one coefficient, with Bartlett's and Skovgaard's corrections.

The likelihood is the full one, maximised over tau2 >= 0 and the other coefficients. With few studies the plain
statistic is too large too often; both corrections remove most of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array
from alliance_meta.core.univariate.fit import estimate_tau2
from alliance_meta.core.univariate.search import log_likelihood, turning_points
from alliance_meta.core.univariate.wls import WlsFit, make_batch, wls

# Below this |r| Skovgaard's statistic, whose two terms cancel, is read off the line between its neighbours.
NEAR = 0.02
# A limit is believed when the statistic there is this close to what it should be.
REACHED = 1e-6
MOST_DOUBLINGS = 60


@dataclass(frozen=True, eq=False)
class Profile:
    """The likelihood of coefficient number `slot` of the model y ~ X, the other parameters maximised over."""

    y: Array  # (k,)
    v: Array  # (k,)
    X: Array  # (k, p)
    slot: int

    @cached_property
    def tau2(self) -> float:
        """Maximum-likelihood estimate of tau2."""
        return float(estimate_tau2(make_batch(self.y, self.v, self.X), method="ML").tau2[0])

    @cached_property
    def peaks(self) -> Array:
        """The coefficient at every peak of the likelihood."""
        batch = make_batch(self.y, self.v, self.X)
        tau2, _, peak = turning_points(batch, restricted=False)
        return wls(batch.only(np.zeros(int(peak.sum()), dtype=int)), tau2[peak]).beta[:, self.slot]

    @cached_property
    def w(self) -> Array:
        """Weights 1 / (v + tau2) at the maximum, (k,)."""
        return 1.0 / (self.v + self.tau2)

    @cached_property
    def beta(self) -> Array:
        """Coefficients at the maximum, (p,)."""
        return wls(make_batch(self.y, self.v, self.X), np.array([self.tau2])).beta[0]

    @cached_property
    def se(self) -> float:
        """Standard error from the expected information."""
        return float(np.sqrt(1.0 / (self.target @ (self.w * self.target))))

    @cached_property
    def others(self) -> Array:
        """The columns of X that are not tested, (k, p - 1)."""
        return np.delete(self.X, self.slot, axis=1)

    @cached_property
    def target(self) -> Array:
        """The tested column without what the others explain, at the maximum's weights, (k,)."""
        column, R = self.X[:, self.slot], self.others
        return column - R @ np.linalg.solve(R.T @ (self.w[:, None] * R), R.T @ (self.w * column))

    @cached_property
    def loglik(self) -> float:
        """Log-likelihood at the maximum."""
        batch = make_batch(self.y, self.v, self.X)
        return float(log_likelihood(wls(batch, np.array([self.tau2])), restricted=False)[0])

    def constrained(self, value: float) -> tuple[float, Array, float]:
        """Return log-likelihood, coefficients (p,) and tau2 at the maximum where the coefficient is `value`."""
        batch = make_batch(self.y - value * self.X[:, self.slot], self.v, self.others)
        tau2 = estimate_tau2(batch, method="ML").tau2
        fit = wls(batch, tau2)
        return float(log_likelihood(fit, restricted=False)[0]), np.insert(fit.beta[0], self.slot, value), float(tau2[0])

    def r(self, value: float) -> float:
        """Return the signed root of the likelihood-ratio statistic of the coefficient being `value`."""
        return self._signed(value, self.constrained(value)[0])

    def _signed(self, value: float, loglik: float) -> float:
        drop = max(0.0, 2.0 * (self.loglik - loglik))
        return float(np.copysign(np.sqrt(drop), self.beta[self.slot] - value))

    @cached_property
    def bartlett_factor(self) -> float:
        """Expected value of the likelihood-ratio statistic to order 1 / k.

        Huizenga, Visser & Dolan (2011, doi:10.1348/000711010X522687). With z the `target` and R the other
        columns: 1 + [2 z'WPWz - (z'WWz)^2 / (2 z'Wz) + z'WWz tr((R'WR)^-1 R'WWR)] / (z'Wz tr(WW)), where P
        belongs to R. With equal variances it is 1 + (p + 1/2) / k, that of linear regression.
        """
        w, z, R = self.w, self.target, self.others
        w2 = w * w
        inverse = np.linalg.inv(R.T @ (w[:, None] * R))
        side = R.T @ (w2 * z)
        zwz, zw2z = z @ (w * z), z @ (w2 * z)
        zwpwz = z @ (w2 * w * z) - side @ inverse @ side
        spread = np.trace(inverse @ (R.T @ (w2[:, None] * R)))
        return float(1.0 + (2.0 * zwpwz - 0.5 * zw2z**2 / zwz + zw2z * spread) / (zwz * w2.sum()))

    def skovgaard(self, value: float) -> float:
        """Return Skovgaard's r* = r + log(u / r) / r; NaN where tau2 lies on its bound.

        Skovgaard (1996) as worked out for this model by Guolo (2012).
        """
        r, r_star = self._r_star(value)
        if abs(r) >= NEAR:
            return r_star
        best = float(self.beta[self.slot])
        left, right = best - 2.0 * NEAR * self.se, best + 2.0 * NEAR * self.se
        at_left, at_right = self._r_star(left)[1], self._r_star(right)[1]
        return at_left + (at_right - at_left) * (value - left) / (right - left)

    def _r_star(self, value: float) -> tuple[float, float]:
        loglik, beta, tau2 = self.constrained(value)
        r, u = self._signed(value, loglik), self._u(beta, tau2)
        return r, r + float(np.log(u / r)) / r if r != 0 and u / r > 0 else float("nan")

    def _u(self, beta: Array, tau2: float) -> float:
        """Return Skovgaard's u, given the other parameters at the value tested; NaN at the bound of tau2."""
        if not (self.tau2 > 0 and tau2 > 0):
            return float("nan")
        X, w, held = self.X, self.w, 1.0 / (self.v + tau2)
        shift = X @ (self.beta - beta)
        p = X.shape[1]
        S = np.zeros((p + 1, p + 1))
        S[:p, :p] = X.T @ (held[:, None] * X)
        S[:p, p] = X.T @ (held**2 * shift)
        S[p, p] = 0.5 * held @ held
        q = np.append(X.T @ (held * shift), 0.5 * (held - w).sum())
        expected = np.linalg.slogdet(X.T @ (w[:, None] * X))[1] + np.log(0.5 * w @ w)
        without = np.delete(np.arange(p + 1), self.slot)
        observed = self._observed(w, self.y - X @ self.beta)
        nuisance = self._observed(held, self.y - X @ beta)[np.ix_(without, without)]
        sizes = [np.linalg.slogdet(matrix) for matrix in (observed, S, nuisance)]
        if any(sign <= 0 for sign, _ in sizes):
            return float("nan")
        scale = np.exp(0.5 * sizes[0][1] - expected + sizes[1][1] - 0.5 * sizes[2][1])
        return float(np.linalg.solve(S, q)[self.slot] * scale)

    def _observed(self, w: Array, residual: Array) -> Array:
        """Return the observed information of the coefficients and tau2, (p + 1, p + 1)."""
        X = self.X
        p = X.shape[1]
        out = np.empty((p + 1, p + 1))
        out[:p, :p] = X.T @ (w[:, None] * X)
        out[:p, p] = out[p, :p] = X.T @ (w**2 * residual)
        out[p, p] = w**3 @ residual**2 - 0.5 * w @ w
        return out

    def limits(self, statistic: Callable[[float], float], bound: float) -> tuple[float, float]:
        """Return the values at which a falling `statistic` equals `bound` and minus it; NaN where it has none."""
        return self._solve(statistic, bound, -1.0), self._solve(statistic, -bound, 1.0)

    def _solve(self, statistic: Callable[[float], float], goal: float, side: float) -> float:
        best = float(self.beta[self.slot])

        def excess(x: float) -> float:
            return (statistic(x) - goal) * side

        # The set may have a second part, around another peak: its outer end is the limit.
        outer = max([best, *self.peaks.tolist()], key=lambda x: side * x if x == best or excess(x) > 0 else -np.inf)
        far = self._walk(excess, outer, side * self.se * abs(goal))
        near = self._walk(lambda x: -excess(x), best, -side * self.se * abs(goal)) if excess(outer) <= 0 else outer
        if np.isnan(near + far):
            return float("nan")
        found = float(optimize.brentq(excess, near, far, xtol=1e-13 * self.se, rtol=1e-13))
        return found if abs(excess(found)) < REACHED else float("nan")

    @staticmethod
    def _walk(excess: Callable[[float], float], start: float, step: float) -> float:
        """Return the first point, in steps that double, at which `excess` is not positive; NaN if there is none."""
        for doubling in range(MOST_DOUBLINGS):
            point = start + step * 2.0**doubling
            value = excess(point)
            if not value > 0:
                return point if value <= 0 else float("nan")
        return float("nan")


# Leverage above which a row leaves the diagonal part: at 1/2 its diagonal element vanishes.
HIGH_LEVERAGE = 0.25
WORST_CONDITION = 1e10


def score_statistic(fit: WlsFit, *, restricted: bool) -> Array:
    """Return the score statistic of every replicate, (B,), from its fit at the common tau2.

    With u = Py the score of tau2_i is (u_i^2 - P_ii) / 2 and the expected information (P o P) / 2, the
    elementwise product (under full likelihood W replaces P in the traces). P o P is a diagonal plus a matrix
    of rank p (p + 1) / 2, so that it is never formed. NaN where the information is singular.
    """
    squares = fit.u**2 / fit.w
    if not restricted:
        return 0.5 * ((squares - 1.0) ** 2).sum(axis=1)
    root = np.sqrt(fit.w)[:, :, None] * (fit.batch.Q @ np.linalg.cholesky(fit.Ainv))
    leverage = np.einsum("bkp,bkp->bk", root, root)
    score = 0.5 * (squares - 1.0 + leverage)
    i, j = np.triu_indices(fit.batch.p)
    low_rank = root[:, :, i] * root[:, :, j] * np.where(i == j, 1.0, np.sqrt(2.0))
    return 2.0 * _inverse_form(1.0 - 2.0 * leverage, leverage, low_rank, score)


def _inverse_form(diagonal: Array, leverage: Array, low_rank: Array, x: Array) -> Array:
    """Return x'(D + GG')^-1 x; rows whose part of D may vanish or be negative count as rank-one terms."""
    m = low_rank.shape[2]
    extra = int((leverage > HIGH_LEVERAGE).sum(axis=1).max())
    signs = np.concatenate([np.ones(m), -np.ones(extra)])
    if extra:
        B, k = leverage.shape
        rows = np.argsort(-leverage, axis=1, kind="stable")[:, :extra]
        replicate = np.arange(B)[:, None]
        units = np.zeros((B, k, extra))
        units[replicate, rows, np.arange(extra)] = np.sqrt(2.0 * leverage[replicate, rows])
        diagonal = diagonal.copy()
        diagonal[replicate, rows] = 1.0
        low_rank = np.concatenate([low_rank, units], axis=2)
    scaled = low_rank / diagonal[:, :, None]
    core = np.diag(signs) + low_rank.transpose(0, 2, 1) @ scaled
    right = np.einsum("bkm,bk->bm", scaled, x)
    usable = np.linalg.cond(core) < WORST_CONDITION
    core[~usable] = np.eye(m + extra)
    inner = np.linalg.solve(core, right[:, :, None])[:, :, 0]
    form = (x**2 / diagonal).sum(axis=1) - np.einsum("bm,bm->b", right, inner)
    return np.where(usable, form, np.nan)
