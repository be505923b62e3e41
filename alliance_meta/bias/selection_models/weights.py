"""`selmodel`, which estimates how results were selected, and `vevea_woods`, which is given it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Given, given
from alliance_meta.bias.selection_models.result import (
    AT_BOUND,
    GIVEN,
    NO_P,
    NOTHING,
    Inference,
    LikelihoodRatio,
    Parameter,
    SelectionResult,
    SelectionVcov,
    inference,
    inference_notes,
    replicate_notes,
    replicates,
    solved_by,
    spread,
)
from alliance_meta.bias.selection_models.result import FLAT_LIKELIHOOD as FLAT
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_sf, likelihood_ratio, two_sided_p
from alliance_meta.core.selection.dependent import ClusterBootstrap, Replicates, SelectionEstimator, SelectionInterval
from alliance_meta.core.selection.search import SelectionFit, fit_selection
from alliance_meta.core.selection.weights import (
    SMOOTH,
    Alternative,
    Family,
    SelectionProblem,
    StepWeights,
    selection_problem,
)
from alliance_meta.design import Design, design_of
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import STUDY
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes, warn_note
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import format_level, plural

# Fewer effects than this tell little about selection; fewer than this in an interval tell little about its weight.
FEW, FEW_INSIDE = 10, 4


def selmodel(
    fit: Any,
    type: Family = "stepfun",
    *,
    steps: Sequence[float] | None = None,
    alternative: Alternative | None = None,
    delta: Sequence[float | None] | None = None,
    mods_delta: str = "1",
    cluster: Any = STUDY,
    estimator: SelectionEstimator = "CML",
    penalised: bool = False,
    vcov: SelectionVcov | None = None,
    bootstrap: ClusterBootstrap = "two-stage",
    interval: SelectionInterval = "percentile",
    iterations: int = 1999,
    seed: int | None = None,
    cores: int = 1,
    level: float | None = None,
) -> SelectionResult:
    r"""Estimate the mean effect as if every result had had the same chance to be seen.

    Results that are significant, or point the right way, are written up and printed more often. A selection model says
    by how much a result's chance to be seen changes with its p-value, estimates that from how many results lie on
    either side of the steps, and gives the mean effect and the spread of true effects *before* selection. With one
    step at .025 it is the three-parameter model (3PSM), with steps at .025 and .5 the four-parameter model.

    Parameters
    ----------
    fit : fitted model
        Of any class. Its effects are used, with its moderators of the mean; those of tau2 are used of a location-scale
        model. An equal-effects model keeps tau2 = 0. Its estimator is not: this is maximum likelihood.
    type : {"stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow"}
        The form of the weight function, as in metafor. ``stepfun`` is constant between `steps`; the others are smooth.
    steps : sequence of float, optional
        p-values at which the chance to be seen changes, by default .025. For smooth weights the two p-values between
        which it changes, by default all: ``(0.025, 0.975)`` keeps extreme results from deciding, as metaselection does.
    alternative : {"greater", "less", "two.sided"}, optional
        Which results have small p-values: large effects, small ones, or both. By default the side on which the
        weighted mean lies.
    delta : sequence of float or None, optional
        Parameters of the weight function that are given, with None (or NaN) for those to be estimated. Of a step
        function they are the weights of all intervals, the first of which is 1.
    mods_delta : str
        Right-hand side of a formula for the logs of delta: moderators of how strongly results were selected.
    cluster : str or array-like of shape (k,)
        What may make effects resemble each other: by default the study.
    estimator : {"CML", "ARGL"}
        How the model is solved: by composite marginal likelihood, which is maximum likelihood as of independent
        effects, or by the augmented, reweighted Gaussian likelihood, which counts each effect 1 / w times (step
        functions only).
    penalised : bool
        Whether weak penalties draw mean, tau2 and weights to usual values, so that small data sets have a solution.
        They are metaselection's own default, made for standardised mean differences.
    vcov : {"model", "CR0", "CR1", "bootstrap"}, optional
        What standard errors rest on. ``CR0``: on how much clusters differ in what they add to the equations, whatever
        hangs together within them; the default where a cluster has several effects. ``CR1``: that, times
        J / (J - 1). ``bootstrap``: on resampled clusters, which intervals of fewer than some 40 need. ``model``: on
        the curvature of the likelihood, right if effects are independent; the default where they are.
    bootstrap : {"two-stage", "multinomial", "exponential"}
        Clusters are drawn, and effects within them; clusters are drawn; clusters are given exponential weights.
    interval : {"percentile", "basic", "bca", "student"}
        What the bootstrap's intervals are; `SelectionResult.confint` gives the others.
    iterations, seed, cores : int
        Of the bootstrap, which needs a seed; cores do not change the result.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    SelectionResult

    Raises
    ------
    InputError
        An interval without effects, so that its weight cannot be estimated; too few effects or clusters; steps or
        weights that are none.

    Warns
    -----
    DependenceWarning
        ``vcov="model"`` with several effects of a study.
    ConvergenceWarning

    Notes
    -----
    R: ``selmodel(fit, type = "stepfun", steps = 0.025)`` of metafor; for dependent effects
    ``selection_model(..., cluster = study, selection_type = "step", steps = 0.025)`` of metaselection.

    With a weight w of the p-value and a normal random-effects model the likelihood is
    :math:`\prod_i w(p_i) \phi(y_i; x_i'\beta, v_i + \tau^2) / A_i`, where :math:`A_i` is the mean of w over what study
    i could have found (Hedges 1992, doi:10.1214/ss/1177011364; Vevea & Hedges 1995,
    doi:10.1007/BF02294384; beta: Citkowicz & Vevea 2017, doi:10.1037/met0000119; other forms: Preston, Ashby & Smyth
    2004, doi:10.1111/j.1365-2753.2003.00457.x). Derivatives are analytic; smooth weights are integrated to twelve
    digits, where metafor's integral stops at four. Of independent effects standard errors come from the observed
    information.

    Where studies have several effects, each effect's own distribution is as above, and nothing is supposed on how they
    hang together: the sum of their log-likelihoods still leads to the right values, and the sandwich over clusters says
    how sure they are (Pustejovsky, Citkowicz & Joshi 2025, doi:10.31222/osf.io/qg5x6_v1; beta: Citkowicz, Pustejovsky &
    Joshi 2026, doi:10.31222/osf.io/wjpxk_v1). tau2 is then all the variance of true effects, between and within
    studies. Likelihood-ratio tests and profile intervals do not hold; `SelectionResult.wald` tests against no
    selection.

    Where the sheet has a column ``focal``, only effects that their paper set out to test (or of which that is not
    known) are taken as exposed to selection; the others enter with their ordinary likelihood. Where one result of a
    paper decides over all of it, the others are selected through it, which no model here undoes.

    Not for few effects: with fewer than 10, or fewer than 4 in an interval, estimates are at the mercy of single
    results, and a note says so. It answers "what if selection was of this form", not "how biased is the literature".

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> found = bias.selmodel(fit)
    >>> [round(one, 4) for one in (found.estimate, found.se, found.tau2, found.delta[1], found.lrt.stat)]
    [0.0915, 0.0445, 0.0056, 0.2404, 2.9851]
    >>> found.weights.round(3).values.tolist()[1]
    [0.025, 1.0, 1.0, 1.0]
    """
    check_option("type", type, Family)
    asked = given(fit, "selmodel", cluster=cluster, level=level, moderators=True)
    how = inference(
        asked,
        type,
        vcov,
        seed,
        estimator=estimator,
        penalised=penalised,
        bootstrap=bootstrap,
        interval=interval,
        iterations=iterations,
        cores=cores,
    )
    side: Alternative = alternative or ("less" if asked.sign < 0 else "greater")
    check_option("alternative", side, Alternative)
    stepped = type == "stepfun"
    used = _steps(steps, stepped)
    known = _given_weights(delta, len(used) + 1 if stepped else SMOOTH[type].d, type)
    if mods_delta != "1" and not np.isnan(known).all():
        raise InputError("mods_delta= are moderators of weights that are estimated; leave out delta=")
    exposed, designs = _focal(asked), _designs(asked, mods_delta)
    (X, _), (Z, _), (U, _) = designs
    shape: dict[str, Any] = {"steps": used} if stepped or not len(used) else {"ends": tuple(used.tolist())}
    problem = selection_problem(
        asked.yi, asked.vi, X, family=type, alternative=side, Z=Z, U=U, selected=exposed, **shape
    )
    counts = _counts(problem, used)
    _check_size(problem, np.isnan(known))
    if stepped:
        _check_intervals(counts, used, np.isnan(known), exposed)
    found = solved_by(fit_selection(problem, known), how)
    notes = _notes(asked, how, found, counts, used, side if alternative is None else None, exposed)
    return _result(asked, how, found, type, side, used, counts, [one[1] for one in designs], notes)


def _steps(steps: Sequence[float] | None, stepped: bool) -> Array:
    """Return the steps, increasing, without 1; for smooth weights two or none."""
    if steps is None:
        return np.array([0.025] if stepped else [])
    try:
        values = np.unique(np.atleast_1d(np.asarray(steps, dtype=float)))
    except (TypeError, ValueError) as error:
        raise InputError(f"steps={steps!r}: steps are p-values between 0 and 1") from error
    values = values[values != 1.0]
    if not len(values) or not ((values > 0.0) & (values < 1.0)).all():
        raise InputError(f"steps={steps!r}: steps are p-values between 0 and 1, e.g. steps=(0.025, 0.5)")
    if not stepped and len(values) != 2:
        raise InputError(f"steps={steps!r}: smooth weights change between two p-values, e.g. steps=(0.025, 0.975)")
    return values


def _given_weights(delta: Sequence[float | None] | None, n: int, type: str) -> Array:
    """Return the logs of given parameters of the weight function, NaN where they are to be estimated, (d,)."""
    stepped = type == "stepfun"
    if delta is None:
        return np.full(n - stepped, np.nan)
    values = np.array([np.nan if one is None else one for one in delta], dtype=float)
    if len(values) != n:
        which = "one weight for each interval between the steps" if stepped else f"the parameters of {type!r}"
        raise InputError(f"delta has {len(values)} values; it takes {n}: {which}")
    if (values < 0.0).any() or np.isinf(values).any():
        raise InputError(f"delta={list(values)}: weights are finite and not negative")
    if stepped:
        if not (np.isnan(values[0]) or values[0] == 1.0):
            raise InputError("the first weight is 1: weights are relative to the most significant results")
        values = values[1:]
    if (values == 0.0).any() and stepped:
        raise InputError("a weight of 0 says that such results are never seen; take a small one, e.g. 0.001")
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(values), -30.0)


def _focal(asked: Given) -> Mask | None:
    """Return which effects are exposed to selection; None where no column tells."""
    if asked.focal is None:
        return None
    exposed: Mask = asked.focal.fillna(True).to_numpy(dtype=bool)
    if not exposed.any():
        raise InputError(
            "column focal: no effect is what its paper set out to test, so none was selected by its p-value"
        )
    return exposed


def _designs(asked: Given, mods_delta: str) -> list[tuple[Array, tuple[str, ...]]]:
    """Return the designs of mean, log(tau2) and log weights with the names of their columns."""
    fit, k = asked.fit, asked.k
    ones = (np.ones((k, 1)), ("intrcpt",))
    design, scale = getattr(fit, "design", None), getattr(fit, "scale_design", None)
    if scale is not None and getattr(fit, "link", "log") != "log":
        raise InputError("selmodel has moderators of log(tau2); fit the location-scale model with link='log'")
    spread = (np.zeros((k, 0)), ()) if getattr(fit, "method", None) == "EE" else ones
    chosen: Design = design_of(mods_delta, asked.effects)
    if not chosen.rows.all():
        raise DesignError(
            f"mods_delta={mods_delta!r} has gaps; leave out the {int((~chosen.rows).sum())} effects first"
        )
    return [
        ones if design is None else (design.X, design.names),
        spread if scale is None else (scale.X, scale.names),
        (chosen.X, chosen.names),
    ]


def _counts(problem: SelectionProblem, steps: Array) -> IntArray:
    """Return how many exposed effects lie in each interval of a step function, (J,)."""
    if not isinstance(problem.weights, StepWeights):
        return np.zeros(0, dtype=np.intp)
    inside = problem.weights.interval
    inside = inside if problem.selected is None else inside[problem.selected]
    return np.bincount(inside, minlength=len(steps) + 1).astype(np.intp)


def _check_size(problem: SelectionProblem, free: Mask) -> None:
    held = sum(part.stop - part.start for part, one in zip(problem.slices[2:], free, strict=True) if not one)
    if problem.k < problem.n - held:
        raise InputError(
            f"too few effects ({problem.k}) for the {problem.n - held} parameters of this selection model; give the "
            "weights with delta= (bias.vevea_woods tries several), or use fewer steps"
        )


def _check_intervals(counts: IntArray, steps: Array, free: Mask, exposed: Mask | None) -> None:
    """Refuse weights that no effect tells of, and say which steps would do."""
    edges = [0.0, *steps, 1.0]
    empty = [j for j, n in enumerate(counts) if n == 0 and (free.any() if j == 0 else free[j - 1])]
    if not empty:
        return
    first = ", ".join(f"{edges[j]:g} < p <= {edges[j + 1]:g}" for j in empty)
    kept, since = [], 0
    for step, n in zip(steps, counts[:-1], strict=True):
        since += int(n)
        if since:
            kept.append(float(step))
            since = 0
    while kept and counts[np.searchsorted(steps, kept[-1]) + 1 :].sum() == 0:
        kept.pop()
    mend = (
        f"merge intervals: steps={tuple(kept)}"
        if kept
        else "all results are on one side of every step, which says nothing about selection; choose other steps, or "
        "try given weights: bias.vevea_woods"
    )
    raise InputError(f"no {'focal ' if exposed is not None else ''}effect has {first}; {mend}")


def _result(
    asked: Given,
    how: Inference,
    found: SelectionFit,
    type: str,
    side: str,
    steps: Array,
    counts: IntArray,
    names: list[tuple[str, ...]],
    notes: tuple[Note, ...],
) -> SelectionResult:
    covariance, made = spread(found, how), replicates(found, how)
    parts = list(_parameters(found, covariance, type, names, made))
    p = len(names[0])
    vb = np.cov(made.theta[:, :p], rowvar=False).reshape(p, p) if made else covariance[:p, :p]
    if p > 1 or names[0] != ("intrcpt",):
        mean: Sequence[float] = [NotApplicable("the mean has moderators; see tidy()")] * 5
    else:
        mean = _mean(parts[0], made, how.interval, asked.level)
    tau2, se_tau2 = _heterogeneity(parts)
    weights = [one for one in parts if one.name.startswith("delta[")]
    fixed = type == "stepfun"
    return SelectionResult(
        **dict(zip(("estimate", "se", "ci_lb", "ci_ub", "pval"), mean, strict=True)),
        k=asked.k,
        studies=asked.studies,
        level=asked.level,
        measure=asked.effects.measure,
        provenance=asked.effects.provenance,
        notes=merge_notes(notes, replicate_notes(made)) if made else notes,
        type=type,
        alternative=side,
        steps=tuple(steps.tolist()),
        names=names[0],
        beta=found.theta[:p],
        vb=vb,
        tau2=tau2,
        se_tau2=se_tau2,
        delta=(*([1.0] if fixed else []), *(one.estimate for one in weights)),
        se_delta=(*([NotApplicable(GIVEN)] if fixed else []), *(one.se for one in weights)),
        loglik=found.loglik,
        lrt=_lrt(found, how),
        lrt_tau2=_lrt_tau2(found, how),
        counts=tuple(counts.tolist()),
        fitted=found,
        covariance=covariance,
        parts=tuple(parts),
        fit=asked.fit,
        how=how,
        replicates=made,
    )


def _heterogeneity(parts: Sequence[Any]) -> tuple[float, float]:
    """Return tau2 and its standard error, which a model of tau2 has many of."""
    one = next((part for part in parts if part.name == "tau2"), None)
    gone = NotApplicable("tau2 has moderators; see parameters")
    return (one.estimate, one.se) if one else (gone, gone)


def _mean(one: Parameter, made: Replicates | None, interval: SelectionInterval, level: float) -> Sequence[float]:
    """Return estimate, standard error, limits and p-value of the mean."""
    if made:
        return one.estimate, one.se, *one.resampled(made, interval, level), NotApplicable(NO_P)
    p = one.se if math.isnan(one.se) else float(two_sided_p(np.array(one.estimate / one.se), None))
    return one.estimate, one.se, *one.wald(level), p


def _parameters(
    found: SelectionFit, covariance: Array, type: str, names: list[tuple[str, ...]], made: Replicates | None
) -> Iterator[Parameter]:
    """Yield every number of the model, in the order of theta."""
    problem, full = found.problem, found.full
    error = np.sqrt(np.diag(covariance))
    # Where tau2 = 0 the parameters after it stand one place further in the full problem.
    later = full.n - problem.n

    def one(name: str, at: int, place: int, logarithm: bool) -> Parameter:
        """Return the number at a place of theta, `place` in the full problem."""
        value, se = float(found.theta[at]), float(error[at])
        value = math.exp(value) if logarithm else value
        if found.at_bound[at] and value < NOTHING:
            value = 0.0
        if found.held[at]:
            gone = NotApplicable(GIVEN)
            return Parameter(name, -1, logarithm, value, gone, gone)
        if math.isnan(se):
            se = NotApplicable(AT_BOUND if found.at_bound[at] else FLAT)
        shown = se * value if logarithm and not math.isnan(se) else se
        if made:
            draws = made.theta[:, place]
            shown = float((np.exp(draws) if logarithm else draws).std(ddof=1))
        return Parameter(name, place, logarithm, value, shown, se)

    for at, name in enumerate(names[0]):
        yield one(name, at, at, False)
    scale = problem.slices[1]
    if found.vanished or not names[1]:
        gone = NotApplicable(AT_BOUND if found.vanished else "tau2 is 0 in an equal-effects model")
        yield Parameter("tau2", full.slices[1].start if found.vanished else -1, True, 0.0, gone, gone)
    elif len(names[1]) == 1:
        yield one("tau2", scale.start, scale.start, True)
    else:
        yield from (
            one(f"log tau2: {name}", scale.start + i, scale.start + i, False) for i, name in enumerate(names[1])
        )
    for j, part in enumerate(problem.slices[2:]):
        label = f"delta[{j + 1 + (type == 'stepfun')}]"
        single = part.stop - part.start == 1
        for i, name in enumerate(names[2][: part.stop - part.start]):
            yield one(label if single else f"log {label}: {name}", part.start + i, part.start + i + later, single)


def _no_likelihood(df: int) -> LikelihoodRatio:
    gone = NotApplicable("no likelihood ratio is right for dependent effects or other equations; see the intervals")
    return LikelihoodRatio(gone, df, gone)


def _lrt(found: SelectionFit, how: Inference) -> LikelihoodRatio:
    df = int((~found.held[found.problem.slices[1].stop :]).sum())
    if not how.plain:
        return _no_likelihood(df)
    stat = likelihood_ratio(found.loglik, found.loglik_unselected)
    return LikelihoodRatio(stat, df, chi2_sf(stat, df) if df else NotApplicable("all weights were given"))


def _lrt_tau2(found: SelectionFit, how: Inference) -> LikelihoodRatio:
    if not how.plain:
        return _no_likelihood(1)
    if math.isnan(found.loglik_homogeneous):
        moderated = found.full.designs[1].shape[1] > 1
        gone = NotApplicable("tau2 has moderators" if moderated else "tau2 is 0 in an equal-effects model")
        return LikelihoodRatio(gone, 1, gone)
    stat = likelihood_ratio(found.loglik, found.loglik_homogeneous)
    return LikelihoodRatio(stat, 1, chi2_sf(stat, 1))


def _notes(
    asked: Given,
    how: Inference,
    found: SelectionFit,
    counts: IntArray,
    steps: Array,
    side: str | None,
    exposed: Mask | None,
) -> tuple[Note, ...]:
    notes = inference_notes(asked, how)
    if not found.best.done[0]:
        text = "The search for the highest likelihood of the selection model stopped early; do not use its estimates."
        notes.append(warn_note("not-converged", text, ConvergenceWarning, stacklevel=4))
    if asked.k < FEW:
        text = f"{plural(asked.k, 'effect')}: few for a selection model, single results decide its estimates."
        notes.append(Note("few-effects", text))
    edges = [0.0, *steps, 1.0]
    few = [f"{edges[j]:g} < p <= {edges[j + 1]:g} ({n})" for j, n in enumerate(counts) if n < FEW_INSIDE]
    if few and not found.held.any():
        notes.append(Note("few-in-interval", f"Few effects in {', '.join(few)}: the weights rest on single results."))
    notes += _estimate_notes(found, len(counts) > 0, how)
    notes += _runaway_notes(asked, found)
    if side == "less":
        text = "The mean effect is negative, so small effects were taken as the favoured ones (alternative='less')."
        notes.append(Note("direction", text))
    if exposed is None:
        text = (
            "No column 'focal' tells what papers set out to test: every effect is taken as selected by its own p-value."
        )
    else:
        text = (
            f"{int(exposed.sum())} of {asked.k} effects are what their paper set out to test, or may be; the others "
            "are taken as seen whatever their p-value."
        )
    return merge_notes(asked.effects.notes, notes, [Note("focal", text)])


def _runaway_notes(asked: Given, found: SelectionFit) -> Iterator[Note]:
    """Yield a note where the mean left the effects behind, as it does where only the weights hold it."""
    if len(found.problem.designs[0].T) > 1:
        return
    y, mean = asked.yi, float(found.theta[0])
    reach = float(np.ptp(y) + asked.sei.max())
    if not y.min() - reach <= mean <= y.max() + reach:
        text = (
            "The mean before selection lies farther from the effects than they spread: the data do not tell it from "
            "the weights. Do not trust it."
        )
        yield Note("mean-untold", text)


def _estimate_notes(found: SelectionFit, stepped: bool, how: Inference) -> Iterator[Note]:
    problem, theta = found.problem, found.theta
    weights = slice(problem.slices[1].stop, None)
    plain = all(part.stop - part.start == 1 for part in problem.slices[2:])
    free = ~found.held[weights]
    if found.vanished:
        yield Note("tau2-zero", "tau2 is estimated as 0: no heterogeneity is left once selection is allowed for.")
    if found.at_bound[weights].any():
        small = not stepped and bool((theta[weights] < 0.0)[found.at_bound[weights]].any())
        certain = "; confint(kind='PL') does not." if how.plain else "."
        certain = "" if how.vcov == "bootstrap" else f" Standard errors take that as certain{certain}"
        text = (
            f"The weights are estimated as equal: the data show no selection of this form.{certain}"
            if small
            else "A weight runs to the end of its range: the data do not tell it. Do not trust the adjusted mean."
        )
        yield Note("weight-at-bound" if small else "weight-untold", text)
    elif np.isnan(found.covariance).any():
        yield Note("flat", "The likelihood is flat: mean, tau2 and weights cannot be told apart by these data.")
    if stepped and plain and (theta[weights][free] > 0.0).any():
        text = "Less significant results are estimated to be seen more often than significant ones in some interval."
        yield Note("reversed", text)


# Vevea & Woods (2005), Table 1: p-values that end the intervals, one-sided throughout, and weights.
STEPS = (0.005, 0.01, 0.05, 0.10, 0.25, 0.35, 0.50, 0.65, 0.75, 0.90, 0.95, 0.99, 0.995)
TABLE = {
    "moderate, one-tailed": (1, 0.99, 0.95, 0.80, 0.75, 0.65, 0.60, 0.55, *[0.50] * 6),
    "severe, one-tailed": (1, 0.99, 0.90, 0.75, 0.60, 0.50, 0.40, 0.35, 0.30, 0.25, *[0.10] * 4),
    "moderate, two-tailed": (1, 0.99, 0.95, 0.90, 0.80, 0.75, 0.60, 0.60, 0.75, 0.80, 0.90, 0.95, 0.99, 1),
    "severe, two-tailed": (1, 0.99, 0.90, 0.75, 0.60, 0.50, 0.25, 0.25, 0.50, 0.60, 0.75, 0.90, 0.99, 1),
}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class WeightGrid(Result):
    """The adjusted mean under each set of given weights.

    Attributes
    ----------
    models : dict of str to SelectionResult
    k : int
    level : float
    provenance : Provenance
    """

    models: dict[str, SelectionResult]
    k: int
    level: float
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per set of weights: ``estimate se ci_lb ci_ub tau2``, and ``r r_lb r_ub`` for Fisher z."""
        rows = []
        for one in self.models.values():
            row = one.tidy().drop(columns="pval").iloc[0]
            rows.append({**dict(zip(map(str, row.index), row, strict=True)), "tau2": one.tau2})
        return frame_of(rows, index=list(self.models))

    def _content(self) -> Document:
        table = self.tidy()
        names = [name for name in table if name in ("estimate", "ci_lb", "ci_ub", "tau2", "r")]
        title = f"Given weights (Vevea & Woods; k = {self.k}; {format_level(self.level)})"
        return self._document(title, table_of(table, dict.fromkeys(names, 4)))


