"""Cluster-robust (sandwich) covariance of weighted least squares coefficients, with small-sample adjustments.

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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray

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
