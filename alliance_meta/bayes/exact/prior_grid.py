"""What other priors would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.exact.setup import Priors, check_kind
from alliance_meta.bayes.priors import sensitivity_set
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.quantities import Quantities

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
