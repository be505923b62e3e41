"""Cluster-robust covariances, their degrees of freedom by Satterthwaite, and their wild bootstrap.

Cluster-robust (sandwich) covariance of weighted least squares coefficients, with small-sample adjustments.

A sandwich adds up, over clusters, what each cluster's residuals contribute to the coefficients. It is right for any
dependence within clusters; a working covariance M only serves to undo that residuals are smaller than errors.
With weights W, hat matrix H = X B X'W, B = (X'WX)^-1, and cluster j's residuals e_j::

    V = B [ sum_j  X_j'W_j A_j e_j e_j' A_j' W_j X_j ] B

The adjustments A_j are those of Bell & McCaffrey (2002), as generalised by Pustejovsky & Tipton (2018,
doi:10.1080/07350015.2016.1247004), and are spelled as in R's clubSandwich:

=====  ===========================================================================================================
CR0    1
CR1    sqrt(J / (J - 1)), with J clusters
CR1p   sqrt(J / (J - p))
CR1S   sqrt(J (k - 1) / ((J - 1) (k - p)))
CR2    D'(D S D')^(-1/2) D with D'D = M_jj and S = [(I - H) M (I - H)']_jj: V is then unbiased if M is right
CR3    (I - H_jj)^-1: V is then the sum of squared changes of beta when each cluster is left out in turn
=====  ===========================================================================================================

Everything is kept per cluster and p x p, nothing is k x k; CR2 costs the cube of each cluster's size. Where M connects
rows of different clusters (crossed random effects), the sandwich and its degrees of freedom take clusters to be
independent, while CR2 uses the exact S.

Tests from a cluster-robust covariance with few clusters: Satterthwaite degrees of freedom, approximate Hotelling T2.

A sandwich V is itself estimated, and from few clusters badly. If the working covariance is right, the sandwich of a
contrast c is a quadratic form of normal variables: its first two moments are those of a multiple of chi-squared with
df = 2 E(c'Vc)^2 / Var(c'Vc). For several contrasts V is taken to be Wishart, with degrees of freedom from the total
variance of its entries, and the Wald statistic to be Hotelling's T2.

The cluster wild bootstrap of a robust Wald test: residuals of each cluster times one random multiplier.

Data are made in which the null hypothesis holds: fitted values of the model restricted to it, plus its residuals
with the multiplier of their cluster. The statistic of many such data sets shows what chance does to it. Here the
weights and the working covariance stay those of the data, so that a replicate only costs sums over clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import critical_values, f_sf, statistic, two_sided_p
from alliance_meta.core.resampling import random_signs

# Row numbers (n, m) of n clusters of one size, and their working covariances (n, m, m).
Block = tuple[IntArray, Array]
Blocks = Sequence[Block]

# Eigenvalues below this share of the largest possible one: how many of them are 0 is then counted exactly.
SUSPICIOUS = 1e-9
# A direction of the design with this leverage is known from one cluster alone.
WHOLE = 1.0 - 1e-8


class WorkingCovariance(Protocol):
    """The covariance M (k, k) of the effects that a fitted model believes in."""

    def solve(self, A: Array) -> Array:
        """Return M^-1 A for A (k, c)."""

    def block(self, rows: IntArray) -> Array:
        """Return M between the rows of each cluster, (n, m, m) for rows (n, m)."""


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalWorking:
    """Independent effects."""

    variance: Array  # (k,): diagonal of M
    weights: Array | None = None  # (k,) or None: what the coefficients were weighted by, where that is not 1 / variance

    def solve(self, A: Array) -> Array:
        """Return M^-1 A."""
        return A / self.variance[:, None]

    def block(self, rows: IntArray) -> Array:
        """Return diagonal matrices."""
        return self.variance[rows][:, :, None] * np.eye(rows.shape[1])


@dataclass(frozen=True, eq=False)
class Sandwich:
    """A cluster-robust covariance, and what tests with few clusters need of it.

    Coordinates are such that X'WX is the identity: the coefficients are ``root`` times those in them.
    """

    vb: Array  # (p, p): covariance of the coefficients
    J: int  # number of clusters
    type: str
    root: Array  # (p, p): ``root @ root.T`` is (X'WX)^-1
    scores: Array  # (J, p): each cluster's contribution to the coefficients
    # Tuple of (int, int): how many clusters of which size follow each other in the rows of what comes next.
    shapes: tuple[tuple[int, int], ...]
    # pull, spread (k, p): what each error adds to its cluster's contribution, and M times that within the cluster.
    pull: Array
    spread: Array
    # (k, r): how estimating the coefficients ties the contributions of clusters i and j under M: their covariance is
    # ``(i == j) * pull[j].T @ spread[j] + carry[i].T @ middle @ carry[j]`` with ``carry = left[j].T @ pull[j]``, the
    # rows of the clusters taken. r is p, or 2 p for weights other than M^-1.
    left: Array
    middle: Array  # (r, r)
    # (c, p): directions known from one cluster alone: it has no other to disagree with, so that they have no robust
    # variance, and that of what involves them lacks their part. Unit vectors.
    lone: Array

    def within(self, A: Array, B: Array) -> Array:
        """Return A'B of each cluster, (J, a, b), for A (k, a) and B (k, b)."""
        found, at = [], 0
        for n, m in self.shapes:
            rows = slice(at, at + n * m)
            found.append(np.swapaxes(A[rows].reshape(n, m, -1), 1, 2) @ B[rows].reshape(n, m, -1))
            at += n * m
        return np.concatenate(found)

    def carry(self, C: Array) -> Array:
        """Return what estimating the coefficients does to each cluster's contribution to C (q, p), (J, r, q)."""
        return self.within(self.left, self.pull @ C.T)

    def rebased(self, change: Array) -> Sandwich:
        """Return the sandwich of the coefficients ``change @ beta``, (p, p)."""
        return replace(self, vb=change @ self.vb @ change.T, root=change @ self.root)


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """Clusters of one size: rows of X and WX in the coordinates of `Sandwich`, and the working covariance."""

    rows: IntArray
    X: Array
    WX: Array
    M: Array


