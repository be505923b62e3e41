"""Marginal likelihoods of models of publication bias by importance sampling: a second route with its own error.

Every parameter is free on the real line (log tau, logit of each ratio of publication probabilities, log of the
coefficient of PET or PEESE), the proposal is a t distribution around the posterior mode, the points are scrambled
Sobol points, and the spread of independent scramblings is the standard error.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special, stats
from scipy.stats import qmc

DF = 5


def log_joint(theta, y, se, kind, steps, sides, scale, effect, heterogeneity, mu_sd, tau_shape, tau_scale):
    """Return log prior x likelihood x Jacobian for theta (n, d)."""
    theta = np.atleast_2d(theta)
    n, at = len(theta), 0
    logs, mu, tau = np.zeros(n), np.zeros(n), np.zeros(n)
    if effect:
        mu = theta[:, at]
        logs += stats.norm.logpdf(mu, 0, mu_sd)
        at += 1
    if heterogeneity:
        tau = np.exp(theta[:, at])
        logs += stats.invgamma.logpdf(tau, tau_shape, scale=tau_scale) + theta[:, at]
        at += 1
    sd = np.sqrt(se**2 + tau[:, None] ** 2)
    mean = np.repeat(mu[:, None], len(y), axis=1)
    if kind in ("PET", "PEESE"):
        beta = np.exp(theta[:, at])
        logs += stats.halfcauchy.logpdf(beta, scale=scale) + theta[:, at]
        mean = mean + beta[:, None] * (se if kind == "PET" else se**2)
    logs += stats.norm.logpdf(y, mean, sd).sum(axis=1)
    if kind == "weights":
        m = len(steps)
        b = special.expit(theta[:, at : at + m])
        for i in range(m):
            logs += stats.beta.logpdf(b[:, i], m - i, 1) + np.log(b[:, i]) + np.log1p(-b[:, i])
        omega = np.concatenate([np.ones((n, 1)), np.cumprod(b, axis=1)], axis=1)
        z = stats.norm.isf(np.array(steps) / (2 if sides == "two" else 1))
        edges = np.concatenate([[np.inf], z, [0.0 if sides == "two" else -np.inf]])
        which = ((np.abs(y) if sides == "two" else y)[:, None] < z * se[:, None]).sum(axis=1)
        total = np.zeros((n, len(y)))
        for j in range(m + 1):
            p = stats.norm.cdf((edges[j] * se - mean) / sd) - stats.norm.cdf((edges[j + 1] * se - mean) / sd)
            if sides == "two":
                p += stats.norm.cdf((-edges[j + 1] * se - mean) / sd) - stats.norm.cdf((-edges[j] * se - mean) / sd)
            total += omega[:, j, None] * p
        with np.errstate(divide="ignore"):
            logs += (np.log(omega[:, which]) - np.log(total)).sum(axis=1)
    return logs


def log_marginal(y, se, kind, *, effect, heterogeneity, steps=(), sides="one", scale=1.0, mu_sd=1.0, tau_shape=1.0,
                 tau_scale=0.15, points=12, seed=0, scramblings=8):  # fmt: skip
    """Return the log marginal likelihood and its standard error."""
    settings = (y, se, kind, steps, sides, scale, effect, heterogeneity, mu_sd, tau_shape, tau_scale)
    start = [0.1] * effect + [np.log(0.15)] * heterogeneity
    start += {"none": [], "weights": [0.0] * len(steps)}.get(kind, [np.log(0.3 * scale)])
    if not start:
        return float(log_joint(np.zeros((1, 0)), *settings)[0]), 0.0

    def target(x):
        return -float(log_joint(x, *settings)[0])

    found = min(
        (optimize.minimize(target, np.array(start) + shift, method="Nelder-Mead", options={"maxiter": 4000})
         for shift in (0.0, 0.3)),
        key=lambda one: one.fun,
    )  # fmt: skip
    mode, d, step = found.x, len(start), 1e-2
    H = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            a, b = step * np.eye(d)[i], step * np.eye(d)[j]
            H[i, j] = target(mode + a + b) - target(mode + a - b) - target(mode - a + b) + target(mode - a - b)
    H = 0.5 * (H + H.T) / (4 * step**2)
    values, vectors = np.linalg.eigh(H)
    root = vectors / np.sqrt(np.maximum(values, 0.05)) * 1.3
    logs = []
    for one in range(scramblings):
        u = qmc.Sobol(d + 1, seed=np.random.default_rng([seed, one])).random_base2(points)
        g = stats.chi2.ppf(u[:, 0], DF) / DF
        z = stats.norm.ppf(np.clip(u[:, 1:], 1e-12, 1 - 1e-12))
        x = mode + (z / np.sqrt(g)[:, None]) @ root.T
        proposal = stats.multivariate_t.logpdf(x, mode, root @ root.T, df=DF)
        logs.append(special.logsumexp(log_joint(x, *settings) - proposal) - np.log(len(x)))
    means = np.exp(np.array(logs) - max(logs))
    error = means.std(ddof=1) / np.sqrt(len(means)) / means.mean()
    return float(max(logs) + np.log(means.mean())), float(error)
