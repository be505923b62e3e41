"""Missing moderators: completed tables that agree with a meta-regression, and the regression pooled over them.

Draws of missing moderators from their joint posterior with the meta-regression, many chains at once.

Gibbs sampling with one Metropolis step per missing value. The meta-regression says how likely the effect is
given the moderators; the moderators follow one another, categorical ones first, each given those before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.pooling import Pooled, pool
from alliance_meta.core.univariate.fit import GENERALISED_Q, fit_univariate
from alliance_meta.core.univariate.search import log_likelihood
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.design import Design, build_design
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError, quiet
from alliance_meta.notes import (
    NotApplicable,
    Note,
    Tau2Method,
    Test,
    check_level,
    check_option,
    did_you_mean,
    merge_notes,
    warn_note,
)
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import records_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed, format_level

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


@dataclass(frozen=True, eq=False, repr=False)
class ImputedModerators(Result):
    """Several completions of a table of moderators.

    Attributes
    ----------
    effects : EffectSizes
        All effects, also those that lack a moderator.
    mods : str
        The meta-regression the imputations agree with.
    m, seed, sweeps : int
    missing : mapping of str to int
        Missing values of each moderator.
    frames : tuple of DataFrame
        The m completed tables.
    accepted : float
        Share of proposed values that were accepted.
    design : Design
        The coding, the same in every data set.
    X : ndarray of shape (m, k, p)
        The m completed design matrices.
    """

    effects: EffectSizes
    mods: str
    m: int
    seed: int
    sweeps: int
    missing: dict[str, int]
    frames: tuple[pd.DataFrame, ...]
    accepted: float
    notes: tuple[Note, ...]
    design: Design
    X: Array

    def tidy(self) -> pd.DataFrame:
        """Return one row per moderator: ``k`` effects, ``missing`` values and their ``share``."""
        counts = pd.Series(self.missing, dtype=int)
        return pd.DataFrame({"k": self.effects.k, "missing": counts, "share": counts / self.effects.k})

    def _values(self) -> dict[str, Any]:
        gaps = {name: [int(i) for i in np.flatnonzero(self._missing(name))] for name in self.missing}
        values = {name: [frame[name].iloc[rows].tolist() for frame in self.frames] for name, rows in gaps.items()}
        found = {"k": self.effects.k, "missing": self.missing, "rows": gaps, "imputed": values}
        return {**self._these("mods", "m", "seed", "sweeps", "accepted"), **found}

    def _content(self) -> Document:
        title = f"{self.m} imputations for mods = {self.mods!r} (k = {self.effects.k}, seed {self.seed})"
        table = table_of(self.tidy(), {"k": 0, "missing": 0, "share": 3})
        return wording.document(self, title, (), table)

    def _missing(self, name: str) -> Mask:
        return self.effects.moderators[name].isna().to_numpy()


@dataclass(frozen=True, eq=False, repr=False)
class ImputedResults(Result):
    """A meta-regression pooled over imputed data sets.

    Attributes
    ----------
    imputed : ImputedModerators
    names : tuple of str
    pooled : Pooled
        Coefficients, total covariance and what the missing values cost.
    stat, pval, ci_lb, ci_ub : ndarray of shape (p,)
    tau2s : ndarray of shape (m,)
        Between-study variance in each data set.
    method, test : str
    level : float
    """

    imputed: ImputedModerators
    names: tuple[str, ...]
    pooled: Pooled
    stat: Array
    pval: Array
    ci_lb: Array
    ci_ub: Array
    tau2s: Array
    method: Tau2Method
    test: Test
    level: float
    notes: tuple[Note, ...]

    @property
    def tau2(self) -> float:
        """Mean of the between-study variances of the imputed data sets."""
        return float(self.tau2s.mean())

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient, unrounded, on the analysis scale.

        ``estimate se stat ddf pval ci_lb ci_ub``; ``fmi``, the fraction of the information on it that is
        missing; ``riv``, the relative increase in its variance; ``mcse``, the Monte Carlo error of the
        estimate, which falls with m.
        """
        columns = {
            "estimate": self.pooled.beta,
            "se": self.pooled.se,
            "stat": self.stat,
            "ddf": self.pooled.df,
            **self._these("pval", "ci_lb", "ci_ub"),
            "fmi": self.pooled.fmi,
            "riv": self.pooled.riv,
            "mcse": self.pooled.mcse,
        }
        out = pd.DataFrame(columns, index=pd.Index(self.names, name="term"))
        out.attrs.update(scale=self.imputed.effects.scale_label, level=self.level)
        return out

    def _values(self) -> dict[str, Any]:
        gone = NotApplicable("the coefficient has no variance")
        rows = [
            {**row, **(dict.fromkeys(("stat", "pval"), gone) if np.isnan(row["stat"]) else {})}
            for row in records_of(self.tidy().reset_index())
        ]
        return {
            **self.imputed._these("mods", "m", "seed", "missing"),
            **self._these("method", "test", "level", "tau2", "tau2s"),
            "k": self.imputed.effects.k,
            "coefficients": rows,
            "vb": self.pooled.vb,
        }

    def _content(self) -> Document:
        imputed = self.imputed
        kinds: dict[str, Kind] = {"estimate": 4, "se": 4, "ddf": "df", "pval": "p", "ci_lb": 4, "ci_ub": 4, "fmi": 2}
        return wording.document(
            self,
            f"Meta-regression pooled over {imputed.m} imputed data sets (k = {imputed.effects.k})",
            [
                f"Moderators: {imputed.mods}; {self.method}, {self.test}; {imputed.effects.scale_label}; "
                f"{format_level(self.level)} intervals; mean tau2 {fixed(self.tau2)}"
            ],
            table_of(self.tidy(), kinds),
            effects=imputed.effects,
        )


