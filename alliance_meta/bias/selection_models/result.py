"""`SelectionResult`: the mean if every result had had the same chance to be seen, and how sure it is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Adjusted, Given
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_sf, critical_value
from alliance_meta.core.selection.dependent import (
    ClusterBootstrap,
    Refitting,
    Replicates,
    SelectionEstimator,
    SelectionInterval,
    equations,
    penalised,
    solve,
)
from alliance_meta.core.selection.search import FLAT, Climbed, SelectionFit, bounds, homogeneous, profile_interval
from alliance_meta.core.selection.weights import SelectionProblem
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.errors import InputError, SecondPeakWarning
from alliance_meta.notes import (
    NotApplicable,
    Note,
    check_cores,
    check_iterations,
    check_level,
    check_option,
    check_seed,
)
from alliance_meta.results.fit import frame_of
from alliance_meta.results.r_code import call, comment, data, mods_argument, quoted, vector
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, p_value, plain_df

SelectionVcov = Literal["model", "CR0", "CR1", "bootstrap"]
Interval = Literal["percentile", "basic", "bca", "student"]
# With fewer clusters sandwiches are too small, and normal intervals too short.
FEW_CLUSTERS = 40


@dataclass(frozen=True, eq=False)
class Inference:
    """How a selection model is solved and how sure it is."""

    estimator: SelectionEstimator
    penalised: bool
    vcov: SelectionVcov
    cluster: IntArray  # (k,)
    bootstrap: ClusterBootstrap
    interval: SelectionInterval
    iterations: int
    seed: int
    cores: int

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return int(self.cluster.max()) + 1

    @property
    def plain(self) -> bool:
        """Tell whether this is maximum likelihood as of independent effects."""
        return self.estimator == "CML" and not self.penalised and self.vcov == "model"


def inference(asked: Given, type: str, vcov: SelectionVcov | None, seed: int | None, **options: Any) -> Inference:
    """Check what was asked for; by default the sandwich where a cluster has several effects."""
    used = vcov or ("CR0" if asked.dependent or options["estimator"] == "ARGL" else "model")
    check_option("vcov", used, SelectionVcov)
    check_option("estimator", options["estimator"], SelectionEstimator)
    check_option("bootstrap", options["bootstrap"], ClusterBootstrap)
    check_option("interval", options["interval"], Interval)
    check_iterations(options["iterations"])
    check_cores(options["cores"])
    if options["estimator"] == "ARGL":
        if type != "stepfun":
            raise InputError("ARGL is for step functions; use estimator='CML'")
        if used == "model":
            raise InputError("ARGL is no likelihood and has no model-based standard errors; use vcov='CR0'")
    seed = check_seed(seed, f"{options['iterations']} resampled data sets") if used == "bootstrap" else 0
    return Inference(vcov=used, cluster=asked.cluster, seed=seed, **options)


def solved_by(found: SelectionFit, how: Inference) -> SelectionFit:
    """Return the solution of another estimator, or of a penalised likelihood, near the highest likelihood."""
    if how.estimator == "CML" and not how.penalised:
        return found
    problem = penalised(found.full) if how.penalised else found.full
    theta, held = in_full(found)
    weights = np.ones((1, problem.k))
    solved = solve(problem, theta[None], weights, how.estimator, held)
    if not solved.found[0]:
        mend = "estimator='CML'" if how.estimator == "ARGL" else "penalised=False"
        raise InputError(f"{how.estimator}'s equations have no solution in these data; use {mend}")
    theta, scale, part = solved.theta, problem.slices[1], problem
    if scale.stop - scale.start == 1 and theta[0, scale.start] <= bounds(problem)[0][scale.start]:
        part, theta, held = homogeneous(problem), np.delete(theta, scale.start, axis=1), np.delete(held, scale.start)
    at = equations(part, theta, weights, how.estimator)
    loglik = found.full.at(solved.theta).loglik()
    best = Climbed(theta, loglik, at.left, at.jacobian, np.ones(1, dtype=bool), 0)
    return SelectionFit(problem, part, held, best, np.nan, np.nan)


def in_full(found: SelectionFit) -> tuple[Array, Mask]:
    """Return theta, and what was held, with a place for a tau2 that vanished."""
    if not found.vanished:
        return found.theta, found.held
    at = found.full.slices[1].start
    return np.insert(found.theta, at, bounds(found.full)[0][at]), np.insert(found.held, at, False)


def spread(found: SelectionFit, how: Inference) -> Array:
    """Return the covariance of theta, (n, n): 0 for what was given, NaN at a bound or where the data do not tell."""
    if how.vcov == "model":
        return found.covariance
    free = ~(found.held | found.at_bound)
    if how.clusters <= free.sum():
        many = "1 cluster is" if how.clusters == 1 else f"{how.clusters} clusters are"
        raise InputError(
            f"{many} too few to tell how {free.sum()} estimates would vary between them; that takes "
            f"{free.sum() + 1}. vcov='model' takes effects as independent"
        )
    at = equations(found.problem, found.theta[None], np.ones((1, found.problem.k)), how.estimator)
    A = at.jacobian[0][np.ix_(free, free)]
    unit = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(A)), 1e-300))
    sizes = np.linalg.svd(A * np.outer(unit, unit), compute_uv=False)
    J = how.clusters
    out = np.full((len(free), len(free)), np.nan)
    if not len(sizes) or sizes[-1] > FLAT * sizes[0]:
        out = at.sandwich(how.cluster, free[None])[0] * (J / (J - 1.0) if how.vcov == "CR1" else 1.0)
    out[found.at_bound] = np.nan
    out[:, found.at_bound] = np.nan
    return out


def replicates(found: SelectionFit, how: Inference) -> Replicates | None:
    """Solve resampled data, where the bootstrap was asked for."""
    if how.vcov != "bootstrap":
        return None
    theta, held = in_full(found)
    refit = Refitting(found.full, how.cluster, theta, how.estimator, held)
    made = refit.bootstrap(how.bootstrap, B=how.iterations, seed=how.seed, cores=how.cores)
    if len(made.theta) < 2:
        raise InputError("no resampled data set has a solution; use vcov='CR0', or penalised=True")
    return made


def inference_notes(asked: Given, how: Inference) -> list[Note]:
    """Return what is to be known of the standard errors; warn where effects of a study are taken as independent."""
    notes = []
    if how.vcov == "model":
        notes += dependence_notes(asked.effects, stacklevel=6) if asked.dependent else []
    else:
        what = (
            f"{how.iterations} {how.bootstrap} bootstrap samples of"
            if how.vcov == "bootstrap"
            else "the differences between"
        )
        text = (
            f"Each effect is modelled by its own distribution; standard errors and intervals rest on {what} "
            f"{how.clusters} clusters, however effects hang together within them."
        )
        notes.append(Note("clustered", text))
    if how.vcov in ("CR0", "CR1") and how.clusters < FEW_CLUSTERS:
        text = (
            f"Standard errors from {how.clusters} clusters tend to be too small; vcov='bootstrap' has better intervals."
        )
        notes.append(Note("few-clusters", text))
    if how.penalised:
        text = "Weak penalties draw mean, tau2 and weights to values that are usual for standardised mean differences."
        notes.append(Note("penalised", text))
    return notes


def replicate_notes(made: Replicates) -> list[Note]:
    """Return how many resampled data sets had no solution, or weights that they did not tell."""
    total, notes = made.lost + len(made.theta), []
    if made.lost:
        text = f"{made.lost} of {total} resampled data sets have no solution and are left out."
        notes.append(Note("replicates-lost", text))
    weights = slice(made.of.problem.slices[1].stop, None)
    ends = int((made.at_bound[:, weights] & ~made.of.held[weights]).any(axis=1).sum())
    if ends:
        text = f"In {ends} of {total} resampled data sets a weight is at an end of its range: its error says little."
        notes.append(Note("replicates-at-bound", text))
    return notes


IntervalKind = Literal["Wald", "PL", "percentile", "basic", "bca", "student"]
# p-values at which the weight function is shown; it is relative to the first.
GRID = np.concatenate([np.arange(1, 100), np.arange(100, 1000, 10)]) / 1000.0
GIVEN, AT_BOUND = "given, not estimated", "the estimate lies at its bound"
NO_P = "a bootstrap interval comes without a p-value"
# A parameter of a weight function, or a variance, that is smaller than this at its bound is 0.
NOTHING = 1e-6
FLAT_LIKELIHOOD = "the likelihood is flat: these data do not tell"
KINDS = {
    "stepfun": "step function",
    "beta": "beta weights",
    "halfnorm": "half-normal weights",
    "negexp": "negative exponential weights",
    "logistic": "logistic weights",
    "power": "power weights",
    "negexppow": "negative exponential power weights",
}
SIDES = {"greater": "one-sided p (large effects)", "less": "one-sided p (small effects)", "two.sided": "two-sided p"}


class LikelihoodRatio(NamedTuple):
    """A likelihood-ratio test, or another that is compared with chi-squared."""

    stat: float
    df: int
    pval: float


@dataclass(frozen=True, eq=False)
class Parameter:
    """One number of the model: where it stands in theta, and whether it is shown as the exponential of that."""

    name: str
    index: int  # in theta; -1 for what is not estimated
    logarithm: bool
    # estimate, se: as shown; for a logarithm the standard error is that of the exponential, by the delta method.
    estimate: float
    se: float
    error: float  # the standard error in theta

    def wald(self, level: float) -> tuple[float, float]:
        """Return the limits estimate -+ 1.96 errors, taken on the log scale where that is where it was estimated."""
        if math.isnan(self.error):
            return self.error, self.error
        spread = critical_value(level, None) * self.error
        if not self.logarithm:
            return self.estimate - spread, self.estimate + spread
        factor = math.exp(min(spread, 700.0))
        return self.estimate / factor, self.estimate * factor

    def resampled(self, made: Replicates, kind: SelectionInterval, level: float) -> tuple[float, float]:
        """Return the limits of a bootstrap interval."""
        if self.index < 0:
            return self.error, self.error
        value = self.estimate if not self.logarithm else math.log(self.estimate) if self.estimate > 0.0 else -math.inf
        found = made.limits(self.index, value, self.error, kind, level)
        if isinstance(found, str):
            gone = NotApplicable(found)
            return gone, gone
        if not self.logarithm:
            return found
        low, high = (math.exp(min(one, 700.0)) for one in found)
        return low if low > NOTHING else 0.0, high


@dataclass(frozen=True, slots=True, repr=False, kw_only=True, eq=False)
class SelectionResult(Adjusted):
    """A selection model beside what it was asked of.

    Attributes
    ----------
    type, alternative : str
    steps : tuple of float
        p-values between the intervals of a step function, without 1.
    names : tuple of str
        Coefficients of the mean, (p,).
    beta : ndarray of shape (p,)
        Coefficients of the mean effect before selection.
    vb : ndarray of shape (p, p)
        Their covariance.
    tau2, se_tau2 : float
        Variance of true effects before selection.
    delta : tuple of float
        Parameters of the weight function. Of a step function: the chance that a result in each interval is seen,
        relative to the most significant ones, which have 1.
    se_delta : tuple of float
    loglik : float
    lrt : LikelihoodRatio
        Against no selection.
    lrt_tau2 : LikelihoodRatio
        Against tau2 = 0. As in metafor the p-value is that of chi2(1), which is on the safe side.
    counts : tuple of int
        Effects in each interval of a step function.
    fitted : SelectionFit
        The raw arrays.
    covariance : ndarray of shape (n, n)
        Of the parameters theta: coefficients of the mean, log(tau2), log(delta).
    parts : tuple of Parameter
    fit : Fit
        What was asked of.
    how : Inference
        The estimator, and what standard errors and intervals rest on.
    replicates : Replicates or None
        Solutions of resampled data.
    """

    called: ClassVar[str] = "selection model"
    assumes: ClassVar[str] = "a result's chance to be seen depends on its p-value, by a function of the form given"

    type: str
    alternative: str
    steps: tuple[float, ...]
    names: tuple[str, ...]
    beta: Array
    vb: Array
    tau2: float
    se_tau2: float
    delta: tuple[float, ...]
    se_delta: tuple[float, ...]
    loglik: float
    lrt: LikelihoodRatio
    lrt_tau2: LikelihoodRatio
    counts: tuple[int, ...]
    fitted: SelectionFit
    covariance: Array
    parts: tuple[Parameter, ...]
    fit: Any
    how: Inference
    replicates: Replicates | None = None

    @property
    def moderated(self) -> bool:
        """Tell whether the mean has moderators, so that there is no one adjusted mean."""
        return isinstance(self.estimate, NotApplicable) and len(self.beta) > 1

    @property
    def wald(self) -> LikelihoodRatio:
        """Wald's test against no selection, chi-squared, from the covariance: with clusters, robust to dependence.

        For step functions and beta weights, whose other forms have no selection only at a bound.
        """
        weights = np.arange(self.fitted.problem.slices[1].stop, self.fitted.problem.n)
        free = weights[~self.fitted.held[weights]]
        psi, V = self.fitted.theta[free], self.covariance[np.ix_(free, free)]
        why = "all weights were given" if not len(free) else ""
        if self.type not in ("stepfun", "beta"):
            why = "weights of this form have no selection only at a bound"
        if why or np.isnan(V).any():
            gone = NotApplicable(why or AT_BOUND)
            return LikelihoodRatio(gone, len(free), gone)
        stat = float(psi @ np.linalg.pinv(V) @ psi)
        return LikelihoodRatio(stat, len(free), chi2_sf(stat, len(free)))

    @property
    def parameters(self) -> pd.DataFrame:
        """Every number of the model, one row each: ``estimate se ci_lb ci_ub``, intervals of variances on logs."""
        limits = self.confint(kind=self._usual if self.replicates else "Wald")
        limits.insert(1, "se", [one.se for one in self.parts])
        return limits

    def tidy(self) -> pd.DataFrame:
        """Return the adjusted mean in one row, or the coefficients of the mean effect in one row each."""
        if not self.moderated:
            return Adjusted.tidy(self)  # a class with slots is made twice: super() would mean the first
        return self.parameters.iloc[: len(self.beta)]

    @property
    def intervals(self) -> pd.DataFrame:
        """The intervals of a step function: ``p_lb p_ub k delta se ci_lb ci_ub``; other forms have no rows."""
        if self.type != "stepfun":
            return pd.DataFrame(columns=["p_lb", "p_ub", "k", "delta", "se", "ci_lb", "ci_ub"], dtype=float)
        edges, table = (0.0, *self.steps, 1.0), self.parameters
        rows = []
        for j, (lb, ub) in enumerate(pairwise(edges)):
            row: dict[str, Any] = {"p_lb": lb, "p_ub": ub, "k": self.counts[j], "delta": self.delta[j]}
            row["se"] = row["ci_lb"] = row["ci_ub"] = self.se_delta[j]
            name = f"delta[{j + 1}]"
            if name in table.index:
                row.update(ci_lb=table.loc[name, "ci_lb"], ci_ub=table.loc[name, "ci_ub"])
            rows.append(row)
        return frame_of(rows, index=[f"{a:g} < p <= {b:g}" for a, b in pairwise(edges)])

    @property
    def weights(self) -> pd.DataFrame:
        """The weight function: ``p weight ci_lb ci_ub``, relative to the weight at the smallest p.

        A step function has two rows for each interval, its ends, so that the rows joined by lines draw it. The limits
        are pointwise: quantiles of the replicates of a bootstrap, else from the standard errors of the log weights, and
        NaN where these do not exist. Where the weights have moderators, these are the weights at their means.
        """
        steps = np.array(self.steps)
        p = np.sort(np.concatenate([[0.0, 1.0], steps, steps])) if self.type == "stepfun" else GRID
        inside = np.repeat(0.5 * (p[::2] + p[1::2]), 2) if self.type == "stepfun" else p
        weight = self._relative(self.fitted.theta[None], self.fitted.problem, inside)[0]
        if self.replicates:
            values = self._relative(self.replicates.theta, self.fitted.full, inside)
            tails = 0.5 * (1.0 - self.level), 0.5 * (1.0 + self.level)
            lb, ub = np.quantile(values, tails, axis=0, method="weibull")
        else:
            with np.errstate(over="ignore"):
                factor = np.exp(critical_value(self.level, None) * self._log_errors(inside))
                lb, ub = weight / factor, weight * factor
        return pd.DataFrame({"p": p, "weight": weight, "ci_lb": lb, "ci_ub": ub})

    def _relative(self, theta: Array, problem: SelectionProblem, p: Array) -> Array:
        """Return the weights relative to the first, (B, m), at parameters (B, n) and the means of the designs."""
        parts = list(zip(problem.designs, problem.slices, strict=True))[2:]
        psi = np.array([theta[:, part] @ design.mean(axis=0) for design, part in parts])
        values = problem.weights.relative(p, psi.reshape(len(parts), -1, 1))
        return np.asarray(values / values[:, :1])

    def _log_errors(self, p: Array) -> Array:
        """Return the standard errors of the logs of these weights, (m,)."""
        problem = self.fitted.problem
        parts = list(zip(problem.designs, problem.slices, strict=True))[2:]
        psi = np.array([design.mean(axis=0) @ self.fitted.theta[part] for design, part in parts]).reshape(-1, 1, 1)
        slopes = problem.weights.log_slopes(p, psi)
        J = np.zeros((len(p), problem.n))
        for slope, (design, part) in zip(slopes - slopes[:, :1], parts, strict=True):
            J[:, part] = slope[:, None] * design.mean(axis=0)
        return np.asarray(np.sqrt(np.einsum("mi,ij,mj->m", J, self.covariance, J)))

    def confint(self, *, kind: IntervalKind | None = None, level: float | None = None) -> pd.DataFrame:
        """Return intervals of every number of the model.

        Parameters
        ----------
        kind : {"PL", "Wald", "percentile", "basic", "bca", "student"}, optional
            ``PL``: the values at which the likelihood, maximised over all else, is not too far below its maximum:
            right where a parameter lies near a bound or its likelihood is lopsided, which is the rule for weights. It
            takes effects as independent. ``Wald``: from the standard errors, on the log scale for tau2 and delta. The
            others are read off the replicates of ``vcov="bootstrap"``, on the log scale too: their quantiles; these
            mirrored; quantiles shifted for bias and skewness; and quantiles of the studentised replicates. By default
            ``PL`` for maximum likelihood of independent effects, the interval that the bootstrap was asked for, else
            ``Wald``.
        level : float, optional

        Returns
        -------
        DataFrame
            ``estimate ci_lb ci_ub``, one row per parameter. A limit is infinite where the likelihood never falls
            far enough.

        Raises
        ------
        InputError
            A kind that this result has no grounds for.

        Warns
        -----
        SecondPeakWarning
            A higher likelihood was met on the way.

        Notes
        -----
        R: ``confint(selmodel(fit, ...))``, for tau2 and delta; metaselection's ``CI_type``.
        """
        used, kind = self.level if level is None else level, kind or self._usual
        check_option("kind", kind, IntervalKind)
        check_level(used)
        if kind == "PL" and not self.how.plain:
            raise InputError("kind='PL' is for maximum likelihood of independent effects: selmodel(..., vcov='model')")
        if kind not in ("PL", "Wald") and not self.replicates:
            raise InputError(f"kind={kind!r} is read off a bootstrap: selmodel(..., vcov='bootstrap', seed=1)")
        rows = []
        for one in self.parts:
            lb, ub = self._limits(one, kind, used)
            rows.append({"estimate": one.estimate, "ci_lb": lb, "ci_ub": ub})
        return frame_of(rows, index=[one.name for one in self.parts])

    @property
    def _usual(self) -> IntervalKind:
        return self.how.interval if self.replicates else "PL" if self.how.plain else "Wald"

    def _limits(self, one: Parameter, kind: IntervalKind, level: float) -> tuple[float, float]:
        if kind == "PL":
            return self._profile(one, level)
        if kind == "Wald" or self.replicates is None:
            return one.wald(level)
        return one.resampled(self.replicates, kind, level)

    def _profile(self, one: Parameter, level: float) -> tuple[float, float]:
        if one.index < 0:
            gone = NotApplicable(GIVEN)
            return gone, gone
        found = profile_interval(self.fitted, one.index, level=level)
        if found.loglik > self.loglik + 1e-6:
            more = f"{brief(found.loglik - self.loglik, 2)}"
            text = f"The profile likelihood of {one.name} is higher elsewhere than at the estimate, by {more}"
            warnings.warn(text, SecondPeakWarning, stacklevel=4)
        if not one.logarithm:
            return found.low, found.high
        return (math.exp(found.low) if math.isfinite(found.low) else 0.0), math.exp(found.high)

    def r_code(self) -> str:
        """Return metafor's ``selmodel`` of the same effects, as far as metafor can."""
        homogeneous = not self.fitted.full.designs[1].shape[1]
        arguments = {
            "mods": mods_argument(self.fit) if len(self.beta) > 1 else None,
            "data": "dat",
            "method": quoted("EE" if homogeneous else "ML"),
        }
        stepped = self.type == "stepfun"
        free = {one.name for one in self.parts if one.index >= 0}
        weights = [None if f"delta[{j + 1}]" in free else one for j, one in enumerate(self.delta)]
        selection = {
            "type": quoted(self.type),
            "alternative": quoted(self.alternative),
            "steps": vector(self.steps) if stepped else None,
            "delta": vector(weights) if self.fitted.held.any() else None,
        }
        lines = ["library(metafor)", *data(self.fit)]
        if self.fitted.problem.selected is not None:
            lines.append(comment("metafor takes every effect as exposed to selection, focal or not"))
        if not self.how.plain:
            text = "metafor takes effects as independent; metaselection::selection_model(..., cluster=) does not"
            lines.append(comment(text))
        if self.steps and not stepped:
            lines.append(comment("metafor's weights change at all p-values, not only between the steps"))
        if any(design.shape[1] > 1 for design in self.fitted.full.designs[1:]):
            lines.append(comment("metafor's selmodel has no moderators of tau2 or of the weights"))
        lines.append(f"fit <- {call('rma', 'yi', 'vi', **arguments)}")
        return "\n".join([*lines, f"sel <- {call('selmodel', 'fit', **selection)}"])

    def _values(self) -> dict[str, Any]:
        out = self._these("estimate", "se", "ci_lb", "ci_ub", "pval", "k", "studies", "level", "measure")
        out |= self._these("type", "alternative", "steps", "names", "beta", "vb", "tau2", "se_tau2")
        out |= self._these("delta", "se_delta", "loglik")
        out |= {name: getattr(self, name)._asdict() for name in ("lrt", "lrt_tau2")}
        return {**out, "counts": self.counts}

    def _content(self) -> Document:
        kind = f"{KINDS[self.type]} of the {SIDES[self.alternative]}"
        if self.steps:
            kind += f", steps {', '.join(f'{one:g}' for one in self.steps)}"
        lines = [f"{kind}; log-likelihood {fixed(self.loglik)}"]
        if self.how.plain:
            lines += [_test("Against no selection", self.lrt), _test("Against tau2 = 0", self.lrt_tau2)]
        else:
            lines.append(_test("Against no selection", self.wald, "Wald's chi2"))
        shown = self.parameters.iloc[len(self.beta) :]
        tables = [_table(self.tidy()), *([_table(shown)] if len(shown) else [])]
        return self._document(self._title(), *tables, lines=lines)


def _table(frame: pd.DataFrame) -> Table:
    kinds: dict[str, Kind] = {str(name): "p" if name == "pval" else 4 for name in frame}
    return table_of(frame, kinds, heads={"pval": "p"})


def _test(label: str, test: LikelihoodRatio, called: str = "LRT") -> str:
    if isinstance(test.stat, NotApplicable):
        return f"{label}: no test ({test.stat.reason})"
    shown = f"{called}({plain_df(test.df)}) = {fixed(test.stat)}"
    return f"{label}: {shown}" + ("" if isinstance(test.pval, NotApplicable) else f", p {p_value(test.pval)}")
