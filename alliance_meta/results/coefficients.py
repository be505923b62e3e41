"""Coefficients with their intervals and tests, and what a univariate fit knows besides, by metafor's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.robust.sandwich import WorkingCovariance
from alliance_meta.core.univariate.fit import Coefficients, UnivariateFit, fit_univariate, wald_test
from alliance_meta.core.univariate.search import score_and_information
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Tau2Method, Test, did_you_mean
from alliance_meta.results.fit import Fit, Noun
from alliance_meta.tables.format import brief, fixed, fixed_interval, p_value, plain_df


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, lb, ub : float
    level : float
        Confidence level, a fraction.
    kind : str
        How the interval was made, e.g. ``"QP"``.
    quantity : str
        What is estimated, with its scale.
    remark : str
        What a reader must know about this interval; mostly empty.
    """

    estimate: float
    lb: float
    ub: float
    level: float
    kind: str
    quantity: str
    remark: str = ""

    def map(self, function: Callable[[float], float], quantity: str) -> Interval:
        """Return the interval of an increasing function of the quantity."""
        return replace(
            self,
            estimate=function(self.estimate),
            lb=function(self.lb),
            ub=function(self.ub),
            quantity=quantity,
        )

    def __str__(self) -> str:
        text = f"{self.quantity} {fixed(self.estimate)} {fixed_interval(self.lb, self.ub)} ({self.kind})"
        return f"{text}. {self.remark}" if self.remark else text

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as a plain dictionary."""
        return {name: value for name, value in asdict(self).items() if name != "remark" or value}


@dataclass(frozen=True, slots=True)
class WaldTest:
    """A test of one or several linear combinations of coefficients.

    Attributes
    ----------
    stat : float
        Chi-squared, or F when `df2` is given.
    df1 : int
        Number of combinations tested.
    df2 : float or None
        Denominator degrees of freedom of F.
    pval : float
    null : str
        The null hypothesis in words.
    """

    stat: float
    df1: int
    df2: float | None
    pval: float
    null: str

    @property
    def label(self) -> str:
        """``QM(df = 2)`` for a chi-squared test, ``F(df1 = 2, df2 = 20)`` for an F test."""
        return f"QM(df = {self.df1})" if self.df2 is None else f"F(df1 = {self.df1}, df2 = {plain_df(self.df2)})"

    def __str__(self) -> str:
        return f"{self.label} = {fixed(self.stat)}, p {p_value(self.pval)}; null: {self.null}"

    def to_dict(self) -> dict[str, Any]:
        """Return the test as a plain dictionary."""
        return asdict(self)


def contrast(
    L: str | Sequence[str] | Any, *, names: tuple[str, ...], terms: Mapping[str, tuple[int, ...]]
) -> tuple[Array, str]:
    """Return the matrix of a term, of several, or of `L` itself, with its null hypothesis in words."""
    if isinstance(L, str) or (isinstance(L, Sequence) and L and all(isinstance(x, str) for x in L)):
        words = [L] if isinstance(L, str) else list(L)
        slots = sorted({slot for word in words for slot in _slots(word, names, terms)})
        if not slots:
            raise InputError(f"{' and '.join(words)} has no coefficient in this model: left out as redundant")
        return np.eye(len(names))[slots], " and ".join(names[i] for i in slots) + " = 0"
    matrix = np.atleast_2d(np.asarray(L, dtype=float))
    if matrix.shape[1] != len(names):
        raise InputError(f"L has {matrix.shape[1]} columns; the model has {len(names)}: {', '.join(names)}")
    if np.linalg.matrix_rank(matrix) < len(matrix):
        raise InputError("the rows of L repeat each other; give linearly independent combinations")
    rows = [" + ".join(f"{brief(c)} {n}" for c, n in zip(row, names, strict=True) if c) for row in matrix]
    return matrix, "; ".join(f"{row} = 0" for row in rows)


def _slots(word: str, names: tuple[str, ...], terms: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if word in names:
        return (names.index(word),)
    if word in terms:
        return terms[word]
    raise InputError(
        f"no term or coefficient {word!r}{did_you_mean(word, [*terms, *names])} "
        f"Terms: {', '.join(terms)}. Coefficients: {', '.join(names)}"
    )


@dataclass(frozen=True, eq=False)
class FitSettings:
    """Settings of a univariate fit."""

    # method, test, level: as in `RandomEffectsModel`.
    method: Tau2Method = "REML"
    test: Test = "knha"
    level: float = 0.95
    tau2: float | None = None  # a given between-study variance
    weights: Array | None = None  # (k,) or None: given weights
    tau2_min: float = 0.0  # lowest tau2 allowed

    def rows(self, rows: AnyArray) -> FitSettings:
        """Return the same settings for some of the effects."""
        return self if self.weights is None else replace(self, weights=self.weights[rows])


class WaldTested(Fit):
    """A fitted model of which linear combinations of coefficients are tested."""

    design: Design

    if TYPE_CHECKING:

        def working(self) -> WorkingCovariance:
            """Return the covariance of the effects that the model believes in, if robust inference knows it."""

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        raise NotImplementedError

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators together, or of the mean effect in a model without any."""
        null = "every moderator coefficient is 0" if self.design.has_intercept else "every coefficient is 0"
        if self.p == 1 and self.design.has_intercept:
            null = "the mean effect is 0"
        return self._wald(np.eye(self.p)[list(self.design.tested)], null)

    QM = Noun[float]("omnibus.stat", "Statistic of the omnibus test: chi-squared, or F for t-type inference.")

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QM, (m, ddf); ddf is None for chi-squared."""
        return self.omnibus.df1, self.omnibus.df2

    QMp = Noun[float]("omnibus.pval", "P-value of QM.")

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test a term, several terms, or any linear combinations of coefficients being zero.

        Parameters
        ----------
        L : str, sequence of str, or array-like of shape (m, p)
            A term of the formula (``"rater"``: all its coefficients together), a coefficient's name, several
            of these, or a matrix whose rows are combinations of coefficients.

        Returns
        -------
        WaldTest
            Chi-squared for z inference, F for t-type inference; ``null`` states what is tested. Of a multilevel model
            the denominator is the fewest degrees of freedom of the coefficients involved. Cluster-robust inference has
            the approximate Hotelling test HTZ of Tipton & Pustejovsky (2015, doi:10.3102/1076998615606099): F is the
            Wald statistic times (eta - m + 1) / (eta m), its denominator eta - m + 1, with eta read off the clusters;
            `NotApplicable` where the clusters are too few for so many combinations.

        Raises
        ------
        InputError
            An unknown term, or a matrix of the wrong shape or with rows that repeat each other.

        Notes
        -----
        R: ``anova(fit, btt = 2:3)`` or ``anova(fit, X = L)``; robust
        ``clubSandwich::Wald_test(fit, constrain_zero(2:3), vcov = "CR2", cluster = study_id)``.
        """
        return self._wald(*contrast(L, names=self.names, terms=self.design.terms))


