"""Bootstrap of a fitted model: its coefficients, tau2, I2 and H2, and intervals read off the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core import resampling
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.mixed.predictions import simulate
from alliance_meta.core.mixed.search import MixedFit, maximise_mixed
from alliance_meta.core.resampling import BootstrapInterval, Recipe, Refits, stream
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.errors import InputError
from alliance_meta.notes import (
    NotApplicable,
    Note,
    check_cores,
    check_iterations,
    check_option,
    check_seed,
    did_you_mean,
    merge_notes,
)
from alliance_meta.result import Result
from alliance_meta.results.coefficients import Interval
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import RandomTerm, by_name
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.sensitivity.refitting import (
    Part,
    cluster_rows,
    full,
    inside,
    natural_values,
    part,
    recipe,
    typical_variance,
)
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import brief, fixed, format_level

BootstrapKind = Literal["parametric", "nonparametric"]
HETEROGENEITY = ("tau2", "tau", "I2", "H2")
LOWEST = {"tau2": 0.0, "tau": 0.0, "I2": 0.0, "H2": 1.0}
HIGHEST = {"I2": 100.0}
# A note says so where more than this share of the samples has an estimate on its bound.
MANY_AT_BOUND = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Result):
    """Estimates from resampled data.

    Attributes
    ----------
    fit : RandomEffectsResults
        The model whose data were resampled.
    kind : {"parametric", "nonparametric"}
    iterations : int
        Samples that could be fitted.
    seed : int
    samples : mapping of str to ndarray
        Quantity -> its estimates, (B,): every coefficient, ``tau2``, ``tau``, ``I2``, ``H2``. The last four are
        absent where the model does not estimate them.
    """

    fit: Any
    kind: BootstrapKind
    iterations: int
    seed: int
    samples: dict[str, Array]
    notes: tuple[Note, ...] = ()

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was bootstrapped."""
        return tuple(self.samples)

    def estimate(self, quantity: str) -> float:
        """Return the estimate of the fit itself."""
        if quantity in self.fit.names:
            return float(self.fit.beta[self.fit.names.index(quantity)])
        return float(getattr(self.fit, quantity))

    def confint(
        self, quantity: str = "tau2", *, kind: BootstrapInterval = "percentile", level: float | None = None
    ) -> Interval:
        r"""Return a bootstrap confidence interval.

        Parameters
        ----------
        quantity : str
            A coefficient's name, ``"tau2"``, ``"tau"``, ``"I2"`` or ``"H2"``.
        kind : {"percentile", "basic", "bca"}
            ``percentile``: quantiles of the samples. ``basic``: these mirrored at the estimate. ``bca``:
            percentiles shifted for bias and for a standard error that changes with the estimate (Efron 1987,
            doi:10.1080/01621459.1987.10478410), the acceleration from leaving out one effect at a time.
        level : float, optional
            The fit's own by default.

        Returns
        -------
        Interval
            Limits of heterogeneity never lie below the lowest possible value. `NotApplicable` for what the model
            does not estimate, and for BCa where every sample lies on one side of the estimate.

        Raises
        ------
        InputError
            An unknown quantity, or BCa from a parametric bootstrap.
        """
        check_option("kind", kind, BootstrapInterval)
        used: float = self.fit._level(level)
        if kind == "bca" and self.kind == "parametric":
            raise InputError("kind='bca' describes resampled effects; bootstrap with kind='nonparametric'")
        label = f"{kind}, {self.kind} bootstrap"
        reason = self._why_not(quantity)
        if reason is not None:
            gone = NotApplicable(reason)
            return Interval(gone, gone, gone, used, label, quantity)
        estimate = self.estimate(quantity)
        lb, ub = self._limits(quantity, estimate, kind, used)
        # A basic interval mirrors the distribution and can leave the range of the quantity.
        lowest, highest = self._range(quantity)
        lb, ub = (x if np.isnan(x) else min(max(x, lowest), highest) for x in (lb, ub))
        return Interval(estimate, lb, ub, used, label, quantity)

    def tidy(self, *, kind: BootstrapInterval = "percentile", level: float | None = None) -> pd.DataFrame:
        """Return one row per quantity: ``estimate bias se ci_lb ci_ub``; the bias is not taken off."""
        return pd.DataFrame.from_dict(self._rows(kind, level), orient="index")

    def _values(self) -> dict[str, Any]:
        intervals = tuple(get_args(BootstrapInterval))[: 2 if self.kind == "parametric" else 3]
        return {
            **self._these("kind", "iterations", "seed"),
            "level": self.fit.level,
            "quantities": {kind: self._rows(kind, None) for kind in intervals},
        }

    def _content(self) -> Document:
        rows = pd.DataFrame.from_dict(self._rows("percentile", None), orient="index")
        return self._document(
            f"Bootstrap, {self.kind}: {self.iterations} samples, seed {self.seed}; "
            f"percentile intervals, {format_level(self.fit.level)}",
            table_of(rows, dict.fromkeys(("estimate", "bias", "se", "ci_lb", "ci_ub"), 4)),
        )

    def _rows(self, kind: BootstrapInterval, level: float | None) -> dict[str, dict[str, float]]:
        rows = {}
        for name, values in self.samples.items():
            interval = self.confint(name, kind=kind, level=level)
            rows[name] = {
                "estimate": interval.estimate,
                "bias": float(values.mean()) - interval.estimate,
                "se": float(values.std(ddof=1)),
                "ci_lb": interval.lb,
                "ci_ub": interval.ub,
            }
        return rows

    def _range(self, quantity: str) -> tuple[float, float]:
        """Return the lowest and the highest value that a quantity can have."""
        lowest = LOWEST.get(quantity, -np.inf) if self.fit.settings.tau2_min == 0 else -np.inf
        return lowest, HIGHEST.get(quantity, np.inf)

    def _why_not(self, quantity: str) -> str | None:
        if quantity in self.samples:
            return None
        _check_known(quantity, [*self.fit.names, *HETEROGENEITY])
        if self.fit.method == "EE":
            return "an equal-effects model has no tau2"
        return "tau2 was given, not estimated"

    def _limits(self, quantity: str, estimate: float, kind: BootstrapInterval, level: float) -> tuple[float, float]:
        left_out = self._left_out[quantity] if kind == "bca" else None
        found = resampling.bootstrap_limits(self.samples[quantity], estimate, kind, level, left_out)
        gone = NotApplicable("every sample lies on one side of the estimate")
        return found or (gone, gone)

    @cached_property
    def _left_out(self) -> dict[str, Array]:
        """The quantities without one effect at a time, those that can be fitted."""
        how, data = recipe(self.fit, "bootstrap"), self.fit
        parts = [fit_counts(data, how, counts) for counts in resampling.leave_one_out(data.k)]
        return quantities_of(data, resampling.join(parts))


