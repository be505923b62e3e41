"""How often intervals hold what they promise, by simulation; ``python -m tests.validation.coverage`` writes the result.

Correlations on the Fisher z scale: n_i from 20 to 400 (log-uniform, drawn anew in every replicate),
v_i = 1 / (n_i - 3), y_i ~ N(mu, v_i + tau^2). REML, Knapp-Hartung; both intervals refer to t(k - 1).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import special

from alliance_meta.core.distributions import critical_value
from alliance_meta.core.resampling import Recipe, refit
from alliance_meta.core.univariate.wls import make_batch

RESULT = Path(__file__).with_name("coverage.json")
PUBLISHED = Path(__file__).with_name("published_coverage.csv")
KS = (5, 20, 80)
TAUS = (0.0, 0.1, 0.3)
MU = 0.285
LEVEL = 0.95
REPLICATES = 20_000
SEED = 2014

# "2-20 trials"; "25% of the trials being 10-times larger than the smaller trials".
TRIALS = (2, 3, 4, 5, 7, 10, 15, 20)
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.98)
LARGER = 10.0


def intervals(y, v, *, method="REML", test="knha", df=None):
    """Return the limits of the confidence and the prediction interval of each replicate, (B,) each.

    `df` replaces the degrees of freedom that go with the test.
    """
    k = y.shape[1]
    how = Recipe(X=np.ones((k, 1)), method=method, test=test, tau2=None, lowest=0.0, tested=(0,))
    beta, vb, tau2 = refit(how, make_batch(y, v, how.X))
    mean, variance = beta[:, 0], vb[:, 0, 0]
    half = critical_value(LEVEL, df or (None if test == "z" else k - 1.0))
    ci, pi = half * np.sqrt(variance), half * np.sqrt(variance + tau2)
    return mean - ci, mean + ci, mean - pi, mean + pi


def published_cell(interval, I2, k, *, replicates, seed):
    """Return a coverage as Held, Hofmann & Pawel (2025) simulate it: k equal trials of 50 in each arm.

    Mean differences of unit variance, y_i ~ N(0.2, tau^2 + 2/50), tau^2 = 2/50 * I2 / (1 - I2), sampling
    variances estimated with 98 degrees of freedom; REML. The confidence interval is Knapp and Hartung's; the
    prediction interval takes the usual standard error of the mean and t(k - 2).
    """
    mu, arm = 0.2, 50
    tau2 = 2.0 / arm * I2 / (1.0 - I2)
    rng = np.random.default_rng([seed, k, round(100 * I2)])
    v = rng.chisquare(2 * arm - 2, (replicates, k)) / (arm * (arm - 1))
    y = mu + rng.normal(size=v.shape) * np.sqrt(2.0 / arm + tau2)
    if interval == "ci":
        lb, ub, _, _ = intervals(y, v)
        return float(covered(0.0, lb, ub, mu).mean())
    _, _, lb, ub = intervals(y, v, test="z", df=k - 2.0)
    return float(covered(np.sqrt(tau2), lb, ub, mu).mean())


def study_variances(rng, shape):
    """Return sampling variances of Fisher z for sample sizes from 20 to 400."""
    n = np.rint(np.exp(rng.uniform(np.log(20.0), np.log(400.0), shape)))
    return 1.0 / (n - 3.0)


def covered(tau, lb, ub, mu=MU):
    """Return the share of the true effects N(mu, tau^2) that lie in each interval."""
    if tau == 0:
        return ((lb <= mu) & (ub >= mu)).astype(float)
    return special.ndtr((ub - mu) / tau) - special.ndtr((lb - mu) / tau)


def cell(k, tau, *, replicates, seed):
    """Return the coverage of both intervals for k studies, with its simulation error."""
    rng = np.random.default_rng([seed, k, round(1000 * tau)])
    v = study_variances(rng, (replicates, k))
    y = MU + rng.normal(size=v.shape) * np.sqrt(v + tau**2)
    ci_lb, ci_ub, pi_lb, pi_ub = intervals(y, v)
    ci, pi = covered(0.0, ci_lb, ci_ub), covered(tau, pi_lb, pi_ub)
    found = {"k": k, "tau": tau}
    for name, values in (("ci", ci), ("pi", pi)):
        found |= {name: float(values.mean()), f"{name}_mc_se": float(values.std(ddof=1) / np.sqrt(replicates))}
    return found


def error_rates(k, share, *, replicates, seed):
    """Return how often a true mean of 0 is called significant at 5%, by method.

    A quarter of the k trials (at least one) is `LARGER` times as large as the others, whose sampling variance
    is 1; `share` is tau^2 / (tau^2 + 1).
    """
    rng = np.random.default_rng([seed, k, round(1000 * share)])
    v = np.ones(k)
    v[: max(1, round(0.25 * k))] = 1.0 / LARGER
    tau2 = share / (1.0 - share)
    y = rng.normal(size=(replicates, k)) * np.sqrt(v + tau2)
    found = {"k": k, "share": share}
    for name, method, test in (("DL", "DL", "z"), ("DL+KH", "DL", "knha"), ("REML+KH", "REML", "knha")):
        lb, ub, _, _ = intervals(y, np.broadcast_to(v, y.shape), method=method, test=test)
        found[name] = float(((lb > 0) | (ub < 0)).mean())
    return found


def run(*, replicates=REPLICATES, seed=SEED):
    """Return everything as JSON-ready values."""
    return {
        "replicates": replicates,
        "seed": seed,
        "coverage": [cell(k, tau, replicates=replicates, seed=seed) for k in KS for tau in TAUS],
        "error_rates": [error_rates(k, s, replicates=replicates, seed=seed) for k in TRIALS for s in SHARES],
    }


if __name__ == "__main__":
    RESULT.write_text(json.dumps(run(), indent=1) + "\n", "utf-8")
