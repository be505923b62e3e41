"""How much a posterior leans on its priors: other ones in their place, or priors and data raised to a power near 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import Priors, check_kind
from alliance_meta.bayes.marginals import column
from alliance_meta.bayes.priors import sensitivity_set
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.reweighted import Powers, cumulative_distance, exists, probe_points, solve_power
from alliance_meta.core.bayes.three_level import MultilevelPosterior, multilevel_exists, solve_multilevel_power
from alliance_meta.core.bayes.two_level import ExactPosterior
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief

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