def _check_known(quantity: str, known: list[str]) -> None:
    if quantity not in known:
        raise InputError(f"{quantity!r} was not bootstrapped; known: {', '.join(known)}{did_you_mean(quantity, known)}")


def fit_counts(fit: RandomEffectsResults, how: Recipe, counts: AnyArray) -> Refits:
    """Fit samples in which each row stands so often, (B, k), leaving out those that cannot be fitted."""
    weights = fit.fitted.own_weights
    usable = resampling.full_rank(how.X, counts) & (counts.sum(axis=1) > fit.p)
    if not usable.any():
        empty = np.empty(0)
        return {"beta": np.empty((0, fit.p)), "tau2": empty, "I2": empty, "H2": empty}
    batch, rows = resampling.counted_batch(fit.effects.yi, fit.effects.vi, how.X, counts[usable])
    return resampling.refit_estimates(how, batch, weights=None if weights is None else weights[rows])


def quantities_of(fit: RandomEffectsResults, found: Refits) -> dict[str, Array]:
    """Return the estimates of the samples by the name of the quantity."""
    out = {name: found["beta"][:, i] for i, name in enumerate(fit.names)}
    if fit.settings.tau2 is None and fit.method != "EE":
        out |= {"tau2": found["tau2"], "tau": np.sqrt(np.maximum(found["tau2"], 0.0))}
    if fit.settings.tau2 is None and "I2" in found:
        out |= {"I2": found["I2"], "H2": found["H2"]}
    return out


# Replicates of one random stream; changing it changes which replicates a seed gives.
CHUNK = 25

