"""What the data say for a model: Bayes factors of points and ranges, and exact leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import Priors, coordinates
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, undefined
from alliance_meta.bayes.marginals import INFINITE, Marginal
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, Prior
from alliance_meta.core.bayes.quadrature import TauDensity
from alliance_meta.core.bayes.reweighted import delete_each
from alliance_meta.core.bayes.three_level import solve_multilevel, without_coefficient
from alliance_meta.core.bayes.three_level_deletion import MultilevelDeletions, delete_each_of, log_density_of_units
from alliance_meta.core.bayes.two_level import LOG_2PI, ExactPosterior, expectation, log_likelihood
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

# A posterior density or probability below this has lost its digits to those of the nodes.
LEAST = 1e-200


def bayes_factor(fit: Quantities, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    prior = prior_of_stated(fit, stated)
    if not isinstance(prior, Prior):
        return undefined(stated, prior)
    if stated.name == "tau":
        return _of_tau(fit, stated, prior)
    assert isinstance(prior, EffectPrior)
    row = fit._row(stated.name)
    return _point(fit, stated, row, prior) if stated.is_point else _range(fit, stated, row, prior)


def prior_of_stated(fit: Quantities, stated: Hypothesis) -> Prior | str:
    """Return the prior of what a hypothesis is about, or why there can be no Bayes factor of it."""
    name, which = stated.name, fit.priors.which(stated.name)
    if which is None and (fit._is_spread(name) or name.startswith("theta")):
        *first, last = "mu", "a coefficient", *fit.priors.tau_names
        raise InputError(
            f"{stated.text!r}: Bayes factors are for {', '.join(first)} or {last}; for a probability use prob()"
        )
    if which is None:
        return _prior_of(fit.priors, fit._row(name)) or f"the prior of {name} is flat"
    if stated.is_point and stated.lower != 0:
        raise InputError(
            f"{stated.text!r}: of the points only {name} = 0 is a hypothesis (no variation); or give a range"
        )
    prior = fit.priors.taus[which]
    return prior if prior.proper else f"the prior of {name}, {prior}, is improper"


def _of_tau(fit: Quantities, stated: Hypothesis, prior: Prior) -> BayesFactor:
    exact: ExactPosterior = fit.exact
    posterior = fit.posterior("tau")
    if not stated.is_point:
        return of_range(stated, posterior, prior, exact.error, lowest=0.0)
    log = float(log_likelihood(exact.problem, np.zeros(1))[0]) - exact.log_marginal
    return made(stated, log, exact.error, savage_dickey(posterior, prior, 1e-9 * posterior.median))


def of_range(stated: Hypothesis, posterior: Marginal, prior: Prior, error: float, *, lowest: float) -> BayesFactor:
    """Return the Bayes factor of a range from the probabilities inside and outside, before and after the data."""
    lower = max(stated.lower, lowest)
    below, above = float(prior.cdf(lower)), 1.0 - float(prior.cdf(stated.upper))
    if not 0 < below + above < 1:
        raise InputError(f"{stated.text!r}: the prior of {stated.name}, {prior}, leaves no doubt about that")
    outside = float(posterior.cdf(lower)) + float(posterior.sf(stated.upper))
    inside = posterior.prob(lower, stated.upper)
    smallest = np.finfo(float).tiny
    log = float(np.log(max(inside, smallest)) - np.log(max(outside, smallest)))
    log -= float(np.log1p(-below - above) - np.log(below + above))
    error = error / max(min(inside, outside), smallest)
    return made(stated, log, error, NotApplicable("there is no other route"))


def savage_dickey(posterior: Marginal, prior: Prior, at: float) -> float:
    """Return posterior over prior density at a point, where both have digits."""
    return _ratio(float(posterior.pdf(at)), float(prior.logpdf(at)))


def _ratio(density: float, prior_log: float) -> float:
    """Return posterior over prior density, where both have digits."""
    if density < LEAST or prior_log < np.log(LEAST):
        return NotApplicable("a density is too near to 0")
    return float(np.exp(np.log(density) - prior_log))


def _prior_of(priors: Priors, row: Array) -> EffectPrior | None:
    """Return the prior of one coefficient or of a combination, None where it is flat."""
    used = np.flatnonzero(row)
    chosen = priors.coefficients
    if not all(chosen[j].proper for j in used):
        return None
    if len(used) == 1 and row[used[0]] == 1.0:
        return chosen[used[0]]
    if not all(isinstance(chosen[j], Normal) for j in used):
        raise InputError("a Bayes factor of a combination needs normal priors of all its coefficients")
    mean = sum(row[j] * chosen[j].mean for j in used)  # type: ignore[attr-defined]
    return Normal(float(mean), float(np.sqrt(sum((row[j] * chosen[j].sd) ** 2 for j in used))))  # type: ignore[attr-defined]


def _point(fit: Quantities, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    value = stated.lower
    exact: ExactPosterior = fit.exact
    log, error = log_bf01_of_point(exact, row, value, prior)
    density = float(exact.coefficients(row[None]).pdf(np.array([[value]]))[0, 0])
    return made(stated, log, error, _ratio(density, float(prior.logpdf(value))))


def log_bf01_of_point(exact: ExactPosterior, row: Array, value: float, prior: EffectPrior) -> tuple[float, float]:
    """Return log BF01 of a combination of coefficients having one value, and its relative numerical error."""

    def log_density(mean: Array, sd: Array) -> Array:
        """Return the log density of the value under each component."""
        return -0.5 * (LOG_2PI + ((value - mean) / sd) ** 2) - np.log(sd)

    log, error = expectation(exact.problem, row, log_density)
    return log - exact.log_marginal - float(prior.logpdf(value)), error + exact.error


def _range(fit: Quantities, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    exact: ExactPosterior = fit.exact
    lower, upper = stated.lower, stated.upper
    inside, first = expectation(exact.problem, row, _log_inside(lower, upper))
    outside, second = expectation(exact.problem, row, _log_outside(lower, upper))
    below, above = float(prior.cdf(lower)), float(prior.cdf(-upper + 2 * _centre(prior)))
    prior_log = float(np.log1p(-below - above) - np.log(below + above))
    mixture = exact.coefficients(row[None])
    tails = float(mixture.cdf(np.array([[lower]]))[0, 0] + mixture.sf(np.array([[upper]]))[0, 0])
    seen = LEAST < tails < 1.0
    odds = np.log1p(-tails) - np.log(tails) - prior_log if seen else np.inf
    check = float(np.exp(odds)) if odds < 700.0 else NotApplicable("a probability is too near to 0")
    return made(stated, inside - outside - prior_log, first + second, check)


def _centre(prior: EffectPrior) -> float:
    """Return the point around which a prior is symmetric: its upper tail is the lower tail of its mirror image."""
    return float(prior.mean)  # type: ignore[attr-defined]


def _log_inside(lower: float, upper: float) -> Callable[[Array, Array], Array]:
    def log_probability(mean: Array, sd: Array) -> Array:
        """Return the log of the probability under each component."""
        a, b = (lower - mean) / sd, (upper - mean) / sd
        # On the side where both tails are small.
        a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
        with np.errstate(divide="ignore"):
            return special.log_ndtr(b) + np.log1p(-np.exp(special.log_ndtr(a) - special.log_ndtr(b)))

    return log_probability


def _log_outside(lower: float, upper: float) -> Callable[[Array, Array], Array]:
    def log_probability(mean: Array, sd: Array) -> Array:
        """Return the log of the probability under each component."""
        return np.logaddexp(special.log_ndtr((lower - mean) / sd), special.log_ndtr((mean - upper) / sd))

    return log_probability


def made(stated: Hypothesis, log: float, error: float, check: float) -> BayesFactor:
    """Return the Bayes factor with this logarithm."""
    with np.errstate(over="ignore"):
        bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
    return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, error, check)


@dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut(Result):
    """The predictions of each study from the others, by exact deletion.

    Attributes
    ----------
    elpd : float
        Expected log predictive density, the sum over studies; larger is better. For comparing models of the
        same effects.
    elpd_se : float
        Standard error of that sum as an estimate for new studies.
    p_loo : float
        Effective number of parameters.
    error_bound : float
        Bound of the numerical error of `elpd`.
    table : DataFrame
        One row per study; see `tidy`.

    Notes
    -----
    Vehtari, Gelman & Gabry (2017, doi:10.1007/s11222-016-9696-4) approximate what is computed exactly here.
    """

    elpd: float
    elpd_se: float
    p_loo: float
    error_bound: float
    table: pd.DataFrame

    def tidy(self) -> pd.DataFrame:
        """Return one row per study, unrounded.

        Returns
        -------
        DataFrame
            ``elpd`` (log density of the study's result given the others), ``pit`` (probability of a result up to
            it; near 0 or 1: a surprise), posterior mean and sd of each coefficient without the study
            (``mean[mu]``, ``sd[mu]``), and the mean of tau without it. With whole groups left out one row per
            group, with ``k``, how many effects it has, and ``elpd`` of all of them together; ``pit`` is for single
            results.
        """
        return self.table.copy()

    def _content(self) -> Document:
        whole = self.table.index.name != "label"
        number = f"{len(self.table)} groups of {self.table.index.name}" if whole else f"k = {len(self.table)}"
        return Document(
            f"elpd = {fixed(self.elpd, 2)} (SE {fixed(self.elpd_se, 2)}), p_loo = {fixed(self.p_loo, 2)}, {number}; "
            "exact leave-one-out"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        totals = {name: getattr(self, name) for name in ("elpd", "elpd_se", "p_loo", "error_bound")}
        return {**totals, "studies": {"slab": list(self.table.index), **columns_of(self.table)}}


def leave_one_out(fit: Quantities) -> LeaveOneOut:
    """Leave out each study of a fit in turn."""
    exact: ExactPosterior = fit.exact
    left = delete_each(exact)
    finite = exact.problem.finite
    T = coordinates(fit.design)
    mean = left.mean @ T.T
    columns: dict[str, Any] = {"elpd": left.log_predictive, "pit": left.pit}
    for j, name in enumerate(fit.names):
        spread = _spread(left.covariance, T[j])
        columns[f"mean[{name}]"] = mean[:, j] if finite(1, of="coefficients", left_out=1) else None
        columns[f"sd[{name}]"] = spread if finite(2, of="coefficients", left_out=1) else None
    columns["mean[tau]"] = left.tau if finite(1, of="tau", left_out=1) else None
    within = float(exact.observations().log_pdf(fit.effects.yi).sum())
    labels = pd.Index(fit.effects.slab, name="label")
    return assembled(columns, labels, left.rows, within, left.error, what="study")


def assembled(
    columns: Mapping[str, Any], labels: pd.Index, there: Any, within: float, error: Array, *, what: str, **more: Any
) -> LeaveOneOut:
    """Return what leaving out each unit gave; `there` are those without which the posterior exists.

    `within` is the log density of all units given all, `more` are columns that every unit has.
    """
    n = len(labels)
    none = NotApplicable(f"without this {what} the posterior is improper")
    table = more | {name: _filled(values, there, n, none) for name, values in columns.items()}
    out = pd.DataFrame(table, index=labels)
    if len(there) < n:
        lost = ", ".join(str(labels[i]) for i in sorted({*range(n)} - {*np.asarray(there).tolist()}))
        none = NotApplicable(f"{none.reason}: {lost}")
        return LeaveOneOut(none, none, none, none, out)
    elpd = columns["elpd"]
    se = float(np.sqrt(n * elpd.var(ddof=1))) if n > 1 else NotApplicable("needs at least 2 studies")
    total = float(elpd.sum())
    return LeaveOneOut(total, se, within - total, float(error.sum()), out)


def _spread(covariance: Array, row: Array) -> Array:
    return np.sqrt(np.einsum("i,mij,j->m", row, covariance, row))


def _filled(values: Array | None, there: Any, n: int, none: NotApplicable) -> Any:
    """Return one value per unit, with the reason where there is none."""
    if values is None:
        return np.array([NotApplicable(INFINITE)] * n, dtype=object)
    if len(there) == n:
        return values
    out = np.array([none] * n, dtype=object)
    out[there] = values
    return out


def multilevel_bayes_factor(fit: Any, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    prior, which = prior_of_stated(fit, stated), fit.priors.which(stated.name)
    if not isinstance(prior, Prior):
        return undefined(stated, prior)
    marginal = fit.posterior(stated.name)
    if not stated.is_point:
        return of_range(stated, marginal, prior, fit.exact.error, lowest=-np.inf if which is None else 0.0)
    check = savage_dickey(marginal, prior, stated.lower if which is None else 1e-3 * marginal.median)
    log, error = _multilevel_point(fit, stated, which, check)
    return made(stated, log, error, check)


def _multilevel_point(fit: Any, stated: Hypothesis, which: int | None, check: float) -> tuple[float, float]:
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


def leave_out(fit: Any, cluster: str | None) -> LeaveOneOut:
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
    return assembled(_multilevel_columns(fit, left), labels, left.units, inside, left.error, what=what, **counts)


def _multilevel_columns(fit: Any, left: MultilevelDeletions) -> dict[str, Any]:
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