def moderator_test(fit: WaldTested) -> dict[str, Any]:
    """Return the omnibus test by the names of the statistics of a model."""
    m, ddf = fit.QMdf
    none = NotApplicable("chi-squared has none")
    return {"QM": fit.QM, "QMdf": m, "QMddf": none if ddf is None else ddf, "QMp": fit.QMp}


class FittedCoefficients(WaldTested):
    """The read-only coefficients of a fitted model and their tests."""

    effects: EffectSizes
    settings: FitSettings

    @property
    def _location(self) -> Coefficients:
        """The coefficients of the mean effect with their tests."""
        raise NotImplementedError

    method = Noun[Tau2Method]("settings.method", "The estimator of tau2.")
    inference = Noun[Test]("settings.test", "The ``test`` option: how coefficients are tested.")
    level = Noun[float]("settings.level", "Confidence level of every interval, a fraction.")
    names = Noun[tuple[str, ...]]("design.names", "Coefficient names, (p,).")
    p = Noun[int]("design.p", "Number of coefficients.")
    beta = Noun[Array]("_location.beta", "Coefficients on the analysis scale, (p,).")
    se = Noun[Array]("_location.se", "Standard errors of the coefficients, (p,).")
    stat = Noun[Array]("_location.stat", "Z or t statistics, (p,).")

    @property
    def ddf(self) -> Array:
        """Degrees of freedom of each t statistic, (p,); infinite for the normal."""
        df = self._location.df
        return np.full(self.p, np.inf if df is None else df)

    pval = Noun[Array]("_location.pval", "Two-sided p-values of the coefficients, (p,).")
    ci_lb = Noun[Array]("_location.ci_lb", "Lower confidence limits, (p,).")
    ci_ub = Noun[Array]("_location.ci_ub", "Upper confidence limits, (p,).")
    vb = Noun[Array]("_location.vb", "Covariance of the coefficients, (p, p).")

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        df = self._location.df
        return np.full(len(X), np.inf if df is None else df)

    def _shrunken(self, level: float) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each effect's truth where tau2 is all that varies."""
        X, y, v = self.design.X, self.effects.yi, self.effects.vi
        share = self.tau2 / (self.tau2 + v)
        pred = share * y + (1.0 - share) * (X @ self.beta)
        se = np.sqrt(share * v + (1.0 - share) ** 2 * np.einsum("kp,pq,kq->k", X, self.vb, X))
        half = critical_value(level, self._location.df) * se
        columns = {"pred": pred, "se": se, "pi_lb": pred - half, "pi_ub": pred + half}
        return pd.DataFrame(columns, index=pd.Index(self.effects.slab))

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        df = self._location.df
        if not np.all(np.diag(self.vb) > 0):
            return WaldTest(NotApplicable("the coefficients have no variance"), len(matrix), df, float("nan"), null)
        stat, m, pval = wald_test(self.beta, self.vb, matrix, df=df)
        return WaldTest(stat, m, df, pval, null)