Estimates = dict[str, float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, repr=False)
class MultilevelBootstrap(Bootstrap):
    """Estimates of a multilevel model from resampled data.

    Attributes
    ----------
    fit : MultilevelResults
    kind : {"parametric", "nonparametric"}
    iterations : int
        Samples that could be fitted.
    seed : int
    samples : mapping of str to ndarray
        Quantity -> its estimates, (B,): every coefficient, every variance and correlation that was estimated, and
        where one variance holds for all effects ``tau2`` (their sum), ``I2`` and ``I2[<term>]``.
    cluster : str or None
        What was drawn with replacement; None for a parametric bootstrap.
    """

    cluster: str | None = None
    _codes: IntArray | None = None

    def estimate(self, quantity: str) -> float:
        """Return the estimate of the fit itself."""
        return self._estimates[quantity]

    @cached_property
    def _estimates(self) -> Estimates:
        return _named(self.fit, self.fit.fitted, self.fit.random, self.fit.vt)

    def _range(self, quantity: str) -> tuple[float, float]:
        if quantity.startswith(("sigma2", "tau2")):
            return 0.0, np.inf
        if quantity.startswith("I2"):
            return 0.0, 100.0
        return (-1.0, 1.0) if quantity.startswith("rho[") else (-np.inf, np.inf)

    def _why_not(self, quantity: str) -> str | None:
        if quantity in self.samples:
            return None
        _check_known(quantity, list(self._estimates))
        return "given, not estimated"

    @cached_property
    def _left_out(self) -> dict[str, Array]:
        """The quantities without one cluster at a time, those that can be fitted."""
        assert self._codes is not None
        found = []
        for code in range(int(self._codes.max()) + 1):
            rows = np.flatnonzero(self._codes != code)
            if full(self.fit, rows):
                found.append(_estimates_of(self.fit, part(self.fit, rows)))
        return {name: np.array([one.get(name, np.nan) for one in found]) for name in self.samples}


def bootstrap_multilevel(
    fit: MultilevelResults,
    *,
    kind: BootstrapKind,
    iterations: int,
    seed: int,
    cores: int,
    cluster: Any,
    progress: Progress | None,
) -> MultilevelBootstrap:
    """Resample a multilevel model; what `bootstrap` does with one."""
    name, clusters = None, None
    if kind == "nonparametric":
        name, clusters = cluster_rows(fit, cluster)
    spans = [(n, min(CHUNK, iterations - start)) for n, start in enumerate(range(0, iterations, CHUNK))]
    found: list[Estimates] = []
    for chunk in _chunks(fit, clusters, seed, spans, cores):
        found += chunk
        if progress is not None:
            progress(min(len(found), iterations), iterations)
    usable = [one for one in found if one]
    if len(usable) < 2:
        raise InputError("no sample of these clusters can be fitted; use kind='parametric'")
    given = {str(name) for name, row in fit.components.iterrows() if row["fixed"]}
    wanted = [name for name in usable[0] if name != SETTLED]
    samples = {name: np.array([one[name] for one in usable]) for name in wanted if name not in given}
    restless = sum(not one[SETTLED] for one in usable)
    notes = merge_notes(fit.notes, _multilevel_notes(samples, iterations - len(usable), iterations, restless))
    codes = None if clusters is None else _codes(clusters, fit.k)
    return MultilevelBootstrap(
        fit=fit, kind=kind, iterations=len(usable), seed=seed, samples=samples, notes=notes, cluster=name, _codes=codes
    )


SETTLED = "settled"


def _chunks(
    fit: MultilevelResults, clusters: list[IntArray] | None, seed: int, spans: list[tuple[int, int]], cores: int
) -> Iterator[list[Estimates]]:
    """Yield the estimates chunk by chunk, in order, each from a random stream of its own."""
    if cores == 1 or len(spans) == 1:
        yield from (_chunk(fit, clusters, seed, number, size) for number, size in spans)
        return
    from joblib import Parallel, delayed

    tasks = (delayed(_chunk)(fit, clusters, seed, number, size) for number, size in spans)
    yield from Parallel(n_jobs=cores, return_as="generator")(tasks)


def _chunk(
    fit: MultilevelResults, clusters: list[IntArray] | None, seed: int, number: int, size: int
) -> list[Estimates]:
    rng = stream(seed, number)
    if clusters is None:
        return _simulated(fit, rng, size)
    return [_drawn(fit, clusters, rng) for _ in range(size)]


