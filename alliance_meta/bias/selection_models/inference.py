"""How a selection model is solved, and how sure it is, where effects of one study may depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Given
from alliance_meta.core.dependent import IntArray
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
from alliance_meta.core.selection.search import FLAT, Climbed, SelectionFit, bounds, homogeneous
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_cores, check_iterations, check_option, check_seed

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
