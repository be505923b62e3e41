"""The cluster wild bootstrap of a robust Wald test: residuals of each cluster times one random multiplier.

Data are made in which the null hypothesis holds: fitted values of the model restricted to it, plus its residuals
with the multiplier of their cluster. The statistic of many such data sets shows what chance does to it. Here the
weights and the working covariance stay those of the data, so that a replicate only costs sums over clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.resampling import random_signs
from alliance_meta.core.robust.sandwich import Blocks, Sandwich, adjusted_residuals, sandwich

# Mean 0 and variance 1 each; Mammen's also has a third moment of 1.
WEBB = np.sqrt([0.5, 1.0, 1.5])
GOLDEN = 0.5 * (1.0 + np.sqrt(5.0))
# A covariance whose smallest eigenvalue is below this share of its largest is singular.
SINGULAR = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """A weighted regression whose clusters are known; the arguments of `sandwich`."""

    X: Array
    weighted: Array
    bread: Array
    blocks: Blocks
    balanced: bool

    def sandwich(self, resid: Array, type: str) -> Sandwich:
        """Return the robust covariance."""
        return sandwich(self.X, resid, self.weighted, self.bread, self.blocks, type=type, balanced=self.balanced)


@dataclass(frozen=True, slots=True, eq=False)
class Imposed:
    """A regression with L beta = 0 imposed, cluster by cluster, in the coordinates of `Sandwich`."""

    contrast: Array  # (q, p): L in these coordinates
    pull: Array  # (J, p): what residuals times 1 of each cluster add to the coefficients
    # (J, q): their contribution to the robust variance of L beta before the coefficients are fitted to them.
    scores: Array
    carry: Array  # (J, q, p): what a change of the coefficients takes away from it


def impose(model: Regression, y: Array, L: Array, *, type: str, adjust: str) -> Imposed:
    """Fit y (k,) under L beta = 0, with residuals adjusted as the restricted model's own sandwich `adjust` would."""
    resid = restricted_residuals(model, y, L, adjust=adjust)
    robust = model.sandwich(resid, type)
    contrast = L @ robust.root
    p = len(robust.root)
    carry = robust.carry(contrast)[:, :p].transpose(0, 2, 1)
    pull = np.concatenate([np.einsum("nmp,nm->np", model.weighted[rows], resid[rows]) for rows, _ in model.blocks])
    return Imposed(contrast, pull @ robust.root, robust.scores @ contrast.T, carry)


def restricted_residuals(model: Regression, y: Array, L: Array, *, adjust: str) -> Array:
    """Return the residuals of the model with L beta = 0, adjusted for the coefficients it still fits, (k,)."""
    free = np.linalg.svd(L)[2][len(L) :].T
    X, weighted = model.X @ free, model.weighted @ free
    bread = np.linalg.inv(X.T @ weighted)
    resid = y - X @ (bread @ (weighted.T @ y))
    return adjusted_residuals(X, resid, weighted, bread, model.blocks, type=adjust, balanced=model.balanced)


def statistics(imposed: Imposed, multipliers: Array) -> Array:
    """Return the robust Wald F of every replicate, (B,), for multipliers (B, J); infinite where V is singular."""
    pulled = multipliers @ imposed.pull
    scores = multipliers[:, :, None] * imposed.scores - np.einsum("jqp,bp->bjq", imposed.carry, pulled, optimize=True)
    return wald(pulled @ imposed.contrast.T, scores.transpose(0, 2, 1) @ scores)


def wald(estimate: Array, vb: Array) -> Array:
    """Return F = estimate' vb^-1 estimate / q of every replicate, for estimates (B, q) and covariances (B, q, q)."""
    values, vectors = np.linalg.eigh(vb)
    along = np.einsum("bqr,bq->br", vectors, estimate)
    there = values[:, 0] > SINGULAR * values[:, -1]
    F = np.square(along) / np.where(there[:, None], values, 1.0)
    return np.where(there, F.mean(axis=1), np.where(np.any(estimate != 0, axis=1), np.inf, 0.0))


def draw(rng: np.random.Generator, B: int, J: int, weights: str) -> Array:
    """Return multipliers (B, J): Rademacher (-1, 1), Webb (six values) or Mammen (two, skewed)."""
    if weights == "rademacher":
        return random_signs(rng, B, J)
    if weights == "webb":
        return np.concatenate([-WEBB, WEBB])[rng.integers(0, 6, (B, J))]
    return np.where(rng.random((B, J)) < GOLDEN / np.sqrt(5.0), 1.0 - GOLDEN, GOLDEN)
