"""A location-scale fit in words."""

from __future__ import annotations

import html as _html
import textwrap
from typing import TYPE_CHECKING

from alliance_meta.core.univariate.fit import Coefficients
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import r_fits
from alliance_meta.results.text import INFERENCE, WIDTH

if TYPE_CHECKING:
    from alliance_meta.results.location_scale import LocationScaleResults

ESTIMATORS = {"REML": "restricted maximum likelihood", "ML": "maximum likelihood"}
COLUMNS = ("estimate", "se", "stat", "pval", "ci_lb", "ci_ub")


r_code = r_fits.location_scale


def summary(fit: LocationScaleResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    remarks = [line for remark in _remarks(fit) for line in textwrap.wrap(remark, WIDTH, subsequent_indent="  ")]
    return "\n".join(
        [
            *_head(fit),
            "",
            "Location: the mean effect",
            *([f"Test of moderators: {fit.omnibus.label} = {fit.QM:.4f}, p {_p(fit.QMp)}"] if fit.p > 1 else []),
            *_table(fit.names, fit.location, fit),
            "",
            f"Scale: {_scale_words(fit)}",
            *_scale_tests(fit),
            *_table(fit.scale_names, fit.scale, fit),
            *(["", *remarks] if remarks else []),
        ]
    )


def html(fit: LocationScaleResults) -> str:
    """Return the summary as HTML for a notebook."""
    first, *rest = [_html.escape(line) for line in (*_head(fit), *_scale_tests(fit))]
    parts = []
    for title, names, part in (
        ("Location: the mean effect", fit.names, fit.location),
        (f"Scale: {_scale_words(fit)}", fit.scale_names, fit.scale),
    ):
        header = "".join(f'<th scope="col">{column}</th>' for column in ("term", *COLUMNS))
        body = "".join(
            f'<tr><th scope="row">{_html.escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
            for name, cells in zip(names, _cells(part), strict=True)
        )
        parts.append(
            f"<table><caption>{_html.escape(title)}</caption><thead><tr>{header}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )
    remarks = "".join(f"<li>{_html.escape(line)}</li>" for line in _remarks(fit))
    return f"<div><p><strong>{first}</strong><br>{'<br>'.join(rest)}</p>{''.join(parts)}<ul>{remarks}</ul></div>"


def methods(fit: LocationScaleResults) -> str:
    """Return the sentences for a methods section."""
    what = "the logarithm of the between-study variance" if fit.link == "log" else "the between-study variance"
    reference = "the normal distribution" if fit.inference == "z" else "t distributions"
    moderators = f" with the moderators {fit.design.formula} for the mean effect" if fit.design.formula != "1" else ""
    adjusted = " after the Knapp-Hartung adjustment" if fit.inference in ("knha", "adhoc") else ""
    return (
        f"A location-scale model (Viechtbauer & López-López, 2022){moderators} was fitted to {fit.effects.counted} by "
        f"{ESTIMATORS[fit.method]}; {what} depended on {fit.scale_design.formula}. Coefficients of the mean effect "
        f"were tested against {reference}{adjusted}, those of the scale part against {reference} with standard errors "
        "from the observed information, and all moderators of the scale part together by a likelihood-ratio test."
    )


def _head(fit: LocationScaleResults) -> list[str]:
    effects = fit.effects
    lines = [
        f"Location-scale model (k = {fit.k}; tau2 estimator: {fit.method})",
        effects.heading,
        f"Inference: {INFERENCE[fit.inference]}",
        f"Mean effect ~ {fit.design.formula};  {'log(tau2)' if fit.link == 'log' else 'tau2'} ~ "
        f"{fit.scale_design.formula}",
        "",
        f"tau2 from {fit.tau2.min():.4f} to {fit.tau2.max():.4f} (tau from {fit.tau.min():.4f} to "
        f"{fit.tau.max():.4f}); one for all: {fit.fitted.constant:.4f}",
        f"Residual heterogeneity: QE(df = {fit.QEdf}) = {fit.QE:.4f}, p {_p(fit.QEp)}",
    ]
    return [part for line in lines for part in (textwrap.wrap(line, WIDTH) or [""])]


def _scale_words(fit: LocationScaleResults) -> str:
    return "log(tau2), the variance between studies" if fit.link == "log" else "tau2, the variance between studies"


def _scale_tests(fit: LocationScaleResults) -> list[str]:
    if fit.scale_names == ("intrcpt",):
        return []
    lines = []
    test = fit.scale_omnibus
    label = f"QS(df = {test.df1})" if test.df2 is None else f"F(df1 = {test.df1}, df2 = {test.df2:g})"
    if not isinstance(test.stat, NotApplicable):
        lines.append(f"Test of scale moderators: {label} = {test.stat:.4f}, p {_p(test.pval)}")
    lrt = fit.scale_lrt
    if not isinstance(lrt.stat, NotApplicable):
        lines.append(f"Likelihood ratio, one tau2 for all: LRT(df = {lrt.df}) = {lrt.stat:.4f}, p {_p(lrt.pval)}")
    return lines


def _table(names: tuple[str, ...], part: Coefficients, fit: LocationScaleResults) -> list[str]:
    width = min(max(8, *(len(name) for name in (*fit.names, *fit.scale_names))), WIDTH - 54)
    lines = [f"{'':{width}} {'estimate':>9} {'se':>8} {part_label(part):>8} {'pval':>7} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, cells in zip(names, _cells(part), strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        estimate, se, stat, pval, lb, ub = cells
        lines.append(f"{short:{width}} {estimate:>9} {se:>8} {stat:>8} {pval:>7} {lb:>8} {ub:>8}")
    return lines


def part_label(part: Coefficients) -> str:
    """Return the name of the statistic, ``zval`` or ``tval``."""
    return "zval" if part.df is None else "tval"


def _cells(part: Coefficients) -> list[tuple[str, ...]]:
    rows = []
    for i, estimate in enumerate(part.beta):
        values = (part.se[i], part.stat[i], part.ci_lb[i], part.ci_ub[i])
        if part.se[i] != part.se[i]:
            rows.append((f"{estimate:.4f}", *["n/a"] * 5))
            continue
        se, stat, lb, ub = (f"{value:.4f}" for value in values)
        rows.append((f"{estimate:.4f}", se, stat, _p(float(part.pval[i])).lstrip("= ").replace("< ", "<"), lb, ub))
    return rows


def _remarks(fit: LocationScaleResults) -> list[str]:
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [
        *([label] if provenance.synthetic else []),
        *(f"Note: {note.message}" for note in fit.notes),
        *(f"Caution: {caution}" for caution in provenance.cautions),
    ]


def _p(value: float) -> str:
    if value != value:
        return "n/a"
    return "< .0001" if value < 0.0001 else f"= {value:.4f}"
