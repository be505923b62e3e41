"""Tests from a cluster-robust covariance with few clusters: Satterthwaite degrees of freedom, approximate Hotelling T2.

A sandwich V is itself estimated, and from few clusters badly. If the working covariance is right, the sandwich of a
contrast c is a quadratic form of normal variables: its first two moments are those of a multiple of chi-squared with
df = 2 E(c'Vc)^2 / Var(c'Vc). For several contrasts V is taken to be Wishart, with degrees of freedom from the total
variance of its entries, and the Wald statistic to be Hotelling's T2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.distributions import critical_values, f_sf, statistic, two_sided_p
from alliance_meta.core.robust.sandwich import Sandwich

# A sandwich whose mean is below this share of the model-based variance is rounding.
NOTHING = 1e-10
# Numbers that one working array may hold: 32 MB.
MOST_CELLS = 4_000_000
# Up to so many coefficients all their fourth moments fit into little memory, and many contrasts cost little.
FEW_COEFFICIENTS = 20
# Adding up pairs of rows by cluster takes so many times as long as a product of matrices.
SLOWER = 16


def satterthwaite(sandwich: Sandwich, L: Array) -> Array:
    """Return the degrees of freedom of each contrast L (q, p), (q,); NaN for one that is not `estimable`.

    Bell & McCaffrey (2002), generalised by Pustejovsky & Tipton (2018, doi:10.1080/07350015.2016.1247004).
    """
    q, p = L.shape
    if q > p and p <= FEW_COEFFICIENTS:
        first, second = _moments(sandwich, sandwich.root)
        parts = [_contract(rows, first, second) for rows in np.array_split(L, 1 + q * p * p // MOST_CELLS)]
    else:
        parts = [np.stack(_each(sandwich, rows)) for rows in _chunks(sandwich, L)]
    mean, fourth = np.concatenate(parts, axis=1)
    there = known(sandwich, L) & (mean > NOTHING * np.square(L @ sandwich.root).sum(axis=1))
    return np.where(there, mean**2 / np.where(there, fourth, 1.0), np.nan)


def known(sandwich: Sandwich, L: Array) -> Mask:
    """Tell which contrasts L (q, p) have a robust variance: not those that rest on single clusters alone."""
    C = L @ sandwich.root
    return np.square(_beside(sandwich, C)).sum(axis=1) > NOTHING * np.square(C).sum(axis=1)


def estimable(sandwich: Sandwich, L: Array) -> bool:
    """Tell whether the contrasts L (q, p) have a robust covariance: no combination rests on single clusters alone."""
    C = L @ sandwich.root
    left = _beside(sandwich, C)
    return _regular(left @ left.T, C @ C.T)


def htz(sandwich: Sandwich, beta: Array, L: Array) -> tuple[float, float, float, float]:
    """Test L beta = 0 jointly by the approximate Hotelling T2; return F, df1, df2 and the p-value.

    Tipton & Pustejovsky (2015, doi:10.3102/1076998615606099), there called HTZ. For one contrast it is the t test with
    Satterthwaite's degrees of freedom. All but df1 are NaN where a contrast is not `estimable`, F and the p-value
    where the clusters are too few for so many contrasts: df2 <= 0, or a singular covariance.
    """
    q = len(L)
    gone = float("nan")
    if not estimable(sandwich, L):
        return gone, float(q), gone, gone
    try:
        mean, total = _joint(sandwich, L)
    except np.linalg.LinAlgError:
        return gone, float(q), gone, gone
    if not _regular(mean, L @ sandwich.root @ sandwich.root.T @ L.T):
        return gone, float(q), gone, gone
    eta = q * (q + 1.0) / total
    df2 = eta - q + 1.0
    vb = L @ sandwich.vb @ L.T
    if df2 <= 0 or not _regular(vb, mean):
        return gone, float(q), df2, gone
    estimate = L @ beta
    F = df2 / (eta * q) * float(estimate @ np.linalg.solve(vb, estimate))
    return F, float(q), df2, f_sf(F, q, df2)


def t_tests(estimate: Array, se: Array, df: Array, *, level: float) -> tuple[Array, Array, Array, Array]:
    """Return t, two-sided p-value and confidence limits, each test with degrees of freedom of its own."""
    stat, half = statistic(estimate, se), critical_values(level, df) * se
    return stat, two_sided_p(stat, df), estimate - half, estimate + half


def _moments(sandwich: Sandwich, C: Array) -> tuple[Array, Array]:
    """Return the mean (q, q) of the sandwich of contrasts C in its coordinates, and what its covariances are made of.

    Those are sums (q, q, q, q).

    With P_ij (q, q) the covariance under the working model of clusters i and j's contributions: sum_j P_jj, and
    sum_ij P_ij[a, b] P_ij[c, d].
    """
    U = sandwich.carry(C)
    J, r, q = U.shape
    D = U.transpose(0, 2, 1) @ (sandwich.middle @ U)
    P = sandwich.within(sandwich.pull @ C.T, sandwich.spread @ C.T) + D
    rows, tied = P.reshape(J, q * q), D.reshape(J, q * q)
    diagonal = (rows.T @ rows - tied.T @ tied).reshape(q, q, q, q)
    flat = U.reshape(J, r * q)
    pairs = (flat.T @ flat).reshape(r, q, r, q)
    turned = np.einsum("rs,tu,sbud->rbtd", sandwich.middle, sandwich.middle, pairs, optimize=r > 4)
    return P.sum(axis=0), diagonal + np.einsum("ratc,rbtd->abcd", pairs, turned, optimize=r * q > 4)


def _each(sandwich: Sandwich, L: Array) -> tuple[Array, Array]:
    """Return mean and fourth sum of each row of L (q, p) on its own, (q,) each: `_moments` without what ties them."""
    C = L @ sandwich.root
    f = sandwich.pull @ C.T
    products = f * (sandwich.spread @ C.T)
    sizes = np.repeat([m for _, m in sandwich.shapes], [n for n, _ in sandwich.shapes])
    D = _own_ties(sandwich, f)
    P = np.add.reduceat(products, np.cumsum(sizes) - sizes, axis=0) + D
    ties = _ties_by_rows(sandwich, f) if _few_rows(sandwich) else _ties_by_coefficients(sandwich, C)
    return P.sum(axis=0), (P**2 - D**2).sum(axis=0) + ties


def _few_rows(sandwich: Sandwich) -> bool:
    """Tell whether pairs of rows cost less than products of the size of r."""
    k, r = sandwich.left.shape
    return (k**2 if k == sandwich.J else SLOWER * k**2) < sandwich.J * r**2


def _own_ties(sandwich: Sandwich, f: Array) -> Array:
    """Return how estimating the coefficients ties each cluster's contributions f (k, q) to themselves, (J, q)."""
    found, r = [], sandwich.left.shape[1]
    for rows, n, m in _parts(sandwich, r + f.shape[1]):
        turned = np.swapaxes(sandwich.left[rows].reshape(n, m, r), 1, 2)
        own = f[rows].reshape(n, m, -1)
        if m <= r:
            H = (sandwich.left[rows] @ sandwich.middle).reshape(n, m, r) @ turned
            found.append((own * (H @ own)).sum(axis=1))
        else:
            U = turned @ own
            found.append((U * (sandwich.middle @ U)).sum(axis=1))
    return np.concatenate(found)


