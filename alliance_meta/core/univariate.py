"""Fit the univariate random-effects model y = X beta + u + e to one data set, from arrays to arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_quantile, chi2_sf, critical_value, f_sf, two_sided_p
from alliance_meta.core.searches import log_likelihood, solve_q
from alliance_meta.core.tau2 import Tau2Fit, estimate_tau2
from alliance_meta.core.wls import Batch, WlsFit, make_batch, wls

# Residuals below this share of the effects are what floating point leaves of an exact fit.
ROUNDING = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class Heterogeneity:
    """Cochran's Q and what is built on it.

    Attributes
    ----------
    QE, QEp : float
        Weighted residual sum of squares at tau2 = 0 and its p-value under homogeneity.
    df : int
        k - p.
    vt : float
        Typical sampling variance (Higgins & Thompson 2002, doi:10.1002/sim.1186).
    I2, H2 : float
        100 tau2 / (tau2 + vt) and tau2 / vt + 1; under equal effects their Q-based forms.
    I2_Q : float
        100 max(0, (Q - df) / Q).
    """

    QE: float
    QEp: float
    df: int
    vt: float
    I2: float
    H2: float
    I2_Q: float


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """Coefficients with their tests.

    Attributes
    ----------
    beta, se, stat, pval, ci_lb, ci_ub : ndarray of shape (p,)
    vb : ndarray of shape (p, p)
    s2w : float
        The factor the covariance was multiplied by (1 for z and t).
    df : float or None
        Degrees of freedom of t; None for the normal.
    """

    beta: Array
    se: Array
    stat: Array
    pval: Array
    ci_lb: Array
    ci_ub: Array
    vb: Array
    s2w: float
    df: float | None


@dataclass(frozen=True, slots=True, eq=False)
class UnivariateFit:
    """One fitted univariate model: coefficients, tau2, heterogeneity, weights (k,) in percent, likelihoods."""

    coefficients: Coefficients
    wald: Coefficients
    tau2: Tau2Fit
    heterogeneity: Heterogeneity
    weights: Array
    loglik_ml: float
    loglik_reml: float
    leverage: Array


def fit_univariate(
    y: Array, v: Array, X: Array, *, method: str, test: str, level: float, tau2: Tau2Fit | None = None
) -> UnivariateFit:
    """Fit y (k,) with sampling variances v (k,) on a design X (k, p) of full column rank.

    With k = p only ``method="EE"`` and ``test="z"`` are defined.

    Parameters
    ----------
    method : str
        A key of `alliance_meta.core.tau2.ESTIMATORS`.
    test : {"z", "t", "knha", "adhoc"}
        Reference distribution and covariance of the coefficients.
    level : float
        Confidence level, a fraction.
    tau2 : Tau2Fit, optional
        A tau2 estimated elsewhere (a common tau2 over subgroups) instead of `method`'s own.
    """
    batch = make_batch(y, v, X)
    estimate = estimate_tau2(batch, method=method) if tau2 is None else tau2
    fit = wls(batch, estimate.tau2)
    wald = coefficients(fit, test="z", level=level)
    rows = np.einsum("kp,pq,kq->k", batch.Q, fit.Ainv[0], batch.Q)
    return UnivariateFit(
        coefficients=wald if test == "z" else coefficients(fit, test=test, level=level),
        wald=wald,
        tau2=estimate,
        heterogeneity=heterogeneity(batch, tau2=float(estimate.tau2[0]), equal_effects=method == "EE"),
        weights=100.0 * fit.w[0] / fit.w[0].sum(),
        loglik_ml=float(log_likelihood(fit, restricted=False)[0]),
        loglik_reml=float(log_likelihood(fit, restricted=True)[0]),
        leverage=fit.w[0] * rows,
    )


def coefficients(fit: WlsFit, *, test: str, level: float) -> Coefficients:
    """Test the coefficients of the first replicate.

    ``knha`` multiplies the covariance by y'Py / (k - p) and refers to t(k - p) (Knapp & Hartung 2003,
    doi:10.1002/sim.1482); ``adhoc`` never lets that factor fall below 1; ``t`` only changes the reference.
    """
    df = float(fit.batch.df[0])
    s2w = _residual(fit) / df if test in ("knha", "adhoc") else 1.0
    if test == "adhoc":
        s2w = max(1.0, s2w)
    beta, vb = fit.beta[0], s2w * fit.vb[0]
    se = np.sqrt(np.diag(vb))
    # Identical effects give a Knapp-Hartung variance of 0; the statistic is then infinite, not an error.
    with np.errstate(divide="ignore", invalid="ignore"):
        stat = np.where(beta == 0, 0.0, beta / se)
    reference = None if test == "z" else df
    half = critical_value(level, reference) * se
    return Coefficients(beta, se, stat, two_sided_p(stat, reference), beta - half, beta + half, vb, s2w, reference)


def _residual(fit: WlsFit) -> float:
    """Return y'Py of the first replicate, and 0 where only rounding is left of identical effects."""
    y, w, rss = fit.batch.y[0], fit.w[0], float(fit.rss[0])
    return rss if rss > ROUNDING**2 * float(w @ y**2) else 0.0


def heterogeneity(batch: Batch, *, tau2: float, equal_effects: bool) -> Heterogeneity:
    """Return Q, its test, I2 and H2 of the first replicate; all NaN with k = p, where nothing is left over."""
    fit = wls(batch, np.zeros(len(batch.y)))
    df = int(batch.df[0])
    if df == 0:
        nan = float("nan")
        return Heterogeneity(nan, nan, 0, nan, nan, nan, nan)
    Q, vt = float(fit.rss[0]), df / float(fit.traces[0][0])
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

    Returns
    -------
    stat, m, pval
        `m` is the number of rows of L, which must have full row rank.
    """
    estimate = L @ beta
    m = len(L)
    stat = float(estimate @ np.linalg.solve(L @ vb @ L.T, estimate))
    if df is None:
        return stat, m, chi2_sf(stat, m)
    return stat / m, m, f_sf(stat / m, m, df)


def q_profile(y: Array, v: Array, X: Array, *, level: float) -> tuple[float, float]:
    """Return the Q-profile interval for tau2 (Viechtbauer 2007, doi:10.1002/sim.2514).

    The values of tau2 at which the generalised Q equals the chi-squared quantiles. A bound is 0 where Q(0)
    is already below its quantile; both are 0 when the data vary less than chance allows.
    """
    tail = 0.5 * (1.0 - level)
    batch = make_batch(np.vstack([y, y]), np.vstack([v, v]), X)
    df = float(batch.df[0])
    target = np.array([chi2_quantile(1.0 - tail, df), chi2_quantile(tail, df)])
    bounds, _, _ = solve_q(batch, target)
    lb, ub = np.maximum(bounds, 0.0)
    return float(lb), float(ub)
