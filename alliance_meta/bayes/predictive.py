"""Posterior predictive checks: whether results like the observed ones come from the fitted model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.sampled.predict import Replications, replicate_draws
from alliance_meta.bayes.sampled.quantities import FAILED
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.core.bayes.predictive import Errors, check_statistics, replicate
from alliance_meta.core.bayes.quadrature import NormalMixture, mixture
from alliance_meta.core.bayes.three_level import MultilevelPosterior
from alliance_meta.core.dependent import stacks
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed

# Statistic -> what it is, in words.
STATISTICS = {
    "mean": "mean effect, unweighted",
    "sd": "standard deviation of the effects",
    "Q": "Q, heterogeneity around the equal-effects fit",
    "deviation": "largest deviation from the fit, in standard deviations",
    "smallest": "smallest effect",
    "largest": "largest effect",
    "negative": "share of effects below 0",
    "asymmetry": "correlation of effects with standard errors",
}
# Where a predictive probability is called surprising.
SURPRISE = 0.025
FEWEST_DRAWS = 100
FEWEST_BINS, MOST_BINS = 6, 24


@dataclass(frozen=True, eq=False, repr=False)
class PredictiveCheck(Result):
    """Observed results beside replications from the fitted model.

    Attributes
    ----------
    effects : EffectSizes
    table : DataFrame
        One row per statistic; see `tidy`.
    studies : DataFrame
        One row per effect: the ``observed`` one, ``pit`` (probability that a new result of this study, predicted from
        all other effects, is at most the observed one; exact, or from weighted draws where these are all there is), and
        ``p_value``, how likely one at least so far out is.
    bins : DataFrame
        How many effects lie from ``lb`` to ``ub``: ``observed``, ``expected`` (exact), and ``ci_lb ci_ub``, between
        which 95% of the replications lie.
    replicated : DataFrame
        The statistics of every replication.
    seed, draws : int
    problems : tuple of Note
        The checks of convergence that the draws behind it fail.

    Notes
    -----
    A replication is a new set of studies with the same sampling errors and moderators; their true effects are drawn
    anew. Posterior predictive probabilities use the data twice: they lie nearer to .5 than p-values do, so that an
    extreme one tells more than a middling one (Gelman, Meng & Stern 1996, Statistica Sinica 6).
    """

    effects: EffectSizes
    table: pd.DataFrame
    studies: pd.DataFrame
    bins: pd.DataFrame
    replicated: pd.DataFrame = field(repr=False)
    seed: int
    draws: int
    notes: tuple[Note, ...] = ()
    problems: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per statistic, unrounded.

        Returns
        -------
        DataFrame
            ``observed``; of the replications ``median ci_lb ci_ub`` (95%) and ``p_value``, the share that reaches at
            least the observed value (ties count half), with its Monte-Carlo error ``mcse``. Near 0 or 1 the model does
            not produce what was seen.
        """
        return self.table.copy()

    @property
    def flagged(self) -> list[str]:
        """Statistics outside the central 95% of their replications."""
        p = self.table["p_value"]
        return [str(name) for name in p.index[(p < SURPRISE) | (p > 1.0 - SURPRISE)]]

    @property
    def surprising(self) -> list[str]:
        """Effects outside the central 95% of what the others predict."""
        return [str(name) for name, p in self.studies["p_value"].items() if p < 2.0 * SURPRISE]

    def _values(self) -> dict[str, Any]:
        parts = {"statistics": self.table, "studies": self.studies, "bins": self.bins.reset_index(drop=True)}
        tables = {name: {"name": list(one.index), **columns_of(one)} for name, one in parts.items()}
        return {"seed": self.seed, "draws": self.draws, **tables}

    def _content(self) -> Document:
        words = [STATISTICS[name] for name in self.flagged]
        verdict = (
            f"The model does not reproduce: {'; '.join(words)}."
            if words
            else "Every statistic lies inside the central 95% of its replications."
        )
        found, k = self.surprising, self.effects.k
        which = f": {', '.join(found)}" if found else ""
        kinds: dict[str, Kind] = {"observed": 4, "median": 4, "ci_lb": 4, "ci_ub": 4, "p_value": 3}
        return Document(
            f"Posterior predictive check: {self.draws} replications of {self.effects.k} results",
            (),
            [
                table_of(self.table, kinds, heads={"ci_lb": "2.5%", "ci_ub": "97.5%", "p_value": "p"}),
                [
                    verdict,
                    f"Effects outside the central 95% of what the others predict: {len(found)} of {k} "
                    f"(about {fixed(0.05 * k, 1)} expected){which}.",
                ],
            ],
            alarm=[FAILED, *(note.message for note in self.problems)] if self.problems else [],
        )


