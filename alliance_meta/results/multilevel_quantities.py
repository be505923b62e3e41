"""What a fitted multilevel model knows: random terms, every number by metafor's names, profile likelihoods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray, SamplingCovariance, pairs
from alliance_meta.core.distributions import chi2_sf, critical_values, two_sided_p
from alliance_meta.core.mixed.covariance import Correlated, Reordered, Scaled, Structure, Term, Unstructured
from alliance_meta.core.mixed.likelihood import Component, MixedPoint
from alliance_meta.core.mixed.profile import ProfileCurve, profile_curve
from alliance_meta.core.mixed.search import MixedFit, observed_information
from alliance_meta.core.univariate.fit import Coefficients, wald_test
from alliance_meta.notes import NotApplicable, Note, Struct
from alliance_meta.results.coefficients import FittedCoefficients, WaldTest
from alliance_meta.results.fit import Noun

if TYPE_CHECKING:
    from alliance_meta.design import Design


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """What varies at random between the groups of a factor."""

    name: str  # the factor (``study_id``), or ``inner | outer``
    # ``ID`` and ``R`` (intercepts, the latter with given correlations), ``CS HCS UN DIAG AR HAR CAR`` (inner levels
    # within outer ones), ``GEN`` (intercept and slopes).
    struct: Struct | str
    parameters: tuple[str, ...]  # names of the parameters that are searched for
    levels: Sequence[str]  # what each group is called
    group: IntArray  # (k,): group of each effect
    structure: Structure  # of the whole term; fits to some of its effects may have one of fewer inner levels
    columns: tuple[str, ...] = ()  # inner levels or slope columns; empty for an intercept
    inner: IntArray | None = None  # (k,) or None: inner level of each effect
    slopes: Design | None = None

    @property
    def outer(self) -> str:
        """The factor whose groups are independent."""
        return self.name.rpartition("|")[2].strip()

    @property
    def within(self) -> str:
        """The inner factor, or the slopes; empty for an intercept."""
        return self.name.rpartition("|")[0].strip()

    @property
    def n(self) -> int:
        """Number of groups."""
        return len(self.levels)

    @property
    def lone(self) -> tuple[str, ...]:
        """The variances of inner levels that a single group has."""
        if self.inner is None or self.structure.constant:
            return ()
        groups = np.bincount(np.unique(np.column_stack([self.inner, self.group]), axis=0)[:, 0])
        return tuple(f"tau2[{self.name}: {c}]" for c, n in zip(self.columns, groups, strict=True) if n == 1)

    @property
    def groupings(self) -> list[IntArray]:
        """The groups, and for ``inner | outer`` the distinct pairs of both: what a moderator can be constant in."""
        if self.slopes is not None:
            rows = np.unique(self.slopes.X, axis=0, return_inverse=True)[1].ravel()
        elif self.inner is not None:
            rows = self.inner
        else:
            return [self.group]
        return [self.group, pairs(self.group, rows)]

    @property
    def of_pairs(self) -> bool:
        """Each distinct pair of inner and outer level has an effect of its own, and these are independent."""
        return self.inner is not None and isinstance(self.structure, Scaled)

    @property
    def ties(self) -> IntArray:
        """Groups that the term leaves independent, (k,)."""
        return np.zeros_like(self.group) if self.structure.linked else self.group

    @property
    def terms(self) -> list[Term]:
        """What the likelihood needs of the term."""
        if self.slopes is not None:
            return [Term(self.group, self.slopes.X)]
        return self.structure.terms(self.group, self.inner, len(self.columns))

    def block(self, theta: Array, structure: Structure, rows: IntArray) -> Array:
        """Return what the term adds to the covariance of rows (n, m), as (n, m, m)."""
        group = self.group[rows]
        same = (group[:, :, None] == group[:, None, :]).astype(float)
        if structure.linked:
            return np.asarray(structure.matrices(theta)[0][group[:, :, None], group[:, None, :]])
        if self.slopes is not None:
            Z = self.slopes.X[rows]
            return np.asarray(same * np.einsum("nmq,qr,nlr->nml", Z, structure.matrices(theta)[0], Z))
        if self.inner is None:
            return float(theta[0]) * same
        inner = self.inner[rows]
        if self.of_pairs:
            return float(theta[0]) * same * (inner[:, :, None] == inner[:, None, :])
        return np.asarray(same * self.matrix(theta, structure)[inner[:, :, None], inner[:, None, :]])

    def matrix(self, theta: Array, structure: Structure) -> Array:
        """Return the covariance of the columns (q, q); (1, 1) where one number says it all."""
        return structure.joint(theta, len(self.columns))


def natural(term: RandomTerm, theta: Array, structure: Structure) -> dict[str, float]:
    """Return variances and correlations by name."""
    if not isinstance(term.structure, Unstructured):
        return dict(zip(term.parameters, map(float, structure.natural(theta)), strict=True))
    G = term.matrix(theta, structure)
    sd = np.sqrt(np.diag(G))
    found = {f"tau2[{term.name}: {c}]": float(G[i, i]) for i, c in enumerate(term.columns)}
    for i in range(len(sd)):
        for j in range(i):
            both = sd[i] * sd[j]
            found[f"rho[{term.name}: {term.columns[j]}, {term.columns[i]}]"] = (
                float(G[i, j] / both) if both > 0 else NotApplicable("a variance is 0")
            )
    return found


def component_table(fit: MixedFit, terms: tuple[RandomTerm, ...]) -> pd.DataFrame:
    """Return one row per variance and correlation: ``estimate se groups at_bound fixed``."""
    problem = fit.point.problem
    free = ~(fit.at_bound | fit.fixed)
    covariance = np.full((problem.n, problem.n), np.nan)
    if free.any():
        information = observed_information(fit)[np.ix_(free, free)]
        if np.linalg.eigvalsh(information)[0] > 0:
            covariance[np.ix_(free, free)] = np.linalg.inv(information)
    rows: dict[str, dict[str, Any]] = {}
    for term, component, part in zip(terms, problem.components, problem.slices, strict=True):
        theta = fit.theta[part]
        values = natural(term, theta, component.structure)
        V = covariance[part, part]
        slopes = _slopes(term, theta, component.structure, values)
        for (name, value), slope in zip(values.items(), slopes, strict=True):
            used = slope != 0
            # A correlation of 1 does not move with any parameter.
            edge = bool(fit.at_bound[part][used].any()) or not used.any()
            given = bool(fit.fixed[part][used].all()) and used.any()
            variance = float(slope[used] @ V[np.ix_(used, used)] @ slope[used])
            rows[name] = {
                "estimate": value,
                "se": _se(variance, edge=edge, given=given),
                "groups": term.n,
                "at_bound": edge,
                "fixed": given,
            }
    return object_frame(rows, ("estimate", "se", "groups", "at_bound", "fixed"))


def object_frame(rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return rows as a frame whose cells keep the reason why a number does not exist."""
    cells = {name: pd.Series([row[name] for row in rows.values()], index=list(rows), dtype=object) for name in columns}
    return pd.DataFrame(cells, index=pd.Index(list(rows)))


