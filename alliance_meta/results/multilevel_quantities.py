"""What a fitted multilevel model knows: every number as an attribute, by metafor's names."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.distributions import chi2_sf, critical_value, two_sided_p
from alliance_meta.core.mixed.likelihood import MixedPoint
from alliance_meta.core.mixed.search import MixedFit
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.univariate.fit import Coefficients, wald_test
from alliance_meta.notes import NotApplicable
from alliance_meta.results.coefficients import FittedCoefficients
from alliance_meta.results.components import RandomTerm, component_table
from alliance_meta.results.teststats import WaldTest


class MultilevelQuantities(FittedCoefficients):
    """The read-only numbers of a fitted multilevel model; the base of `MultilevelResults`."""

    fitted: MixedFit
    random: tuple[RandomTerm, ...]
    V: SamplingCovariance | None
    degrees: str

    @property
    def point(self) -> MixedPoint:
        """The likelihood at its maximum."""
        return self.fitted.point

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
        df = [None if np.isinf(d) else float(d) for d in self.ddf]
        stat = beta / se
        half = np.array([critical_value(self.level, d) for d in df]) * se
        pval = np.array([two_sided_p(np.array([t]), d)[0] for t, d in zip(stat, df, strict=True)])
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

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators together, or of the mean effect in a model without any."""
        null = "every moderator coefficient is 0" if self.design.has_intercept else "every coefficient is 0"
        if self.p == 1 and self.design.has_intercept:
            null = "the mean effect is 0"
        return self._wald(np.eye(self.p)[list(self.design.tested)], null)

    @property
    def QM(self) -> float:
        """Statistic of the omnibus test: chi-squared, or F for t inference."""
        return self.omnibus.stat

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QM, (m, ddf); ddf is None for chi-squared."""
        return self.omnibus.df1, self.omnibus.df2

    @property
    def QMp(self) -> float:
        """P-value of QM."""
        return self.omnibus.pval

    @property
    def loglik(self) -> float:
        """Restricted log-likelihood for REML, else the log-likelihood."""
        return self.point.loglik

    @cached_property
    def weights(self) -> Array:
        """Weight of each effect in percent: row sums of the inverse marginal covariance, (k,)."""
        rows = self.working().solve(np.ones((self.k, 1)))[:, 0]
        return np.asarray(100.0 * rows / rows.sum())

    @cached_property
    def fitted_effects(self) -> Array:
        """The model's best prediction of each row's true effect, (k,)."""
        turned = self.point.problem.plan.d * self.point.weighted_resid
        noise = self.point.problem.plan.restore(turned[:, None])[:, 0]
        return np.asarray(self.effects.yi - noise)

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
