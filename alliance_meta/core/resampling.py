"""Refit a model to many resampled data sets at once: permutations, sign flips and bootstrap samples.

Replicates are made and fitted in blocks. Each block has a random stream of its own, named by the seed and the
block's number, so that the result does not depend on how many blocks run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from math import comb, exp, inf, log
from typing import Literal, TypeVar

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.distributions import statistic
from alliance_meta.core.univariate import moments
from alliance_meta.core.univariate.fit import estimate_tau2, fixed_tau2
from alliance_meta.core.univariate.wls import Batch, make_batch, wls, wls_weighted

# Numbers in one array of a block; changing it changes which replicates a seed gives.
BLOCK = 1 << 16
# Results of blocks that may wait to be taken, for each core.
WAITING = 4
# Smallest eigenvalue, relative to the full data's, of a resampled design that still has full rank.
SINGULAR = 1e-9
# Logarithms of 1e15 and of nearly the largest float.
LARGEST_WHOLE, LARGEST = 34.5, 709.0


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How each replicate is fitted: the settings of the model whose data are resampled."""

    X: Array  # (k, p)
    method: str
    test: str
    tau2: float | None  # a tau2 that is known
    lowest: float  # lowest tau2 allowed
    tested: tuple[int, ...]  # coefficients that QM tests together


# Arrays by name, the replicate first: beta and stat (B, p); QM, tau2, I2 and H2 (B,).
Refits = dict[str, Array]
T = TypeVar("T")