def predictive_check(fit: Quantities | SampledPosterior, *, seed: int, draws: int = 4000) -> PredictiveCheck:
    """Compare the observed results with replications from the fitted model.

    If the model is right, results drawn from it look like the observed ones: as varied, as lopsided, with extremes
    as far out. Where they do not, the model lacks something.

    Parameters
    ----------
    fit : BayesianResults, BayesianMultilevelResults or SampledPosterior
        A sampled one of a model whose effects are independent.
    seed : int
        The same seed gives the same replications.
    draws : int
        Number of replications, at least 100.

    Returns
    -------
    PredictiveCheck

    Raises
    ------
    InputError
        Another result, too few draws, or a sampled model of dependent effects.

    Warns
    -----
    ConvergenceWarning
        For draws: a study cannot be left out by weighting them (its Pareto k is too large).

    Examples
    --------
    >>> import alliance_meta as am
    >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
    >>> found = am.bayes.predictive_check(fit, seed=1)
    >>> found.flagged, found.surprising
    ([], [])
    >>> found.studies["pit"].round(3).head(2).tolist()
    [0.615, 0.558]
    """
    if not isinstance(fit, Quantities | SampledPosterior):
        raise InputError(f"predictive_check needs the result of a Bayesian model, not {type(fit).__name__}")
    if not (isinstance(draws, int | np.integer) and draws >= FEWEST_DRAWS):
        raise InputError(f"draws={draws!r}: give a whole number of at least {FEWEST_DRAWS}")
    effects = fit.effects
    made = _sampled_parts(fit, seed, draws) if isinstance(fit, SampledPosterior) else _exact_parts(fit, seed, draws)
    X, Y, fitted, tau, each = made
    observed = check_statistics(effects.yi[None], effects.vi, X, fitted, tau)
    replicated = check_statistics(Y, effects.vi, X, fitted, tau)
    names = [name for name in STATISTICS if name in observed]
    rows = {name: _row(float(observed[name][0]), replicated[name]) for name in names}
    left: Any = fit.loo()
    return PredictiveCheck(
        effects=effects,
        table=pd.DataFrame.from_dict(rows, orient="index").rename_axis("statistic"),
        studies=_studies(effects, left),
        bins=_bins(effects.yi, Y, each, _widest(fitted, effects.vi)),
        replicated=pd.DataFrame({name: replicated[name] for name in names}),
        seed=int(seed),
        draws=int(draws),
        notes=merge_notes(fit.notes, getattr(left, "notes", ())),
        problems=fit.problems if isinstance(fit, SampledPosterior) else (),
    )


# Design, replications (draws, k), median fit, tau, and the distribution of each replicated result.
Parts = tuple[Array, Array, Array, float, Any]