def _ties_by_coefficients(sandwich: Sandwich, C: Array) -> Array:
    """Return the sum over all pairs of clusters of their squared ties, (q,), by products of the size of r."""
    U, middle = sandwich.carry(C), sandwich.middle
    if len(U) < len(middle):
        V = U.transpose(2, 0, 1)
        return np.asarray(np.square(V @ middle @ V.transpose(0, 2, 1)).sum(axis=(1, 2)))
    tied = middle @ (U.transpose(2, 1, 0) @ U.transpose(2, 0, 1))
    return np.asarray(np.einsum("qrs,qsr->q", tied, tied))


def _ties_by_rows(sandwich: Sandwich, f: Array) -> Array:
    """Return the same from contributions f (k, q), by products of pairs of rows."""
    k, q = f.shape
    sizes = np.repeat([m for _, m in sandwich.shapes], [n for n, _ in sandwich.shapes])
    starts, squares, total = np.cumsum(sizes) - sizes, f**2, np.zeros(q)
    for rows, n, m in _parts(sandwich, k):
        H = (sandwich.left[rows] @ sandwich.middle) @ sandwich.left.T
        if k == sandwich.J:
            total += ((H**2 @ squares) * squares[rows]).sum(axis=0)
            continue
        for c in range(q):
            across = (H * f[rows, c, None]).reshape(n, m, k).sum(axis=1) * f[:, c]
            total[c] += np.square(np.add.reduceat(across, starts, axis=1)).sum()
    return total


