"""What the data say for a model (Bayes factors, exact leave-one-out), and how much it leans on its priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import Priors, check_kind, coordinates
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, undefined
from alliance_meta.bayes.marginals import INFINITE, Marginal, column
from alliance_meta.bayes.priors import sensitivity_set
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, Prior, TauPrior
from alliance_meta.core.bayes.quadrature import TauDensity
from alliance_meta.core.bayes.reweighted import (
    Powers,
    cumulative_distance,
    delete_each,
    exists,
    probe_points,
    solve_power,
)
from alliance_meta.core.bayes.three_level import (
    MultilevelPosterior,
    multilevel_exists,
    solve_multilevel,
    solve_multilevel_power,
    without_coefficient,
)
from alliance_meta.core.bayes.three_level_deletion import MultilevelDeletions, delete_each_of, log_density_of_units
from alliance_meta.core.bayes.two_level import LOG_2PI, ExactPosterior, expectation, log_likelihood
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, fixed

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


TauPriors = Sequence[TauPrior] | Mapping[str, Sequence[TauPrior]]


def prior_grid(
    fit: Quantities, *, tau_priors: TauPriors | None, mu_priors: Sequence[EffectPrior] | None
) -> pd.DataFrame:
    """Return a table with one row per combination of priors."""
    own = fit.priors
    if mu_priors is not None and "mu" not in own.names:
        raise InputError(f"mods={fit.design.formula!r} has no intercept, so that mu_priors have nothing to apply to")
    choices = _choices(own, tau_priors)
    if not all(choices) or (mu_priors is not None and not len(mu_priors)):
        raise InputError("give at least one prior to compare")
    for mu in mu_priors or ():
        check_kind(mu, EffectPrior, "mu_priors")
    vi = fit.effects.vi
    known = [[prior.given(vi) for prior in priors] for priors in choices]
    rows = []
    for priors in [own] if mu_priors is None else [own.with_mu(mu) for mu in mu_priors]:
        solve = fit._solver(priors)
        changed = [priors.with_taus(*taus) for taus in product(*known)]
        rows += [_row(fit, solve(one), one) for one in changed]
    out = pd.DataFrame({name: column([row[name] for row in rows]) for name in rows[0]})
    out.attrs.update(level=fit.level, interval="eti", scale=fit.effects.scale_label)
    return out


def _choices(own: Priors, given: TauPriors | None) -> list[list[TauPrior]]:
    """Return the priors to try of each standard deviation."""
    labels = [name[4:-1] or name for name in own.tau_names]
    if isinstance(given, Mapping):
        found = [[one] for one in own.taus]
        for name, priors in given.items():
            which = own.which(f"tau[{name}]")
            if which is None:
                raise InputError(f"tau_priors names {name!r}{did_you_mean(name, labels)} Terms: {', '.join(labels)}")
            found[which] = list(priors)
    elif given is None:
        found = [[one, *(prior for prior in sensitivity_set() if prior != one)] for one in own.taus]
    else:
        found = [list(given) for _ in labels]
    for label, priors in zip(labels, found, strict=True):
        for prior in priors:
            check_kind(prior, TauPrior, "tau_priors" if len(labels) == 1 else f"tau_priors of {label}")
    return found


def _row(fit: Quantities, exact: Any, priors: Priors) -> dict[str, Any]:
    tails = np.array([0.5 * (1.0 - fit.level), 0.5, 0.5 * (1.0 + fit.level)])
    row = fit._mean_row[None]
    new = exact.new_effects(row).quantile(tails)[0]
    found = {"mu": exact.coefficients(row).quantile(tails)[0]}
    found |= {name: fit._deviation(exact, i).quantile(tails) for i, name in enumerate(priors.tau_names)}
    out: dict[str, Any] = {"mu_prior": str(priors.named.get("mu", "as fitted"))}
    for name, prior in zip(priors.tau_names, priors.taus, strict=True):
        out["tau_prior" if name == "tau" else f"prior of {name}"] = str(prior)
    for name, (lower, median, upper) in found.items():
        out |= {name: median, f"{name}_ci_lb": lower, f"{name}_ci_ub": upper}
    likelihood = priors.evidence(exact.log_marginal)
    return out | {"pi_lb": new[0], "pi_ub": new[2], "log_marginal_likelihood": likelihood, "error_bound": exact.error}


Posterior = ExactPosterior | MultilevelPosterior

ALPHAS = (0.99, 1.01)
THRESHOLD = 0.05
# What lies beyond the range at either end: the share of one draw in the usual number of draws.
DRAWS = 4000
CONFLICT, STRONG, NEITHER = "prior-data conflict possible", "strong prior or weak data", "-"
PARTS = {
    "prior": {"coefficients", "tau"},
    "likelihood": {"likelihood"},
    "prior_effects": {"coefficients"},
    "prior_tau": {"tau"},
}
LOST = "a power of this prior leaves the posterior improper"


@dataclass(frozen=True, eq=False, repr=False)
class PowerScaling(Result):
    """How far each posterior moves when priors or data are made a little stronger or weaker.

    Attributes
    ----------
    table : DataFrame
        One row per quantity; see `tidy`.
    threshold : float
        A posterior that moves by this much is sensitive.
    alphas : (float, float)
        The powers.

    Notes
    -----
    Kallioinen, Paananen, Bürkner & Vehtari (2024, doi:10.1007/s11222-023-10366-5). R: ``priorsense``.
    """

    table: pd.DataFrame
    threshold: float = THRESHOLD
    alphas: tuple[float, float] = ALPHAS

    def tidy(self) -> pd.DataFrame:
        """Return one row per quantity, unrounded.

        Returns
        -------
        DataFrame
            How fast the posterior moves, per doubling of the power, when it is raised for all priors (``prior``), for
            the data (``likelihood``), for the priors of mean effect and coefficients only (``prior_effects``) and for
            that of tau only (``prior_tau``); and the ``diagnosis``: prior and likelihood both above the threshold can
            mean that they disagree; the prior only, that it decides what the data cannot. ``-``: neither.
        """
        return self.table.copy()

    @property
    def flagged(self) -> list[str]:
        """Quantities with a diagnosis."""
        return [str(name) for name, text in self.table["diagnosis"].items() if text != NEITHER]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        quantities = {"parameter": list(self.table.index), **columns_of(self.table)}
        return {"threshold": self.threshold, "alphas": list(self.alphas), "quantities": quantities}

    def _content(self) -> Document:
        verdict = (
            f"{', '.join(self.flagged)}: look at prior_sensitivity(), and say why this prior."
            if self.flagged
            else f"No posterior that moves with its prior by {brief(self.threshold)} or more."
        )
        how = "How far each posterior moves when priors or data are raised to a power near 1:"
        kinds: dict[str, Kind] = {"prior": 3, "likelihood": 3, "diagnosis": "s"}
        return Document(how, (), [table_of(self.table, kinds, heads={"likelihood": "data"}), [verdict]])


def power_scaling(fit: Quantities, *, what: Sequence[str] | None = None) -> PowerScaling:
    r"""Return how sensitive posteriors are to their priors and to the data.

    Would a slightly stronger prior have changed the conclusion? Would slightly stronger data? If both would, prior and
    data may disagree; if only the prior would, it decides what the data cannot.

    Parameters
    ----------
    fit : BayesianResults or BayesianMultilevelResults
        From `BayesianModel.fit`.
    what : sequence of str, optional
        Coefficients, ``"mu"``, ``"tau"`` (of three levels ``"tau[<term>]"``), ``"theta_new"``. By default all of these.

    Returns
    -------
    PowerScaling

    Raises
    ------
    InputError
        Another result, or an unknown quantity.

    Notes
    -----
    .. math:: p_\alpha(\mu, \tau \mid y) \propto p(\mu)^\alpha p(\tau)^\alpha L(\mu, \tau), \quad
              p_\alpha(\mu, \tau \mid y) \propto p(\mu) p(\tau) L(\mu, \tau)^\alpha

    at alpha = .99 and 1.01. Distances of these posteriors from the posterior itself are the cumulative Jensen-Shannon
    distances of Kallioinen et al. (2024, doi:10.1007/s11222-023-10366-5), the larger one of the two directions, each
    divided by \|log2 alpha\|; the sensitivity is their mean, and .05 the threshold these authors suggest. L is the
    likelihood of the study results with the studies' true effects integrated out, so that the distribution of true
    effects counts as part of the data's model, not as a prior. R's priorsense and ArviZ weight draws anew; here the
    scaled posteriors are solved exactly. The distance depends on the range that is looked at, in draws the smallest to
    the largest; here the range leaves out 1/4000 at each end, about that of 4,000 draws.

    Examples
    --------
    >>> import alliance_meta as am
    >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
    >>> print(am.bayes.power_scaling(fit))
    How far each posterior moves when priors or data are raised to a power near 1:
    <BLANKLINE>
               prior   data  diagnosis
    mu         0.005  0.092  -
    tau        0.012  0.176  -
    theta_new  0.003  0.036  -
    <BLANKLINE>
    No posterior that moves with its prior by 0.05 or more.
    """
    exact = getattr(fit, "exact", None)
    if not isinstance(exact, ExactPosterior | MultilevelPosterior):
        raise InputError(f"power_scaling needs the result of BayesianModel.fit, not {type(fit).__name__}")
    mean = ["mu"] if fit.design.has_intercept else []
    known = list(dict.fromkeys([*fit.names, *mean, *fit.priors.tau_names, "theta_new"]))
    names = known if what is None else list(what)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        asked = repr(unknown[0]) if unknown else "nothing"
        hint = did_you_mean(unknown[0], known) if unknown else ""
        raise InputError(f"power_scaling of {asked}{hint} Known: {', '.join(known)}")
    probes = {name: _probe(fit, name) for name in names}
    base = {name: _probabilities(fit, exact, name, probes[name][0]) for name in names}
    cells: dict[str, list[Any]] = {part: _sensitivities(fit, exact, PARTS[part], probes, base) for part in PARTS}
    cells["diagnosis"] = [_diagnosis(a, b) for a, b in zip(cells["prior"], cells["likelihood"], strict=True)]
    index = pd.Index(names, name="parameter")
    return PowerScaling(pd.DataFrame({name: column(values) for name, values in cells.items()}, index=index))


Probe = tuple[Array, Array]


def _probe(fit: Any, name: str) -> Probe:
    low, high = fit.posterior(name).quantile([1.0 / DRAWS, 1.0 - 1.0 / DRAWS])
    return probe_points(float(low), float(high))


def _probabilities(fit: Any, exact: Posterior, name: str, x: Array) -> Array:
    """Return the probabilities up to each x, and those beyond, (2, m)."""
    which = fit.priors.which(name)
    if which is not None:
        tau = fit._deviation(exact, which)
        return np.stack([tau.cdf(x), tau.sf(x)])
    made = exact.new_effects(fit._mean_row[None]) if name == "theta_new" else exact.coefficients(fit._row(name)[None])
    below = made.cdf(x[None])[0]
    # What is missing from 1 is at least 1 / DRAWS here, so that it has digits enough.
    return np.stack([below, 1.0 - below])


def _sensitivities(
    fit: Any, exact: Posterior, parts: set[str], probes: dict[str, Probe], base: dict[str, Array]
) -> list[Any]:
    found = np.zeros(len(probes))
    for alpha in ALPHAS:
        powers = Powers(**dict.fromkeys(parts, alpha))
        scaled = _solve(fit, exact, powers)
        if scaled is None:
            return [NotApplicable(LOST)] * len(probes)
        for i, (name, (x, width)) in enumerate(probes.items()):
            distance = cumulative_distance(base[name], _probabilities(fit, scaled, name, x), width)
            found[i] += 0.5 * distance / abs(np.log2(alpha))
    return [float(one) for one in found]


def _solve(fit: Any, exact: Posterior, powers: Powers) -> Posterior | None:
    """Return the posterior with these powers; None where it is improper."""
    if isinstance(exact, ExactPosterior):
        return solve_power(exact.problem, powers) if exists(exact.problem, powers) else None
    densities = fit.priors.densities
    if not multilevel_exists(exact.data, densities, powers):
        return None
    return solve_multilevel_power(exact.data, densities, powers)


def _diagnosis(prior: Any, likelihood: Any) -> str:
    if isinstance(prior, NotApplicable) or not prior >= THRESHOLD:
        return NEITHER
    return CONFLICT if likelihood >= THRESHOLD else STRONG