# Observed values needed beyond the coefficients of the model that imputes a numeric moderator.
SPARE = 3
# Gelman and Rubin's ratio above which the chains have not mixed.
MIXED = 1.1
MAR = (
    "Valid if moderators are missing at random: whether a value was reported may depend on the effects, their "
    "precision and the other moderators, not on the unreported value itself."
)


def impute_moderators(
    effects: EffectSizes,
    *,
    mods: str,
    m: int = 20,
    seed: int,
    auxiliary: Sequence[str] = (),
    sweeps: int = 100,
) -> ImputedModerators:
    r"""Fill gaps in moderators several times, with values that fit the effects and the other moderators.

    Leaving out every study that did not report a moderator wastes what it did report, and biases the result
    when reporting depends on the effect. Imputation fills each gap with draws of what the value may have
    been; their spread carries the doubt into the results of `fit_imputed`.

    Parameters
    ----------
    effects : EffectSizes
    mods : str
        The meta-regression that will be fitted, as for `RandomEffectsModel`; interactions and curves are
        respected.
    m : int
        Number of completed data sets.
    seed : int
        The same seed gives the same result.
    auxiliary : sequence of str
        More moderators that predict the missing ones, or whether they are missing.
    sweeps : int
        Length of each chain; every data set ends its own.

    Returns
    -------
    ImputedModerators
        ``.frames`` holds the completed tables. Without a gap they are all the same.

    Raises
    ------
    InputError
        A moderator without any value, too few observed values, an unknown auxiliary, m below 2.
    DesignError
        The meta-regression cannot be fitted to these moderators.

    Warns
    -----
    ConvergenceWarning
        The chains had not mixed; raise `sweeps`.
    RedundantModeratorWarning
        A column that is a combination of earlier ones once gaps are filled by mean or most frequent level is
        left out of every data set.

    Notes
    -----
    Draws from the joint posterior of the missing values and
    :math:`y_i \sim N(x_i'\beta, \tau^2 + v_i)` (flat priors for :math:`\beta` and :math:`\tau`), with the
    moderators modelled one after the other: categorical ones by the share of their levels within the
    combinations of the categorical ones before, numeric ones by a linear regression on all before and on the
    standard errors. Each missing value is proposed from its moderator's model and accepted by how well it
    fits the effect and the later moderators, so that the imputations agree with the meta-regression, its
    interactions and unequal variances included (Bartlett et al. 2015, doi:10.1177/0962280214521348; sequential
    models: Erler et al. 2016, doi:10.1002/sim.6944). ``center``, ``poly`` and ``bs`` take their centre and knots
    from the data with gaps filled by the mean or most frequent level, the same in every data set. A numeric
    value is imputed as a normal one: it need not be whole, and lies in the observed range only where the
    formula demands it. Not covered: missing effects or variances, and values missing not at random.
    R: ``smcfcs``, ``JointAI``.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.moderators import fit_imputed, impute_moderators
    >>> es = escalc(load_dataset("mcdaniel1994"))
    >>> imputed = impute_moderators(es, mods="struct + type", m=3, seed=1, sweeps=40)
    >>> imputed.missing
    {'type': 3, 'struct': 15}
    >>> fit_imputed(imputed).names
    ('intrcpt', 'struct[T.u]', 'type[T.p]', 'type[T.s]')
    """
    _check_counts(m, seed, sweeps)
    moderators = effects.moderators
    _check_auxiliary(auxiliary, moderators)
    design, columns = _design(effects, mods, auxiliary)
    columns.sort(key=lambda column: (not column.levels, int(column.missing.sum())))
    missing = {column.name: int(column.missing.sum()) for column in columns if column.missing.any()}
    if not missing:
        X = np.broadcast_to(design.X, (m, *design.X.shape))
        note = Note("nothing-missing", "No moderator is missing: every imputed data set is the data.")
        notes = (*design.notes, note)
        return ImputedModerators(effects, mods, m, seed, sweeps, {}, (moderators,) * m, 1.0, notes, design, X)
    _check_room(columns, design, effects.k)
    sampler = Sampler(effects.yi, effects.vi, design, columns, m=m, rng=np.random.default_rng(seed))
    chains = sampler.run(sweeps)
    frames = tuple(_completed(moderators, columns, chains.values, c) for c in range(m))
    missing_notes = (_missing_note(missing, effects.k), Note("missing-at-random", MAR))
    notes = (*design.notes, *missing_notes, *_mixing(chains.beta, sweeps))
    return ImputedModerators(effects, mods, m, seed, sweeps, missing, frames, chains.accepted, notes, design, chains.X)


