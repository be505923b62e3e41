"""A fitted model cut into clusters, and `RobustResults`: standard errors and tests that allow for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, nested, stacks
from alliance_meta.core.distributions import critical_values
from alliance_meta.core.robust.rve import RobustTests
from alliance_meta.core.robust.sandwich import (
    DiagonalWorking,
    Regression,
    Sandwich,
    WorkingCovariance,
    estimable,
    htz,
    resting,
    satterthwaite,
    t_tests,
)
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.studies import DEPENDENT
from alliance_meta.errors import FewStudiesWarning, InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale, check_option, merge_notes, warn_note
from alliance_meta.results import wording
from alliance_meta.results.coefficients import WaldTest, WaldTested, moderator_test
from alliance_meta.results.fit import (
    Newdata,
    Noun,
    both_intervals,
    columns_of,
    predictions_of,
    rows_to_predict,
    to_scale,
)
from alliance_meta.results.fit import tidy as tidy
from alliance_meta.results.r_code import GIVEN_CLUSTER, joint_call, name, quoted, vector
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

# Residuals below this share of the effects are what floating point leaves of an exact fit.
ROUNDING = 1e-13
ONE_CLUSTER = "a coefficient rests on one cluster alone and has no robust variance"
# Tipton (2015): below so many degrees of freedom the t approximation fails.
FEW_DF = 4


@dataclass(frozen=True, eq=False)
class Clustered:
    """The weighted regression of a fitted model, with orthonormal columns in place of its moderators."""

    name: str  # the column that made the clusters
    labels: tuple[str, ...]  # the clusters, sorted, so that no result depends on the order of rows
    cluster: IntArray  # (k,)
    y: Array  # (k,)
    resid: Array  # (k,)
    change: Array  # (p, p): the model's coefficients are ``change`` times those of `model`
    model: Regression
    crossed: bool  # whether the working covariance ties rows of different clusters together

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.labels)

    @cached_property
    def sizes(self) -> IntArray:
        """Effects in each cluster."""
        return np.bincount(self.cluster)

    @cached_property
    def resting(self) -> list[tuple[str, Mask]]:
        """Clusters on which a combination of coefficients rests alone, with the coefficients concerned (p,)."""
        first, direction = resting(self.model.X, [rows for rows, _ in self.model.blocks])
        moved = direction @ self.change.T
        scale = np.abs(self.change).max(axis=1)
        return [
            (self.labels[self.cluster[row]], np.abs(moving) > 1e-8 * scale)
            for row, moving in zip(first, moved, strict=True)
        ]

    @property
    def notes(self) -> tuple[Note, ...]:
        """A remark where clusters cut through what the model ties together."""
        if not self.crossed:
            return ()
        message = (
            "The model ties effects of different clusters together; robust inference takes clusters to be "
            "independent. Cluster by what contains every random term, if there is such a thing."
        )
        return (Note("crossed-clusters", message),)

    def check(self, type: RobustType) -> None:
        """Raise an `InputError` for an adjustment that these clusters do not allow."""
        p = self.change.shape[1]
        if type == "CR1p" and self.n <= p:
            raise InputError(f"CR1p needs more clusters than coefficients, not {self.n} for {p}; use CR2")
        if type == "CR3" and self.resting:
            raise InputError(
                "CR3 leaves out each cluster in turn, and without "
                f"{self.resting[0][0]} a coefficient has no data left; use CR2"
            )

    def sandwich(self, type: RobustType) -> Sandwich:
        """Return the robust covariance of the model's coefficients."""
        self.check(type)
        return self.model.sandwich(self.resid, type).rebased(self.change)


def clustered(fit: WaldTested, cluster: Any) -> Clustered:
    """Cut a fitted model into clusters: a column's name, several, or one label per effect."""
    return cut(fit, fit.working(), read_clusters(fit.effects, cluster))


