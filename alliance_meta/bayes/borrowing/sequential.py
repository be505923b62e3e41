"""Studies one after the other: what each year's synthesis would have said, and how surprising each result was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray
from alliance_meta.bayes.borrowing.sequential_results import SequentialResults
from alliance_meta.bayes.exact.evidence import _prior_of, log_bf01_of_point
from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.marginals import TauMarginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.core.bayes.deletion import Prefix, prefixes
from alliance_meta.core.bayes.two_level import ExactPosterior
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import check_option, did_you_mean

Ties = Literal["together", "rows"]
IMPROPER = "so few studies leave the posterior improper under these priors"
FIRST = "no study before it"


def sequential(
    fit: BayesianResults, *, order: str | Sequence[Any] = "year", ties: Ties = "together"
) -> SequentialResults:
    """Return the synthesis after each year, or in any other order of the studies.

    What would the same synthesis have said at each time, and was each new study to be expected from those before?
    The Bayesian version of a cumulative meta-analysis. Because a posterior is the prior of the next step, looking
    often costs nothing: the last step is the synthesis of all studies, however many looks came before.

    Parameters
    ----------
    fit : BayesianResults
        From `BayesianModel`; its priors hold for every step.
    order : str or sequence
        A moderator (``"-year"``: latest first), ``"given"`` for the order of the rows, or one value per study.
    ties : {"together", "rows"}
        Studies with the same value form one step, or come one after the other as their rows do.

    Returns
    -------
    SequentialResults
        ``tidy(scale="r")`` with one row per step, ``surprises()`` with one per study.

    Raises
    ------
    InputError
        Another kind of result, an unknown moderator, an empty value, not one value per study.

    Notes
    -----
    The log predictive densities of the steps add up to the log marginal likelihood, whatever the order. With
    moderators these are coded as in the whole synthesis, and ``mu`` is the mean effect at their average over all
    studies. A prior of tau that depends on the sampling variances is the one of all studies too. Steps with so few
    studies that flat priors leave the posterior improper have the reason in place of numbers. Predictive p-values
    of studies in one step are each given the steps before, so that they are not independent of each other.
    R: ``metafor::cumul`` does this for frequentist fits.

    Examples
    --------
    >>> import alliance_meta as am
    >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
    >>> by_year = am.bayes.sequential(fit)
    >>> by_year.tidy(scale="r")[["mu", "mu_ci_lb", "mu_ci_ub"]].iloc[[3, -1]].round(3).values.tolist()
    [[0.116, -0.095, 0.302], [0.147, 0.082, 0.218]]
    """
    if not isinstance(fit, BayesianResults):
        raise InputError(f"sequential needs the result of BayesianModel, not {type(fit).__name__}")
    check_option("ties", ties, Ties)
    values, name, descending = _values(fit, order)
    steps, labels, at = _steps(fit, values, descending, ties)
    found = list(prefixes(fit.exact.problem, steps))
    return SequentialResults(
        fit, name, _step_table(fit, found, steps, labels, at), _study_table(fit, found, steps, values), fit.notes
    )


def _values(fit: BayesianResults, order: str | Sequence[Any]) -> tuple[pd.Series, str, bool]:
    """Return what the studies are ordered by, its name, and whether the largest comes first."""
    descending = False
    if isinstance(order, str):
        known = fit.effects.moderators
        descending = order.startswith("-") and order not in known
        name = order[1:] if descending else order
        if name == "given" and name not in known:
            return pd.Series(np.arange(1, fit.k + 1)), "the order given", descending
        if name not in known:
            columns = [str(one) for one in known.columns]
            hint = did_you_mean(name, columns) or "."
            raise InputError(
                f"order={order!r} is no moderator{hint} Give one of: {', '.join(columns) or 'none'}; 'given', or one "
                "value per study"
            )
        values = known[name].reset_index(drop=True)
    else:
        values, name = pd.Series(list(order)), "the values given"
    if len(values) != fit.k:
        raise InputError(f"order has {len(values)} values for {fit.k} studies")
    lacking = [fit.effects.slab[i] for i in np.flatnonzero(values.isna())]
    if lacking:
        raise InputError(f"order: no {name} for {', '.join(lacking)}; give every study a value")
    return values, name, descending


def _steps(
    fit: BayesianResults, values: pd.Series, descending: bool, ties: Ties
) -> tuple[list[AnyArray], list[str], list[Any]]:
    """Return the rows that each step adds, its label, and the value it stands for."""
    try:
        order = values.sort_values(kind="stable", ascending=not descending).index.to_numpy()
    except TypeError:
        raise InputError("order: values of several kinds cannot be put in order; make them all numbers") from None
    groups: list[list[int]] = []
    for i in order:
        if ties == "together" and groups and values[groups[-1][0]] == values[i]:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    at = [_plain(values[group[0]]) for group in groups]
    slab = fit.effects.slab
    labels = [slab[group[0]] if len(group) == 1 else f"{_shown(one)} ({len(group)} studies)"
              for group, one in zip(groups, at, strict=True)]  # fmt: skip
    return [np.array(group) for group in groups], labels, at


def _plain(value: Any) -> Any:
    """Return a value as plain Python has it."""
    return value.item() if isinstance(value, np.generic) else value


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _step_table(
    fit: BayesianResults, found: list[Prefix], steps: list[AnyArray], labels: list[str], at: list[Any]
) -> pd.DataFrame:
    k = np.cumsum([len(rows) for rows in steps])
    logs = [one.posterior.log_marginal if one.posterior else np.nan for one in found]
    improper = fit.priors.improper
    rows = []
    for i, one in enumerate(found):
        row: dict[str, Any] = {"at": at[i], "added": len(steps[i]), "k": int(k[i])}
        numbers = _numbers(fit, one.posterior)
        before = logs[i - 1] if i else 0.0 if not improper else np.nan
        after = logs[i] - before
        numbers["log_predictive"] = after if after == after else NotApplicable(IMPROPER)
        if improper:
            reason = f"the prior of {' and '.join(improper)} is improper"
            numbers["log_marginal_likelihood"] = NotApplicable(reason)
        rows.append(row | numbers)
    columns = {name: column([row[name] for row in rows]) for name in rows[0]}
    return pd.DataFrame(columns, index=pd.Index(labels, name="label"))


def _numbers(fit: BayesianResults, exact: ExactPosterior | None) -> dict[str, Any]:
    """Return median and interval of mean, tau and prediction, the Bayes factor and the evidence."""
    names = ("mu", "mu_ci_lb", "mu_ci_ub", "tau", "tau_ci_lb", "tau_ci_ub", "pi_lb", "pi_ub")
    last = ("bf10", "log_predictive", "log_marginal_likelihood", "error_bound")
    if exact is None:
        return {name: NotApplicable(IMPROPER) for name in (*names, *last)}
    row = fit._mean_row
    p = np.array([0.5, 0.5 * (1.0 - fit.level), 0.5 * (1.0 + fit.level)])
    mean = exact.coefficients(row[None]).quantile(p)[0]
    tau = TauMarginal(exact).quantile(p)
    new = exact.new_effects(row[None]).quantile(p[1:])[0]
    numbers = dict(zip(names, [float(x) for x in (*mean, *tau, *new)], strict=True))
    return numbers | {
        "bf10": _bf10(fit, exact),
        "log_predictive": 0.0,
        "log_marginal_likelihood": exact.log_marginal,
        "error_bound": exact.error,
    }


def _bf10(fit: BayesianResults, exact: ExactPosterior) -> float:
    row = fit._mean_row
    used = [fit.priors.coefficients[j] for j in np.flatnonzero(row)]
    if not all(one.proper for one in used):
        return NotApplicable("the prior of mu is flat")
    if len(used) > 1 and not all(isinstance(one, Normal) for one in used):
        return NotApplicable("a Bayes factor of a combination needs normal priors of all its coefficients")
    prior = _prior_of(fit.priors, row)
    assert prior is not None
    log, _ = log_bf01_of_point(exact, row, 0.0, prior)
    return float(np.exp(min(-log, 700.0)))


def _study_table(fit: BayesianResults, found: list[Prefix], steps: list[AnyArray], values: pd.Series) -> pd.DataFrame:
    rows, pit, p = [], [], []
    for step, (one, added) in enumerate(zip(found, steps, strict=True), 1):
        for i, below, above in zip(added, one.below, one.above, strict=True):
            rows.append((int(i), step))
            known = below == below
            none = NotApplicable(FIRST if step == 1 else IMPROPER)
            pit.append(float(below) if known else none)
            p.append(2.0 * min(float(below), float(above)) if known else none)
    order = [i for i, _ in rows]
    columns = {
        "at": [_plain(values[i]) for i in order],
        "step": [step for _, step in rows],
        "yi": fit.effects.yi[order],
        "pit": column(pit),
        "p": column(p),
    }
    return pd.DataFrame(columns, index=pd.Index([fit.effects.slab[i] for i in order], name="label"))