def vevea_woods(fit: Any, *, alternative: Alternative | None = None, level: float | None = None) -> WeightGrid:
    """Give the mean effect if results were selected moderately or severely, by their one- or two-tailed p-value.

    Where few results are to be had, weights cannot be estimated. They can be supposed: Vevea and Woods wrote down four
    sets, from a literature in which a result that points the wrong way has half the chance of a significant one to
    be seen, to one in which it has a tenth. If the mean hardly moves between the rows, selection of such kinds does not
    explain it; if it does, the conclusion rests on what one believes of the literature.

    Parameters
    ----------
    fit : fitted model
        Of any class, without moderators; its effects are used.
    alternative : {"greater", "less"}, optional
        The side on which results are favoured: by default that of the weighted mean. The two-tailed weights favour
        both ends.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    WeightGrid

    Raises
    ------
    InputError
        A model with moderators, fewer than 2 effects; several effects of a study, and no more than 2 studies.

    Notes
    -----
    Vevea & Woods (2005, doi:10.1037/1082-989X.10.4.428), Table 1; its authors call the sets mere examples. R:
    ``selmodel(fit, type = "stepfun", steps = c(0.005, ...), delta = c(1, 0.99, ...))``, for each column of the table in
    the help page of metafor's ``selmodel``. Maximum likelihood; the first row has equal weights. Where studies have
    several effects, standard errors allow for that, as `selmodel` does.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> bias.vevea_woods(fit).tidy()["estimate"].round(4).to_dict()["moderate, one-tailed"]
    0.1261
    """
    if alternative is not None:
        check_option("alternative", alternative, Alternative)
    if alternative == "two.sided":
        raise InputError("the two-tailed weights are among the rows; alternative= is the side that is favoured")
    given(fit, "vevea_woods")
    first = selmodel(fit, steps=STEPS, delta=(1.0,) * (len(STEPS) + 1), alternative=alternative, level=level)
    models = {"no selection": first}
    for name, delta in TABLE.items():
        models[name] = selmodel(fit, steps=STEPS, delta=delta, alternative=alternative, level=level)
    return WeightGrid(
        models, first.k, first.level, first.provenance, merge_notes(*(one.notes for one in models.values()))
    )
