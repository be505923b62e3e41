"""A location-scale fit in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.r_code import (
    call,
    data,
    formula,
    level_argument,
    mods_argument,
    quoted,
)
from alliance_meta.results.text import INFERENCE
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, level_text, p_value

if TYPE_CHECKING:
    from alliance_meta.results.location_scale import LocationScaleResults


def r_code(fit: LocationScaleResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a location-scale model."""
    arguments = {
        "mods": mods_argument(fit),
        "scale": f"~ {formula(fit.scale_design.formula)}",
        "link": None if fit.link == "log" else quoted("identity"),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted(fit.inference),
        "level": level_argument(fit.level),
    }
    return "\n".join(["library(metafor)", *data(fit, uses=uses), f"fit <- {call('rma', 'yi', 'vi', **arguments)}"])


def document(fit: LocationScaleResults) -> Document:
    """Return what the fit says."""
    what = "log(tau2)" if fit.link == "log" else "tau2"
    frame = fit.tidy()
    return wording.document(
        fit,
        f"Location-scale model (k = {fit.k}; tau2 estimator: {fit.method})",
        [
            fit.effects.heading,
            f"Inference: {INFERENCE[fit.inference]}",
            f"Mean effect ~ {fit.design.formula};  {what} ~ {fit.scale_design.formula}",
        ],
        [
            f"tau2 from {fixed(fit.tau2.min())} to {fixed(fit.tau2.max())} (tau from {fixed(fit.tau.min())} to "
            f"{fixed(fit.tau.max())}); one for all: {fixed(fit.fitted.constant)}",
            wording.q_test(fit),
        ],
        wording.moderator_test(fit),
        wording.coefficients(fit, frame.loc["location"], f"Location: the mean effect, {level_text(fit.level)} CI"),
        _scale_tests(fit),
        wording.coefficients(
            fit, frame.loc["scale"], f"Scale: {what}, the variance between studies, {level_text(fit.level)} CI"
        ),
    )


def methods(fit: LocationScaleResults) -> str:
    """Return the sentences for a methods section."""
    what = "the logarithm of the between-study variance" if fit.link == "log" else "the between-study variance"
    reference = "the normal distribution" if fit.inference == "z" else "t distributions"
    moderators = f"{wording.with_moderators(fit)} for the mean effect" if fit.design.formula != "1" else ""
    adjusted = " after the Knapp-Hartung adjustment" if fit.inference in ("knha", "adhoc") else ""
    return (
        f"A location-scale model (Viechtbauer & López-López, 2022){moderators} was fitted to {fit.effects.counted} by "
        f"{wording.ESTIMATORS[fit.method]}; {what} depended on {fit.scale_design.formula}. Coefficients of the mean "
        f"effect were tested against {reference}{adjusted}, those of the scale part against {reference} with standard "
        "errors from the observed information, and all moderators of the scale part together by a likelihood-ratio "
        "test."
    )


def _scale_tests(fit: LocationScaleResults) -> list[str]:
    if fit.scale_names == ("intrcpt",):
        return []
    test, lrt = fit.scale_omnibus, fit.scale_lrt
    lines = []
    if not isinstance(test.stat, NotApplicable):
        lines.append(wording.line_of_test("Test of scale moderators", test).replace("QM(", "QS("))
    if not isinstance(lrt.stat, NotApplicable):
        lines.append(
            f"Likelihood ratio, one tau2 for all: LRT(df = {lrt.df}) = {fixed(lrt.stat)}, p {p_value(lrt.pval)}"
        )
    return lines
