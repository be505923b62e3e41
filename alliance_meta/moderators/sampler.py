"""Draws of missing moderators from their joint posterior with the meta-regression, many chains at once.

Gibbs sampling with one Metropolis step per missing value. The meta-regression says how likely the effect is
given the moderators; the moderators follow one another, categorical ones first, each given those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate.search import log_likelihood
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.design import Design
from alliance_meta.errors import DesignError, InputError

# Standardised predictors: a prior standard deviation of three residual standard deviations per slope.
RIDGE = 0.1
GRID = 80
# The largest tau considered, in standard deviations of the effects.
WIDEST = 6.0


@dataclass(frozen=True, eq=False)
class Column:
    """A moderator as the sampler sees it."""

    name: str
    levels: tuple[Any, ...]  # values of a categorical moderator, empty for a numeric one
    values: Array  # (k,): codes of the levels, or standardised numbers; NaN where missing
    missing: Mask  # (k,)
    # centre, spread: what standardised a numeric moderator.
    centre: float = 0.0
    spread: float = 1.0
    bounded: bool = False  # whether values outside those observed cannot be coded (logarithms, splines)

    def decode(self, values: Array) -> AnyArray:
        """Return the values in units of the table."""
        if not self.levels:
            return values * self.spread + self.centre
        numeric = all(isinstance(level, float) for level in self.levels)
        levels = np.empty(len(self.levels), dtype=float if numeric else object)
        levels[:] = self.levels
        return levels[values.astype(int)]


@dataclass(frozen=True, eq=False)
class Chains:
    """What the sampler returns."""

    values: Mapping[str, AnyArray]  # (m, k) each: completed columns, in units of the table
    X: Array  # (m, k, p): completed design matrices
    beta: Array  # (sweeps, m, p): coefficients along the way
    accepted: float  # share of Metropolis proposals accepted


class Sampler:
    """Chains of completed data; `columns` in the order in which they are modelled, incomplete or not."""

    def __init__(
        self, y: Array, v: Array, design: Design, columns: Sequence[Column], *, m: int, rng: np.random.Generator
    ) -> None:
        self.y, self.v, self.design, self.columns, self.m, self.rng = y, v, design, tuple(columns), m, rng
        sei = np.sqrt(v)
        spread = float(sei.std())
        self.sei = (sei - sei.mean()) / spread if spread > 1e-8 * float(sei.mean()) else None
        self.tau = WIDEST * float(y.std()) * np.linspace(0.0, 1.0, GRID) ** 2
        self.state = {column.name: self._start(column) for column in columns}
        first = next(i for i, column in enumerate(columns) if column.missing.any())
        self.modelled = range(first, len(self.columns))
        self.parameters: dict[int, tuple[Array, ...]] = {}
        everything = np.arange(len(y))
        self.X = self._code(self.state, everything)
        self.beta = np.zeros((m, design.p))
        self.tau2 = np.zeros(m)
        self.tries, self.hits = 0, 0

    def run(self, sweeps: int) -> Chains:
        """Run every chain for so many sweeps and return where they end."""
        path = np.empty((sweeps, self.m, self.design.p))
        for sweep in range(sweeps):
            self._draw_regression()
            for j in self.modelled:
                self.parameters[j] = self._draw_model(j)
            for j in self.modelled:
                if self.columns[j].missing.any():
                    self._draw_missing(j)
            path[sweep] = self.beta
        units = {c.name: c.decode(self.state[c.name]) for c in self.columns}
        return Chains(units, self.X, path, self.hits / max(self.tries, 1))

    def _start(self, column: Column) -> Array:
        observed = column.values[~column.missing]
        values = np.tile(column.values, (self.m, 1))
        values[:, column.missing] = self.rng.choice(observed, (self.m, int(column.missing.sum())))
        return values

    def _code(self, state: Mapping[str, Array], rows: AnyArray) -> Array:
        """Return the design of the rows (n,) in every chain, (m, n, p)."""
        table = {}
        for column in self.columns:
            if column.name in self.design.variables:
                flat = state[column.name][:, rows].ravel()
                table[column.name] = column.decode(flat)
        return self.design.new_rows(pd.DataFrame(table), averaged=True)[0].reshape(self.m, len(rows), -1)

    def _draw_regression(self) -> None:
        """Draw tau from its posterior under a flat prior, then the coefficients given tau."""
        tau2 = self.tau**2
        shape = (GRID, len(self.y))
        for c in range(self.m):
            if np.linalg.matrix_rank(self.X[c]) < self.design.p:
                raise DesignError(
                    "an imputed data set leaves a combination of levels without effects; use fewer interactions"
                )
            batch = make_batch(np.broadcast_to(self.y, shape), np.broadcast_to(self.v, shape), self.X[c])
            height = log_likelihood(wls(batch, tau2), restricted=True)
            self.tau2[c] = self._from_grid(np.exp(height - height.max())) ** 2
            fit = wls(make_batch(self.y, self.v, self.X[c]), self.tau2[c : c + 1])
            root = np.linalg.cholesky(fit.vb[0])
            self.beta[c] = fit.beta[0] + root @ self.rng.standard_normal(self.design.p)

    def _from_grid(self, density: Array) -> float:
        areas = np.r_[0.0, np.cumsum(np.diff(self.tau) * (density[1:] + density[:-1]) / 2.0)]
        return float(np.interp(self.rng.random() * areas[-1], areas, self.tau))

    def _predictors(self, j: int, state: Mapping[str, Array], rows: AnyArray) -> Array:
        """Return what a numeric moderator is regressed on, (m, n, q)."""
        n = len(rows)
        parts: list[Array] = [np.ones((self.m, n, 1))]
        if self.sei is not None:
            parts.append(np.broadcast_to(self.sei[rows][None, :, None], (self.m, n, 1)))
        for column in self.columns[:j]:
            values = state[column.name][:, rows]
            others = np.arange(1, len(column.levels)) if column.levels else None
            parts.append(values[..., None] if others is None else (values[..., None] == others).astype(float))
        return np.concatenate(parts, axis=2)

    def _cells(self, j: int, state: Mapping[str, Array], rows: AnyArray) -> AnyArray:
        """Return the combination of the earlier categorical moderators, (m, n)."""
        cell = np.zeros((self.m, len(rows)), dtype=int)
        for column in self.columns[:j]:
            cell = cell * len(column.levels) + state[column.name][:, rows].astype(int)
        return cell

    def _draw_model(self, j: int) -> tuple[Array, ...]:
        column, rows = self.columns[j], np.arange(len(self.y))
        x = self.state[column.name]
        if column.levels:
            cells = self._cells(j, self.state, rows)
            n_cells = int(np.prod([len(one.levels) for one in self.columns[:j]], dtype=int))
            counts = np.zeros((self.m, n_cells, len(column.levels)))
            np.add.at(counts, (np.arange(self.m)[:, None], cells, x.astype(int)), 1.0)
            share = self.rng.standard_gamma(counts + 1.0 / len(column.levels))
            share = np.maximum(share, 1e-300)
            return (share / share.sum(axis=2, keepdims=True),)
        Z = self._predictors(j, self.state, rows)
        q = Z.shape[2]
        A = np.einsum("mkq,mkr->mqr", Z, Z) + np.diag([0.0] + [RIDGE] * (q - 1))
        b = np.einsum("mkq,mk->mq", Z, x)
        mean = np.linalg.solve(A, b[..., None])[..., 0]
        rss = np.einsum("mk,mk->m", x, x) - np.einsum("mq,mq->m", b, mean)
        sigma = np.sqrt(np.maximum(rss, 1e-12) / self.rng.chisquare(len(rows) - q, self.m))
        root = np.linalg.cholesky(np.linalg.inv(A))
        noise = np.einsum("mqr,mr->mq", root, self.rng.standard_normal((self.m, q)))
        return mean + sigma[:, None] * noise, sigma

    def _propose(self, j: int, rows: AnyArray) -> Array:
        column = self.columns[j]
        if column.levels:
            share = np.take_along_axis(self.parameters[j][0], self._cells(j, self.state, rows)[..., None], axis=1)
            steps = np.cumsum(share, axis=2)[..., :-1]
            return (self.rng.random((self.m, len(rows), 1)) > steps).sum(axis=2).astype(float)
        gamma, sigma = self.parameters[j]
        mean = np.einsum("mnq,mq->mn", self._predictors(j, self.state, rows), gamma)
        return mean + sigma[:, None] * self.rng.standard_normal(mean.shape)

    def _log_density(self, j: int, state: Mapping[str, Array], rows: AnyArray) -> Array:
        """Return the log density of a modelled column given the earlier ones, up to a constant, (m, n)."""
        column = self.columns[j]
        x = state[column.name][:, rows]
        if column.levels:
            chain = np.arange(self.m)[:, None]
            return np.log(self.parameters[j][0][chain, self._cells(j, state, rows), x.astype(int)])
        gamma, sigma = self.parameters[j]
        mean = np.einsum("mnq,mq->mn", self._predictors(j, state, rows), gamma)
        return -0.5 * ((x - mean) / sigma[:, None]) ** 2

    def _draw_missing(self, j: int) -> None:
        """Propose every missing value from the earlier moderators; accept by the effect and the later ones."""
        column = self.columns[j]
        rows = np.flatnonzero(column.missing)
        old = self.state[column.name]
        proposal = self._propose(j, rows)
        if column.bounded:
            observed = column.values[~column.missing]
            outside = (proposal < observed.min()) | (proposal > observed.max())
            proposal = np.where(outside, old[:, rows], proposal)
        new = old.copy()
        new[:, rows] = proposal
        state = {**self.state, column.name: new}
        gain = np.zeros(proposal.shape)
        for later in self.modelled:
            if later > j:
                gain += self._log_density(later, state, rows) - self._log_density(later, self.state, rows)
        X = self.X[:, rows]
        if column.name in self.design.variables:
            X = self._code(state, rows)
            spread = self.tau2[:, None] + self.v[rows]
            before, after = (self.y[rows] - np.einsum("mnp,mp->mn", one, self.beta) for one in (self.X[:, rows], X))
            gain += 0.5 * (before**2 - after**2) / spread
        taken = np.log(self.rng.random(gain.shape)) < gain
        self.tries += taken.size
        self.hits += int(taken.sum())
        current = old[:, rows]
        old[:, rows] = np.where(taken, proposal, current)
        self.X[:, rows] = np.where(taken[..., None], X, self.X[:, rows])


def can_extrapolate(design: Design, frame: pd.DataFrame, name: str) -> bool:
    """Return whether values of a numeric moderator far outside the observed ones can be coded."""
    x = frame[name].to_numpy(dtype=float)
    width = float(np.ptp(x))
    row = frame[list(design.variables)].head(1)
    try:
        far = [row.assign(**{name: value}) for value in (x.min() - 9 * width, x.max() + 9 * width)]
        X = [design.new_rows(one, averaged=True)[0] for one in far]
    except InputError:
        return False
    return bool(np.isfinite(X).all())
