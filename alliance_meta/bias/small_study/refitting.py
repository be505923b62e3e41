"""Fits of the effects of another fit, which the methods for small studies rest on, and what must be said of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bias.given import Adjusted, Given
from alliance_meta.core.dependent import SamplingCovariance
from alliance_meta.design import Design
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DependenceWarning, InputError
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import DEFAULT_RHO, che
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.results.coefficients import FitSettings
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults

Predictor = Literal["sei", "vi", "ni", "ninv", "sqrtni", "sqrtninv", "inv_sqrt_n"]
RegressionModel = Literal["che", "rma", "lm", "ee"]
Model = RandomEffectsResults | RobustResults
One = TypeVar("One", bound=Adjusted)
# Below so many studies the Cochrane Handbook advises against tests for asymmetry.
FEW = 10
# Standard errors that differ by less, relatively, tell no slope.
SAME = 1e-6
PREDICTORS = {
    "sei": "standard error",
    "vi": "sampling variance",
    "ni": "sample size",
    "ninv": "1 / n",
    "sqrtni": "square root of n",
    "sqrtninv": "1 / square root of n",
}
NO_ERROR = "the effects leave no residual from which an error could be read"


def settings(fit: Any) -> FitSettings:
    """Return the choices of a univariate fit, robust or not; the defaults for any other."""
    base = fit.fit if isinstance(fit, RobustResults) else fit
    return base.settings if isinstance(base, RandomEffectsResults) else FitSettings()


def model_of(
    source: Given, *, mods: str = "1", effects: EffectSizes | None = None, **other: Any
) -> RandomEffectsResults:
    """Fit a univariate model as the given fit was; `other` choices replace the fit's."""
    own = settings(source.fit)
    chosen = {name: getattr(own, name) for name in ("method", "test", "tau2", "weights", "tau2_min")} | other
    used = source.effects if effects is None else effects
    return RandomEffectsModel(used, mods=mods, level=source.level, **chosen).fit()


def one_per_study(source: Given, who: str, rho: float) -> RandomEffectsResults:
    """Return the univariate fit of the effects; where they depend, of the mean of each study."""
    fit = source.fit
    if not source.dependent:
        if isinstance(fit, RandomEffectsResults) and fit.level == source.level:
            return fit
        return model_of(source)
    if settings(fit).weights is not None:
        raise InputError(
            f"{who} averages the effects of each study first, and the fit has weights of its own; fit anew"
        )
    return model_of(source, effects=aggregate(source.effects, cluster=source.by, rho=rho))


def independent(source: Given, **choices: Any) -> Model:
    """Fit a univariate model; where effects depend, with standard errors from whole studies (CR2)."""
    with warnings.catch_warnings():
        if source.dependent:
            warnings.simplefilter("ignore", DependenceWarning)
        fit = model_of(source, **choices)
    return fit.robust(cluster=source.by) if source.dependent else fit


def predictor_values(source: Given, predictor: str) -> Array:
    """Return the predictor of a regression on the size of studies, (k,)."""
    if predictor in ("sei", "vi"):
        return source.sei if predictor == "sei" else source.vi
    n = source.effects.ni
    if n is None:
        raise InputError(f"predictor={predictor!r} needs sample sizes; give ni=, or use predictor='sei'")
    if not (np.isfinite(n) & (n > 0)).all():
        lost = [source.effects.slab[int(i)] for i in np.flatnonzero(~(np.isfinite(n) & (n > 0)))[:5]]
        raise InputError(f"predictor={predictor!r} needs every sample size; missing for {', '.join(lost)}")
    power = {"ni": 1.0, "ninv": -1.0, "sqrtni": 0.5, "sqrtninv": -0.5}[predictor]
    return np.asarray(n**power)


def why_no_slope(source: Given, values: Array) -> str | None:
    """Return why no slope on the size of studies can be told; None where it can."""
    p = 1 + (design.p if (design := design_of(source.fit)) is not None else 1)
    if source.k <= p:
        return f"needs at least {p + 1} effects, not {source.k}"
    if np.ptp(values) <= SAME * np.abs(values).max():
        return "every effect is of the same precision, so that no slope can be told"
    return None


def design_of(fit: Any) -> Design | None:
    """Return the design of a fit that has one."""
    design = getattr(fit, "design", None)
    return design if isinstance(design, Design) else None