def cut(fit: WaldTested, work: WorkingCovariance, groups: Clusters) -> Clustered:
    """Cut a weighted regression with a working covariance into the groups given."""
    y, X = fit.effects.yi, fit.design.X
    labels, of = _sorted(groups)
    if len(labels) < 2:
        raise InputError(
            f"cluster={groups.name!r} holds every effect in one cluster ({labels[0]}); cluster-robust "
            "inference compares clusters and needs at least 2: choose a finer one"
        )
    if len(X) <= X.shape[1]:
        raise InputError(
            f"no residuals are left: the model has {X.shape[1]} coefficients for {len(X)} effects; use fewer moderators"
        )
    own = work.weights if isinstance(work, DiagonalWorking) else None
    Q, R = np.linalg.qr(X)
    weighted = work.solve(Q) if own is None else own[:, None] * Q
    blocks = [(rows, work.block(rows)) for rows in stacks(of)]
    bread = np.linalg.inv(Q.T @ weighted)
    resid = y - X @ fit.beta
    if np.abs(resid).max() <= ROUNDING * np.abs(y).max():
        resid = np.zeros_like(resid)
    return Clustered(
        name=groups.name,
        labels=labels,
        cluster=of,
        y=y,
        resid=resid,
        change=np.linalg.inv(R),
        model=Regression(Q, weighted, 0.5 * (bread + bread.T), blocks, own is None),
        crossed=any(not nested(ties, of) for ties in _ties(fit)),
    )


def _sorted(groups: Clusters) -> tuple[tuple[str, ...], IntArray]:
    """Return labels in alphabetical order and each effect's place among them."""
    order = sorted(range(groups.n), key=groups.labels.__getitem__)
    rank = np.empty(groups.n, dtype=np.intp)
    rank[order] = np.arange(groups.n)
    return tuple(groups.labels[code] for code in order), rank[groups.codes]


def _ties(fit: Any) -> list[IntArray]:
    """Return the groups within which the model ties effects together: random terms, and sampling errors."""
    terms = getattr(fit, "random", ())
    ties = [term.ties for term in terms]
    V = getattr(fit, "V", None)
    return ties if V is None else [*ties, V.codes]


def few_df_notes(names: Sequence[str], ddf: Array, *, clusters: int, stacklevel: int) -> list[Note]:
    """Warn of coefficients whose t approximation fails; return the note of that."""
    few = ddf < FEW_DF
    if not few.any():
        return []
    message = (
        f"Fewer than {FEW_DF} degrees of freedom for {_listed(names, few)} ({clusters} clusters): do not trust "
        "p-values and intervals (Tipton 2015, doi:10.1037/met0000011)."
    )
    return [warn_note("few-df", message, FewStudiesWarning, stacklevel=stacklevel)]


def one_cluster_notes(names: Sequence[str], resting: Sequence[tuple[str, Mask]], *, stacklevel: int) -> list[Note]:
    """Warn of coefficients that rest on one cluster alone, given as `Clustered.resting`; return the notes."""
    notes = []
    for label, which in resting:
        message = (
            f"Cluster {label} alone tells about {_listed(names, which)}: with no other to disagree with, its "
            "error is missing from robust standard errors, which are too small or not there. Leave its rows out, or "
            "merge the level with another."
        )
        notes.append(warn_note("one-cluster-term", message, FewStudiesWarning, stacklevel=stacklevel))
    return notes


def _listed(names: Sequence[str], which: Mask) -> str:
    found = [name for name, there in zip(names, which, strict=True) if there]
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def joint_test(robust: Sandwich, beta: Array, L: Array, null: str) -> WaldTest:
    """Test L beta = 0 by the approximate Hotelling T2, with the reason where it is not defined."""
    F, _, df2, pval = htz(robust, beta, L)
    if F == F:
        return WaldTest(F, len(L), df2, pval, null)
    if not estimable(robust, L):
        gone = NotApplicable(ONE_CLUSTER)
    elif df2 <= 0:
        gone = NotApplicable(f"{robust.J} clusters are too few to test {len(L)} combinations of coefficients together")
    else:
        gone = NotApplicable("the robust covariance of what is tested is singular")
    return WaldTest(gone, len(L), df2 if df2 == df2 else gone, gone, null)


def _heterogeneity(model: pd.DataFrame) -> Array:
    """Return the variance of a new true effect: both intervals of a model-based prediction have one multiplier."""
    mean, new = (model[f"{kind}_ub"].to_numpy() - model[f"{kind}_lb"].to_numpy() for kind in ("ci", "pi"))
    there = mean > 0
    ratio = np.where(there, new / np.where(there, mean, 1.0), 1.0)
    return np.maximum(ratio**2 - 1.0, 0.0) * model["se"].to_numpy() ** 2


