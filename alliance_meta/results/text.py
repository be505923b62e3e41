"""A result in words: summary, HTML, the methods sentence and the R code."""

from __future__ import annotations

import html as _html
import math
import textwrap
from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import r_fits

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults

WIDTH = 80
INFERENCE = {
    "knha": "Knapp-Hartung (t)",
    "adhoc": "Knapp-Hartung, factor not below 1 (t)",
    "z": "Wald (normal)",
    "t": "t distribution",
}
ESTIMATORS = {
    "REML": "restricted maximum likelihood",
    "ML": "maximum likelihood",
    "DL": "the DerSimonian-Laird estimator",
    "HE": "the Hedges estimator",
    "HS": "the Hunter-Schmidt estimator",
    "HSk": "the Hunter-Schmidt estimator with small-sample correction",
    "DL2": "the two-step DerSimonian-Laird estimator",
    "HE2": "the two-step Hedges estimator",
    "GENQ": "the generalised Q method with weights 1/v",
    "GENQM": "the median-unbiased generalised Q method with weights 1/v",
    "DLIT": "the iterated DerSimonian-Laird estimator",
    "SJIT": "the iterated Sidik-Jonkman estimator",
    "PMM": "the median-unbiased Paule-Mandel estimator",
    "SJ": "the Sidik-Jonkman estimator",
    "PM": "the Paule-Mandel estimator",
    "EB": "the empirical Bayes estimator",
}


r_code = r_fits.random_effects


def summary(fit: RandomEffectsResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    blocks = [
        *_heading(fit),
        "",
        *_heterogeneity(fit),
        "",
        *_moderator_test(fit),
        *_coefficients(fit),
        *_on_r(fit),
        *_remarks(fit),
    ]
    return "\n".join(blocks)


def _heading(fit: RandomEffectsResults) -> list[str]:
    kind = "Equal-effects model" if fit.method == "EE" else "Random-effects model"
    if fit.p > 1 or not fit.design.has_intercept:
        kind = "Equal-effects meta-regression" if fit.method == "EE" else "Mixed-effects meta-regression"
    estimator = "" if fit.method == "EE" else f"; tau2 estimator: {fit.method}"
    if fit.settings.tau2 is not None:
        estimator = "; tau2 given"
    effects = fit.effects
    return [
        f"{kind} (k = {fit.k}{estimator})",
        effects.heading,
        f"Inference: {INFERENCE[fit.inference]}{'; weights given' if fit.settings.weights is not None else ''}",
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
    ]


def _heterogeneity(fit: RandomEffectsResults) -> list[str]:
    lines = []
    if fit.method != "EE":
        interval = fit.confint_tau2()
        error = "given" if isinstance(fit.se_tau2, NotApplicable) else f"SE {fit.se_tau2:.4f}"
        lines += [
            f"tau2 = {fit.tau2:.4f} ({error}), {_percent(fit.level)} CI "
            f"[{interval.lb:.4f}, {interval.ub:.4f}] (Q-profile)",
            f"tau  = {fit.tau:.4f}   H2 = {fit.H2:.2f}",
        ]
    lines.append(f"I2   = {fit.I2:.2f} % (from {'Q' if fit.method == 'EE' else 'tau2'}; from Q: {fit.I2_Q:.2f} %)")
    if not isinstance(fit.R2, NotApplicable):
        lines.append(f"R2   = {fit.R2:.2f} % of the heterogeneity without moderators")
    residual = "Residual heterogeneity" if fit.p > 1 else "Heterogeneity"
    lines.append(f"{residual}: QE(df = {fit.QEdf}) = {fit.QE:.4f}, p {_p(fit.QEp)}")
    if fit.k == fit.p:
        lines = ["Heterogeneity: not estimable, no effects to spare beyond the coefficients"]
    return lines


def _moderator_test(fit: RandomEffectsResults) -> list[str]:
    if fit.design.formula == "1":
        return []
    return [f"Test of moderators: {fit.omnibus.label} = {fit.QM:.4f}, p {_p(fit.QMp)}", ""]


def _coefficients(fit: RandomEffectsResults) -> list[str]:
    width = max(8, *(len(name) for name in fit.names))
    width = min(width, WIDTH - 52)
    statistic = "zval" if fit.inference == "z" else "tval"
    lines = [f"{'':{width}} {'estimate':>9} {'se':>8} {statistic:>8} {'pval':>7} {'ci_lb':>8} {'ci_ub':>8}"]
    for i, name in enumerate(fit.names):
        short = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(
            f"{short:{width}} {fit.beta[i]:9.4f} {fit.se[i]:8.4f} {fit.stat[i]:8.4f} "
            f"{_p(float(fit.pval[i]), bare=True):>7} {fit.ci_lb[i]:8.4f} {fit.ci_ub[i]:8.4f}"
        )
    return lines


def _on_r(fit: RandomEffectsResults) -> list[str]:
    if fit.design.formula != "1":
        return []
    measure = fit.effects.measure
    frame = fit.predict(scale="r" if measure == "ZCOR" else None)
    row = frame.iloc[0]
    lines = [""]
    if measure == "ZCOR":
        mean = fit.predict(scale="r_mean").iloc[0]
        lines += [
            f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)",
            f"      {mean.pred:.3f} [{mean.ci_lb:.3f}, {mean.ci_ub:.3f}] (mean true correlation)",
        ]
    if fit.method != "EE":
        scale = "r" if measure in ("ZCOR", "COR", "UCOR") else "analysis scale"
        df = fit.fitted.coefficients.df
        rule = "normal" if df is None else f"t({df:g})"
        lines.append(
            f"{_percent(fit.level)} prediction interval for a new study ({scale}): "
            f"[{row.pi_lb:.3f}, {row.pi_ub:.3f}] ({rule})"
        )
    return lines if len(lines) > 1 else []


