"""`BayesianMultilevelResults`: the posterior of a three-level model, with the two-level result's nouns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.evidence import LeaveOneOut, assembled, made, of_range, prior_of_stated, savage_dickey
from alliance_meta.bayes.exact.quantities import Drawn
from alliance_meta.bayes.exact.results import ExactResults
from alliance_meta.bayes.exact.setup import Priors, coordinates
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, read_hypothesis, undefined
from alliance_meta.bayes.marginals import IntervalKind
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.bayes.three_level.quantities import MultilevelPriors, MultilevelQuantities, density
from alliance_meta.core.bayes.integration import TauDensity
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.three_level.deletion import MultilevelDeletions, delete_each_of, log_density_of_units
from alliance_meta.core.three_level.grid import with_priors
from alliance_meta.core.three_level.posterior import (
    MultilevelPosterior,
    draw_deviations,
    draw_effects,
    given_deviations,
    proper,
    solve_multilevel,
    without_coefficient,
)
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.results import wording
from alliance_meta.results.r_code import comment, covariance, data, formula, path, quoted
from alliance_meta.tables.format import brief


def bayes_factor(fit: BayesianMultilevelResults, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    prior, which = prior_of_stated(fit, stated), fit.priors.which(stated.name)
    if not isinstance(prior, Prior):
        return undefined(stated, prior)
    marginal = fit.posterior(stated.name)
    if not stated.is_point:
        return of_range(stated, marginal, prior, fit.exact.error, lowest=-np.inf if which is None else 0.0)
    check = savage_dickey(marginal, prior, stated.lower if which is None else 1e-3 * marginal.median)
    log, error = _point(fit, stated, which, check)
    return made(stated, log, error, check)


def _point(fit: BayesianMultilevelResults, stated: Hypothesis, which: int | None, check: float) -> tuple[float, float]:
    """Return log BF01 of a point, from the model that it makes, and its error."""
    densities: list[TauDensity | None] = list(fit.priors.densities)
    data = fit.exact.data
    if which is not None:
        densities[which] = None
    else:
        row = fit._row(stated.name)
        used = np.flatnonzero(row)
        if len(used) != 1:
            # A combination is no coordinate that could be held: its density has to do.
            return float(np.log(check)), fit.exact.error
        data = without_coefficient(data, int(used[0]), stated.lower / float(row[used[0]]))
    other = solve_multilevel(data, *densities)
    return other.log_marginal - fit.exact.log_marginal, other.error + fit.exact.error


def leave_out(fit: BayesianMultilevelResults, cluster: str | None) -> LeaveOneOut:
    """Leave out each row, or each whole group of `cluster`, in turn."""
    outer = fit.priors.terms[0]
    if cluster not in (None, outer):
        raise InputError(f"cluster={cluster!r}: whole groups of {outer!r} can be left out, or single rows without it")
    whole = cluster is not None
    left = delete_each_of(fit.exact, fit._rows, fit.priors.densities, whole=whole)
    labels = pd.Index(fit.levels if whole else fit.effects.slab, name=outer if whole else "label")
    inside = float(log_density_of_units(fit.exact, fit._rows, whole=whole).sum())
    counts = {"k": np.bincount(fit.group)} if whole else {}
    what = "group" if whole else "effect"
    return assembled(_columns(fit, left), labels, left.units, inside, left.error, what=what, **counts)


def _columns(fit: BayesianMultilevelResults, left: MultilevelDeletions) -> dict[str, Any]:
    T = coordinates(fit.design)
    mean = left.mean @ T.T
    spread = np.sqrt(np.maximum(np.einsum("ji,mik,jk->mj", T, left.covariance, T), 0.0))
    columns: dict[str, Any] = {"elpd": left.log_predictive}
    if left.pit is not None:
        columns["pit"] = left.pit
    # A row or a group less makes every tail heavier by one power, or by as many as there are rows.
    lost = 1 if left.pit is not None else int(np.bincount(fit.group).max())
    exact = fit.exact
    proper = bool((exact.data.precision > 0).all())
    tails = (exact.tails[0] - 1, exact.tails[1] - lost)
    for j, name in enumerate(fit.names):
        columns[f"mean[{name}]"] = mean[:, j] if proper or min(tails) > 2.0 else None
        columns[f"sd[{name}]"] = spread[:, j] if proper or min(tails) > 3.0 else None
    for i, name in enumerate(fit.priors.tau_names):
        columns[f"mean[{name}]"] = left.deviations[:, i] if tails[i] > 2.0 else None
    return columns


def solver(fit: BayesianMultilevelResults, priors: Priors) -> Callable[[MultilevelPriors], MultilevelPosterior]:
    """Return what solves the model with these priors and others of both standard deviations."""
    base = fit.exact if priors is fit.priors else _with_mu(fit, priors)
    own = fit.priors

    def solve(tried: MultilevelPriors) -> MultilevelPosterior:
        # Where the density is that of the fit, nothing has to be weighed anew.
        pairs = zip(tried.taus, own.taus, own.densities, strict=True)
        between, within = (kept if prior == before else density(prior) for prior, before, kept in pairs)
        if not proper(base.data, between, within):
            raise InputError(f"the posterior is improper under {tried}; leave this combination out")
        found = None
        if all(one.proper for one in own.densities):
            found = with_priors(base, own.densities, (between, within))
        return found or solve_multilevel(base.data, between, within)

    return solve


def _with_mu(fit: BayesianMultilevelResults, priors: Priors) -> MultilevelPosterior:
    """Return the posterior with another prior of the mean."""
    j = priors.names.index("mu")
    mu, data = priors.coefficients[j], fit.exact.data
    if mu.gaussian is None:
        raise InputError(f"mu_priors: {mu}: the exact three-level model takes normal and flat priors")
    mean, precision = data.mean.copy(), data.precision.copy()
    middle, precision[j] = mu.gaussian
    mean[j] = middle - data.centre[j] if mu.proper else 0.0
    changed = replace(data, mean=mean, precision=precision)
    if not proper(changed, *fit.priors.densities):
        raise InputError(f"mu_priors: {mu} leaves the posterior improper with the priors of tau of this fit")
    return solve_multilevel(changed, *fit.priors.densities)


def r_code(fit: BayesianMultilevelResults) -> str:
    """Return the R code (brms) that samples from the same posterior."""
    outer, inner = fit.priors.terms
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    uses = [part for term in (outer, inner, *obs) for part in term.split("/") if part]
    lines = [
        "library(brms)  # samples what is integrated here: expect the same to two or three digits",
        "library(metafor)",
        *data(fit, uses=uses),
    ]
    nested = inner.startswith(f"{outer}/")
    random = f"(1 | {path(inner)})" if nested else f"(1 | {path(outer)}) + (1 | {path(inner)})"
    if fit.V is None:
        response, known, data2 = "yi | se(sqrt(vi))", "", ""
    else:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
        response, known, data2 = "yi", " + fcor(V)", ", data2=list(V=V)"
    # Variances that are known leave nothing for sigma to do.
    priors = [] if fit.V is None else ['prior(constant(1), class="sigma")']
    priors += _of_coefficients(fit)
    groups = (outer.replace("/", ":"), inner.replace("/", ":"))
    for group, tau in zip(groups, fit.priors.taus, strict=True):
        priors.append(f'prior({tau.spelled("brms")}, class="sd", group="{group}")')
    if not all(name.isidentifier() for name in fit.design.names):
        lines.append("# brms names the coefficients of factors its own way: default_prior() lists them")
    separator = ",\n            "
    lines.append(f"priors <- c({separator.join(priors)})")
    lines.append(f"fit <- brm({response} ~ {formula(fit.design.formula)} + {random}{known}, data=dat{data2},")
    lines.append("           prior=priors, seed=1,")
    lines.append("           chains=4, iter=4000, control=list(adapt_delta=0.99))")
    return "\n".join(lines)


def _of_coefficients(fit: BayesianMultilevelResults) -> list[str]:
    """Return the priors of the coefficients; brms too centres moderators for the prior of its intercept."""
    found = []
    for name, prior in zip(fit.design.names, fit.priors.coefficients, strict=True):
        where = 'class="Intercept"' if name == INTERCEPT else f'class="b", coef={quoted(name)}'
        found.append(f"set_prior({prior.spelled('brms')}, {where})")
    return found


@dataclass(frozen=True, eq=False, repr=False)
class BayesianMultilevelResults(MultilevelQuantities, ExactResults):
    """The posterior of a Bayesian three-level model: effects within studies.

    Made by `BayesianModel.fit` with ``random=``. Every number comes from quadrature over the two standard
    deviations, none from random draws. Terms are named as `MultilevelModel` names them, ``study_id`` and
    ``study_id/es_id``; where a name is asked for, the last part of it is enough: ``"tau[es_id]"``.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part.
    design : Design
    priors : MultilevelPriors
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed or shortest intervals.
    exact : MultilevelPosterior
        The raw arrays.
    group : ndarray of int, shape (k,)
        Group of each effect, by code.
    levels : tuple of str
        What each group is called, by code.
    V : SamplingCovariance or None
        None: sampling errors are independent.
    notes : tuple of Note
        What a reader must know; every report prints them.
    """

    called = "a Bayesian three-level model"
    _nested = True

    effects: EffectSizes
    design: Design
    priors: MultilevelPriors
    level: float
    interval: IntervalKind
    exact: MultilevelPosterior
    group: IntArray
    levels: tuple[str, ...]
    V: SamplingCovariance | None
    notes: tuple[Note, ...] = ()

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return how much more likely the data are under a hypothesis than under its opposite.

        Parameters
        ----------
        hypothesis : str
            A point, ``"mu = 0"``, ``"year = 0"`` or ``"tau[study_id] = 0"`` (no variation between groups); or a
            range, ``"mu > 0"``, ``"|mu| < 0.1"``, ``"tau[study_id] < 0.1"``.

        Returns
        -------
        BayesFactor
            As of `BayesianResults.bayes_factor`. The priors of everything else stay as they are.
        """
        return bayes_factor(self, read_hypothesis(hypothesis))

    def joint_density(self, between: Any, within: Any) -> Array:
        """Return the joint posterior density of both standard deviations at values that broadcast together."""
        between, within = np.broadcast_arrays(np.asarray(between, dtype=float), np.asarray(within, dtype=float))
        s1, s2 = np.maximum(between.ravel(), 0.0), np.maximum(within.ravel(), 0.0)
        logs = given_deviations(self.exact.data, s1, s2).loglik - self.exact.log_marginal
        for prior, at in zip(self.priors.densities, (s1, s2), strict=True):
            logs = logs + prior.log_density(at)
        return np.where((between >= 0) & (within >= 0), np.exp(logs).reshape(between.shape), 0.0)

    def loo(self, *, cluster: str | None = None) -> LeaveOneOut:
        """Leave out each row in turn, or each whole group, exactly.

        How well do the other rows, or the other studies, predict each one, and what would the synthesis say
        without it? A row is predicted from the rest of its own study too; a study left out whole is not, which is
        the harder test, and the one that counts for new studies.

        Parameters
        ----------
        cluster : str, optional
            The grouping, such as ``"study_id"``: leave out whole groups.

        Returns
        -------
        LeaveOneOut
            ``elpd`` (larger is better), ``elpd_se``, and ``tidy()`` with one row per effect or group.

        Examples
        --------
        >>> import alliance_meta as am
        >>> es = am.escalc(am.load_dataset("crede2010"))
        >>> fit = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
        >>> print(fit.loo(cluster="study_id"))
        elpd = -8.19 (SE 15.00), p_loo = 8.66, 68 groups of study_id; exact leave-one-out
        """
        return leave_out(self, cluster)

    def r_code(self) -> str:
        """Return the R code (brms) that fits the same model by sampling, as far as it can."""
        return r_code(self)

    @property
    def _model_words(self) -> list[str]:
        outer, inner = self.priors.terms
        size = f"k = {self.k} effects in {self.n_groups} groups; exact, error about {brief(self.error_bound, 1)}"
        return [
            f"Bayesian three-level model ({size})",
            f"Random: {outer}, and {inner} within it; sampling errors: {self._errors}",
        ]

    @property
    def _method_words(self) -> tuple[str, str]:
        outer, inner = self.priors.terms
        taken = "independent" if self.V is None else f"taken as follows: {self._errors}"
        return (
            f"A Bayesian three-level model{wording.with_moderators(self)} was fitted to k = {self.k} effects in "
            f"{self.n_groups} groups, with random effects of {outer} and of {inner} within it; sampling errors were "
            f"{taken}",
            "Coefficients and true effects were integrated analytically, the two standard deviations by quadrature",
        )

    @property
    def _errors(self) -> str:
        return "independent" if self.V is None else self.V.assumption

    def _drawn(self, rng: np.random.Generator, draws: int) -> Drawn:
        between, within = draw_deviations(self.exact, rng.uniform(2.0**-54, 1.0, (draws, 2)))
        coefficients, theta = draw_effects(self.exact, between, within, rng)
        return np.column_stack([between, within]), coefficients, np.hypot(between, within), theta

    def _solver(self, priors: Priors) -> Callable[[Any], MultilevelPosterior]:
        return solver(self, priors)

    @property
    def _nesting(self) -> dict[str, dict[str, Any]]:
        return {
            "model": {"random": list(self.priors.terms), "V": self._errors},
            "statistics": {"groups": self.n_groups},
            "studies": {"group": [self.levels[i] for i in self.group]},
        }
