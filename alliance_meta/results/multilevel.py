"""`MultilevelResults`: what a fitted model of dependent effects knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import SamplingCovariance
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.mixed.predictions import predicted_effects, shared_and_own, true_effects
from alliance_meta.core.mixed.search import MixedFit
from alliance_meta.design import Design, as_frame
from alliance_meta.effects.dependent.groups import ROWS, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, RobustType, Scale
from alliance_meta.results import wording
from alliance_meta.results.coefficients import FitSettings, moderator_test
from alliance_meta.results.fit import (
    Newdata,
    both_intervals,
    columns_of,
    information_criteria,
    predictions_of,
    residuals,
    rows_to_predict,
    scale_of,
    to_scale,
    with_moderators,
)
from alliance_meta.results.fit import tidy as tidy
from alliance_meta.results.multilevel_quantities import (
    MultilevelQuantities,
    RandomTerm,
    curves,
    limits,
    object_frame,
    remarks_on,
    row_variances,
)
from alliance_meta.results.r_code import (
    call,
    comment,
    covariance,
    data,
    formula,
    level_argument,
    mods_argument,
    path,
    quoted,
    vector,
)
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import fixed, plain_df

if TYPE_CHECKING:
    from alliance_meta.results.robust import RobustResults

COUNTED = {"contain": "t, degrees of freedom by containment", "residual": "t, degrees of freedom by k - p"}
# Where a profile is looked at, to see that it is a peak.
POINTS = 9
# An error variance that counts as 0, as a share of the typical sampling variance.
STILL = 1e-12
NO_INTERVAL = (
    "Effects without a standard error have a variance of 0 in this model: they are their mean exactly, which says "
    "nothing of how surely. See confint() for how large the variance may be."
)


def _rows(fit: MultilevelResults, newdata: Newdata) -> tuple[Array, list[str], pd.DataFrame]:
    X, labels = rows_to_predict(fit, newdata)
    if newdata is not None:
        return X, labels, as_frame(newdata)
    return X, labels, pd.DataFrame(index=range(1)) if fit.design.formula == "1" else fit.effects.moderators


def _variances(fit: MultilevelResults, frame: pd.DataFrame, rows: int) -> Array:
    total = np.zeros(rows)
    for (term, part), component in zip(fit._parts, fit.point.problem.components, strict=True):
        total = total + row_variances(term, fit.fitted.theta[part], component.structure, frame, rows)
    return total


def study_term(fit: MultilevelResults) -> tuple[int, RandomTerm]:
    """Return the coarsest random intercept, with its place among the terms of the likelihood."""
    found: list[tuple[int, RandomTerm]] = []
    for term, component in zip(fit.random, fit.point.problem.components, strict=True):
        if not term.within and term.n < fit.k:
            found.append((component.terms[0], term))
    if not found:
        raise InputError("the model has no random intercept of a factor whose groups hold several effects")
    return min(found, key=lambda pair: pair[1].n)


def _study_means(fit: MultilevelResults, place: int, X: Array) -> tuple[Array, Array]:
    """Return x'beta + u of each group and its error variance."""
    effects = predicted_effects(fit.point, place)
    pred = X @ fit.beta + effects.value[:, 0]
    variance = (
        np.einsum("mp,pq,mq->m", X, fit.vb, X)
        + effects.error[:, 0, 0]
        - 2.0 * np.einsum("mp,mp->m", X, effects.share[:, 0])
    )
    return pred, np.maximum(variance, 0.0)


def _compound(fit: MultilevelResults, term: RandomTerm, theta: Array, half: float) -> pd.DataFrame:
    """Return the effects of inner levels within outer groups, what the group shares included."""
    tau2, rho = map(float, theta)
    value, variance = shared_and_own(fit.point, term.group, term.groupings[1], (rho * tau2, (1.0 - rho) * tau2))
    return _effect_frame(fit, term, value, np.sqrt(variance), half, _pair_labels(term))


