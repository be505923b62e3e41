"""A multilevel fit in words: summary, HTML, the methods sentence and the R code."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import r_fits
from alliance_meta.results.wording import WIDTH, bare_p, level_text, number, p_value, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.results.components import RandomTerm
    from alliance_meta.results.multilevel import MultilevelResults

ESTIMATORS = {"REML": "restricted maximum likelihood", "ML": "maximum likelihood"}
SYNTHETIC = "SYNTHETIC DATA: made up for teaching; no finding about therapy."


r_code = r_fits.multilevel


def summary(fit: MultilevelResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    provenance = fit.effects.provenance
    return "\n".join(
        [
            *([SYNTHETIC] if provenance.synthetic else []),
            *_heading(fit),
            "",
            *_components(fit),
            "",
            *_heterogeneity(fit),
            "",
            *_moderators(fit),
            *_coefficients(fit),
            *_on_r(fit),
            *remarks(fit.notes),
            *[line for caution in provenance.cautions for line in wrapped(f"Caution: {caution}")],
        ]
    )


def html(fit: MultilevelResults) -> str:
    """Return the summary as HTML for a notebook."""
    lines = "<br>".join(_html.escape(line) for line in (*_heading(fit), *_heterogeneity(fit)))
    tables = _html_table("Random terms", ("component", "estimate", "se", "groups"), _component_cells(fit))
    rows = [(name, *cells) for name, cells in zip(fit.names, _cells(fit), strict=True)]
    tables += _html_table("Coefficients", ("term", "estimate", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub"), rows)
    notes = "".join(f"<li>{_html.escape(note.message)}</li>" for note in fit.notes)
    return f"<div><p>{lines}</p>{tables}<ul>{notes}</ul></div>"


def methods(fit: MultilevelResults) -> str:
    """Return the sentences for a methods section."""
    random = "; ".join(_term_words(term) for term in fit.random)
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
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
        f"A multilevel model{moderators} was fitted to {fit.effects.counted} by {ESTIMATORS[fit.method]}, with random "
        f"effects for {random}. {V} Coefficients were tested against {reference}."
    )


def _term_words(term: RandomTerm) -> str:
    if not term.within:
        given = ", with given correlations between them" if term.struct == "R" else ""
        return f"{term.name} ({term.n} groups{given})"
    if term.struct == "GEN":
        return f"{term.within} by {term.outer} ({term.n} groups)"
    return f"{term.within} within {term.outer} ({term.n} groups, {term.struct} structure)"


def _heading(fit: MultilevelResults) -> list[str]:
    effects = fit.effects
    lines = [
        f"Multilevel model (k = {fit.k}; method: {fit.method})",
        effects.heading,
        "Inference: " + ("Wald (normal)" if fit.inference == "z" else f"t, degrees of freedom by {_counting(fit)}"),
        "Sampling errors: " + ("independent" if fit.V is None else fit.V.assumption),
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
    ]
    return [part for line in lines for part in wrapped(line)]


def _counting(fit: MultilevelResults) -> str:
    return "containment" if fit.degrees == "contain" else "k - p"


def _component_cells(fit: MultilevelResults) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, row in fit.components.iterrows():
        error = row["se"]
        se = ("given" if row["fixed"] else "edge") if isinstance(error, NotApplicable) else f"{error:.4f}"
        rows.append((str(name), number(float(row["estimate"])), se, str(row["groups"])))
    return rows


def _components(fit: MultilevelResults) -> list[str]:
    cells = _component_cells(fit)
    values = dict(zip(fit.components.index, fit.components["estimate"].astype(float), strict=True))
    width = min(max(len(name) for name, *_ in cells), WIDTH - 36)
    lines = [f"{'':{width}} {'estimate':>9} {'se':>8} {'sd':>8} {'groups':>7}"]
    for name, estimate, se, groups in cells:
        short = name if len(name) <= width else name[: width - 1] + "…"
        value = values[name]
        sd = "" if name.startswith("rho") else number(value**0.5 if value >= 0 else float("nan"))
        lines.append(f"{short:{width}} {estimate:>9} {se:>8} {sd:>8} {groups:>7}")
    return lines


def _heterogeneity(fit: MultilevelResults) -> list[str]:
    residual = "Residual heterogeneity" if fit.p > 1 else "Heterogeneity"
    lines = [f"{residual}: QE(df = {fit.QEdf}) = {number(fit.QE)}, p {p_value(fit.QEp)}"]
    if not isinstance(fit.tau2, NotApplicable) and not isinstance(fit.vt, NotApplicable):
        shares = ", ".join(f"{name} {value:.1f}" for name, value in fit.I2_levels.items() if name != "total")
        lines += wrapped(f"I2 = {fit.I2:.2f} % of the total variance: {shares}")
    return lines


def _moderators(fit: MultilevelResults) -> list[str]:
    if fit.design.formula == "1":
        return []
    return [f"Test of moderators: {fit.omnibus.label} = {fit.QM:.4f}, p {p_value(fit.QMp)}", ""]


def _cells(fit: MultilevelResults) -> list[tuple[str, ...]]:
    return [
        (
            number(fit.beta[i]),
            number(fit.se[i]),
            number(fit.stat[i]),
            "" if fit.inference == "z" else f"{fit.ddf[i]:g}",
            bare_p(float(fit.pval[i])),
            number(fit.ci_lb[i]),
            number(fit.ci_ub[i]),
        )
        for i in range(fit.p)
    ]


def _coefficients(fit: MultilevelResults) -> list[str]:
    width = min(max(8, *(len(name) for name in fit.names)), WIDTH - 59)
    statistic = "zval" if fit.inference == "z" else "tval"
    lines = [f"{'':{width}} {'estimate':>9} {'se':>8} {statistic:>8} {'df':>5} {'pval':>7} {'ci_lb':>8} {'ci_ub':>8}"]
    for name, (estimate, se, stat, df, pval, lb, ub) in zip(fit.names, _cells(fit), strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(f"{short:{width}} {estimate:>9} {se:>8} {stat:>8} {df:>5} {pval:>7} {lb:>8} {ub:>8}")
    return lines


def _on_r(fit: MultilevelResults) -> list[str]:
    if fit.design.formula != "1":
        return []
    measure = fit.effects.measure
    row = fit.predict(scale="r" if measure == "ZCOR" else None).iloc[0]
    lines = [""]
    if measure == "ZCOR":
        lines.append(f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)")
        if not isinstance(fit.tau2, NotApplicable):
            mean = fit.predict(scale="r_mean").iloc[0]
            lines.append(f"      {mean.pred:.3f} [{mean.ci_lb:.3f}, {mean.ci_ub:.3f}] (mean true correlation)")
    if row.pi_lb == row.pi_lb:
        scale = "r" if measure in ("ZCOR", "COR", "UCOR") else "analysis scale"
        rule = "normal" if fit.inference == "z" else f"t({fit.ddf[0]:g})"
        lines += wrapped(
            f"{level_text(fit.level)} prediction interval for a new effect in a new study ({scale}): "
            f"[{row.pi_lb:.3f}, {row.pi_ub:.3f}] ({rule})"
        )
    return lines if len(lines) > 1 else []


def _html_table(caption: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{_html.escape(first)}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
