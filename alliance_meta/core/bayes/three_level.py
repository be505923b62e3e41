"""The posterior of a three-level model by quadrature over two standard deviations, all else analytic.

It is seen otherwise, too: with other priors or powers, by total and share, in draws.

y = X b + u + w + e with u ~ N(0, s_1^2) for each group, w ~ N(0, s_2^2) for each row and e ~ N(0, V). The blocks of V
are made diagonal once, by the eigenvectors of `plan`. For given s_2 the sums over the rows of each group follow;
every s_1 then costs one product of matrices over the groups, by Woodbury's identity (Harville 1977,
doi:10.1080/01621459.1977.10480998). True effects are worked out group by group, in the rows of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.quadrature import (
    LIGHTEST,
    NOTHING,
    SMALLEST,
    Grid,
    HalfLine,
    NormalMixture,
    RealLine,
    SincDensity,
    TauDensity,
    integrate_grid,
    mixture,
    moment_depth,
)
from alliance_meta.core.bayes.reweighted import Powers
from alliance_meta.core.bayes.two_level import LOG_2PI
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.mixed.covariance import Blocks, Plan, Term, plan

SPAN, LIMITED_SPAN = (-3.6, 12.0), (-3.4, 3.4)
TOLERANCE, DEPTH = 1e-10, 30.0
MOST_CELLS = 2_000_000
LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class MultilevelData:
    """Effects in the axes in which their sampling covariance is diagonal, group by group."""

    y: Array  # (k,): less X times `centre`
    X: Array  # (k, p)
    d: Array  # (k,): sampling variances
    W: Array  # (k,): how each row moves with its group
    starts: IntArray  # (J,): first row of each group
    # mean, precision (p,): of the priors of the coefficients less `centre`; precision 0 is a flat prior.
    mean: Array
    precision: Array
    centre: Array  # (p,)
    laid: Plan


@dataclass(frozen=True, slots=True, eq=False)
class MultilevelPosterior:
    """The posterior: that of the two standard deviations on a grid, and normals given each point."""

    data: MultilevelData
    grid: Grid
    # between, within (B,): the standard deviations at the points that count.
    between: Array
    within: Array
    weight: Array  # (B,)
    mean: Array  # (B, p): of the coefficients
    root: Array  # (B, p, p): their covariance is root' root
    # log_marginal, error: log of the density of y, defined up to a constant where a prior is flat, and its error.
    log_marginal: float
    error: float
    tails: tuple[float, float]  # the a of the tails s^-a of the posteriors of the two deviations

    @property
    def tau(self) -> Array:
        """Standard deviation of all true effects at the points, (B,)."""
        return np.hypot(self.between, self.within)

    def finite(self, order: int, *, of: str) -> bool:
        """Return whether a moment exists and is in reach; `of` is "tau", "new", "study" or "coefficients"."""
        if of == "study" or (of == "coefficients" and (self.data.precision > 0).all()):
            return True
        return min(self.tails) - order > 1.0 and all(self.deviation(i).reaches(order) for i in range(len(self.grid.u)))

    def moments(self, i: int) -> int:
        """Return how many moments of a deviation are finite and in reach, at most 2."""
        return self.deviation(i).moments(self.tails[i])

    def deviation(self, i: int) -> SincDensity:
        """Return the posterior of the standard deviation between groups (0) or within (1)."""
        return self.grid.marginal(i)

    def coefficients(self, C: Array) -> NormalMixture:
        """Return the posterior of the combinations C (m, p) of coefficients."""
        mean, variance = self._combine(C)
        return mixture(self.weight, mean, np.sqrt(variance))

    def new_effects(self, C: Array, *, within: bool = True) -> NormalMixture:
        """Return the posterior of a true effect in a new group for each row of C (m, p).

        Without `within`, of the mean of a new group.
        """
        mean, variance = self._combine(C)
        spread = self.between**2 + (self.within**2 if within else 0.0)
        return mixture(self.weight, mean, np.sqrt(variance + spread))

    def _combine(self, C: Array) -> tuple[Array, Array]:
        return C @ self.mean.T, (np.tensordot(self.root, C, axes=(2, 1)) ** 2).sum(axis=1).T


def multilevel_data(
    y: Array, X: Array, v: Array, group: IntArray, mean: Array, precision: Array, *, blocks: Blocks | None = None
) -> MultilevelData:
    """Lay out effects y (k,), design X (k, p), variances v (k,) or covariance blocks, and groups (k,) by code.

    Every block must lie within one group.
    """
    rows = np.arange(len(y), dtype=np.intp)
    laid = plan(v, blocks, [Term(group), Term(rows)])
    # Where every row is a group of its own the plan needs no level.
    starts, W = (laid.levels[0].starts, laid.levels[0].W) if laid.levels else (rows, np.ones((len(y), 1)))
    assert W.shape[1] == 1, "a covariance block reaches beyond its group"
    spread = float(np.var(y)) + float(np.mean(v))
    centre = np.linalg.lstsq(X / np.sqrt(v + spread)[:, None], y / np.sqrt(v + spread), rcond=None)[0]
    turned = laid.rotate(np.column_stack([y - X @ centre, X]))
    return MultilevelData(
        y=turned[:, 0],
        X=np.ascontiguousarray(turned[:, 1:]),
        d=laid.d,
        W=W[:, 0],
        starts=starts,
        mean=mean - centre,
        precision=precision,
        centre=centre,
        laid=laid,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What holds given each of B points: log likelihood (B,), mean (B, p) and root (B, p, p) of the coefficients."""

    loglik: Array
    mean: Array
    root: Array


