"""Estimate tau2 by any of the estimators, and fit the univariate random-effects model y = X beta + u + e."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.distributions import chi2_sf, critical_value, f_sf, statistic, two_sided_p
from alliance_meta.core.univariate import moments
from alliance_meta.core.univariate.intervals import generalised_q
from alliance_meta.core.univariate.search import NO_ROOT, chunks, log_likelihood, maximise, solve_q
from alliance_meta.core.univariate.wls import Batch, WlsFit, make_batch, wls, wls_weighted


@dataclass(frozen=True, slots=True, eq=False)
class Tau2Fit:
    """Estimates of tau2, one per replicate; every array is (B,)."""

    tau2: Array  # at or above the lowest value allowed, 0 unless asked otherwise
    se: Array  # standard error from the expected information at the estimate
    untruncated: Array  # the estimate before it was raised to the bound; NaN where the search itself stays above it
    truncated: Mask  # true where the estimate is the bound because the unrestricted one would be lower
    converged: Mask
    iterations: AnyArray
    # For a likelihood its second highest peak, which may be the bound; NaN where it has one peak.
    rival: Array | None = None


def estimate_tau2(batch: Batch, *, method: str, lowest: float = 0.0) -> Tau2Fit:
    """Estimate tau2 of every replicate by `method`; needs k > p in each.

    `method`: a key of `ESTIMATORS`.
    `lowest`: the smallest value an estimate may take: 0, or a negative number above -min(v).
    """
    estimator = ESTIMATORS[method]
    B, k = batch.y.shape
    if method in LIKELIHOODS or B == 1:
        return estimator(batch, lowest)
    parts = [estimator(batch.part(rows), lowest) for rows in chunks(B, k)]
    if len(parts) == 1:
        return parts[0]
    arrays = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Tau2Fit)}
    joined: dict[str, Any] = {name: np.concatenate(found) for name, found in arrays.items() if found[0] is not None}
    return Tau2Fit(**joined)


def fixed_tau2(value: float, *, B: int = 1) -> Tau2Fit:
    """Return a tau2 that is given, not estimated."""
    tau2 = np.full(B, float(value))
    no = np.zeros(B, dtype=bool)
    return Tau2Fit(tau2, np.full(B, np.nan), tau2, no, ~no, np.zeros(B, dtype=int))


def generalised_q_tau2(batch: Batch, weights: Array, *, median: bool, lowest: float = 0.0) -> Tau2Fit:
    """Estimate one tau2 from the Q statistic with the weights (k,): by its mean, or by its exact median."""
    found = moments.generalised(batch, weights[None])
    raw = found.raw
    if median:
        raw = np.array([generalised_q(batch, weights, probability=0.5, lowest=lowest)])
    tau2 = np.maximum(raw, lowest)
    yes = np.ones(1, dtype=bool)
    return Tau2Fit(tau2, found.se(np.maximum(tau2, 0.0)), raw, raw < lowest, yes, np.zeros(1, dtype=int))


def _equal_effects(batch: Batch, lowest: float) -> Tau2Fit:
    return fixed_tau2(0.0, B=len(batch.y))


def _closed(batch: Batch, lowest: float, *, estimator: Callable[[Batch], moments.Moments]) -> Tau2Fit:
    found = estimator(batch)
    tau2 = np.maximum(found.raw, lowest)
    done = np.ones(tau2.shape, dtype=bool)
    # As in metafor the sampling variance of the estimator is evaluated at a tau2 that can be.
    se = found.se(np.maximum(tau2, 0.0))
    return Tau2Fit(tau2, se, found.raw, found.raw < lowest, done, np.zeros(tau2.shape, dtype=int))


def _q_equation(batch: Batch, lowest: float, *, target: Callable[[Array], Array]) -> Tau2Fit:
    root, converged, iterations = solve_q(batch, target(batch.df), lowest=lowest)
    none = root == NO_ROOT
    tau2 = np.where(none, lowest, root)
    total = batch.weights(tau2).sum(axis=1)
    se = np.sqrt(2.0 / batch.df) * batch.k / total
    return Tau2Fit(tau2, se, np.where(none, np.nan, root), none, converged, iterations)


def _likelihood(batch: Batch, lowest: float, *, restricted: bool) -> Tau2Fit:
    found = maximise(batch, restricted=restricted, lowest=lowest)
    untruncated = np.where(found.at_bound, np.nan, found.tau2)
    se = np.sqrt(1.0 / found.expected)
    return Tau2Fit(found.tau2, se, untruncated, found.at_bound, found.converged, found.iterations, found.rival)


def _mean(df: Array) -> Array:
    return df


def _median(df: Array) -> Array:
    return special.chdtri(df, 0.5)


# These cut a batch into parts themselves, to look at all doubtful replicates together.
LIKELIHOODS = ("ML", "REML")
_Estimator = Callable[[Batch, float], Tau2Fit]
_PM: _Estimator = partial(_q_equation, target=_mean)

ESTIMATORS: dict[str, _Estimator] = {
    "EE": _equal_effects,
    "DL": partial(_closed, estimator=moments.dersimonian_laird),
    "HE": partial(_closed, estimator=moments.hedges),
    "HS": partial(_closed, estimator=moments.hunter_schmidt),
    "HSk": partial(_closed, estimator=partial(moments.hunter_schmidt, small_sample=True)),
    "SJ": partial(_closed, estimator=moments.sidik_jonkman),
    "DL2": partial(_closed, estimator=partial(moments.two_step, first=moments.dersimonian_laird)),
    "HE2": partial(_closed, estimator=partial(moments.two_step, first=moments.hedges)),
    "ML": partial(_likelihood, restricted=False),
    "REML": partial(_likelihood, restricted=True),
    "PM": _PM,
    "PMM": partial(_q_equation, target=_median),
    # Empirical Bayes, iterated DerSimonian-Laird and iterated Sidik-Jonkman all come to rest where Q = k - p.
    "EB": _PM,
    "DLIT": _PM,
    "SJIT": _PM,
}

GENERALISED_Q = ("GENQ", "GENQM")


@dataclass(frozen=True, slots=True, eq=False)
class Heterogeneity:
    """Cochran's Q and what is built on it."""

    # QE, QEp: weighted residual sum of squares at tau2 = 0 and its p-value under homogeneity.
    QE: float
    QEp: float
    df: int  # k - p
    vt: float  # typical sampling variance (Higgins & Thompson 2002, doi:10.1002/sim.1186)
    # I2, H2: 100 tau2 / (tau2 + vt) and tau2 / vt + 1; under equal effects their Q-based forms.
    I2: float
    H2: float
    I2_Q: float  # 100 max(0, (Q - df) / Q)


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """Coefficients with their tests."""

    beta: Array  # (p,)
    se: Array  # (p,)
    stat: Array  # (p,)
    pval: Array  # (p,)
    ci_lb: Array  # (p,)
    ci_ub: Array  # (p,)
    vb: Array  # (p, p)
    s2w: float  # the factor the covariance was multiplied by (1 for z and t)
    df: float | None  # degrees of freedom of t; None for the normal


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """The second highest peak of the likelihood: its tau2, the coefficients (p,) there, and how much lower it is."""

    tau2: float
    beta: Array
    lower: float


