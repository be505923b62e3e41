"""Score test of one common tau2 against a tau2 of each study's own, for a batch of data sets."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.univariate.wls import WlsFit

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