def with_predictor(source: Given, values: Array, name: str, model: str, cluster: Any) -> tuple[Model, str]:
    """Fit the moderators of the fit and one more column; return the fit and what the column is called there."""
    design = design_of(source.fit)
    formula, taken = (design.formula, design.variables) if design is not None else ("1", ())
    name = f"{name}_of_study" if name in taken else name
    effects = source.effects
    # What comes after a step of its own is written out by r_code, not read from the sheet that lacks the column.
    effects = replace(
        effects,
        _moderators=effects.moderators.assign(**{name: values}),
        provenance=effects.provenance.after(f"moderator {name}: of each effect"),
    )
    mods = name if formula == "1" else f"{formula} + {name}"
    if model == "che":
        V = getattr(source.fit, "V", None)
        known = {"V": V} if isinstance(V, SamplingCovariance) and source.k == V.k else {"rho": DEFAULT_RHO}
        return che(effects, mods=mods, cluster=cluster, level=source.level, **known), name
    fixed = {"tau2": None, "weights": None, "tau2_min": 0.0}
    choices: dict[str, Any] = {
        "rma": {},
        "lm": {"method": "EE", "test": "knha", **fixed},
        "ee": {"method": "EE", "test": "z", **fixed},
    }[model]
    return model_of(source, mods=mods, effects=effects, **choices), name


def no_residual(fit: Model) -> bool:
    """Tell whether an exact fit leaves standard errors of 0 where residuals make them."""
    return bool((fit.se <= 0).any())


def adjusted(kind: type[One], source: Given, fit: Model, /, *, notes: tuple[Note, ...] = (), **own: Any) -> One:
    """Return the first coefficient of a fit as an adjusted mean."""
    values: dict[str, Any] = {name: float(getattr(fit, name)[0]) for name in ("se", "ci_lb", "ci_ub", "pval")}
    if no_residual(fit):
        values = dict.fromkeys(values, NotApplicable(NO_ERROR))
    elif values["se"] != values["se"]:
        values = dict.fromkeys(values, NotApplicable("one study alone tells about it"))
    said = merge_notes(fit.notes, few_notes(source), notes)
    return kind(estimate=float(fit.beta[0]), **values, **about(source), notes=said, **own)


def not_adjusted(kind: type[One], source: Given, why: str, **own: Any) -> One:
    """Return an adjusted mean that does not exist, with the reason."""
    gone: dict[str, Any] = dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub", "pval"), NotApplicable(why))
    return kind(**gone, **about(source), notes=merge_notes(source.effects.notes, few_notes(source)), **own)


def about(source: Given) -> dict[str, Any]:
    """Return what every result says of the effects."""
    return {
        "k": source.k,
        "studies": source.studies,
        "level": source.level,
        "measure": source.effects.measure,
        "provenance": source.effects.provenance,
    }


def few_notes(source: Given) -> tuple[Note, ...]:
    """Return the remark that there are too few studies to tell much."""
    if source.studies >= FEW:
        return ()
    many = f"{source.studies} studies" if source.studies > 1 else "one study"
    message = (
        f"With {many} (fewer than {FEW}), tests of asymmetry miss what is there and corrections for it are guesses."
    )
    return (Note("few-studies-bias", message),)


def size_notes(source: Given, predictor: str) -> tuple[Note, ...]:
    """Return the remark that standard errors hold more than the size of the study, where they do."""
    if predictor not in ("sei", "vi"):
        return ()
    n = source.effects.ni
    if n is not None and _only_n(n, source.vi):
        return ()
    what = "the effects have no sample sizes to check that their standard errors know nothing else"
    if n is not None:
        what = (
            "these standard errors do not follow from the sample size alone (those of raw, partial, converted, "
            "corrected and averaged correlations do not)"
        )
    mend = "" if n is None else "; ask with predictor='sqrtninv' as well"
    message = f"An effect may go along with its standard error although nothing is missing: {what}{mend}."
    return (Note("se-not-size", message),)


def _only_n(n: Array, v: Array) -> bool:
    """Tell whether effects of one sample size have one variance, and larger samples smaller ones."""
    order = np.lexsort((v, n))
    n, v = n[order], v[order]
    same = n[1:] == n[:-1]
    step = v[1:] - v[:-1]
    return bool(np.isfinite(n).all() and (np.abs(step[same]) <= SAME * v[1:][same]).all() and (step[~same] < 0).all())