def fit_imputed(
    imputed: ImputedModerators, *, method: Tau2Method = "REML", test: Test = "knha", level: float = 0.95
) -> ImputedResults:
    r"""Fit the meta-regression to every imputed data set and pool the results by Rubin's rules.

    Parameters
    ----------
    imputed : ImputedModerators
        From `impute_moderators`.
    method, test, level
        As in `RandomEffectsModel`; not the generalised Q estimators.

    Returns
    -------
    ImputedResults
        ``.tidy()`` adds to each coefficient the fraction of missing information, ``fmi``: 0 when the gaps cost
        nothing, near 1 when almost all that is said of it was imputed.

    Raises
    ------
    InputError
        An unknown option.

    Notes
    -----
    With W the mean of the m covariances and B the covariance of the m estimates, the variance is
    :math:`T = W + (1 + 1/m) B` (Rubin 1987); t with Barnard & Rubin's (1999, doi:10.1093/biomet/86.4.948) degrees
    of freedom, from k - p for t-type inference. About 100 times the largest ``fmi`` is a good m (White,
    Royston & Wood 2011, doi:10.1002/sim.4067). tau2 is the mean over the data sets. Not pooled: QM, QE, I2, R2
    and prediction intervals. R: ``mice::pool``.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.moderators import fit_imputed, impute_moderators
    >>> imputed = impute_moderators(escalc(load_dataset("molloy2014")), mods="quality", m=2, seed=1)
    >>> fit_imputed(imputed).tidy()["fmi"].tolist()
    [0.0, 0.0]
    """
    check_option("method", method, Tau2Method)
    check_option("test", test, Test)
    check_level(level)
    if method in GENERALISED_Q:
        raise InputError(f"method={method!r} weights effects in its own way and is not pooled; use 'REML' or 'DL'")
    effects = imputed.effects
    fits = [fit_univariate(effects.yi, effects.vi, X, method=method, test=test, level=level) for X in imputed.X]
    beta = np.array([fit.beta for fit in fits])
    vb = np.array([fit.coefficients.vb for fit in fits])
    pooled = pool(beta, vb, df=fits[0].coefficients.df)
    half = np.array([critical_value(level, None if np.isinf(df) else df) for df in pooled.df]) * pooled.se
    stat = np.full(len(pooled.beta), np.nan)
    np.divide(pooled.beta, pooled.se, out=stat, where=pooled.se > 1e-12 * abs(pooled.beta).max())
    pval = [two_sided_p(s, None if np.isinf(df) else df) for s, df in zip(stat, pooled.df, strict=True)]
    stuck = sum(not bool(fit.tau2.converged[0]) for fit in fits)
    return ImputedResults(
        imputed=imputed,
        names=imputed.design.names,
        pooled=pooled,
        stat=stat,
        pval=np.array(pval),
        ci_lb=pooled.beta - half,
        ci_ub=pooled.beta + half,
        tau2s=np.array([float(fit.tau2.tau2[0]) for fit in fits]),
        method=method,
        test=test,
        level=level,
        notes=merge_notes(
            effects.notes, imputed.notes, _fit_notes(pooled, imputed.m, stuck), dependence_notes(effects, stacklevel=4)
        ),
    )