def sandwich(
    X: Array, resid: Array, weighted: Array, bread: Array, blocks: Blocks, *, type: str, balanced: bool = True
) -> Sandwich:
    """Return the cluster-robust covariance of beta = bread @ weighted' y.

    `X` (k, p).
    `resid` (k,): y - X beta.
    `weighted` (k, p): W X.
    `bread` (p, p): (X'WX)^-1.
    `blocks` (rows, M): row numbers (n, m) and working covariance (n, m, m) of the n clusters of each size m.
    `type` {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3"}: CR1p needs more clusters than coefficients, CR1S more effects.
    `balanced`: whether W is M^-1; else M must not connect different clusters.
    """
    root = np.linalg.cholesky(bread)
    stacks = _stacks(X, weighted, blocks, root)
    omega = None if balanced else _weighted_variance(stacks)
    J = sum(len(part.rows) for part in stacks)
    factor = scale_factor(type, J=J, k=len(X), p=X.shape[1])
    scores, pulls, spread, lefts = [], [], [], []
    for part in stacks:
        F = factor * _adjusted(type, part, omega, part.WX, transposed=True)
        scores.append(np.einsum("nmp,nm->np", F, resid[part.rows]))
        pulls.append(F.reshape(-1, F.shape[2]))
        spread.append((part.M @ F).reshape(-1, F.shape[2]))
        left = part.X if omega is None else np.concatenate([part.X, part.M @ part.WX], axis=2)
        lefts.append(left.reshape(-1, left.shape[2]))
    U = np.concatenate(scores)
    half = U @ root.T
    return Sandwich(
        vb=half.T @ half,
        J=J,
        type=type,
        root=root,
        scores=U,
        shapes=tuple((len(part.rows), part.rows.shape[1]) for part in stacks),
        pull=np.concatenate(pulls),
        spread=np.concatenate(spread),
        left=np.concatenate(lefts),
        middle=_middle(omega, X),
        lone=resting(X @ root, [part.rows for part in stacks])[1],
    )


def adjusted_residuals(
    X: Array, resid: Array, weighted: Array, bread: Array, blocks: Blocks, *, type: str, balanced: bool = True
) -> Array:
    """Return A_j e_j of every cluster, (k,), with the arguments of `sandwich`; X may have no column."""
    root = np.linalg.cholesky(bread)
    stacks = _stacks(X, weighted, blocks, root)
    omega = None if balanced else _weighted_variance(stacks)
    factor = scale_factor(type, J=sum(len(part.rows) for part in stacks), k=len(X), p=X.shape[1])
    out = np.empty(len(X))
    for part in stacks:
        out[part.rows] = factor * _adjusted(type, part, omega, resid[part.rows][:, :, None], transposed=False)[:, :, 0]
    return out