def _remarks(fit: RandomEffectsResults) -> list[str]:
    remarks = [*_synthetic(fit), *(f"Note: {note.message}" for note in fit.notes)]
    remarks += [f"Caution: {caution}" for caution in fit.effects.provenance.cautions]
    wrapped = [line for remark in remarks for line in textwrap.wrap(remark, WIDTH, subsequent_indent="  ")]
    return ["", *wrapped] if wrapped else []


def html(fit: RandomEffectsResults) -> str:
    """Return the summary as HTML for a notebook: the same numbers, the coefficients as a table."""
    head = [
        *_heading(fit),
        *_heterogeneity(fit),
        *_moderator_test(fit),
        *(line for line in _on_r(fit) if line),
    ]
    statistic = "z" if fit.inference == "z" else "t"
    columns = ("estimate", "se", statistic, "p", "CI lower", "CI upper")
    cells = []
    for i, name in enumerate(fit.names):
        values = (
            f"{fit.beta[i]:.4f}",
            f"{fit.se[i]:.4f}",
            f"{fit.stat[i]:.4f}",
            _p(float(fit.pval[i]), bare=True),
            f"{fit.ci_lb[i]:.4f}",
            f"{fit.ci_ub[i]:.4f}",
        )
        row = "".join(f"<td>{_html.escape(value)}</td>" for value in values)
        cells.append(f'<tr><th scope="row">{_html.escape(name)}</th>{row}</tr>')
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    first, *rest = [_html.escape(line.strip()) for line in head if line.strip()]
    remarks = "".join(f"<li>{_html.escape(line)}</li>" for line in _joined_remarks(fit))
    return (
        f"<div><p><strong>{first}</strong><br>{'<br>'.join(rest)}</p>"
        f"<table><caption>Coefficients ({_html.escape(fit.effects.scale_label)}, {_percent(fit.level)} CI)</caption>"
        f'<thead><tr><th scope="col">term</th>{header}</tr></thead><tbody>{"".join(cells)}</tbody></table>'
        + (f"<ul>{remarks}</ul>" if remarks else "")
        + "</div>"
    )


def _joined_remarks(fit: RandomEffectsResults) -> list[str]:
    cautions = [f"Caution: {caution}" for caution in fit.effects.provenance.cautions]
    return [*_synthetic(fit), *(note.message for note in fit.notes), *cautions]


def _synthetic(fit: RandomEffectsResults) -> list[str]:
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [label] if fit.effects.provenance.synthetic else []


def methods(fit: RandomEffectsResults) -> str:
    """Return the sentences for a methods section, made from the settings of this fit."""
    effects = fit.effects
    scales = {
        "ZCOR": "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3) for the analysis "
        "and back-transformed for presentation.",
        "COR": f"Raw correlations were analysed with the sampling variance metafor calls {effects.vtype}.",
        "UCOR": f"Correlations corrected for small-sample bias were analysed (sampling variance {effects.vtype}).",
    }
    sentences = [scales.get(effects.measure, "Effect sizes were analysed on the scale given.")]
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
    if fit.method == "EE":
        sentences.append(f"An equal-effects model{moderators} was fitted to {fit.effects.counted}.")
    else:
        how = f"was estimated by {ESTIMATORS[fit.method]} and its confidence interval by the Q-profile method"
        if fit.settings.tau2 is not None:
            how = f"was set to {fit.settings.tau2:g}"
        weights = ", with weights given by the analyst" if fit.settings.weights is not None else ""
        sentences.append(
            f"A random-effects model{moderators} was fitted to {fit.effects.counted}{weights}; "
            f"the between-study variance {how}."
        )
    reference = {
        "knha": "Coefficients were tested with the Knapp-Hartung adjustment and a t distribution",
        "adhoc": "Coefficients were tested with the Knapp-Hartung adjustment, its factor never below 1, "
        "and a t distribution",
        "z": "Coefficients were tested against the normal distribution (Wald)",
        "t": "Coefficients were tested against a t distribution",
    }[fit.inference]
    df = fit.fitted.coefficients.df
    sentences.append(reference + (f" with {df:g} degrees of freedom." if df is not None else "."))
    if fit.method != "EE":
        rule = "the normal distribution" if df is None else f"t with {df:g} degrees of freedom"
        sentences.append(f"Prediction intervals use {rule}. I² is computed from τ².")
    return " ".join(sentences)


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _p(value: float, *, bare: bool = False) -> str:
    """Return "= 0.0123" or "< .0001" (without the equals sign when `bare`)."""
    if math.isnan(value):
        return "n/a"
    if value < 0.0001:
        return "<.0001" if bare else "< .0001"
    return f"{value:.4f}" if bare else f"= {value:.4f}"