def _simulated(fit: MultilevelResults, rng: np.random.Generator, B: int) -> list[Estimates]:
    base = by_name(fit)
    problem, theta, fixed = base.point.problem, base.theta, base.fixed
    given = np.where(fixed, theta, np.nan)
    start = np.where(fixed, theta, inside(problem, theta))
    whole = Part(problem, fit.random, start, given)
    drawn = simulate(base.point, rng, B)
    return [
        _estimates_of(fit, replace(whole, problem=replace(problem, y=np.ascontiguousarray(y))), vt=fit.vt)
        for y in drawn.T
    ]


def _drawn(fit: MultilevelResults, clusters: list[IntArray], rng: np.random.Generator) -> Estimates:
    """Draw clusters with replacement and fit; nothing where that cannot be."""
    picked = rng.integers(0, len(clusters), len(clusters))
    rows = np.concatenate([clusters[i] for i in picked])
    copy = np.repeat(np.arange(picked.size), [clusters[i].size for i in picked])
    if not full(fit, rows):
        return {}
    made = _estimates_of(fit, part(fit, rows, copy=copy))
    return made if len(made) > len(fit.components) + fit.p else {}


def _estimates_of(fit: MultilevelResults, one: Part, vt: float | None = None) -> Estimates:
    given = None if np.isnan(one.given).all() else one.given
    found = maximise_mixed(one.problem, given=given, start=one.start)
    typical = typical_variance(one.problem) if vt is None else vt
    return _named(fit, found, one.terms, typical) | {SETTLED: float(found.converged)}


def _named(fit: MultilevelResults, found: MixedFit, terms: tuple[RandomTerm, ...], vt: float) -> Estimates:
    """Return coefficients, variances and correlations, and shares of variance by name."""
    out = dict(zip(fit.names, map(float, found.point.beta), strict=True))
    out |= natural_values(found, terms)
    if all(term.structure.constant for term in terms):
        parts = zip(terms, found.point.problem.slices, strict=True)
        shares = {term.name: float(found.theta[span][0]) for term, span in parts}
        tau2 = sum(shares.values())
        out |= {"tau2": tau2, "I2": 100.0 * tau2 / (tau2 + vt)}
        out |= {f"I2[{name}]": 100.0 * value / (tau2 + vt) for name, value in shares.items()}
    return out


def _codes(clusters: list[IntArray], k: int) -> IntArray:
    codes = np.empty(k, dtype=np.intp)
    for code, rows in enumerate(clusters):
        codes[rows] = code
    return codes


def _multilevel_notes(samples: dict[str, Array], lost: int, iterations: int, restless: int) -> list[Note]:
    notes = []
    if lost:
        message = (
            f"{lost} of {iterations} samples were left out: in them a moderator did not vary, or a level of a random "
            "term was missing."
        )
        notes.append(Note("samples-left-out", message))
    if restless:
        notes.append(
            Note("samples-not-settled", f"In {restless} samples the search for the variances had not settled.")
        )
    at_zero = {
        name: float((values <= 0).mean())
        for name, values in samples.items()
        if name.startswith(("sigma2", "tau2[")) and (values <= 0).mean() > MANY_AT_BOUND
    }
    if at_zero:
        listed = ", ".join(f"{name} in {fixed(100 * share, 0)}%" for name, share in at_zero.items())
        message = f"Estimated as 0 in many samples: {listed}. A lower limit may be that bound."
        notes.append(Note("samples-at-bound", message))
    return notes