def _exact_parts(fit: Any, seed: int, draws: int) -> Parts:
    exact, X = fit.exact, fit.design.X @ coordinates(fit.design)
    rng = np.random.default_rng(seed)
    Y = replicate(rng, draws, X, exact.weight, exact.mean, exact.root, _spreads(fit), _errors(fit))
    cumulative = np.cumsum(exact.weight[order := np.argsort(exact.tau)])
    tau = float(exact.tau[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
    return X, Y, _medians(exact, X), tau, _new_results(fit, X)


def _sampled_parts(fit: SampledPosterior, seed: int, draws: int) -> Parts:
    made = replicate_draws(fit, seed=seed, draws=draws)
    return fit.design.X, made.values, made.fitted, made.tau, made


def _spreads(fit: Any) -> list[tuple[Array, Any]]:
    rows = np.arange(fit.k)
    if isinstance(fit.exact, MultilevelPosterior):
        return [(fit.exact.between, fit.group), (fit.exact.within, rows)]
    return [(fit.exact.tau, rows)]


def _errors(fit: Any) -> Errors:
    """Return the sampling covariance of the results, by cluster."""
    V = getattr(fit, "V", None)
    if V is None:
        return [(np.arange(fit.k)[:, None], fit.effects.vi[:, None, None])]
    found = stacks(fit.group)
    return [(rows, np.stack([V.block(one) for one in rows])) for rows in found]


def _medians(exact: Any, X: Array) -> Array:
    """Return the posterior median of each row of X times the coefficients."""
    rows, place = np.unique(X, axis=0, return_inverse=True)
    found: Array = exact.coefficients(rows).quantile(np.array([0.5]))[:, 0]
    return found[place.ravel()]


def _widest(fitted: Array, v: Array) -> list[int]:
    """Return the rows whose new results reach furthest: the extreme expected ones, and the least precise."""
    return [int(np.argmin(fitted)), int(np.argmax(fitted)), int(np.argmax(v))]


def _new_results(fit: Quantities, X: Array) -> NormalMixture:
    """Return the predictive distribution of a replication of each result."""
    few = fit._thinned
    made = few.new_effects(X)
    return mixture(made.weight, made.mean, np.sqrt(made.sd**2 + fit.effects.vi[:, None]))


def _row(observed: float, values: Array) -> dict[str, float]:
    above = (values > observed).astype(float) + 0.5 * (values == observed)
    p = float(above.mean())
    lb, median, ub = (float(one) for one in np.quantile(values, [SURPRISE, 0.5, 1.0 - SURPRISE]))
    mcse = float(above.std() / np.sqrt(len(values)))
    return {"observed": observed, "median": median, "ci_lb": lb, "ci_ub": ub, "p_value": p, "mcse": mcse}


def _studies(effects: EffectSizes, left: Any) -> pd.DataFrame:
    """Return the leave-one-out probability of each result."""
    pit = left.tidy()["pit"]
    p = [one if isinstance(one, NotApplicable) else 2.0 * min(one, 1.0 - one) for one in pit]
    dtype = object if any(isinstance(one, NotApplicable) for one in p) else float
    table = pd.DataFrame({"observed": effects.yi, "pit": pit.to_numpy(), "p_value": np.array(p, dtype=dtype)})
    return table.set_axis(pit.index, axis=0)


def _bins(y: Array, Y: Array, each: NormalMixture | Replications, widest: list[int]) -> pd.DataFrame:
    """Count effects in bins: observed, expected, and 95% of the replications."""
    low, high = float(y.min()), float(y.max())
    ends = np.stack([each.row(i).quantile(np.array([0.01, 0.99]))[0] for i in widest])
    low, high = min(low, float(ends[:, 0].min())), max(high, float(ends[:, 1].max()))
    count = int(np.clip(np.ceil(2.0 * len(y) ** 0.5), FEWEST_BINS, MOST_BINS))
    edges = np.linspace(low, high, count + 1)
    inner = edges[1:-1]
    place = np.searchsorted(inner, Y, side="right")
    counts = np.stack([(place == i).sum(axis=1) for i in range(count)], axis=1)
    share = np.diff(each.cdf(np.broadcast_to(inner, (each.m, count - 1))), axis=1, prepend=0.0, append=1.0)
    lb, ub = np.quantile(counts, [SURPRISE, 1.0 - SURPRISE], axis=0, method="inverted_cdf")
    observed = np.bincount(np.searchsorted(inner, y, side="right"), minlength=count)
    return pd.DataFrame(
        {
            "lb": edges[:-1], "ub": edges[1:], "observed": observed, "expected": share.sum(axis=0),
            "ci_lb": lb.astype(float), "ci_ub": ub.astype(float),
        }
    )  # fmt: skip
