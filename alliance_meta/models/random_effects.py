"""`RandomEffectsModel`: the univariate random-effects model and meta-regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.univariate.fit import GENERALISED_Q, UnivariateFit, fit_univariate, fixed_tau2
from alliance_meta.design import Design, design_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import ConvergenceWarning, FewStudiesWarning, InputError, SecondPeakWarning, TruncationWarning
from alliance_meta.notes import Note, Tau2Method, Test, check_level, check_option, warn_note
from alliance_meta.results.coefficients import FitSettings
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.format import brief, fixed

# A second peak of the likelihood so little lower makes the answer shaky: about the depth of a 95% interval.
NEAR_PEAK = 2.0
# Below this p-value of Q nobody may say that sampling errors explain the effects.
Q_SAYS_OTHERWISE = 0.05


@dataclass(frozen=True, eq=False)
class RandomEffectsModel:
    r"""Random-effects meta-analysis, or meta-regression when `mods` names moderators.

    Studies differ: in their patients, therapists, measures. The model lets each study have its own true
    effect, estimates the mean of these effects and how much they vary (tau2), and says how sure it is of both.

    Parameters
    ----------
    effects : EffectSizes
        From `escalc` or `EffectSizes.from_arrays`.
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none: ``"rater + setting"``,
        ``"rater * center(year)"``. Text columns are categorical.
    method : str
        Estimator of tau2. ``EE`` sets it to 0 (equal effects). Likelihood: ``REML``, ``ML``. Moments: ``DL``,
        ``HE``, ``HS``, ``HSk``, ``SJ``, the two-step ``DL2`` and ``HE2``. Q equal to its mean: ``PM`` (and the
        equal ``EB``, ``DLIT``, ``SJIT``); to its median: ``PMM``. Q with fixed weights, which then weight the
        coefficients too: ``GENQ`` (mean) and ``GENQM`` (median).
    test : {"knha", "z", "t", "adhoc"}
        Inference for the coefficients. ``knha`` (Knapp-Hartung) keeps its error rate with few studies;
        ``adhoc`` is the same but never narrower than ``t``.
    level : float
        Confidence level of every interval, a fraction.
    tau2 : float, optional
        A between-study variance that is known; nothing is estimated then.
    weights : array-like of shape (k,) or "ni", optional
        Weights for the coefficients in place of 1 / (v + tau2); the covariance allows for that. Inference by
        ``z`` or ``t``. ``"ni"``: the sample sizes, as Hunter & Schmidt weight correlations.
    tau2_min : float
        Lowest tau2 allowed: 0, or a negative number above minus the smallest variance.

    Notes
    -----
    .. math:: y_i = x_i'\beta + u_i + e_i, \quad u_i \sim N(0, \tau^2), \quad e_i \sim N(0, v_i)

    R: ``rma(yi, vi, mods = ~ rater, method = "REML", test = "knha")``. Estimators: Viechtbauer (2005,
    doi:10.3102/10769986030003261); Knapp & Hartung (2003, doi:10.1002/sim.1482). With k = p (a single study)
    tau2 cannot be estimated: the fit is the equal-effects one with Wald inference, and a note says so.
    The model assumes independent effects; several effects from one study need a multilevel model.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset
    >>> es = escalc(load_dataset("molloy2014"))
    >>> fit = RandomEffectsModel(es, test="z").fit()
    >>> round(float(fit.beta[0]), 4), round(float(fit.se[0]), 4), round(fit.tau2, 4), round(fit.I2, 2)
    (0.1499, 0.0316, 0.0081, 61.73)
    """

    effects: EffectSizes
    mods: str = "1"
    method: Tau2Method = "REML"
    test: Test = "knha"
    level: float = 0.95
    tau2: float | None = None
    weights: Any = None
    tau2_min: float = 0.0

    def __post_init__(self) -> None:
        check_effects(self.effects, "RandomEffectsModel")
        check_option("method", self.method, Tau2Method)
        check_option("test", self.test, Test)
        check_level(self.level)
        weighted = self.weights is not None or self.method in GENERALISED_Q
        if weighted and self.test in ("knha", "adhoc"):
            why = f"method={self.method!r} weights effects by 1 / v" if self.weights is None else "weights are given"
            raise InputError(f"test={self.test!r} is not defined where {why}; use test='z' or test='t'")
        smallest = float(self.effects.vi.min())
        for name in ("tau2", "tau2_min"):
            value = getattr(self, name)
            if value is not None and not value > -smallest:
                raise InputError(f"{name}={value!r} must be above minus the smallest variance, {brief(-smallest, 4)}")

    def fit(self) -> RandomEffectsResults:
        """Fit the model.

        Returns
        -------
        RandomEffectsResults

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, more coefficients than effects.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, TruncationWarning, ConvergenceWarning, FewStudiesWarning,
        DependenceWarning, SecondPeakWarning
            Each also stands in ``.notes`` of the result.
        """
        design = design_of(self.mods, self.effects)
        weights = given_weights(self.weights, self.effects)
        weights = None if weights is None else weights[design.rows]
        settings = FitSettings(self.method, self.test, self.level, self.tau2, weights, self.tau2_min)
        return fit_design(design.taking_part(self.effects), design, settings)


def fit_design(effects: EffectSizes, design: Design, settings: FitSettings) -> RandomEffectsResults:
    """Fit `design` to the effects that it was built from, and warn of what makes the fit doubtful."""
    warned: list[Note] = []
    if effects.k == design.p and settings.tau2 is None:
        if settings.method != "EE" or settings.test != "z":
            warned.append(_saturated(effects.k, design.p))
        settings = replace(settings, method="EE", test="z", weights=None)
    elif effects.k == design.p and settings.test != "z":
        settings = replace(settings, test="z")
    fitted = _fitted(effects, design, settings)
    warned += _estimation_notes(fitted, settings)
    warned += _peak_notes(fitted, design, settings)
    if effects.n_studies < effects.k:
        warned += dependence_notes(effects)
    return RandomEffectsResults(effects=effects, design=design, settings=settings, fitted=fitted, warned=tuple(warned))


def given_weights(weights: Any, effects: EffectSizes) -> Array | None:
    """Read `weights`: one positive number per effect, or the sample sizes."""
    if weights is None:
        return None
    k = effects.k
    if isinstance(weights, str):
        if weights != "ni":
            raise InputError(f"weights={weights!r}: give one number per effect, or 'ni' for the sample sizes")
        if effects.ni is None:
            raise InputError("weights='ni': these effects have no sample sizes")
        return effects.ni
    values = np.atleast_1d(np.asarray(weights, dtype=float))
    if values.shape != (k,):
        raise InputError(f"weights has {values.size} values for {k} effects; give one per effect")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError("every weight must be a positive, finite number")
    return values


def _fitted(effects: EffectSizes, design: Design, settings: FitSettings) -> UnivariateFit:
    """Return the numbers of a fit."""
    try:
        return fit_univariate(
            effects.yi,
            effects.vi,
            design.X,
            method=settings.method,
            test=settings.test,
            level=settings.level,
            tau2=None if settings.tau2 is None else fixed_tau2(settings.tau2),
            weights=settings.weights,
            lowest=settings.tau2_min,
        )
    except np.linalg.LinAlgError:
        raise InputError(
            "the weights of the effects differ so much that nothing is left to tell the moderators from each other; "
            "check the sampling variances"
        ) from None


def _saturated(k: int, p: int) -> Note:
    what = "A single effect" if k == 1 else f"k = {k} effects and {p} coefficients"
    return warn_note(
        "saturated",
        f"{what} leave{'s' if k == 1 else ''} nothing to estimate tau2 from: "
        "fitted as equal effects with Wald inference.",
        FewStudiesWarning,
        stacklevel=5,
    )


def _estimation_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    notes = []
    estimate, method = fitted.tau2, settings.method
    if not estimate.converged[0]:
        message = (
            f"The search for tau2 ({method}) had not settled after {int(estimate.iterations[0])} steps; "
            "do not use this fit. Try method='DL' or look for an extreme variance."
        )
        notes.append(warn_note("not-converged", message, ConvergenceWarning, stacklevel=5))
    if estimate.truncated[0]:
        raw = float(estimate.untruncated[0])
        before = f" (before: {brief(raw, 4)})" if np.isfinite(raw) else ""
        message = f"tau2 ({method}) was set to {brief(settings.tau2_min)}{before}{_what_q_says(fitted)}"
        notes.append(warn_note("tau2-truncated", message, TruncationWarning, stacklevel=5))
    return notes


def _what_q_says(fitted: UnivariateFit) -> str:
    found = fitted.heterogeneity
    if found.QEp >= Q_SAYS_OTHERWISE:
        return ": the effects vary no more than their sampling errors explain."
    return (
        f", although Q({found.df}) = {fixed(found.QE, 2)}, p = {brief(found.QEp, 2)}, says that the effects differ: "
        "the most precise ones agree, others do not. Estimators disagree here; compare method='PM' and look for "
        "effects that stand out."
    )


def _peak_notes(fitted: UnivariateFit, design: Design, settings: FitSettings) -> list[Note]:
    rival = fitted.rival(restricted=settings.method == "REML")
    if rival is None or rival.lower > NEAR_PEAK:
        return []
    if design.formula == "1":
        here, there = f"mean {brief(fitted.beta[0], 4)}", f"mean {brief(rival.beta[0], 4)}"
    else:
        here, there = (_named(design.names, beta) for beta in (fitted.beta, rival.beta))
    message = (
        f"The likelihood ({settings.method}) has two peaks: the estimate, tau2 {brief(float(fitted.tau2.tau2[0]), 4)} "
        f"with {here}, and one {brief(rival.lower, 2)} log units lower, tau2 {brief(rival.tau2, 4)} with {there}. The "
        "data do not choose between them: report both, and look at plots.profile."
    )
    return [warn_note("second-peak", message, SecondPeakWarning, stacklevel=5)]


def _named(names: Sequence[str], beta: Array) -> str:
    return ", ".join(f"{name} {brief(value, 4)}" for name, value in zip(names, beta, strict=True))