def _pair_labels(term: RandomTerm) -> list[str]:
    assert term.inner is not None
    seen: dict[tuple[int, int], str] = {}
    for g, c in zip(term.group, term.inner, strict=True):
        seen.setdefault((int(g), int(c)), f"{term.levels[g]}: {term.columns[c]}")
    return list(seen.values())


def _effect_frame(
    fit: MultilevelResults, term: RandomTerm, pred: Array, se: Array, half: float, labels: list[str]
) -> pd.DataFrame:
    """Return effects with intervals, but for those that do not vary: nothing is known of their errors."""
    still = se**2 <= STILL * float(fit.point.problem.plan.d.mean())
    se = np.where(still, np.nan, se)
    columns = {"pred": pred, "se": se, "pi_lb": pred - half * se, "pi_ub": pred + half * se}
    out = pd.DataFrame(columns, index=pd.Index(labels, name=term.name))
    if still.any():
        out.attrs["notes"] = [NO_INTERVAL]
    return out


@dataclass(frozen=True, eq=False, repr=False)
class MultilevelResults(MultilevelQuantities):
    """A fitted model of dependent effects: several levels, crossed factors, outcomes, or slopes.

    Made by `MultilevelModel.fit`; it carries the data, the design, the sampling covariance and every setting.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    settings : FitSettings
        Estimator, inference and level.
    fitted : MixedFit
        The likelihood at its maximum, as arrays.
    random : tuple of RandomTerm
        What varies between which groups.
    V : SamplingCovariance or None
        Covariance of the sampling errors; None where they are independent.
    degrees : {"contain", "residual"}
        How degrees of freedom were counted.
    """

    called = "a multilevel model"
    lacks: ClassVar[Mapping[str, str]] = {
        "confint_tau2": "confint() has the interval of every variance",
        "R2": "see R2_marginal",
    }

    effects: EffectSizes
    design: Design
    settings: FitSettings
    fitted: MixedFit
    random: tuple[RandomTerm, ...]
    V: SamplingCovariance | None = None
    degrees: str = "contain"
    notes: tuple[Note, ...] = ()

    def predict(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and one new effect in a new study, as `RandomEffectsResults.predict` does.

        The prediction interval holds the true effect of a new row (a new measure, rater or time) in a study that
        is not among these: every random term adds to it. `predict_within` is for a study that is. Where the variance
        differs between inner levels (``HCS UN DIAG HAR``), a column of `newdata` with the inner factor says for which
        level the interval is meant; without it ``pi_lb`` and ``pi_ub`` are NaN and ``.attrs["pi_note"]`` says why.
        Degrees of freedom are the fewest of the coefficients involved. R: ``predict(fit)``.
        """
        level = self._level(level)
        X, labels, own = _rows(self, newdata)
        variances = _variances(self, own, len(X))
        pred = X @ self.beta
        se = np.sqrt(np.einsum("mp,pq,mq->m", X, self.vb, X))
        half = np.array([critical_value(level, self._df(x[None, :])) for x in X])
        frame = both_intervals(pred, se, half, half * np.sqrt(se**2 + variances))
        out = to_scale(frame, measure=self.effects.measure, scale=scale, tau2=variances)
        out.index = pd.Index(labels)
        out.attrs["level"] = level
        if np.isnan(variances).any():
            out.attrs["pi_note"] = "the variance differs between levels of a random term: name the level in newdata"
        return out

    def predict_within(
        self, newdata: Newdata = None, *, scale: Scale | None = None, level: float | None = None
    ) -> pd.DataFrame:
        """Predict the mean effect, and one new effect, in each study that is already known.

        Returns
        -------
        DataFrame
            ``pred se ci_lb ci_ub pi_lb pi_ub``, one row per group of the coarsest random intercept: its own mean
            true effect, shrunken towards the model's, and where a further effect from it is expected.

        Raises
        ------
        InputError
            Without a random intercept whose groups hold several effects; with more than one row of `newdata`.
        """
        level = self._level(level)
        place, term = study_term(self)
        if newdata is None and self.design.formula != "1":
            raise InputError("predict_within needs newdata for a model with moderators: one row of values")
        x, _, frame = _rows(self, newdata)
        if len(x) != 1:
            raise InputError(f"newdata has {len(x)} rows; predict_within takes one")
        pred, variance = _study_means(self, place, np.repeat(x, term.n, axis=0))
        own = float(self.fitted.theta[self._parts[self.random.index(term)][1]][0])
        rest = _variances(self, frame, 1)[0] - own
        half, se = critical_value(level, self._df(x)), np.sqrt(variance)
        table = both_intervals(pred, se, half, half * np.sqrt(variance + rest))
        out = to_scale(table, measure=self.effects.measure, scale=scale, tau2=rest)
        out.index = pd.Index(list(term.levels), name=term.name)
        out.attrs["level"] = level
        return out

    def ranef(self, *, level: float | None = None) -> dict[str, pd.DataFrame]:
        """Return the predicted random effects of each term: how far each group lies from the model's mean.

        Returns
        -------
        dict of DataFrame
            Term -> ``pred se pi_lb pi_ub`` on the analysis scale, one row per group (and inner level). For ``CS``
            as for the other structures it is the whole effect of an inner level, what its group shares included.
            Effects whose variance is 0 have no interval (NaN): ``attrs["notes"]`` says so.

        Notes
        -----
        R: ``ranef(fit)``. The intervals of each term have degrees of freedom of their own, its groups less the
        coefficients.
        """
        level = self._level(level)
        found = {}
        for (term, part), component in zip(self._parts, self.point.problem.components, strict=True):
            half = critical_value(level, self.term_df(term))
            if len(component.terms) > 1:
                found[term.name] = _compound(self, term, self.fitted.theta[part], half)
                continue
            effects = predicted_effects(self.point, component.terms[-1])
            labels = list(term.levels)
            if term.of_pairs:
                labels = _pair_labels(term)
            elif term.within:
                labels = [f"{g}: {c}" for g in term.levels for c in term.columns]
            se = np.sqrt(np.maximum(np.diagonal(effects.error, axis1=1, axis2=2), 0.0)).ravel()
            found[term.name] = _effect_frame(self, term, effects.value.ravel(), se, half, labels)
        return found

    def blup(self, *, level: float | None = None) -> pd.DataFrame:
        """Return the best linear unbiased prediction of each study's mean true effect.

        Returns
        -------
        DataFrame
            ``pred se pi_lb pi_ub`` on the analysis scale, one row per group of the coarsest random intercept, at
            the mean of its moderators.
        """
        level = self._level(level)
        place, term = study_term(self)
        counts = np.bincount(term.group)[:, None]
        X = np.zeros((term.n, self.p))
        np.add.at(X, term.group, self.design.X)
        pred, variance = _study_means(self, place, X / counts)
        half = np.array([critical_value(level, self._df(x[None, :])) for x in X]) * np.sqrt(variance)
        columns = {"pred": pred, "se": np.sqrt(variance), "pi_lb": pred - half, "pi_ub": pred + half}
        return pd.DataFrame(columns, index=pd.Index(list(term.levels), name=term.name))

    def confint(self, *, level: float | None = None) -> pd.DataFrame:
        """Return profile-likelihood intervals of every variance and correlation.

        Returns
        -------
        DataFrame
            ``estimate lb ub``, one row per parameter; a bound that the likelihood does not reach is
            `NotApplicable` and says so (0 where a variance cannot be told from none). ``.attrs["notes"]`` names
            components whose profile is no single peak.

        See Also
        --------
        sensitivity.profile : the whole curves, which `plots.profiles` draws.

        Notes
        -----
        R: ``confint(fit)``. Each bound is where the likelihood, maximised over all other parameters, has fallen
        by half the chi-squared quantile. Variances and correlations of ``UN`` and ``GEN`` terms are made parameters
        of their own for this, which takes seconds with three columns; with more, ask `sensitivity.profile` by name.
        """
        level = self._level(level)
        found = curves(self, level=level, points=POINTS)
        estimates = self.components["estimate"]
        rows = {}
        for name, curve in found.items():
            lb, ub = limits(curve)
            rows[name] = {"estimate": float(estimates[name]), "lb": lb, "ub": ub}
        out = object_frame(rows, ("estimate", "lb", "ub"))
        out.attrs.update(level=level, kind="PL", scale=self.effects.scale_label)
        out.attrs["notes"] = [note.message for note in remarks_on(found)]
        return out

    def robust(self, *, cluster: Any = "study_id", type: RobustType = "CR2") -> RobustResults:
        """Return the same model with cluster-robust standard errors, degrees of freedom and tests.

        They hold even where the assumed dependence is wrong, if the clusters are independent.

        Parameters
        ----------
        cluster : str or array-like of shape (k,)
            Column, ``"study_id"``, or one label per effect.
        type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}

        Notes
        -----
        R: ``clubSandwich::coef_test(fit, vcov = "CR2", cluster = study_id)``.
        """
        from alliance_meta.results.robust import robust_results

        return robust_results(self, cluster=cluster, type=type)


def statistics(fit: MultilevelResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        **{f"groups[{term.name}]": term.n for term in fit.random},
        "method": fit.method,
        "test": fit.inference,
        **fit._these("degrees", "level"),
        **{str(name): value for name, value in fit.components["estimate"].items()},
        **fit._these("tau2", "I2", "R2_marginal", "R2_conditional", "QE", "QEdf", "QEp"),
        **moderator_test(fit),
        "loglik": fit.loglik,
        **information_criteria(fit),
    }


def augment(fit: MultilevelResults) -> pd.DataFrame:
    """Return one row per effect."""
    true, variance = true_effects(fit.point, fit.effects.yi, fit.effects.vi)
    columns = {**residuals(fit), "weight": fit.weights, "true": true, "se_true": np.sqrt(variance)}
    return pd.DataFrame(columns, index=pd.Index(fit.effects.slab))


def to_dict(fit: MultilevelResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    scales: tuple[Scale | None, ...] = ("z", "r", "r_mean") if effects.measure == "ZCOR" else (None,)
    return {
        "model": {
            "formula": fit.design.formula,
            "random": [{"term": term.name, "struct": term.struct, "groups": term.n} for term in fit.random],
            "V": "independent" if fit.V is None else fit.V.assumption,
            **scale_of(effects),
        },
        "statistics": statistics(fit),
        "components": fit.components.to_dict(orient="index"),
        "I2": fit.I2_levels.to_dict(),
        "icc": fit.icc.to_dict(),
        "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
        "vb": fit.vb,
        "predictions": predictions_of(fit, scales),
        "studies": {
            "slab": list(effects.slab),
            "study_id": list(effects.study_id),
            "ni": effects.ni,
            **columns_of(augment(fit)),
        },
        "provenance": effects.provenance.to_dict(),
    }


def r_code(fit: MultilevelResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma.mv`` of a multilevel model."""
    used = [part.strip() for term in fit.random for side in (term.within, term.outer) for part in side.split("/")]
    slopes = {v for term in fit.random if term.slopes is not None for v in term.slopes.variables}
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    wanted = [u for u in (*used, *slopes, *obs, *uses) if u]
    lines = ["library(metafor)", *data(fit, uses=wanted)]
    if fit.V is not None:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
    # metafor reads a/b as a and b within a: the deepest path says it all.
    paths = [term.name for term in fit.random if not term.within]
    shown = [term for term in fit.random if not any(path.startswith(f"{term.name}/") for path in paths)]
    structs = [quoted(str(term.struct)) for term in fit.random if term.within]
    arguments = {
        "mods": mods_argument(fit),
        "random": f"list({', '.join(map(_r_term, shown))})",
        "struct": f"c({', '.join(structs)})" if structs else None,
        **_fixed(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted("t"),
        "dfs": None if fit.inference == "z" else quoted(fit.degrees),
        "level": level_argument(fit.level),
        "sparse": "TRUE",
    }
    return "\n".join([*lines, f"fit <- {call('rma.mv', 'yi', 'vi' if fit.V is None else 'V', **arguments)}"])


def _r_term(term: RandomTerm) -> str:
    inner, outer = sides(term.name)
    return f"~ {formula(inner)} | {path(outer)}"


def _fixed(fit: MultilevelResults) -> dict[str, str]:
    """Return the arguments that hold parameters at given values, NA for those that are searched for."""
    if not fit.fitted.fixed.any():
        return {}
    rows = fit.components
    held = {key: vector(rows["estimate"].where(rows["fixed"].astype(bool), None)[rows.index.str.startswith(f"{key}[")])
            for key in ("sigma2", "tau2", "rho")}  # fmt: skip
    return {key: code for key, code in held.items() if re.search(r"[0-9]", code)}


def document(fit: MultilevelResults) -> Document:
    """Return what the fit says."""
    rule = "normal" if fit.inference == "z" else f"t({plain_df(fit.ddf[0])})"
    return wording.document(
        fit,
        f"Multilevel model (k = {fit.k}; method: {fit.method})",
        [
            fit.effects.heading,
            f"Inference: {'Wald (normal)' if fit.inference == 'z' else COUNTED[fit.degrees]}",
            "Sampling errors: " + ("independent" if fit.V is None else fit.V.assumption),
            *wording.moderated(fit),
        ],
        _components(fit),
        _heterogeneity(fit),
        wording.moderator_test(fit),
        wording.coefficients(fit),
        [
            *wording.as_r(fit, mean=not isinstance(fit.tau2, NotApplicable)),
            *wording.prediction(fit, "a new effect in a new study", rule),
        ],
    )


def methods(fit: MultilevelResults) -> str:
    """Return the sentences for a methods section."""
    random = "; ".join(_term_words(term) for term in fit.random)
    moderators = with_moderators(fit)
    V = (
        "Sampling errors were taken as independent."
        if fit.V is None
        else f"Sampling errors of effects from the same people were taken to be correlated ({fit.V.assumption})."
    )
    reference = {
        "z": "the normal distribution",
        "t": "t distributions with "
        + ("containment degrees of freedom" if fit.degrees == "contain" else "k - p degrees of freedom"),
    }[fit.inference]
    return (
        f"A multilevel model{moderators} was fitted to {fit.effects.counted} by {wording.ESTIMATORS[fit.method]}, "
        f"with random effects for {random}. {V} Coefficients were tested against {reference}."
    )


def _term_words(term: RandomTerm) -> str:
    if not term.within:
        given = ", with given correlations between them" if term.structure.linked else ""
        return f"{term.name} ({term.n} groups{given})"
    if term.slopes is not None:
        return f"{term.within} by {term.outer} ({term.n} groups)"
    return f"{term.within} within {term.outer} ({term.n} groups, {term.struct} structure)"


def _components(fit: MultilevelResults) -> Table:
    rows = []
    for name, row in fit.components.iterrows():
        value, error = float(row["estimate"]), row["se"]
        se = ("given" if row["fixed"] else "edge") if isinstance(error, NotApplicable) else fixed(error)
        sd = "" if str(name).startswith("rho") else fixed(value**0.5 if value >= 0 else float("nan"))
        rows.append((str(name), fixed(value), se, sd, str(row["groups"])))
    return Table(("", "estimate", "se", "sd", "groups"), tuple(rows), "Random terms")


def _heterogeneity(fit: MultilevelResults) -> list[str]:
    lines = [wording.q_test(fit)]
    if not isinstance(fit.tau2, NotApplicable) and not isinstance(fit.vt, NotApplicable):
        shares = ", ".join(f"{name} {fixed(value, 1)}" for name, value in fit.I2_levels.items() if name != "total")
        lines.append(f"I2 = {fixed(fit.I2, 2)}% of the total variance: {shares}")
    return lines