class _OfFit:
    """What the model-based fit knows and robust inference leaves as it is."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, result: RobustResults, owner: type) -> Any:
        if result is None:
            raise AttributeError(self.name)
        return getattr(result.fit, self.name)


@dataclass(frozen=True, eq=False, repr=False)
class RobustResults(WaldTested):
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
    """

    called = "a cluster-robust result"
    inference = "t"
    lacks: ClassVar[Mapping[str, str]] = {
        "robust": "it is one; .fit.robust() makes others",
        "blup": "see .fit",
        "confint_tau2": "see .fit",
    }
    effects, design, level, names = _OfFit(), _OfFit(), _OfFit(), _OfFit()
    tau2, tau, se_tau2, sigma2, loglik = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    QE, QEdf, QEp, I2, H2, R2, vt = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    weights, method, settings, new_variance = _OfFit(), _OfFit(), _OfFit(), _OfFit()
    # Of a multilevel model.
    random, V, components, G, icc = _OfFit(), _OfFit(), _OfFit(), _OfFit(), _OfFit()
    I2_levels, R2_marginal, R2_conditional = _OfFit(), _OfFit(), _OfFit()

    fit: Any
    cluster: str
    type: RobustType
    sandwich: Sandwich
    ddf: Array
    _clusters: Clustered = field(repr=False)
    notes: tuple[Note, ...] = ()

    @property
    def model_label(self) -> str:
        """Estimator and adjustment in a few letters, e.g. ``"REML, CR2"``."""
        return f"{self.fit.model_label.rpartition(', ')[0]}, {self.type}"

    n_clusters = Noun[int]("_clusters.n", "Number of clusters.")
    sizes = Noun[IntArray]("_clusters.sizes", "Effects in each cluster, (n_clusters,), clusters sorted by name.")
    beta = Noun[Array]("fit.beta", "Coefficients on the analysis scale, (p,): those of the model.")
    vb = Noun[Array]("sandwich.vb", "Cluster-robust covariance of the coefficients, (p, p).")

    @cached_property
    def se(self) -> Array:
        """Cluster-robust standard errors, (p,); NaN for a coefficient known from one cluster alone."""
        return np.where(np.isnan(self.ddf), np.nan, np.sqrt(np.diag(self.vb)))

    @cached_property
    def _tests(self) -> RobustTests:
        return RobustTests(self.beta, self.se, self.ddf, *t_tests(self.beta, self.se, self.ddf, level=self.level))

    stat = Noun[Array]("_tests.stat", "T statistics, (p,).")
    pval = Noun[Array]("_tests.pval", "Two-sided p-values, (p,).")
    ci_lb = Noun[Array]("_tests.ci_lb", "Lower confidence limits, (p,).")
    ci_ub = Noun[Array]("_tests.ci_ub", "Upper confidence limits, (p,).")

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        return satterthwaite(self.sandwich, X)

    def _wald(self, matrix: Array, null: str) -> WaldTest:
        return joint_test(self.sandwich, self.beta, matrix, null)

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and a new effect, for given moderators, as `RandomEffectsResults.predict` does.

        The prediction interval rests on the model's heterogeneity, which robust inference does not correct. A column
        ``ddf`` has each row's own degrees of freedom, which serve both intervals.
        """
        level = self._level(level)
        X, _ = rows_to_predict(self, newdata)
        # Labels, and the variance of a new effect, are those of the model-based predictions.
        model = self.fit.predict(newdata, level=level)
        tau2, ddf = _heterogeneity(model), self.row_ddf(X)
        t, pred = critical_values(level, ddf), X @ self.beta
        # Of a level that one study has the variance is 0, and may be less by rounding.
        variance = np.maximum(np.einsum("mp,pq,mq->m", X, self.vb, X), 0.0)
        se = np.where(np.isnan(ddf), np.nan, np.sqrt(variance))
        frame = both_intervals(pred, se, t, t * np.sqrt(se**2 + tau2))
        out = to_scale(frame, measure=self.effects.measure, scale=scale, tau2=tau2).assign(ddf=ddf)
        out.index = model.index
        out.attrs["level"] = level
        if "pi_note" in model.attrs:
            out.attrs["pi_note"] = model.attrs["pi_note"]
        return out


def robust_results(fit: WaldTested, *, cluster: Any, type: RobustType) -> RobustResults:
    """Return a fitted model with cluster-robust inference; for the ``robust`` methods of fitted models."""
    check_option("type", type, RobustType)
    parts = clustered(fit, cluster)
    robust = parts.sandwich(type)
    ddf = satterthwaite(robust, np.eye(fit.design.p))
    own = [note for note in fit.notes if note.code != DEPENDENT]
    notes = merge_notes(own, _notes(parts, fit.design.names, ddf))
    return RobustResults(fit, parts.name, type, robust, ddf, parts, notes)


def _notes(parts: Clustered, names: tuple[str, ...], ddf: Array) -> list[Note]:
    notes: list[Note] = []
    notes += few_df_notes(names, ddf, clusters=parts.n, stacklevel=6)
    notes += one_cluster_notes(names, parts.resting, stacklevel=6)
    if (parts.sizes == 1).all():
        message = "Every cluster holds one effect: robust against wrong variances, not against dependence."
        notes.append(Note("singleton-clusters", message))
    return [*notes, *parts.notes]


ADJUSTMENTS = {
    "CR0": "no small-sample adjustment",
    "CR1": "residuals times sqrt(J / (J - 1)), J clusters",
    "CR1p": "residuals times sqrt(J / (J - p)), J clusters, p coefficients",
    "CR1S": "residuals times sqrt(J (k - 1) / ((J - 1) (k - p))), J clusters, k effects, p coefficients",
    "CR2": "bias-reduced linearisation",
    "CR3": "close to leaving each cluster out in turn",
}


def r_code(fit: RobustResults) -> str:
    """Return the model with clubSandwich's tests of its coefficients."""
    model: Any = fit.fit
    columns = [] if fit.cluster == GIVEN_CLUSTER else fit.cluster.split(" + ")
    lines = [model._by("r_code", model._words, tuple(columns))]
    joined = [f"dat${name(column)}" for column in columns]
    cluster = joined[0] if len(joined) == 1 else f"interaction({', '.join(joined)}, drop=TRUE)"
    if fit.cluster == GIVEN_CLUSTER:
        lines.append(f"cluster <- {vector(fit._clusters.labels[code] for code in fit._clusters.cluster)}")
        cluster = "cluster"
    arguments = f"vcov={quoted(fit.type)}, cluster={cluster}"
    return "\n".join([*lines, "library(clubSandwich)", f"coef_test(fit, {arguments})", *joint_call(fit, arguments)])