def refit(recipe: Recipe, batch: Batch, *, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """Fit every replicate; return beta (B, p), its covariance without small-sample factor, and tau2 (B,).

    `weights` (B, k) or (k,) are the user's, in place of 1 / (v + tau2).
    """
    if weights is not None:
        weights = np.broadcast_to(weights, batch.y.shape) * (1.0 if batch.present is None else batch.present)
    tau2 = estimated_tau2(recipe, batch, weights)
    if weights is not None:
        fit = wls_weighted(batch, weights)
        return fit.beta, fit.vb_of(batch.v + tau2[:, None]), tau2
    model = wls(batch, tau2)
    vb = model.vb
    if recipe.test in ("knha", "adhoc"):
        s2w = model.residual / batch.df
        vb = vb * (np.maximum(s2w, 1.0) if recipe.test == "adhoc" else s2w)[:, None, None]
    return model.beta, vb, tau2


def refit_tests(recipe: Recipe, batch: Batch, *, weights: Array | None = None) -> Refits:
    """Fit every replicate and keep the test statistics."""
    beta, vb, _ = refit(recipe, batch, weights=weights)
    return {"stat": statistic(beta, np.sqrt(np.einsum("bpp->bp", vb))), "QM": _omnibus(beta, vb, recipe)}


def refit_estimates(recipe: Recipe, batch: Batch, *, weights: Array | None = None) -> Refits:
    """Fit every replicate and keep the estimates; no I2 and H2 with k = p."""
    beta, _, tau2 = refit(recipe, batch, weights=weights)
    kept = {"beta": beta, "tau2": tau2}
    return kept | _heterogeneity(recipe, batch, tau2) if batch.df.min() > 0 else kept


def estimated_tau2(recipe: Recipe, batch: Batch, weights: Array | None) -> Array:
    """Return the tau2 of every replicate: given, or by the estimator of the recipe; `weights` (B, k) are the user's."""
    if recipe.tau2 is not None:
        return fixed_tau2(recipe.tau2, B=len(batch.y)).tau2
    if recipe.method == "GENQ" and weights is not None:
        return np.maximum(moments.generalised(batch, weights).raw, recipe.lowest)
    return estimate_tau2(batch, method=recipe.method, lowest=recipe.lowest).tau2


def _omnibus(beta: Array, vb: Array, recipe: Recipe) -> Array:
    """Return QM, as chi-squared or F; infinite where the coefficients have no variance."""
    tested = list(recipe.tested)
    estimate, part = beta[:, tested], vb[:, tested][:, :, tested]
    known = (np.einsum("bpp->bp", part) > 0).all(axis=1)
    part = np.where(known[:, None, None], part, np.eye(len(tested)))
    form = np.einsum("bp,bp->b", estimate, np.linalg.solve(part, estimate[:, :, None])[:, :, 0])
    return np.where(known, form, np.inf) / (1.0 if recipe.test == "z" else len(tested))


def _heterogeneity(recipe: Recipe, batch: Batch, tau2: Array) -> Refits:
    zero, df = np.zeros(len(tau2)), batch.df
    if recipe.method == "EE":
        Q = wls(batch, zero).rss
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(Q > 0, np.maximum(0.0, (Q - df) / Q), 0.0)
        return {"I2": 100.0 * share, "H2": Q / df}
    # Replicates that share their variances share the typical one too.
    shared = batch.v.strides[0] == 0 and batch.present is None
    at_zero = wls(batch.part(slice(0, 1)), zero[:1]) if shared else wls(batch, zero)
    vt = df / at_zero.traces[0]
    return {"I2": 100.0 * tau2 / (tau2 + vt), "H2": tau2 / vt + 1.0}


def join(parts: list[Refits]) -> Refits:
    """Put blocks together."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def in_blocks(task: Callable[[int, int, int], Refits], *, B: int, k: int, cores: int = 1) -> Refits:
    """Call ``task(block, start, stop)`` for every block of the B replicates, `cores` at a time, and join."""
    return join(list(blocks_of(task, B=B, size=max(1, BLOCK // max(k, 1)), cores=cores)))


def blocks_of(task: Callable[[int, int, int], T], *, B: int, size: int, cores: int = 1) -> Iterator[T]:
    """Yield ``task(block, start, stop)`` of every block of `size` of the B replicates, in order.

    `cores` run at a time, and few results wait to be taken.
    """
    spans = [(number, start, min(start + size, B)) for number, start in enumerate(range(0, B, size))]
    if cores == 1 or len(spans) == 1:
        yield from (task(*span) for span in spans)
        return
    with ThreadPoolExecutor(cores) as pool:
        for first in range(0, len(spans), WAITING * cores):
            yield from pool.map(lambda span: task(*span), spans[first : first + WAITING * cores])


def stream(seed: int, block: int) -> np.random.Generator:
    """Return the random stream of one block."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))


def sign_patterns(start: int, stop: int, k: int) -> Array:
    """Return patterns number `start` to `stop` of the 2^(k-1) sign patterns whose first sign is +, (B, k)."""
    codes = np.arange(start, stop, dtype=np.int64)
    bits = (codes[:, None] >> np.arange(k - 1)) & 1
    return np.concatenate([np.ones((stop - start, 1)), 1.0 - 2.0 * bits], axis=1)


def random_signs(rng: np.random.Generator, B: int, k: int) -> Array:
    """Return random sign patterns, (B, k)."""
    return 1.0 - 2.0 * rng.integers(0, 2, (B, k))


def random_orders(rng: np.random.Generator, B: int, k: int) -> AnyArray:
    """Return random orders of k rows, (B, k)."""
    return rng.permuted(np.broadcast_to(np.arange(k), (B, k)), axis=1)


def number_of_arrangements(group: AnyArray) -> float:
    """Return how many arrangements of the rows differ, when rows of one group (k,) are alike.

    A whole number up to 1e15, an approximate one above, infinite where a float cannot hold it.
    """
    sizes = np.bincount(group)
    logarithm = float(special.gammaln(len(group) + 1.0) - special.gammaln(sizes + 1.0).sum())
    if logarithm > LARGEST_WHOLE:
        return exp(logarithm) if logarithm < LARGEST else inf
    total, left = 1, len(group)
    for size in sizes.tolist():
        total *= comb(left, size)
        left -= size
    return total


def number_of_sign_patterns(k: int) -> float:
    """Return 2^k, as `number_of_arrangements` does."""
    if k * log(2.0) > LARGEST_WHOLE:
        return 2.0**k if k * log(2.0) < LARGEST else inf
    return 2**k


def arrangements(group: AnyArray) -> AnyArray:
    """Return every arrangement that differs, (M, k): which observation stands at each row of the design."""
    k = len(group)
    kind = np.int8 if k < 128 else np.int32
    chosen, left = np.empty((1, 0), dtype=kind), np.arange(k, dtype=kind)[None]
    columns = []
    for number, size in enumerate(np.bincount(group).tolist()):
        chosen, left = _choose(chosen, left, size)
        columns.append(np.flatnonzero(group == number))
    out = np.empty_like(chosen)
    out[:, np.concatenate(columns)] = chosen
    return out


def _choose(chosen: AnyArray, left: AnyArray, size: int) -> tuple[AnyArray, AnyArray]:
    """Extend every arrangement by every choice of `size` of the observations left."""
    n = left.shape[1]
    picks = np.array(list(combinations(range(n), size)), dtype=np.intp)
    kept = np.ones((len(picks), n), dtype=bool)
    kept[np.arange(len(picks))[:, None], picks] = False
    rest = np.nonzero(kept)[1].reshape(len(picks), n - size)
    taken = left[:, picks]
    before = np.broadcast_to(chosen[:, None, :], (*taken.shape[:2], chosen.shape[1]))
    extended = np.concatenate([before, taken], axis=2)
    total = len(left) * len(picks)
    return extended.reshape(total, extended.shape[2]), left[:, rest].reshape(total, n - size)


def counted_batch(y: Array, v: Array, X: Array, counts: AnyArray) -> tuple[Batch, AnyArray]:
    """Return a batch in which row i of replicate b stands ``counts[b, i]`` times, and the row of each column.

    Weighted least squares know rows that are present or absent: a row that may be drawn up to m times is there m times.
    """
    rows = np.repeat(np.arange(len(y)), np.maximum(counts.max(axis=0), 1))
    first = np.searchsorted(rows, rows)
    present = (counts[:, rows] > np.arange(len(rows)) - first).astype(float)
    shape = present.shape
    batch = make_batch(np.broadcast_to(y[rows], shape), np.broadcast_to(v[rows], shape), X[rows], present)
    return batch, rows


def draw_counts(rng: np.random.Generator, B: int, k: int) -> AnyArray:
    """Return how often each of k rows is drawn when k are drawn with replacement, (B, k)."""
    draws = rng.integers(0, k, (B, k)) + k * np.arange(B)[:, None]
    return np.bincount(draws.ravel(), minlength=B * k).reshape(B, k)


def full_rank(X: Array, counts: AnyArray) -> AnyArray:
    """Say which replicates' designs have full column rank, (B,)."""
    Q = np.linalg.qr(X)[0]
    i, j = np.triu_indices(X.shape[1])
    packed = counts @ (Q[:, i] * Q[:, j])
    gram = np.empty((len(counts), X.shape[1], X.shape[1]))
    gram[:, i, j] = gram[:, j, i] = packed
    return np.linalg.eigvalsh(gram)[:, 0] > SINGULAR


def leave_one_out(k: int) -> Iterator[AnyArray]:
    """Yield, in blocks, the counts of the k samples that lack one row."""
    size = max(1, BLOCK // k)
    for start in range(0, k, size):
        counts = np.ones((min(size, k - start), k), dtype=int)
        counts[np.arange(len(counts)), start + np.arange(len(counts))] = 0
        yield counts


BootstrapInterval = Literal["percentile", "basic", "bca"]


def bootstrap_limits(
    values: Array, estimate: float, kind: BootstrapInterval, level: float, left_out: Array | None = None
) -> tuple[float, float] | None:
    """Return the limits of a bootstrap interval for estimates from resampled data (B,).

    ``percentile``: their quantiles. ``basic``: these mirrored at the estimate. ``bca``: percentiles shifted for bias
    and for a standard error that changes with the estimate (Efron 1987, doi:10.1080/01621459.1987.10478410), the
    acceleration from the estimates `left_out` without one unit at a time; None if all values lie on one side.
    """
    tails = np.array([0.5 * (1.0 - level), 0.5 * (1.0 + level)])
    if kind == "bca" and left_out is not None:
        below = float((values < estimate).mean() + 0.5 * (values == estimate).mean())
        if not 0 < below < 1:
            return None
        gap = left_out.mean() - left_out
        spread = float((gap**2).sum())
        acceleration = float((gap**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0
        bias = special.ndtri(below)
        z = bias + special.ndtri(tails)
        tails = special.ndtr(bias + z / (1.0 - acceleration * z))
    # Quantile number p of B values is the (B + 1) p-th, between the neighbours where that is no whole number.
    low, high = np.quantile(values, tails, method="weibull").tolist()
    return (2.0 * estimate - high, 2.0 * estimate - low) if kind == "basic" else (low, high)