def _joint(sandwich: Sandwich, L: Array) -> tuple[Array, float]:
    """Return the mean (q, q) of the sandwich of L, and the total variance of its entries where that mean is 1.

    Many contrasts have too many fourth moments to hold; here only those of pairs of clusters are.
    """
    C = L @ sandwich.root
    f, g = sandwich.pull @ C.T, sandwich.spread @ C.T
    ties = sandwich.left @ sandwich.middle
    mean = f.T @ g
    for rows, n, m in _parts(sandwich, sandwich.left.size):
        H = (ties[rows].reshape(n, m, -1)) @ np.swapaxes(sandwich.left[rows].reshape(n, m, -1), 1, 2)
        mean += f[rows].T @ (H @ f[rows].reshape(n, m, -1)).reshape(n * m, -1)
    white = np.linalg.inv(np.linalg.cholesky(mean))
    if (len(C) * len(sandwich.middle)) ** 2 <= MOST_CELLS:
        fourth = _moments(sandwich, white @ C)[1]
        return mean, float(np.einsum("aacc", fourth) + np.einsum("abba", fourth))
    return mean, _ties(sandwich, f @ white.T, g @ white.T, ties)


def _ties(sandwich: Sandwich, f: Array, g: Array, ties: Array) -> float:
    """Return sum_ij tr(P_ij)^2 + tr(P_ij P_ij), cluster by cluster, for contributions f'g and ties f' H f."""
    left, total = sandwich.left, 0.0
    for a, n, m in _parts(sandwich, len(f)):
        for b, n2, m2 in _parts(sandwich, len(f)):
            H = (ties[a] @ left[b].T).reshape(n, m, n2, m2).transpose(0, 2, 1, 3)
            E = (f[a] @ f[b].T).reshape(n, m, n2, m2).transpose(0, 2, 3, 1)
            Z = H @ E
            trace = np.trace(Z, axis1=2, axis2=3)
            total += float(np.vdot(trace, trace)) + float((Z * np.swapaxes(Z, 2, 3)).sum())
        F, G, T, X = (A[a].reshape(n, m, -1) for A in (f, g, ties, left))
        Y = G @ np.swapaxes(F, 1, 2)
        D = T @ np.swapaxes(X, 1, 2) @ (F @ np.swapaxes(F, 1, 2))
        y, d = np.trace(Y, axis1=1, axis2=2), np.trace(D, axis1=1, axis2=2)
        total += float((y**2 + 2.0 * y * d).sum()) + float((Y * np.swapaxes(Y + 2.0 * D, 1, 2)).sum())
    return total


def _parts(sandwich: Sandwich, width: int) -> Iterator[tuple[slice, int, int]]:
    """Yield the rows of some clusters of one size, their number and size, so that rows times width fit into memory."""
    at = 0
    for n, m in sandwich.shapes:
        most = max(1, MOST_CELLS // (m * width))
        for first in range(0, n, most):
            some = min(most, n - first)
            yield slice(at + first * m, at + (first + some) * m), some, m
        at += n * m


def _beside(sandwich: Sandwich, C: Array) -> Array:
    """Return what is left of contrasts C (q, p), in the sandwich's coordinates, beside what rests on one cluster."""
    basis = np.linalg.qr(sandwich.lone.T)[0]
    return C - (C @ basis) @ basis.T


def _contract(L: Array, mean: Array, fourth: Array) -> Array:
    """Return mean and fourth sum of each row of L (q, p), as (2, q)."""
    q, p = L.shape
    pairs = (L[:, :, None] * L[:, None, :]).reshape(q, p * p)
    return np.stack([pairs @ mean.ravel(), ((pairs @ fourth.reshape(p * p, p * p)) * pairs).sum(axis=1)])


def _chunks(sandwich: Sandwich, L: Array) -> list[Array]:
    """Return the rows of L in parts whose working arrays hold no more than `MOST_CELLS` numbers each."""
    k, r = sandwich.left.shape
    size = max(1, MOST_CELLS // (k if _few_rows(sandwich) else max(sandwich.J * r, r**2)))
    return [L[at : at + size] for at in range(0, len(L), size)]


def _regular(A: Array, against: Array) -> bool:
    """Tell whether A is positive definite on the scale of a matrix that is."""
    lower = np.linalg.cholesky(against)
    half = np.linalg.solve(lower, A)
    return bool(np.linalg.eigvalsh(np.linalg.solve(lower, half.T))[0] > NOTHING)