def _se(variance: float, *, edge: bool, given: bool) -> float:
    if given:
        return NotApplicable("given, not estimated")
    if edge:
        return NotApplicable("at the edge of its range")
    return variance**0.5 if variance > 0 else NotApplicable("the likelihood has no clear peak here")


def _slopes(term: RandomTerm, theta: Array, structure: Structure, values: Mapping[str, float]) -> list[Array]:
    """Return the derivative of each natural parameter by the searched ones."""
    if not isinstance(term.structure, Unstructured):
        return list(np.diag(np.append(2.0 * theta[:-1], 1.0)) if structure.by_sd else np.eye(len(theta)))
    found = np.zeros((len(values), theta.size))
    for j in range(theta.size):
        h = 1e-6 * max(1.0, abs(float(theta[j])))
        up, down = theta.copy(), theta.copy()
        up[j], down[j] = theta[j] + h, theta[j] - h
        above, below = natural(term, up, structure), natural(term, down, structure)
        found[:, j] = [(above[name] - below[name]) / (2.0 * h) for name in values]
    return list(np.where(np.abs(found) < 1e-9, 0.0, found))


def row_variances(term: RandomTerm, theta: Array, structure: Structure, newdata: pd.DataFrame, rows: int) -> Array:
    """Return the variance that the term gives to a new effect of each row of `newdata`; NaN where it must be told."""
    if term.structure.constant:
        return np.full(rows, float(theta[0]))
    G = term.matrix(theta, structure)
    if term.slopes is not None:
        missing = [name for name in term.slopes.variables if name not in newdata.columns]
        if missing:
            return np.full(rows, np.nan)
        Z, _ = term.slopes.new_rows(newdata)
        return np.asarray(np.einsum("mq,qr,mr->m", Z, G, Z))
    if term.within not in newdata.columns:
        return np.full(rows, np.nan)
    places = {level: i for i, level in enumerate(term.columns)}
    at = [places.get(str(value), -1) for value in newdata[term.within]]
    return np.array([G[i, i] if i >= 0 else np.nan for i in at])


