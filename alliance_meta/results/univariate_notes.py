"""What must be said of a univariate fit; the model warns of what makes it doubtful, the rest is put here into words."""

from __future__ import annotations

from collections.abc import Sequence

from alliance_meta.core.distributions import chi2_quantile, critical_value
from alliance_meta.core.univariate.fit import Coefficients, UnivariateFit
from alliance_meta.core.univariate.wls import wls
from alliance_meta.design import Design
from alliance_meta.notes import Note
from alliance_meta.results.coefficients import FitSettings
from alliance_meta.tables.format import brief, fixed, format_level

# Cochrane Handbook, chapter 10: meta-regression only from about ten studies.
FEW_FOR_MODERATORS = 10
FEW_FOR_PREDICTION = 5
# An interval less than half a percent narrower looks the same in print.
VISIBLE = 0.995
# The order in which notes are printed, by how their codes begin.
ORDER = ("saturated", "not-converged", "tau2-", "second-peak", "knha-", "few-", "dependent-")


def fit_notes(warned: Sequence[Note], fitted: UnivariateFit, design: Design, settings: FitSettings) -> list[Note]:
    """Return the notes of a fit in the order in which they are printed, those that were warned of among them."""
    found = [
        *warned,
        *_negative_notes(fitted, settings),
        *_interval_notes(fitted, settings),
        *_inference_notes(fitted, settings),
        *_size_notes(len(design.X), design, method=settings.method),
    ]
    return sorted(found, key=_place)


def _place(note: Note) -> int:
    return next(at for at, begin in enumerate((*ORDER, "")) if note.code.startswith(begin))


def _negative_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    tau2 = fitted.tau2.tau2[0]
    if not tau2 < 0:
        return []
    message = f"tau2 ({settings.method}) is negative, {brief(tau2, 4)}: the effects vary less than chance alone would."
    return [Note("tau2-negative", message)]


def _interval_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    """Say where the Q-profile interval of tau2 is empty, or does not hold the estimate."""
    df, tail = fitted.heterogeneity.df, 0.5 * (1.0 - settings.level)
    if settings.method == "EE" or settings.tau2 is not None or df < 1:
        return []
    low, high = chi2_quantile(tail, df), chi2_quantile(1.0 - tail, df)
    q = fitted.heterogeneity.QE
    at = float(wls(fitted.batch, fitted.tau2.tau2).rss[0])
    if low <= q and low <= at <= high:
        return []
    level = format_level(settings.level)
    if q < low:
        message = (
            f"The {level} Q-profile interval of tau2 is empty, and printed as [0, 0]: the effects are closer together "
            f"(Q = {fixed(q, 2)}, df = {df}) than sampling error alone lets expect."
        )
        return [Note("tau2-interval-empty", message)]
    side = "below" if at > high else "above"
    message = (
        f"The estimate of tau2 ({settings.method}) lies {side} its {level} Q-profile interval: the two answer to "
        "different equations. Report both; with method='PM' they go together."
    )
    return [Note("tau2-outside-interval", message)]


def _inference_notes(fitted: UnivariateFit, settings: FitSettings) -> list[Note]:
    own = fitted.coefficients
    if settings.test != "knha" or not own.df:
        return []
    if not own.s2w > 0:
        message = (
            "The effects are identical after accounting for the moderators: the Knapp-Hartung variance is 0 and "
            "its interval has no width. Use test='z' or test='adhoc'."
        )
        return [Note("knha-zero", message)]
    # With tau2 > 0 and Q above its df the factor is near 1 by construction and says nothing about the effects.
    homogeneous = not fitted.tau2.tau2[0] > 0 or own.df > fitted.heterogeneity.QE
    ratio = critical_value(settings.level, own.df) * own.s2w**0.5 / critical_value(settings.level, None)
    if not homogeneous or ratio > VISIBLE:
        return []
    return [
        Note(
            "knha-narrower",
            f"The Knapp-Hartung interval {_first(own)} is narrower than the Wald interval {_first(fitted.wald)}: "
            "the effects vary less than their sampling errors let expect. Report both, or use test='adhoc'.",
        )
    ]


def _first(coefficients: Coefficients) -> str:
    return f"[{fixed(coefficients.ci_lb[0])}, {fixed(coefficients.ci_ub[0])}]"


def _size_notes(k: int, design: Design, *, method: str) -> list[Note]:
    notes = []
    if design.formula != "1" and k < FEW_FOR_MODERATORS:
        notes.append(
            Note(
                "few-for-moderators",
                f"k = {k}: with fewer than {FEW_FOR_MODERATORS} effects a moderator analysis finds chance patterns "
                "easily and real ones rarely.",
            )
        )
    if method != "EE" and design.p < k < FEW_FOR_PREDICTION:
        notes.append(
            Note(
                "few-for-tau2",
                f"k = {k}: tau2, I2 and the prediction interval rest on very few effects and can be far off.",
            )
        )
    return notes
