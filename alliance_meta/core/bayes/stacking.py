"""Weights of models by stacking: the mixture of their predictions that predicts what was left out best."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array

# The mean log score lies at most this far below the best one.
GAP = 1e-9
_ROUNDS = 20_000
_LEAST = 1e-300


def stacking_weights(elpd: Array) -> Array:
    """Return weights (m,), at least 0 and of sum 1, that maximise sum_i log sum_j w_j exp(elpd[i, j]).

    `elpd` (n, m) holds the log predictive density of each unit left out, by model. Yao, Vehtari, Simpson & Gelman
    (2018, doi:10.1214/17-BA1091). The problem is concave; the largest derivative at the answer bounds how far it is
    from the best.
    """
    m = elpd.shape[1]
    if m == 1:
        return np.ones(1)
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))

    def loss(w: Array) -> float:
        return -float(np.log(np.maximum(density @ w, _LEAST)).mean())

    def slope(w: Array) -> Array:
        return -(density / np.maximum(density @ w, _LEAST)[:, None]).mean(axis=0)

    equal = np.full(m, 1.0 / m)
    found = optimize.minimize(
        loss, equal, jac=slope, method="SLSQP", bounds=[(0.0, 1.0)] * m,
        constraints=optimize.LinearConstraint(np.ones((1, m)), 1.0, 1.0), options={"maxiter": 1000, "ftol": 1e-14},
    ).x  # fmt: skip
    w = np.maximum(found, 0.0)
    w = w / w.sum() if np.isfinite(w).all() and w.sum() > 0 else equal
    # From there the steps of expectation maximisation, which never lose; they cannot leave a weight of 0.
    w = (w + 1e-12) / (1.0 + m * 1e-12)
    for _ in range(_ROUNDS):
        gain = -slope(w)
        if gain.max() - 1.0 < GAP:
            break
        w = w * gain
    w = np.where(w < 1e-9, 0.0, w)
    return w / w.sum()