class MultilevelQuantities(FittedCoefficients):
    """The read-only numbers of a fitted multilevel model; the base of `MultilevelResults`."""

    fitted: MixedFit
    random: tuple[RandomTerm, ...]
    V: SamplingCovariance | None
    degrees: str

    point = Noun[MixedPoint]("fitted.point", "The likelihood at its maximum.")

    @cached_property
    def ddf(self) -> Array:
        """Degrees of freedom of each coefficient's t statistic, (p,); infinite for the normal."""
        if self.inference == "z":
            return np.full(self.p, np.inf)
        if self.degrees == "residual":
            return np.full(self.p, float(max(self.k - self.p, 1)))
        return np.array([float(max(n - self.p, 1)) for n in self._contained])

    @cached_property
    def _contained(self) -> list[int]:
        """For each coefficient, the fewest groups within each of which its column does not vary."""
        groupings = [group for term in self.random for group in term.groupings]
        sizes = [int(group.max()) + 1 for group in groupings]
        found = []
        for x in self.design.X.T:
            holding = [self.k]
            for group, n in zip(groupings, sizes, strict=True):
                first = np.zeros(n)
                first[group] = x
                if (first[group] == x).all():
                    holding.append(n)
            found.append(min(holding))
        return found

    def term_df(self, term: RandomTerm) -> float | None:
        """Degrees of freedom of the intervals of a term's random effects: its groups less the coefficients."""
        if self.inference == "z":
            return None
        return float(max((self.k if self.degrees == "residual" else term.n) - self.p, 1))

    @cached_property
    def _location(self) -> Coefficients:
        beta, vb = self.point.beta, self.point.vb
        se = np.sqrt(np.diag(vb))
        stat, half = beta / se, critical_values(self.level, self.ddf) * se
        pval = two_sided_p(stat, self.ddf)
        return Coefficients(beta, se, stat, pval, beta - half, beta + half, vb, 1.0, self._df(np.eye(self.p)))

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of each combination of coefficients X (m, p): the fewest of those involved."""
        return np.array([np.inf if (df := self._df(x[None, :])) is None else df for x in X])

    def _df(self, matrix: Array) -> float | None:
        """Return the degrees of freedom of a test: the fewest of the coefficients that it involves."""
        if self.inference == "z":
            return None
        return float(self.ddf[(matrix != 0).any(axis=0)].min())

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        df = self._df(matrix)
        stat, m, pval = wald_test(self.beta, self.vb, matrix, df=df)
        return WaldTest(stat, m, df, pval, null)

    @cached_property
    def components(self) -> pd.DataFrame:
        """Variances and correlations, one row each: ``estimate se groups at_bound fixed``."""
        return component_table(self.fitted, self.random)

    @cached_property
    def sigma2(self) -> Array:
        """Variances of the random intercepts on the analysis scale, in the order in which they were named."""
        return np.array([self.fitted.theta[part][0] for term, part in self._parts if not term.within])

    @property
    def _parts(self) -> list[tuple[RandomTerm, slice]]:
        return list(zip(self.random, self.point.problem.slices, strict=True))

    @cached_property
    def G(self) -> dict[str, pd.DataFrame]:
        """Covariance of the inner levels (or of intercept and slopes) of each ``inner | outer`` term."""
        found = {}
        for (term, part), component in zip(self._parts, self.point.problem.components, strict=True):
            if term.within and not term.of_pairs:
                matrix = term.matrix(self.fitted.theta[part], component.structure)
                found[term.name] = pd.DataFrame(matrix, index=list(term.columns), columns=list(term.columns))
        return found

    @cached_property
    def tau2(self) -> float:
        """Variance of the true effect of a new row in a new study: the sum over all random terms."""
        if not all(term.structure.constant for term in self.random):
            return NotApplicable("it differs between levels of a random term; see components")
        return float(sum(self.fitted.theta[part][0] for _, part in self._parts))

    @property
    def model_label(self) -> str:
        """Estimator, number of random terms and inference in a few letters, e.g. ``"REML, 2 random terms, t"``."""
        n = len(self.random)
        return f"{self.method}, {n} random term{'s' if n != 1 else ''}, {self.inference}"

    @property
    def tau(self) -> float:
        """The square root of tau2."""
        return self.tau2 if isinstance(self.tau2, NotApplicable) else float(np.sqrt(self.tau2))

    @cached_property
    def _sampling(self) -> MixedPoint:
        """The model with sampling error only."""
        return self.point.problem.at(np.zeros(self.point.problem.n))

    @property
    def _lacking(self) -> NotApplicable | None:
        """Why there is no model with sampling error only; None where there is one."""
        return None if self._sampling.valid else NotApplicable("V is singular")

    @property
    def QE(self) -> float:
        """Cochran's Q: residual heterogeneity beyond chance."""
        return self._lacking or self._sampling.rss

    @property
    def QEdf(self) -> int:
        """Degrees of freedom of QE, k - p."""
        return self.k - self.p

    @property
    def QEp(self) -> float:
        """P-value of QE."""
        return self._lacking or chi2_sf(self.QE, self.QEdf)

    @cached_property
    def vt(self) -> float:
        """Typical sampling variance, (k - p) / trace(P) with P of the model with sampling error only."""
        if self._lacking:
            return self._lacking
        point = self._sampling
        G = point.weighted_X
        trace = float((1.0 / point.factored.d).sum()) - float(np.einsum("kp,pq,kq->", G, point.vb, G))
        return (self.k - self.p) / trace

    @cached_property
    def I2_levels(self) -> pd.Series:
        """Share of each random term in the total variance of an effect, in percent; the rest is sampling error."""
        if isinstance(self.tau2, NotApplicable):
            return pd.Series([self.tau2], index=["total"], name="I2", dtype=object)
        total = self.tau2 + self.vt
        parts = {term.name: 100.0 * float(self.fitted.theta[part][0]) / total for term, part in self._parts}
        return pd.Series({**parts, "total": 100.0 * self.tau2 / total}, name="I2")

    @property
    def I2(self) -> float:
        """Share of all true variance in the total variance of an effect, in percent."""
        return float(self.I2_levels["total"]) if self.tau2 == self.tau2 else self.tau2

    @property
    def icc(self) -> pd.Series:
        """Correlation of the true effects of one group: its share of the true variance, by random term."""
        if isinstance(self.tau2, NotApplicable) or not self.tau2 > 0:
            why = self.tau2 if isinstance(self.tau2, NotApplicable) else NotApplicable("true effects do not vary")
            return pd.Series([why] * len(self.random), index=[t.name for t in self.random], name="icc", dtype=object)
        return pd.Series({t.name: float(self.fitted.theta[p][0]) / self.tau2 for t, p in self._parts}, name="icc")

    @cached_property
    def R2_marginal(self) -> float:
        """Share of the true variance that the moderators account for, in percent (Nakagawa & Schielzeth 2013)."""
        return self._r2(conditional=False)

    @cached_property
    def R2_conditional(self) -> float:
        """Share that the moderators and the groups that hold several effects account for, in percent."""
        return self._r2(conditional=True)

    def _r2(self, *, conditional: bool) -> float:
        if isinstance(self.tau2, NotApplicable):
            return self.tau2
        fixed = float(np.var(self.design.X @ self.beta))
        groups = sum(float(self.fitted.theta[part][0]) for term, part in self._parts if term.n < self.k)
        if not fixed + self.tau2 > 0:
            return NotApplicable("neither moderators nor random terms vary")
        return 100.0 * (fixed + (groups if conditional else 0.0)) / (fixed + self.tau2)

    @property
    def _parameters(self) -> int:
        """Number of parameters estimated: coefficients, and variances and correlations that were not given."""
        return self.p + int((~self.fitted.fixed).sum())

    loglik = Noun[float]("point.loglik", "Restricted log-likelihood for REML, else the log-likelihood.")

    @cached_property
    def weights(self) -> Array:
        """Weight of each effect in percent: row sums of the inverse marginal covariance, (k,)."""
        rows = self.working().solve(np.ones((self.k, 1)))[:, 0]
        return np.asarray(100.0 * rows / rows.sum())

    def working(self) -> MarginalCovariance:
        """Return the model's covariance of the effects: what robust inference works with."""
        return MarginalCovariance(self)


