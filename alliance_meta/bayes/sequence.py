"""Studies one after the other: what each year's synthesis would have said, and how surprising each result was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray
from alliance_meta.bayes.exact.evidence import _prior_of, log_bf01_of_point
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.marginals import TauMarginal, column
from alliance_meta.bayes.priors.prior import Normal
from alliance_meta.core.bayes.reweighted import Prefix, prefixes
from alliance_meta.core.bayes.two_level import ExactPosterior
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, check_option, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import Noun, columns_of
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import factor, fixed, format_level

# A result with a predictive p below this is called a surprise.
SURPRISE = 0.05
# Columns that are effects, and so can be shown as correlations.
ON_R = ("mu", "mu_ci_lb", "mu_ci_ub", "pi_lb", "pi_ub", "yi")
MOST_LINES = 30


@dataclass(frozen=True, eq=False, repr=False)
class SequentialResults(Result):
    """The posterior after each step of a sequence of studies.

    Made by `sequential`.

    Attributes
    ----------
    fit : BayesianResults
        The synthesis of all studies, which the last step equals.
    order : str
        What the studies were ordered by.
    steps : DataFrame
        One row per step, on the analysis scale; see `tidy`.
    studies : DataFrame
        One row per study in that order; see `surprises`.
    """

    fit: BayesianResults
    order: str
    steps: pd.DataFrame
    studies: pd.DataFrame
    notes: tuple[Note, ...] = ()

    log_marginal_likelihood = Noun[float](
        "fit.log_marginal_likelihood",
        "The sum of the log predictive densities of all steps: that of the synthesis of all studies.",
    )

    def tidy(self, *, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return one row per step, unrounded.

        Parameters
        ----------
        scale : {"z", "r"}, optional
            ``"r"``: mean and prediction as correlations (tanh of median and limits). Analysis scale by default.

        Returns
        -------
        DataFrame
            Indexed by ``label`` (the study, or what the studies of the step have in common): ``at`` (the value
            ordered by), ``added`` and ``k`` (studies in this step and up to it), median and equal-tailed interval
            of the mean effect (``mu mu_ci_lb mu_ci_ub``) and of tau (``tau tau_ci_lb tau_ci_ub``), the prediction
            interval ``pi_lb pi_ub``, ``bf10`` of mu = 0, ``log_predictive`` (log density of the results of this
            step given those before), ``log_marginal_likelihood`` of all results so far, and ``error_bound``.
        """
        return self._scaled(self.steps, scale)

    def surprises(self, *, scale: Literal["z", "r"] | None = None) -> pd.DataFrame:
        """Return one row per study, in the order in which they came in.

        Parameters
        ----------
        scale : {"z", "r"}, optional

        Returns
        -------
        DataFrame
            Indexed by ``label``: ``at``, ``step``, ``yi``, ``pit`` (probability of a result up to this one given
            the steps before) and ``p``, that of one at least as far out on either side.
        """
        return self._scaled(self.studies, scale)

    @property
    def surprising(self) -> list[str]:
        """Labels of the studies with a predictive p below .05; of well predicted ones a twentieth has that too."""
        p = self.studies["p"].to_numpy(dtype=float)
        return [str(label) for label, one in zip(self.studies.index, p, strict=True) if one < SURPRISE]

    def _scaled(self, table: pd.DataFrame, scale: str | None) -> pd.DataFrame:
        out, own = table.copy(), self.fit._scale
        if scale is not None and scale != own:
            if own != "z" or scale != "r":
                raise InputError(
                    f"scale={scale!r}: effects on the scale {self.fit.effects.scale_label!r} cannot be shown so"
                )
            for name in set(ON_R) & set(out.columns):
                out[name] = [x if isinstance(x, NotApplicable) else float(np.tanh(x)) for x in out[name]]
        out.attrs.update(scale=scale or own, level=self.fit.level, interval="eti", order=self.order)
        return out

    def _values(self) -> dict[str, Any]:
        return {
            "order": self.order,
            "level": self.fit.level,
            "priors": str(self.fit.priors),
            "steps": columns_of(self.steps.reset_index()),
            "studies": columns_of(self.studies.reset_index()),
            "provenance": self.fit.effects.provenance.to_dict(),
        }

    def _content(self) -> Document:
        fit, r = self.fit, self.fit._scale == "z"
        table = self.tidy(scale="r" if r else None)
        effect = "r" if r else "mu"
        named, counted = self.surprising, int(self.studies["p"].astype(float).notna().sum())
        what = "median true correlation, tanh" if r else "mean effect"
        return wording.document(
            self,
            f"Sequential Bayesian synthesis by {self.order} (k = {fit.k}, {len(table)} steps; exact)",
            [
                fit.effects.heading,
                f"Priors: {fit.priors}",
                f"{effect}: {what}; tau as analysed; intervals: equal-tailed, {format_level(fit.level)}; p: how "
                "surprising the results were, the smallest of a step",
            ],
            self._steps(table, effect),
            [
                f"{len(named)} of {counted} results surprising after those before (p < .05; "
                f"{fixed(SURPRISE * counted, 1)} to be expected){': ' + '; '.join(named) if named else ''}"
            ],
            effects=fit.effects,
        )

    def _steps(self, table: pd.DataFrame, effect: str) -> Table:
        smallest = self.studies.assign(p=self.studies["p"].astype(float)).groupby("step")["p"].min()
        shown = table.assign(p=smallest.to_numpy(), log_bf10=np.log(table["bf10"].astype(float))).tail(MOST_LINES)
        kinds: dict[str, Kind] = {"k": 0, **dict.fromkeys(("mu", "mu_ci_lb", "mu_ci_ub", "tau"), 3)}
        heads = {"mu": effect, "mu_ci_lb": "ci_lb", "mu_ci_ub": "ci_ub", "log_bf10": "BF10"}
        made = table_of(shown, {**kinds, "log_bf10": factor, "p": 3}, heads=heads)
        earlier = len(table) - MOST_LINES
        return made if earlier <= 0 else replace(made, rows=((f"... {earlier} earlier steps: tidy()",), *made.rows))


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