def statistics(fit: RobustResults) -> dict[str, Any]:
    """Return the statistics by name."""
    found = {
        "k": fit.k,
        **fit.effects.counts,
        **fit._these("p", "cluster", "n_clusters", "type", "level"),
        **moderator_test(fit),
    }
    return found | fit._these("tau2", "I2", "QE", "QEdf", "QEp", "loglik")


def to_dict(fit: RobustResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    return {
        "statistics": statistics(fit),
        "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
        "vb": fit.vb,
        "omnibus": fit.omnibus.to_dict(),
        "predictions": predictions_of(fit, (None,)),
        "clusters": {"label": list(fit._clusters.labels), "effects": fit.sizes},
        "fit": fit.fit.to_dict(),
    }


def document(fit: RobustResults) -> Document:
    """Return what the fit says."""
    each = wording.effects_per_cluster(fit.sizes)
    tau2 = fit.tau2
    return wording.document(
        fit,
        f"Cluster-robust inference ({fit.type}; k = {fit.k} effects in {fit.n_clusters} clusters, {each})",
        [
            fit.effects.heading,
            f"Clusters: {fit.cluster}; t tests with Satterthwaite df",
            f"Model: {fit.fit.document().title}",
            *wording.moderated(fit),
            *([f"tau2 = {fixed(tau2)} (of the model)"] if tau2 == tau2 else []),
        ],
        wording.moderator_test(fit, "HTZ"),
        wording.coefficients(fit),
        wording.on_r(fit),
    )


def methods(fit: RobustResults) -> str:
    """Return the sentences for a methods section."""
    several = (
        " Several coefficients were tested together by the approximate Hotelling test (Tipton & Pustejovsky, 2015)."
        if len(fit.design.tested) > 1
        else ""
    )
    return (
        f"{fit.fit.methods_text()} These model-based standard errors, tests and confidence intervals were then "
        f"replaced by cluster-robust ones ({fit.type}: {ADJUSTMENTS[fit.type]}; {fit.n_clusters} clusters by "
        f"{fit.cluster}) with Satterthwaite degrees of freedom (Pustejovsky & Tipton, 2018).{several}"
    )