class MarginalCovariance:
    """The marginal covariance of a fitted multilevel model, in the rows of its data."""

    def __init__(self, fit: MultilevelQuantities) -> None:
        self._fit = fit

    def solve(self, A: Array) -> Array:
        """Return M^-1 A, (k, c)."""
        plan = self._fit.point.problem.plan
        return plan.restore(self._fit.point.factored.solve(plan.rotate(A)))

    def block(self, rows: IntArray) -> Array:
        """Return M of the given rows, (n, m) -> (n, m, m)."""
        fit = self._fit
        m = rows.shape[1]
        if fit.V is None:
            M = np.zeros((*rows.shape, m))
            M[:, np.arange(m), np.arange(m)] = fit.effects.vi[rows]
        else:
            M = np.array(fit.V.block(rows))
        problem = fit.point.problem
        for (term, part), component in zip(fit._parts, problem.components, strict=True):
            M += term.block(fit.fitted.theta[part], component.structure, rows)
        return M


GIVEN = "given, not estimated"
OPEN = "the likelihood stays too high as far as it was followed"
COSTLY = "takes minutes with so many columns; ask for it by name: sensitivity.profile(fit, components=...)"
# Unstructured covariances of more columns have profiles only on request.
MOST_COLUMNS = 3
FLAT = "the likelihood does not fall: the data do not tell it"


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a variance or correlation is found: the fit, the parameter, and the power that makes it natural.

    `costly` ones, of many columns, are only computed when they are asked for by name.
    """

    name: str
    estimate: float
    fit: MixedFit | None = None
    parameter: int = 0
    power: int = 1
    costly: bool = False

    def curve(self, *, level: float, points: int) -> ProfileCurve:
        """Return the profile in natural units."""
        assert self.fit is not None
        made = profile_curve(self.fit, self.parameter, level=level, points=points)
        if self.power == 1:
            return made
        lb, ub = made.lb**self.power, made.ub**self.power
        low, high = (edge**self.power for edge in made.edges)
        return replace(made, values=made.values**self.power, estimate=self.estimate, lb=lb, ub=ub, edges=(low, high))


def slots(fit: MultilevelQuantities) -> Iterator[Slot]:
    """Yield every variance and correlation, in the order of ``fit.components``; without a fit where it was given."""
    estimates = {str(name): float(value) for name, value in fit.components["estimate"].items()}
    base = by_name(fit)
    for at, (term, part) in enumerate(fit._parts):
        structure = base.point.problem.components[at].structure
        own = [name for name in estimates if name in term.parameters or f"[{term.name}: " in name]
        if isinstance(structure, Unstructured):
            yield from _unstructured(base, at, own, estimates)
            continue
        for offset, name in enumerate(own):
            fixed = bool(base.fixed[part.start + offset])
            power = 2 if structure.by_sd and offset < len(own) - 1 else 1
            yield Slot(name, estimates[name], None if fixed else base, part.start + offset, power)


def by_name(fit: MultilevelQuantities) -> MixedFit:
    """Return the fit with standard deviations and a correlation in the place of Cholesky factors of one or two."""
    found, problem = fit.fitted, fit.point.problem
    for at, (term, part) in enumerate(fit._parts):
        structure, q = problem.components[at].structure, len(term.columns)
        if not isinstance(structure, Unstructured) or q > 2 or fit.fitted.fixed[part].any():
            continue
        G = structure.matrices(fit.fitted.theta[part])[0]
        if q == 1:
            found = _exchanged(found, at, Scaled(np.ones((1, 1))), G[0])
        else:
            sd = np.sqrt(np.diag(G))
            rho = float(G[0, 1] / sd.prod()) if sd.all() else 0.0
            found = _exchanged(found, at, Correlated(2, np.ones((2, 2))), np.array([*sd, np.clip(rho, -1.0, 1.0)]))
    return found


def _unstructured(fit: MixedFit, at: int, names: list[str], estimates: dict[str, float]) -> Iterator[Slot]:
    """Yield the slots of three or more effects, each with a factor in which it is a parameter of its own."""
    problem = fit.point.problem
    part, structure = problem.slices[at], problem.components[at].structure
    assert isinstance(structure, Unstructured)
    if fit.fixed[part].any():
        yield from (Slot(name, estimates[name]) for name in names)
        return
    G, q = structure.matrices(fit.theta[part])[0], structure.q
    pairs = [(j, i) for i in range(q) for j in range(i)]
    for name, front in zip(names, [*((i,) for i in range(q)), *pairs], strict=True):
        structure = Reordered(q, front)
        made = _exchanged(fit, at, structure, structure.theta(G))
        at_parameter = part.start + 2 * (len(front) - 1)
        yield Slot(name, estimates[name], made, at_parameter, 2 if len(front) == 1 else 1, q > MOST_COLUMNS)


def _exchanged(fit: MixedFit, at: int, structure: Structure, theta: Array) -> MixedFit:
    """Return the fit with another structure in the place of a term's, at the same covariance."""
    problem, part = fit.point.problem, fit.point.problem.slices[at]
    components = list(problem.components)
    components[at] = Component(structure, components[at].terms)
    new = replace(problem, components=tuple(components))
    values = fit.theta.copy()
    values[part] = theta
    return replace(fit, point=new.at(values), at_bound=np.zeros(new.n, dtype=bool))