def scale_factor(type: str, *, J: int, k: int, p: int) -> float:
    """Return the number that CR1, CR1p or CR1S multiply residuals by; 1 for the others."""
    factors = {
        "CR1": lambda: J / (J - 1),
        "CR1p": lambda: J / (J - p),
        "CR1S": lambda: J * (k - 1) / ((J - 1) * (k - p)),
    }
    return float(np.sqrt(factors[type]())) if type in factors else 1.0


def resting(X: Array, rows: Sequence[IntArray]) -> tuple[IntArray, Array]:
    """Find what is known from one cluster alone: with that cluster's rows left out, X would lose rank.

    Returns `first` (c,): a row of each cluster concerned.
    Returns `direction` (c, p): the combination of coefficients that rests on it, as a unit vector.
    """
    Q, R = np.linalg.qr(X)
    first, direction = [], []
    for stack in rows:
        at = stack[np.einsum("nmp,nmp->n", Q[stack], Q[stack]) > WHOLE]
        if not len(at):
            continue
        values, vectors = np.linalg.eigh(Q[at].transpose(0, 2, 1) @ Q[at])
        for cluster, column in zip(*np.nonzero(values > WHOLE), strict=True):
            solved = np.linalg.solve(R, vectors[cluster, :, column])
            first.append(int(at[cluster, 0]))
            direction.append(solved / np.linalg.norm(solved))
    return np.array(first, dtype=np.intp), np.array(direction).reshape(-1, X.shape[1])


def _stacks(X: Array, weighted: Array, blocks: Blocks, root: Array) -> list[_Stack]:
    X, WX = X @ root, weighted @ root
    return [_Stack(rows, X[rows], WX[rows], M) for rows, M in blocks]


def _weighted_variance(stacks: list[_Stack]) -> Array:
    """Return X'W M W X."""
    parts = [np.einsum("nap,nac,ncq->pq", part.WX, part.M, part.WX, optimize=True) for part in stacks]
    return np.sum(parts, axis=0)


def _middle(omega: Array | None, X: Array) -> Array:
    one = np.eye(X.shape[1])
    return -one if omega is None else np.block([[omega, -one], [-one, np.zeros_like(one)]])


def _adjusted(type: str, part: _Stack, omega: Array | None, target: Array, *, transposed: bool) -> Array:
    """Return A_j times `target` (n, m, c), or A_j' times it; for the scaled types, `target` itself."""
    if type == "CR2":
        half, roots = _geometric_mean(part, omega)
        return half @ (roots[:, :, None] * (half.transpose(0, 2, 1) @ target))
    if type == "CR3":
        left, right = (part.WX, part.X) if transposed else (part.X, part.WX)
        onto = right.transpose(0, 2, 1)
        # (I - L R')^-1 = I + L (I - R'L)^-1 R' needs matrices of the size of the coefficients only.
        return target + left @ np.linalg.solve(np.eye(left.shape[2]) - onto @ left, onto @ target)
    return target


def _geometric_mean(part: _Stack, omega: Array | None) -> tuple[Array, Array]:
    """Return CR2's adjustment, as vectors (n, m, m) and the factors (n, m) between them and their transpose.

    It is the symmetric solution of A S A = M, the geometric mean of M and S^-1; along directions in which S is 0,
    no residual is left to adjust.
    """
    X, WX, M = part.X, part.WX, part.M
    if omega is None:
        S = M - X @ X.transpose(0, 2, 1)
    else:
        HM = X @ (WX.transpose(0, 2, 1) @ M)
        S = M - HM - HM.transpose(0, 2, 1) + X @ omega @ X.transpose(0, 2, 1)
    lower = np.linalg.cholesky(M)
    upper = lower.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(upper @ S @ lower)
    largest = np.square(upper @ lower).sum(axis=(1, 2))
    kept = values > 0
    doubtful = values[:, 0] < SUSPICIOUS * largest
    if doubtful.any():
        gone = _without_residual(_Stack(part.rows[doubtful], X[doubtful], WX[doubtful], M[doubtful]), omega)
        kept[doubtful] &= np.arange(M.shape[1]) >= gone[:, None]
    return lower @ vectors, np.where(kept, np.where(kept, values, 1.0) ** -0.5, 0.0)


def _without_residual(part: _Stack, omega: Array | None) -> IntArray:
    """Count the directions in which each cluster's residuals are always 0, (n,)."""
    right = np.linalg.solve(part.M, part.X) if omega is None else part.WX
    information = part.X.transpose(0, 2, 1) @ right
    values = np.linalg.eigvalsh(0.5 * (information + information.transpose(0, 2, 1)))
    return (values > WHOLE).sum(axis=1)


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