def _check_counts(m: int, seed: int, sweeps: int) -> None:
    for name, value, lowest in (("m", m, 2), ("seed", seed, 0), ("sweeps", sweeps, 1)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
            raise InputError(f"{name}={value!r} must be a whole number of at least {lowest}")


def _check_auxiliary(auxiliary: Sequence[str], moderators: pd.DataFrame) -> None:
    if isinstance(auxiliary, str):
        raise InputError("auxiliary is a list of moderators, such as ['year']")
    known = [str(name) for name in moderators]
    for name in auxiliary:
        if name not in known:
            raise InputError(f"auxiliary: no column {name!r}{did_you_mean(name, known)} Columns: {', '.join(known)}")


def _design(effects: EffectSizes, mods: str, auxiliary: Sequence[str]) -> tuple[Design, list[Column]]:
    """Return the design of all effects, gaps filled by mean or most frequent level, and the columns that count."""
    moderators = effects.moderators
    coded = _filled(moderators, moderators.columns)
    with quiet():
        levels = build_design(mods, coded, labels=effects.slab).levels
    filled = _filled(moderators, levels)
    design = build_design(mods, filled, labels=effects.slab)
    if not design.variables:
        raise DesignError("mods='1' has no moderators to impute")
    names = list(dict.fromkeys([*design.variables, *auxiliary]))
    bounded = [n for n in design.variables if n not in design.levels and not can_extrapolate(design, filled, n)]
    return design, [_column(name, design, moderators, bounded=name in bounded) for name in names]


def _filled(moderators: pd.DataFrame, categorical: Iterable[str]) -> pd.DataFrame:
    """Fill gaps by the most frequent level of categorical moderators and of text, by the mean of numbers."""
    filled, categorical = moderators.copy(), set(categorical)
    for name, column in moderators.items():
        if column.notna().any() and column.isna().any():
            number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
            mean = number and name not in categorical
            filled[name] = column.fillna(column.mean() if mean else column.mode().iloc[0])
    return filled


def _column(name: str, design: Design, moderators: pd.DataFrame, *, bounded: bool) -> Column:
    column = moderators[name]
    missing = column.isna().to_numpy()
    if missing.all():
        raise InputError(f"{name!r} has no value at all; leave it out")
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if name in design.levels or not numeric:
        observed = [float(value) if numeric else value for value in column[~missing]]
        levels = tuple(sorted(set(observed), key=str))
        codes = np.full(len(column), np.nan)
        codes[~missing] = [levels.index(value) for value in observed]
        return Column(name, levels, codes, missing)
    x = column.to_numpy(dtype=float, na_value=np.nan)
    centre, spread = float(np.nanmean(x)), float(np.nanstd(x)) or 1.0
    return Column(name, (), (x - centre) / spread, missing, centre, spread, bounded)


def _check_room(columns: Sequence[Column], design: Design, k: int) -> None:
    if k < design.p + 2:
        raise DesignError(f"k = {k} effects are too few for {design.p} coefficients and missing moderators")
    width = 2  # intercept and standard error
    begun = False
    for column in columns:
        begun = begun or bool(column.missing.any())
        observed = int((~column.missing).sum())
        if begun and not column.levels and observed < width + SPARE:
            raise InputError(
                f"{column.name!r} has {observed} values; the model that imputes needs at least {width + SPARE}. "
                "Use fewer moderators, or leave it out"
            )
        width += max(len(column.levels) - 1, 1)


def _completed(
    moderators: pd.DataFrame, columns: Sequence[Column], values: Mapping[str, AnyArray], chain: int
) -> pd.DataFrame:
    out = moderators.copy()
    for column in columns:
        if column.missing.any():
            whole = moderators[column.name].astype(object if column.levels else float)
            whole[column.missing] = values[column.name][chain][column.missing]
            out[column.name] = whole.infer_objects()
    return out


def _missing_note(missing: Mapping[str, int], k: int) -> Note:
    listed = ", ".join(f"{name} {n} ({fixed(100 * n / k, 0)}%)" for name, n in missing.items())
    return Note("imputed-moderators", f"Missing values were imputed, of {k} effects: {listed}.")


def _mixing(path: Array, sweeps: int) -> list[Note]:
    """Compare the spread between chains with that within them, in the second half."""
    late = path[sweeps // 2 :]
    if len(late) < 4:
        message = f"{sweeps} sweeps are too few to see whether the chains mixed; raise sweeps."
        return [Note("mixing-unknown", message)]
    within = late.var(axis=0, ddof=1).mean(axis=0)
    between = late.mean(axis=0).var(axis=0, ddof=1)
    n = len(late)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((n - 1) / n + np.where(within > 0, between / within, 0.0)).max()
    if ratio <= MIXED:
        return []
    message = (
        f"The chains that impute had not mixed (Gelman-Rubin ratio {fixed(ratio, 2)}); raise sweeps above {sweeps}."
    )
    return [warn_note("not-mixed", message, ConvergenceWarning, stacklevel=4)]


def _fit_notes(pooled: Pooled, m: int, stuck: int) -> list[Note]:
    notes = []
    worst = float(pooled.fmi.max())
    if m < 100 * worst:
        share = 100 * worst
        message = f"Up to {fixed(share, 0)}% of the information is missing: use m of about {int(np.ceil(share))}."
        notes.append(Note("few-imputations", message))
    if not (pooled.se > 1e-12 * abs(pooled.beta).max()).all():
        notes.append(Note("no-variance", "The effects leave no residual variance: coefficients cannot be tested."))
    if stuck:
        notes.append(Note("not-converged", f"The search for tau2 had not settled in {stuck} of {m} data sets."))
    return notes