@dataclass(frozen=True, eq=False)
class UnivariateFit:
    """One fitted univariate model; what is not asked for is not computed."""

    batch: Batch  # the data, as a batch of one
    tau2: Tau2Fit
    model: WlsFit  # the fit with weights 1 / (v + tau2)
    # (k,) or None: weights given by the user or by the estimator (``GENQ``) in place of the model's.
    own_weights: Array | None
    equal_effects: bool
    test: str
    level: float

    @cached_property
    def _weighted(self) -> WlsFit:
        return self.model if self.own_weights is None else wls_weighted(self.batch, self.own_weights[None])

    @cached_property
    def beta(self) -> Array:
        """Coefficients, (p,)."""
        return self._weighted.beta[0]

    @cached_property
    def vb(self) -> Array:
        """Covariance of the coefficients before any small-sample factor, (p, p)."""
        if self.own_weights is None:
            return self.model.vb[0]
        return self._weighted.vb_of(self.batch.v + self.tau2.tau2[:, None])[0]

    @cached_property
    def coefficients(self) -> Coefficients:
        """The coefficients with the tests asked for."""
        return self._coefficients(self.test)

    @cached_property
    def wald(self) -> Coefficients:
        """The coefficients with Wald tests."""
        return self.coefficients if self.test == "z" else self._coefficients("z")

    @cached_property
    def heterogeneity(self) -> Heterogeneity:
        """Q, I2 and H2."""
        return heterogeneity(self.batch, tau2=float(self.tau2.tau2[0]), equal_effects=self.equal_effects)

    @cached_property
    def weights(self) -> Array:
        """Weights in percent, (k,)."""
        w = self._weighted.w[0]
        return 100.0 * w / w.sum()

    @cached_property
    def leverage(self) -> Array:
        """Diagonal of the hat matrix, (k,)."""
        Q = self.batch.Q
        return self._weighted.w[0] * np.einsum("kp,pq,kq->k", Q, self._weighted.Ainv[0], Q)

    @cached_property
    def loglik_ml(self) -> float:
        """Log-likelihood at the estimates."""
        return float(log_likelihood(self.model, restricted=False)[0]) - self._loss

    @cached_property
    def loglik_reml(self) -> float:
        """Restricted log-likelihood at the estimates."""
        return float(log_likelihood(self.model, restricted=True)[0]) - self._loss

    def rival(self, *, restricted: bool) -> Rival | None:
        """Return the second highest peak of the likelihood that was maximised, None where it has one peak."""
        if self.tau2.rival is None or np.isnan(self.tau2.rival[0]):
            return None
        there = wls(self.batch, self.tau2.rival)
        best, other = (float(log_likelihood(fit, restricted=restricted)[0]) for fit in (self.model, there))
        beta = there.beta[0] if self.own_weights is None else self.beta
        return Rival(float(self.tau2.rival[0]), beta, best - other)

    @cached_property
    def _loss(self) -> float:
        """What coefficients other than the model's own cost the likelihood."""
        if self.own_weights is None:
            return 0.0
        difference = self._weighted.gamma[0] - self.model.gamma[0]
        return 0.5 * float(difference @ self.model.A[0] @ difference)

    def _coefficients(self, test: str) -> Coefficients:
        df = float(self.batch.df[0])
        s2w = float(self.model.residual[0]) / df if test in ("knha", "adhoc") else 1.0
        if test == "adhoc":
            s2w = max(1.0, s2w)
        return coefficients(self.beta, s2w * self.vb, s2w=s2w, df=None if test == "z" else df, level=self.level)