def bootstrap(
    fit: RandomEffectsResults | MultilevelResults,
    *,
    kind: BootstrapKind = "parametric",
    iterations: int = 1000,
    seed: int | None = None,
    cores: int = 1,
    cluster: Any = "study_id",
    progress: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Resample the data and refit, to see how the estimates would vary from one set of studies to another.

    The parametric bootstrap draws new effects from the fitted model; the nonparametric one draws studies, with
    replacement, and makes no assumption about how effects are distributed. Useful above all for tau2, I2 and H2,
    whose estimates are far from normal, and for the variances and correlations of a multilevel model.

    Parameters
    ----------
    fit : RandomEffectsResults or MultilevelResults
    kind : {"parametric", "nonparametric"}
    iterations : int
        Samples; 1000 or more for intervals.
    seed : int
        The same seed gives the same result.
    cores : int
        Threads, or processes for a multilevel model; they do not change the result.
    cluster : str or array-like of shape (k,)
        For the nonparametric bootstrap of a multilevel model: what is drawn, with all its effects. It must contain
        every random term.
    progress : callable, optional
        Called with the number of samples done and of all, now and then.

    Returns
    -------
    Bootstrap
        Its `confint` gives percentile, basic and BCa intervals. For a multilevel model a `MultilevelBootstrap`.

    Raises
    ------
    InputError
        No seed, too few effects to draw from, or clusters that a random term or V ties together.

    Notes
    -----
    R: ``boot::boot`` around ``rma`` or ``rma.mv``. Samples of studies that leave a moderator without variation cannot
    be fitted and are left out; a note says how many. Multilevel models are refitted from their own estimates, a
    study that is drawn twice counting as two studies.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> boot = sensitivity.bootstrap(fit, kind="nonparametric", seed=1)
    >>> interval = boot.confint("tau2", kind="bca")
    >>> 0 <= interval.lb < interval.estimate < interval.ub
    True
    """
    if not isinstance(fit, MultilevelResults):
        check_fit(fit, "bootstrap")
    check_option("kind", kind, BootstrapKind)
    check_iterations(iterations)
    check_cores(cores)
    seed = check_seed(seed, f"{iterations} random samples")
    if isinstance(fit, MultilevelResults):
        return bootstrap_multilevel(
            fit, kind=kind, iterations=iterations, seed=seed, cores=cores, cluster=cluster, progress=progress
        )
    if not (isinstance(cluster, str) and cluster == "study_id"):
        raise InputError("cluster= is for multilevel models; this bootstrap draws single effects")
    how = recipe(fit, "bootstrap")
    if kind == "nonparametric" and fit.k <= fit.p:
        raise InputError(
            f"k = {fit.k} effects are too few to draw from for {fit.p} coefficient{'s' if fit.p > 1 else ''}; "
            "use kind='parametric'"
        )

    def task(block: int, start: int, stop: int) -> Refits:
        rng = resampling.stream(seed, block)
        sample = _simulate if kind == "parametric" else _draw
        return sample(fit, how, rng, stop - start)

    found = resampling.in_blocks(task, B=iterations, k=fit.k, cores=cores)
    done = len(found["tau2"])
    if done < 2:
        raise InputError("no sample of these effects leaves every moderator with variation; use kind='parametric'")
    samples = quantities_of(fit, found)
    if progress is not None:
        progress(iterations, iterations)
    notes = merge_notes(fit.notes, _notes(samples, fit, iterations - done, iterations))
    return Bootstrap(fit=fit, kind=kind, iterations=done, seed=seed, samples=samples, notes=notes)


def _simulate(fit: RandomEffectsResults, how: Recipe, rng: np.random.Generator, B: int) -> Refits:
    v = fit.effects.vi
    y = how.X @ fit.beta + np.sqrt(v + fit.tau2) * rng.standard_normal((B, fit.k))
    return resampling.refit_estimates(how, make_batch(y, v, how.X), weights=fit.fitted.own_weights)


def _draw(fit: RandomEffectsResults, how: Recipe, rng: np.random.Generator, B: int) -> Refits:
    y, v, weights = fit.effects.yi, fit.effects.vi, fit.fitted.own_weights
    if fit.p > 1 or not fit.design.has_intercept:
        return fit_counts(fit, how, resampling.draw_counts(rng, B, fit.k))
    rows = rng.integers(0, fit.k, (B, fit.k))
    batch = make_batch(y[rows], v[rows], how.X)
    return resampling.refit_estimates(how, batch, weights=None if weights is None else weights[rows])


def _notes(samples: dict[str, Array], fit: RandomEffectsResults, lost: int, iterations: int) -> list[Note]:
    notes = []
    if lost:
        message = f"{lost} of {iterations} samples were left out: in them a moderator did not vary or repeated another."
        notes.append(Note("samples-left-out", message))
    at_bound = float((samples["tau2"] <= fit.settings.tau2_min).mean()) if "tau2" in samples else 0.0
    if at_bound > MANY_AT_BOUND:
        message = (
            f"tau2 was {brief(fit.settings.tau2_min)} in {fixed(100 * at_bound, 0)}% of the samples: its lower limit "
            "may be that bound, and its standard error says little."
        )
        notes.append(Note("samples-at-bound", message))
    return notes