TEST_LABELS = {"knha": "HK", "z": "Wald z", "t": "t", "adhoc": "HK ad hoc"}


class FittedQuantities(FittedCoefficients):
    """The read-only numbers of a fitted univariate model; the base of `RandomEffectsResults`."""

    fitted: UnivariateFit

    _location = Noun[Coefficients]("fitted.coefficients", "The coefficients with their tests, as arrays.")

    @property
    def tau2(self) -> float:
        """Between-study variance on the analysis scale, >= 0; 0 under equal effects."""
        return float(self.fitted.tau2.tau2[0])

    @property
    def new_variance(self) -> float:
        """Variance of a new true effect around its mean; not applicable under equal effects."""
        return NotApplicable("an equal-effects model has no prediction interval") if self.method == "EE" else self.tau2

    @property
    def tau(self) -> float:
        """Between-study standard deviation on the analysis scale."""
        return float(np.sqrt(self.tau2))

    @property
    def se_tau2(self) -> float:
        """Standard error of tau2; not applicable under equal effects."""
        if self.method == "EE":
            return NotApplicable("an equal-effects model has no tau2")
        if self.settings.tau2 is not None:
            return NotApplicable("tau2 was given, not estimated")
        return float(self.fitted.tau2.se[0])

    @property
    def se_tau2_observed(self) -> float:
        """Standard error of tau2 from the observed information; for ML and REML estimates above 0."""
        if self.method not in ("ML", "REML") or self.settings.tau2 is not None:
            return NotApplicable("only a likelihood has an observed information")
        observed = float(score_and_information(self.fitted.model, restricted=self.method == "REML")[2][0])
        return float(observed**-0.5) if observed > 0 else NotApplicable("the likelihood is not concave here")

    @property
    def I2(self) -> float:
        """Share of variance between studies in percent, from tau2 as in metafor."""
        return self._needs_df(self.fitted.heterogeneity.I2)

    @property
    def I2_Q(self) -> float:
        """The same from Q, 100 max(0, (Q - df) / Q), as older programs print it."""
        return self._needs_df(self.fitted.heterogeneity.I2_Q)

    @property
    def H2(self) -> float:
        """Total over sampling variance, tau2 / vt + 1."""
        return self._needs_df(self.fitted.heterogeneity.H2)

    @property
    def vt(self) -> float:
        """Typical sampling variance."""
        return self._needs_df(self.fitted.heterogeneity.vt)

    @cached_property
    def tau2_without_mods(self) -> float:
        """Between-study variance of the same effects by the same estimator, without moderators."""
        ones = np.ones((self.k, 1))
        fit = fit_univariate(
            self.effects.yi,
            self.effects.vi,
            ones,
            method=self.method,
            test="z",
            level=self.level,
            weights=self.fitted.own_weights,
        )
        return float(fit.tau2.tau2[0])

    @property
    def R2(self) -> float:
        """Heterogeneity that the moderators account for, in percent of tau2 without them; never below 0."""
        if self.p == 1 and self.design.has_intercept:
            return NotApplicable("a model without moderators explains no heterogeneity")
        if not self.design.has_intercept:
            return NotApplicable("defined against a model with an intercept")
        if self.k == self.p or self.settings.tau2 is not None:
            return NotApplicable("tau2 was not estimated")
        if not self.tau2_without_mods > 0:
            return NotApplicable("there is no heterogeneity to explain: tau2 without moderators is 0")
        return max(0.0, 100.0 * (self.tau2_without_mods - self.tau2) / self.tau2_without_mods)

    @property
    def QE(self) -> float:
        """Cochran's Q: (residual) heterogeneity beyond chance."""
        return self._needs_df(self.fitted.heterogeneity.QE)

    @property
    def QEdf(self) -> int:
        """Degrees of freedom of QE, k - p."""
        return self.k - self.p

    @property
    def QEp(self) -> float:
        """P-value of QE."""
        return self._needs_df(self.fitted.heterogeneity.QEp)

    @property
    def _parameters(self) -> int:
        """Number of parameters estimated: coefficients and tau2."""
        return self.p + (0 if self.method == "EE" else 1)

    @property
    def loglik(self) -> float:
        """Restricted log-likelihood for REML, else the log-likelihood."""
        return self.fitted.loglik_reml if self.method == "REML" else self.fitted.loglik_ml

    weights = Noun[Array]("fitted.weights", "Weight of each effect in percent, (k,).")

    @property
    def model_label(self) -> str:
        """Estimator and inference in a few letters, e.g. ``"REML, HK"``."""
        estimator = self.method if self.settings.tau2 is None else f"tau2 = {brief(self.settings.tau2)}"
        return f"{estimator}, {TEST_LABELS[self.inference]}"

    def _needs_df(self, value: float) -> float:
        if self.k > self.p:
            return value
        return NotApplicable(f"needs more effects (k = {self.k}) than coefficients (p = {self.p})")