def fit_univariate(
    y: Array,
    v: Array,
    X: Array,
    *,
    method: str,
    test: str,
    level: float,
    tau2: Tau2Fit | None = None,
    weights: Array | None = None,
    lowest: float = 0.0,
) -> UnivariateFit:
    """Fit y (k,) with sampling variances v (k,) on a design X (k, p) of full column rank.

    With k = p only ``method="EE"`` and ``test="z"`` are defined.

    `method`: a key of `alliance_meta.core.univariate.fit.ESTIMATORS`, ``"GENQ"`` or ``"GENQM"``.
    `test` {"z", "t", "knha", "adhoc"}: reference distribution and covariance of the coefficients. ``knha`` multiplies
      the covariance by y'Py / (k - p) and refers to t(k - p) (Knapp & Hartung 2003, doi:10.1002/sim.1482); ``adhoc``
      never lets that factor fall below 1; ``t`` only changes the reference.
    `level`: confidence level, a fraction.
    `tau2`: a tau2 that is known, or was estimated elsewhere, instead of `method`'s own.
    `weights` (k,): weights for the coefficients in place of 1 / (v + tau2); 1 / v for the generalised Q estimators.
    `lowest`: the smallest tau2 allowed.
    """
    batch = make_batch(y, v, X)
    if method in GENERALISED_Q:
        weights = 1.0 / v if weights is None else weights
        tau2 = tau2 or generalised_q_tau2(batch, weights, median=method == "GENQM", lowest=lowest)
    elif tau2 is None:
        tau2 = estimate_tau2(batch, method=method, lowest=lowest)
    return UnivariateFit(batch, tau2, wls(batch, tau2.tau2), weights, method == "EE", test, level)


def coefficients(beta: Array, vb: Array, *, s2w: float, df: float | None, level: float) -> Coefficients:
    """Test coefficients (p,) with covariance vb (p, p) against t(df), or the normal when `df` is None."""
    se = np.sqrt(np.diag(vb))
    stat = statistic(beta, se)
    half = critical_value(level, df) * se
    return Coefficients(beta, se, stat, two_sided_p(stat, df), beta - half, beta + half, vb, s2w, df)


def heterogeneity(batch: Batch, *, tau2: float, equal_effects: bool) -> Heterogeneity:
    """Return Q, its test, I2 and H2 of the first replicate; all NaN with k = p, where nothing is left over."""
    fit = wls(batch, np.zeros(len(batch.y)))
    df = int(batch.df[0])
    if df == 0:
        nan = float("nan")
        return Heterogeneity(nan, nan, 0, nan, nan, nan, nan)
    # One weight beside which all others vanish, as of n = 1e20, leaves no trace of them in double precision.
    Q, trace = float(fit.rss[0]), float(fit.traces[0][0])
    vt = df / trace if trace > 0 else float("nan")
    I2_Q = 100.0 * max(0.0, (Q - df) / Q) if Q > 0 else 0.0
    return Heterogeneity(
        QE=Q,
        QEp=chi2_sf(Q, df),
        df=df,
        vt=vt,
        I2=I2_Q if equal_effects else 100.0 * tau2 / (tau2 + vt),
        H2=Q / df if equal_effects else tau2 / vt + 1.0,
        I2_Q=I2_Q,
    )


def wald_test(beta: Array, vb: Array, L: Array, *, df: float | None) -> tuple[float, int, float]:
    """Test L beta = 0 jointly: chi-squared, or F = chi-squared / m when `df` is given.

    Returns stat, m, pval: `m` is the number of rows of L, which must have full row rank.
    """
    estimate = L @ beta
    m = len(L)
    stat = float(estimate @ np.linalg.solve(L @ vb @ L.T, estimate))
    if df is None:
        return stat, m, chi2_sf(stat, m)
    return stat / m, m, f_sf(stat / m, m, df)