def curves(fit: MultilevelQuantities, *, level: float, points: int) -> dict[str, ProfileCurve | NotApplicable]:
    """Return the profile of every variance and correlation; the reason for one that was given."""
    found: dict[str, ProfileCurve | NotApplicable] = {}
    for slot in slots(fit):
        if slot.fit is None or slot.costly:
            found[slot.name] = NotApplicable(GIVEN if slot.fit is None else COSTLY)
        else:
            found[slot.name] = slot.curve(level=level, points=points)
    return found


def limits(curve: ProfileCurve | NotApplicable) -> tuple[float, float]:
    """Return the interval of a curve, with the reason where a limit does not exist."""
    if isinstance(curve, NotApplicable):
        return curve, curve
    beyond = NotApplicable(FLAT if curve.verdict == "flat" else OPEN)
    return (curve.lb if np.isfinite(curve.lb) else beyond), (curve.ub if np.isfinite(curve.ub) else beyond)


def remarks_on(found: dict[str, ProfileCurve | NotApplicable]) -> list[Note]:
    """Return a note for each curve that is no single peak at the estimate."""
    words = {
        "flat": "does not fall on one side of the estimate: the data do not identify this component. Leave the term "
        "out, or hold it fixed",
        "higher": "is higher elsewhere than at the estimate: the search ended at a lower maximum. Do not use this fit",
        "several": "has more than one peak: look at the plot before trusting the estimate or the interval",
    }
    return [
        Note(f"profile-{curve.verdict}", f"The profile likelihood of {name} {words[curve.verdict]}.")
        for name, curve in found.items()
        if not isinstance(curve, NotApplicable) and curve.verdict in words
    ]
