"""`RobustResults`: a fitted model with cluster-robust standard errors, degrees of freedom and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.clusters import IntArray
from alliance_meta.core.robust import Sandwich
from alliance_meta.core.satterthwaite import satterthwaite, t_tests
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import RobustType, Scale, check_level, check_option
from alliance_meta.results import export, r_fits
from alliance_meta.results import robust_text as text
from alliance_meta.results.clustered import (
    Clustered,
    ModelBased,
    clustered,
    few_df_notes,
    joint_test,
    one_cluster_notes,
)
from alliance_meta.results.contrasts import contrast
from alliance_meta.results.robust_predictions import predict
from alliance_meta.results.teststats import WaldTest

# What the model-based fit knows and robust inference leaves as it is.
FORWARDED = (
    "tau2", "tau", "se_tau2", "sigma2", "components", "G", "I2", "I2_levels", "H2", "vt", "icc", "R2", "R2_marginal",
    "R2_conditional", "QE", "QEdf", "QEp", "loglik", "weights", "method", "random", "V", "settings",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RobustResults:
    """A fitted model whose standard errors hold even where its assumptions about dependence are wrong.

    Made by `RandomEffectsResults.robust` and by that of other models. Coefficients, heterogeneity and weights are
    those of the model; standard errors, degrees of freedom, intervals and tests come from how much whole clusters
    disagree.

    Attributes
    ----------
    fit : RandomEffectsResults or another fitted model
        The model-based fit. Its ``tau2 sigma2 I2 QE loglik weights`` ... are also attributes here.
    cluster : str
        The column that made the clusters; ``"given cluster"`` for values.
    type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
        The small-sample adjustment.
    sandwich : Sandwich
        The raw arrays.
    ddf : ndarray of shape (p,)
        Satterthwaite degrees of freedom of each t statistic; NaN for a coefficient known from one cluster alone.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    fit: Any
    cluster: str
    type: RobustType
    sandwich: Sandwich
    ddf: Array
    _clusters: Clustered = field(repr=False)
    notes: tuple[Note, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED:
            return getattr(self.fit, name)
        raise AttributeError(f"RobustResults has no attribute {name!r}; the model-based fit is in .fit")

    @property
    def effects(self) -> EffectSizes:
        """The effects that took part."""
        return self.fit.effects

    @property
    def design(self) -> Design:
        """The design matrix and its coding."""
        return self.fit.design

    @property
    def level(self) -> float:
        """Confidence level of every interval, a fraction."""
        return self.fit.level

    @property
    def inference(self) -> str:
        """How coefficients are tested: ``t``, each with its own degrees of freedom."""
        return "t"

    @property
    def model_label(self) -> str:
        """Estimator and adjustment in a few letters, e.g. ``"REML, CR2"``."""
        return f"{self.fit.model_label.rpartition(', ')[0]}, {self.type}"

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficient names, (p,)."""
        return self.design.names

    @property
    def k(self) -> int:
        """Number of effects in the model."""
        return self.effects.k

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.design.p

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self._clusters.n

    @property
    def sizes(self) -> IntArray:
        """Effects in each cluster, (n_clusters,), clusters sorted by name."""
        return self._clusters.sizes

    @property
    def beta(self) -> Array:
        """Coefficients on the analysis scale, (p,): those of the model."""
        return self.fit.beta

    @property
    def vb(self) -> Array:
        """Cluster-robust covariance of the coefficients, (p, p)."""
        return self.sandwich.vb

    @cached_property
    def se(self) -> Array:
        """Cluster-robust standard errors, (p,); NaN for a coefficient known from one cluster alone."""
        return np.where(np.isnan(self.ddf), np.nan, np.sqrt(np.diag(self.vb)))

    @cached_property
    def _tests(self) -> tuple[Array, Array, Array, Array]:
        return t_tests(self.beta, self.se, self.ddf, level=self.level)

    @property
    def stat(self) -> Array:
        """T statistics, (p,)."""
        return self._tests[0]

    @property
    def pval(self) -> Array:
        """Two-sided p-values, (p,)."""
        return self._tests[1]

    @property
    def ci_lb(self) -> Array:
        """Lower confidence limits, (p,)."""
        return self._tests[2]

    @property
    def ci_ub(self) -> Array:
        """Upper confidence limits, (p,)."""
        return self._tests[3]

    @cached_property
    def omnibus(self) -> WaldTest:
        """The test of all moderators together, or of the mean effect in a model without any."""
        slots = np.eye(self.p)[list(self.design.tested)]
        return joint_test(self.sandwich, self.beta, slots, self.fit.omnibus.null)

    @property
    def QM(self) -> float:
        """F statistic of the omnibus test."""
        return self.omnibus.stat

    @property
    def QMdf(self) -> tuple[int, float | None]:
        """Degrees of freedom of QM, (m, ddf)."""
        return self.omnibus.df1, self.omnibus.df2

    @property
    def QMp(self) -> float:
        """P-value of QM."""
        return self.omnibus.pval

    def test(self, L: str | Sequence[str] | Any) -> WaldTest:
        """Test a term, several terms, or any linear combinations of coefficients being zero.

        Parameters
        ----------
        L : str, sequence of str, or array-like of shape (m, p)
            As in `RandomEffectsResults.test`.

        Returns
        -------
        WaldTest
            The approximate Hotelling T2 test HTZ of Tipton & Pustejovsky (2015,
            doi:10.3102/1076998615606099); for one combination the t test with Satterthwaite's degrees of freedom,
            squared. `NotApplicable` where the clusters are too few for so many combinations.

        Raises
        ------
        InputError
            An unknown term, or a matrix of the wrong shape or with rows that repeat each other.

        Notes
        -----
        R: ``clubSandwich::Wald_test(fit, constrain_zero(2:3), vcov = "CR2", cluster = study_id)``.
        """
        matrix, null = contrast(L, names=self.names, terms=self.design.terms)
        return joint_test(self.sandwich, self.beta, matrix, null)

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and a new effect, for given moderators.

        The prediction interval rests on the model's heterogeneity, which robust inference does not correct.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Moderator values, one row per prediction; as in `RandomEffectsResults.predict`.
        scale : {"z", "r", "r_mean"}, optional
            Analysis scale by default.
        level : float, optional
            Confidence level, a fraction.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub ddf``, each row with its own degrees of freedom, which serve both
            intervals.

        Raises
        ------
        InputError
            For an unknown level of a moderator, or a scale these effects do not have.
        """
        used = self.level if level is None else level
        check_level(used)
        return predict(self, newdata, scale=scale, level=used)

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient, unrounded: ``estimate se stat ddf pval ci_lb ci_ub``."""
        return export.tidy(self)

    def glance(self) -> pd.DataFrame:
        """Return one row with the statistics, unrounded."""
        return text.glance(self)

    def to_dict(self) -> dict[str, Any]:
        """Return every number and setting as JSON-ready values, the model-based fit among them."""
        return text.to_dict(self)

    def summary(self) -> str:
        """Return the plain-text summary, at most 80 columns wide."""
        return text.summary(self)

    def methods_text(self) -> str:
        """Return the sentences for a methods section, those of the model first."""
        return text.methods(self)

    def r_code(self) -> str:
        """Return the R code (metafor, clubSandwich) that gives the same numbers."""
        return r_fits.robust(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return text.html(self)


def robust_results(fit: ModelBased, *, cluster: Any, type: RobustType) -> RobustResults:
    """Return a fitted model with cluster-robust inference; for the ``robust`` methods of fitted models."""
    check_option("type", type, RobustType)
    parts = clustered(fit, cluster)
    robust = parts.sandwich(type)
    ddf = satterthwaite(robust, np.eye(fit.design.p))
    notes = merge_notes(fit.notes, _notes(parts, fit.design.names, ddf))
    return RobustResults(fit, parts.name, type, robust, ddf, parts, notes)


def _notes(parts: Clustered, names: tuple[str, ...], ddf: Array) -> list[Note]:
    notes: list[Note] = []
    notes += few_df_notes(names, ddf, clusters=parts.n, stacklevel=6)
    notes += one_cluster_notes(names, parts.resting, stacklevel=6)
    if (parts.sizes == 1).all():
        message = "Every cluster holds one effect: robust against wrong variances, not against dependence."
        notes.append(Note("singleton-clusters", message))
    return [*notes, *parts.notes]