def given_deviations(data: MultilevelData, between: Array, within: Array) -> Given:
    """Return likelihood and coefficients at each pair of standard deviations, (B,) each."""
    p = data.X.shape[1]
    i, j = np.triu_indices(p + 1)
    levels, which = np.unique(within, return_inverse=True)
    sums, logs = np.empty((len(between), len(i))), np.empty(len(between))
    size = max(1, MOST_CELLS // (len(data.y) * (p + 4)))
    for start in range(0, len(levels), size):
        part = _GroupSums(data, levels[start : start + size], i, j)
        for n in range(len(part.within)):
            at = np.flatnonzero(which == start + n)
            sums[at], logs[at] = part.at(n, between[at])
    return _coefficients(data, sums, logs, i, j)


class _GroupSums:
    """For some values of the deviation within: sums over all rows, and over those of each group."""

    def __init__(self, data: MultilevelData, within: Array, i: IntArray, j: IntArray) -> None:
        A = np.column_stack([data.y, data.X])
        total = data.d + np.square(within)[:, None]
        w = 1.0 / total
        self.within = within
        self.logs = np.log(total).sum(axis=1)
        self.whole = w @ (A[:, i] * A[:, j])
        weighted = w[:, :, None] * (data.W[:, None] * A)
        grouped = np.add.reduceat(weighted, data.starts, axis=1)
        self.products = grouped[:, :, i] * grouped[:, :, j]
        self.size = np.add.reduceat(w * data.W**2, data.starts, axis=1)

    def at(self, n: int, between: Array) -> tuple[Array, Array]:
        """Return [y, X]'M^-1 [y, X], packed, and log |M| for the n-th deviation within and all between."""
        s2 = np.square(between)[:, None]
        inner = 1.0 + s2 * self.size[n]
        return self.whole[n] - (s2 / inner) @ self.products[n], self.logs[n] + np.log(inner).sum(axis=1)


def _coefficients(data: MultilevelData, sums: Array, logs: Array, i: IntArray, j: IntArray) -> Given:
    B, p = len(sums), data.X.shape[1]
    M = np.empty((B, p + 1, p + 1))
    M[:, i, j], M[:, j, i] = sums, sums
    proper = data.precision > 0
    A = M[:, 1:, 1:] + np.diag(data.precision)
    b = M[:, 1:, 0] + data.precision * data.mean
    squares = M[:, 0, 0] + float((data.precision * data.mean**2).sum())
    if p:
        factor = np.linalg.cholesky(A)
        root = np.linalg.inv(factor)
        half = np.einsum("bij,bj->bi", root, b)
        logs = logs + 2.0 * np.log(np.einsum("bii->bi", factor)).sum(axis=1)
        squares = squares - (half**2).sum(axis=1)
        mean = data.centre + np.einsum("bij,bi->bj", root, half)
    else:
        root, mean = np.empty((B, 0, 0)), np.empty((B, 0))
    constant = (len(data.y) - int((~proper).sum())) * LOG_2PI - float(np.log(data.precision[proper]).sum())
    return Given(-0.5 * (constant + logs + squares), mean, root)


def solve_multilevel(
    data: MultilevelData, between: TauDensity | None, within: TauDensity | None
) -> MultilevelPosterior:
    """Return the posterior under proper priors of the two standard deviations; None holds one at 0."""
    priors = [between, within]
    free = [i for i, prior in enumerate(priors) if prior is not None]
    depth, lines = reach(data, tails_of(data, priors), priors)

    def split(values: Sequence[Array]) -> list[Array]:
        """Return both deviations, 0 where one is held there."""
        B = len(values[0]) if values else 1
        found: list[Array] = [np.zeros(B), np.zeros(B)]
        for i, one in zip(free, values, strict=True):
            found[i] = one
        return found

    def log_joint(*values: Array) -> Array:
        """Return the log of prior times likelihood."""
        logs = given_deviations(data, *split(values)).loglik
        for i, one in zip(free, values, strict=True):
            logs = logs + priors[i].log_density(one)  # type: ignore[union-attr]
        return logs

    if lines:
        grid = integrate_grid(log_joint, lines, tolerance=TOLERANCE, depth=depth, power=2.0)
    else:
        grid = Grid((), (), np.ones(()), float(log_joint()[0]), 0.0)
    *values, weight = grid.values()
    return with_components(data, grid, [*split(values), weight], tails_of(data, priors))


def with_components(
    data: MultilevelData,
    grid: Grid,
    points: Sequence[Array],
    tails: tuple[float, float],
    *,
    lightest: float = LIGHTEST,
) -> MultilevelPosterior:
    """Return the posterior with its normals at the points that count, of both deviations with their weights."""
    between, within, weight = points
    kept = weight > lightest * weight.max()
    found = given_deviations(data, between[kept], within[kept])
    share = weight[kept] / weight[kept].sum()
    at = (between[kept], within[kept], share, found.mean, found.root)
    return MultilevelPosterior(data, grid, *at, grid.log_integral, grid.error, tails)


def tails_of(data: MultilevelData, priors: Sequence[TauDensity | None]) -> tuple[float, float]:
    """Return the a of the tails s^-a of the posteriors of both deviations; inf where one is held at 0."""
    flat = int((data.precision == 0).sum())
    between, within = priors
    return (
        np.inf if between is None else between.tail + len(data.starts) - flat,
        np.inf if within is None else within.tail + len(data.y) - flat,
    )


def proper(data: MultilevelData, between: TauDensity, within: TauDensity) -> bool:
    """Return whether the posterior is proper under these priors."""
    return min(tails_of(data, (between, within))) > 1.0


def without_coefficient(data: MultilevelData, direction: int, value: float = 0.0) -> MultilevelData:
    """Return the same data with one coefficient held at a value."""
    kept = np.arange(data.X.shape[1]) != direction
    y = data.y + data.X[:, direction] * (data.centre[direction] - value)
    return replace(
        data,
        y=y,
        X=np.ascontiguousarray(data.X[:, kept]),
        mean=data.mean[kept],
        precision=data.precision[kept],
        centre=data.centre[kept],
    )


def reach(
    data: MultilevelData, tails: Sequence[float], priors: Sequence[TauDensity | None]
) -> tuple[float, list[HalfLine]]:
    """Return how far the density is followed, and the coordinates of the free deviations."""
    depth = max(moment_depth(tail, DEPTH) for tail in tails)
    # Further out than the usual span the precision of a flat coefficient has no digits left.
    return depth, [line_of(one.upper, data).reaching(head=one.head) for one in priors if one is not None]


def line_of(upper: float, data: MultilevelData) -> HalfLine:
    """Return the coordinate of a standard deviation with this upper limit."""
    if np.isfinite(upper):
        return HalfLine(1.0, LIMITED_SPAN, upper)
    # Of a covariance that is nearly singular the variances in its own axes are no measure of scale.
    v, d = float(np.median(data.laid.restore_diagonal(data.d))), float(np.median(data.d))
    return HalfLine(3.0 * float(np.sqrt(max(d, LEAST_SHARE * v))), SPAN)


@dataclass(frozen=True, slots=True, eq=False)
class GroupedRows:
    """Effects, design and sampling covariance in the order of the groups."""

    index: IntArray  # (k,): row of the data
    y: Array  # (k,)
    X: Array  # (k, p)
    # (slice, ndarray of shape (n, m, m)) each: rows of the n groups of each size m, and their sampling covariance.
    clusters: tuple[tuple[slice, Array], ...]
    group: IntArray  # (k,): which group each row is in, numbered in this order
    code: IntArray  # (J,): what the data number each group

    @property
    def starts(self) -> IntArray:
        """First row of each group, (J,)."""
        return np.flatnonzero(np.append(True, self.group[1:] != self.group[:-1]))

    def only(self, wanted: Mask) -> GroupedRows:
        """Return some of the groups, (J,)."""
        kept = wanted[self.group]
        clusters, at, first = [], 0, 0
        for _, V in self.clusters:
            part = V[wanted[first : first + len(V)]]
            first += len(V)
            if len(part):
                clusters.append((slice(at, at + part.shape[0] * part.shape[1]), part))
                at += part.shape[0] * part.shape[1]
        number = np.cumsum(wanted) - 1
        return GroupedRows(
            self.index[kept], self.y[kept], self.X[kept], tuple(clusters), number[self.group[kept]], self.code[wanted]
        )


def grouped_rows(y: Array, X: Array, group: IntArray, clusters: Sequence[tuple[IntArray, Array]]) -> GroupedRows:
    """Sort rows by group; `clusters` are the row numbers (n, m) and covariances (n, m, m) of groups of each size."""
    index = np.concatenate([rows.ravel() for rows, _ in clusters])
    made, at = [], 0
    numbers: list[IntArray] = []
    code: list[int] = []
    for rows, V in clusters:
        n, m = rows.shape
        made.append((slice(at, at + n * m), V))
        numbers.append(len(code) + np.repeat(np.arange(n), m))
        code += group[rows[:, 0]].tolist()
        at += n * m
    return GroupedRows(index, y[index], X[index], tuple(made), np.concatenate(numbers), np.array(code, dtype=np.intp))


MOST_NUMBERS = 2_000_000
# Points of each deviation, and the lightest of them.
THIN, LIGHTEST_OF_FEW = 40, 1e-12


def thinned(posterior: MultilevelPosterior) -> MultilevelPosterior:
    """Return the posterior on every n-th point of its grid, for what is laborious."""
    grid = posterior.grid
    if len(grid.u) < 2:
        return posterior
    where = tuple(slice(None, None, max(1, (len(one) - 1) // THIN)) for one in grid.u)
    weight = grid.weight[where]
    few = replace(grid, u=tuple(u[s] for u, s in zip(grid.u, where, strict=True)), weight=weight / weight.sum())
    return with_components(posterior.data, few, few.values(), posterior.tails, lightest=LIGHTEST_OF_FEW)


def row_effects(posterior: MultilevelPosterior, rows: GroupedRows) -> NormalMixture:
    """Return the posteriors of the k true effects, in the order of the data."""
    few = thinned(posterior)
    k, B = len(rows.y), len(few.weight)
    mean, variance = np.empty((k, B)), np.empty((k, B))
    s1, s2 = few.between**2, few.within**2
    for where, V in rows.clusters:
        n, m = V.shape[:2]
        y, X, flat = rows.y[where].reshape(n, m), rows.X[where].reshape(n, m, -1), rows.index[where]
        size = max(1, MOST_NUMBERS // (n * m * m))
        for a in range(0, B, size):
            s = slice(a, a + size)
            T = s1[s, None, None, None] + s2[s, None, None, None] * np.eye(m)
            # V M^-1, the weight of the fitted value beside the effect itself.
            towards = np.swapaxes(np.linalg.solve(V + T, np.broadcast_to(V, (len(T), n, m, m))), 2, 3)
            gap = y - np.moveaxis(X @ few.mean[s].T, 2, 0)
            mean[flat, s] = (y - (towards @ gap[..., None])[..., 0]).reshape(len(T), -1).T
            spread = (towards @ X) @ np.swapaxes(few.root[s], 1, 2)[:, None]
            own = (towards * T).sum(axis=3) + (spread**2).sum(axis=3)
            variance[flat, s] = own.reshape(len(T), -1).T
    return mixture(few.weight, mean, np.sqrt(variance))


def combination(posterior: MultilevelPosterior, rows: GroupedRows, c: Array, d: Array) -> NormalMixture:
    """Return the posterior of c'coefficients + d'(true effects), with d (k,) in the order of the data."""
    few = thinned(posterior) if d.any() else posterior
    wanted = np.zeros(len(rows.code), dtype=bool)
    wanted[rows.group[d[rows.index] != 0]] = True
    part = rows.only(wanted)
    B = len(few.weight)
    mean, variance = np.full(B, float(d @ _fill(part, len(d)))), np.zeros(B)
    weights = np.tile(c, (B, 1))
    for where, V in part.clusters:
        n, m = V.shape[:2]
        y, X = part.y[where].reshape(n, m), part.X[where].reshape(n, m, -1)
        Vd = (V @ d[part.index[where]].reshape(n, m, 1))[:, :, 0]
        size = max(1, MOST_NUMBERS // (n * m * m))
        for a in range(0, B, size):
            s = slice(a, a + size)
            T = few.between[s, None, None, None] ** 2 + few.within[s, None, None, None] ** 2 * np.eye(m)
            # M^-1 V d: how much each row's distance from its fitted value takes away.
            pull = np.linalg.solve(V + T, np.broadcast_to(Vd[..., None], (len(T), n, m, 1)))[..., 0]
            mean[s] -= np.einsum("bnm,nm->b", pull, y)
            weights[s] += np.einsum("bnm,nmp->bp", pull, X)
            variance[s] += float(np.einsum("nm,nm->", Vd, d[part.index[where]].reshape(n, m)))
            variance[s] -= np.einsum("bnm,nm->b", pull, Vd)
    mean += (weights * few.mean).sum(axis=1)
    variance += ((few.root @ weights[:, :, None])[:, :, 0] ** 2).sum(axis=1)
    return mixture(few.weight, mean[None], np.sqrt(variance)[None])


def _fill(rows: GroupedRows, k: int) -> Array:
    y = np.zeros(k)
    y[rows.index] = rows.y
    return y


# Above this error a grid does not serve another density than its own.
ENOUGH = 1e-9
# Part of the range of a limited deviation within which nothing may lie where the limit comes in between.
NEAR = 0.8


def kept_points(grid: Grid) -> Mask:
    """Return which points of a grid count, in the shape of its weights."""
    return grid.weight > LIGHTEST * grid.weight.max()


def checks(grid: Grid) -> Array:
    """Return for each point that counts: whether it is an even one of each axis, and whether it lies at the rim."""
    kept = kept_points(grid)
    i, j = np.nonzero(kept)
    padded = np.zeros((kept.shape[0] + 2, kept.shape[1] + 2), dtype=bool)
    padded[1:-1, 1:-1] = kept
    for axis, (line, u) in enumerate(zip(grid.lines, grid.u, strict=True)):
        for end in (0, -1):
            # Nothing is lost where a parameter cannot go any further.
            if abs(u[end] - line.span[end]) < 1e-9:
                edge: list[slice | int] = [slice(None), slice(None)]
                edge[axis] = end
                padded[tuple(edge)] = True
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.column_stack([i % 2 == 0, j % 2 == 0, ~inside[kept]]).astype(float)


def error_of(share: Array) -> Array:
    """Return the error of sums whose parts `share` (..., 3) fall on even points of each axis and on the rim."""
    return ((2.0 * share[..., :2] - 1.0) ** 2).sum(axis=-1) + share[..., 2]


def with_priors(
    posterior: MultilevelPosterior, old: Sequence[TauDensity], new: Sequence[TauDensity]
) -> MultilevelPosterior | None:
    """Return the posterior under other priors of the deviations by weighing its points anew; None where they lack."""
    logs = np.log(posterior.weight)
    near = np.zeros(len(logs), dtype=bool)
    for before, after, at in zip(old, new, (posterior.between, posterior.within), strict=True):
        if after is before:
            continue
        logs = logs + after.log_density(at) - before.log_density(at)
        if after.upper < before.upper:
            near |= at > NEAR * after.upper
        elif after.upper > before.upper:
            near |= at > NEAR * before.upper
    top = logs.max()
    if not np.isfinite(top):
        return None
    weight = np.exp(logs - top)
    total = float(weight.sum())
    share = weight / total
    error = float(error_of(share @ checks(posterior.grid)) + share[near].sum()) + posterior.error
    if error > max(ENOUGH, 10.0 * posterior.error):
        return None
    shares = np.zeros(posterior.grid.weight.shape)
    shares[kept_points(posterior.grid)] = share
    integral = posterior.log_marginal + float(top) + float(np.log(total))
    heavy = share > LIGHTEST * share.max()
    return replace(
        posterior,
        grid=replace(posterior.grid, weight=shares, log_integral=integral, error=error),
        between=posterior.between[heavy],
        within=posterior.within[heavy],
        weight=share[heavy] / share[heavy].sum(),
        mean=posterior.mean[heavy],
        root=posterior.root[heavy],
        log_marginal=integral,
        error=error,
        tails=tails_of(posterior.data, new),
    )


def total_and_share(data: MultilevelData, priors: Sequence[TauDensity]) -> Grid:
    """Return the posterior of the total standard deviation and of the logit of its share between groups."""
    heads = [prior.head for prior in priors]

    def log_density(total: Array, logit: Array) -> Array:
        """Return the log posterior of the total and of the logit of the share."""
        own, other = special.log_expit(logit), special.log_expit(-logit)
        between, within = total * np.exp(0.5 * own), total * np.exp(0.5 * other)
        logs: Array = np.log(0.5 * total) + 0.5 * (own + other)
        logs = logs + priors[0].log_density(between) + priors[1].log_density(within)
        inside = np.isfinite(logs)
        logs[inside] += given_deviations(data, between[inside], within[inside]).loglik
        return logs

    upper = float(np.hypot(priors[0].upper, priors[1].upper))
    depth = max(moment_depth(tail, DEPTH) for tail in tails_of(data, priors))
    total = line_of(upper, data).reaching(head=sum(heads))
    end = float(np.arcsinh(min(NOTHING / min(heads), SMALLEST)))
    lines = (total, RealLine(0.0, 2.0, (-end, end)))
    return integrate_grid(log_density, lines, tolerance=TOLERANCE, depth=depth, power=2.0)


Densities = tuple[TauDensity, TauDensity]


def multilevel_exists(data: MultilevelData, priors: Densities, powers: Powers) -> bool:
    """Return whether the posterior with these powers is proper."""
    return min(_powered_tails(data, priors, powers)) > 1.0


def solve_multilevel_power(data: MultilevelData, priors: Densities, powers: Powers) -> MultilevelPosterior:
    """Return the posterior whose parts are raised to these powers; its marginal likelihood has no meaning."""
    a = powers.likelihood
    scaled = replace(data, precision=data.precision * (powers.coefficients / a))

    def log_joint(between: Array, within: Array) -> Array:
        """Return the log of what is integrated."""
        given = given_deviations(scaled, between, within)
        logs = a * given.loglik + (1.0 - a) * np.linalg.slogdet(given.root)[1]
        for prior, one in zip(priors, (between, within), strict=True):
            logs = logs + powers.tau * prior.log_density(one)
        return logs

    depth, lines = reach(data, _powered_tails(data, priors, powers), priors)
    grid = integrate_grid(log_joint, lines, tolerance=TOLERANCE, depth=depth, power=2.0)
    found = with_components(scaled, grid, grid.values(), _powered_tails(data, priors, powers))
    return replace(found, root=found.root / np.sqrt(a))


def _powered_tails(data: MultilevelData, priors: Densities, powers: Powers) -> tuple[float, float]:
    own = tails_of(data, priors)
    rows = (len(data.starts), len(data.y))
    less = [
        (1.0 - powers.tau) * prior.tail + (1.0 - powers.likelihood) * n if np.isfinite(prior.tail) else 0.0
        for prior, n in zip(priors, rows, strict=True)
    ]
    return own[0] - less[0], own[1] - less[1]


# Points of the table from which a quantile is found, and Newton's steps from there.
TABLE, STEPS = 501, 3
TINY = 1e-300


def draw_deviations(posterior: MultilevelPosterior, probability: Array) -> tuple[Array, Array]:
    """Turn uniform numbers (n, 2) into draws of both deviations, (n,) each: one, then the other given it."""
    grid = posterior.grid
    first, second = grid.marginal(0), grid.marginal(1)
    u = _inverse(first, np.broadcast_to(first.weight, (len(probability), len(first.weight))), probability[:, 0])
    # The density along the second axis at any value of the first, by the same series.
    along = np.maximum(first.heights(u) @ grid.weight, 0.0)
    along = along / along.sum(axis=1, keepdims=True)
    v = _inverse(second, along, probability[:, 1])
    return first.line.value(u), second.line.value(v)


def _inverse(density: SincDensity, weight: Array, p: Array) -> Array:
    """Return the p-quantile in u of each row of weights (n, m)."""
    table = np.linspace(density.u[0], density.u[-1], TABLE)
    rough = np.maximum.accumulate(weight @ density.steps(table).T, axis=1)
    at = np.clip((rough < p[:, None]).sum(axis=1), 1, TABLE - 1)
    low, high = table[at - 1], table[at]
    i = np.arange(len(p))
    below, above = rough[i, at - 1], rough[i, at]
    u = low + (high - low) * np.clip((p - below) / np.maximum(above - below, TINY), 0.0, 1.0)
    for _ in range(STEPS):
        excess = np.einsum("nm,nm->n", weight, density.steps(u)) - p
        slope = np.einsum("nm,nm->n", weight, density.heights(u))
        u = np.clip(u - excess / np.maximum(slope, TINY), low, high)
    return u


def draw_effects(
    posterior: MultilevelPosterior, between: Array, within: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw coefficients (n, p) and true effects (n, k), in the order of the data, given both deviations (n,).

    Effects are simulated together with data, and moved by as much as the data differ from those simulated: what comes
    out has the conditional distribution (Hoffman & Ribak 1991, doi:10.1086/186160).
    """
    data, laid = posterior.data, posterior.data.laid
    n, k = len(between), len(data.y)
    coefficients = np.empty((n, data.X.shape[1]))
    effects = np.empty((n, k))
    group = np.cumsum(np.bincount(data.starts, minlength=k)) - 1
    size = max(1, MOST_CELLS // (k * (data.X.shape[1] + 2)))
    for a in range(0, n, size):
        s = slice(a, a + size)
        s1, s2 = between[s, None], within[s, None]
        given = given_deviations(data, between[s], within[s])
        noise = rng.standard_normal(given.mean.shape)
        coefficients[s] = given.mean + np.einsum("nij,ni->nj", given.root, noise)
        shared = s1 * rng.standard_normal((len(s1), len(data.starts)))[:, group]
        own = s2 * rng.standard_normal((len(s1), k))
        error = np.sqrt(data.d) * rng.standard_normal((len(s1), k))
        # In the axes in which sampling errors are independent; there rows move with their group by W.
        residual = data.y - (coefficients[s] - data.centre) @ data.X.T - (shared * data.W + own + error)
        w = 1.0 / (data.d + s2**2)
        sums = np.add.reduceat(w * data.W * residual, data.starts, axis=1)
        inner = 1.0 + s1**2 * np.add.reduceat(w * data.W**2, data.starts, axis=1)
        solved = w * (residual - data.W * (s1**2 * sums / inner)[:, group])
        along = np.add.reduceat(data.W * solved, data.starts, axis=1)[:, group]
        turned = coefficients[s] @ data.X.T + data.W * (shared + s1**2 * along) + own + s2**2 * solved
        effects[s] = laid.restore(turned.T).T
    return coefficients, effects
