"""Robust variance estimation in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.text import WIDTH
from alliance_meta.results.wording import bare_p, level_text, number, p_value, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.results.rve import RVEResults

WORKING = {
    "CORR": "correlated effects",
    "HIER": "hierarchical effects",
    "given": "weights given",
}
HEADS = ("estimate", "se", "tval", "df", "pval", "ci_lb", "ci_ub")


def summary(fit: RVEResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    width = min(max(8, *(len(name) for name in fit.names)), WIDTH - 60)
    table = ["".join([" " * width, *(f" {head:>{size}}" for head, size in zip(HEADS, SIZES, strict=True))])]
    for name, cells in zip(fit.names, _cells(fit), strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        table.append(f"{short:{width}}" + "".join(f" {cell:>{size}}" for cell, size in zip(cells, SIZES, strict=True)))
    return "\n".join(
        [*_head(fit), "", *_heterogeneity(fit), "", *_moderators(fit), *table, *_on_r(fit), *_remarks(fit)]
    )


SIZES = (9, 8, 8, 6, 7, 8, 8)


def html(fit: RVEResults) -> str:
    """Return the summary as HTML for a notebook."""
    lines = [*_head(fit), *_heterogeneity(fit), *_moderators(fit), *_on_r(fit)]
    first, *rest = [_html.escape(line.strip()) for line in lines if line.strip()]
    header = "".join(f'<th scope="col">{head}</th>' for head in ("term", *HEADS))
    body = "".join(
        f'<tr><th scope="row">{_html.escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in zip(fit.names, _cells(fit), strict=True)
    )
    told = "".join(f"<li>{_html.escape(line)}</li>" for line in (*_labels(fit), *(n.message for n in fit.notes)))
    return (
        f"<div><p><strong>{first}</strong><br>{'<br>'.join(rest)}</p><table><caption>Coefficients "
        f"({_html.escape(fit.effects.scale_label)}, {level_text(fit.level)} CI)</caption>"
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{told}</ul>" if told else "")
        + "</div>"
    )


def methods(fit: RVEResults) -> str:
    """Return the sentences for a methods section."""
    moderators = f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""
    weights = {
        "CORR": "weights from the correlated-effects working model, with an assumed correlation of "
        f"{fit.settings.rho:g} between sampling errors of one cluster",
        "HIER": "weights from the hierarchical-effects working model",
        "given": "weights given by the analyst",
    }[fit.working_model]
    tested = (
        "Standard errors were corrected for the number of clusters (CR2) and coefficients tested against t with "
        "Satterthwaite degrees of freedom (Tipton, 2015); several coefficients were tested together by the approximate "
        "Hotelling test (Tipton & Pustejovsky, 2015)."
        if fit.small
        else "Standard errors were multiplied by the square root of m / (m - p) and coefficients tested against t "
        f"with {fit.n_clusters - fit.p} degrees of freedom."
    )
    return (
        f"Dependent effects were analysed by robust variance estimation (Hedges, Tipton & Johnson, 2010){moderators}: "
        f"k = {fit.k} effects in m = {fit.n_clusters} clusters ({fit.clusters.name}), {weights}. {tested}"
    )


def r_code(fit: RVEResults) -> str:
    """Return the R code (robumeta, clubSandwich) that fits the same model."""
    effects = fit.effects
    lines = ["library(robumeta)", "library(clubSandwich)"]
    if effects.columns:
        vtype = f', vtype="{effects.vtype}"' if effects.measure != "ZCOR" and effects.vtype != "LS" else ""
        columns = ", ".join(f"{key}={_r_name(effects.columns[key])}" for key in ("ri", "ni"))
        lines.append(f'dat <- metafor::escalc(measure="{effects.measure}", {columns}, data=dat{vtype})')
    how = {
        "CORR": f', modelweights="CORR", rho={fit.settings.rho:g}',
        "HIER": ', modelweights="HIER"',
        "given": ", userweights=w",
    }[fit.working_model]
    formula = fit.design.formula.replace("C(", "factor(").replace("center(", "scale(scale=FALSE, ")
    if fit.working_model == "given":
        lines.append("# w: the weights given")
    lines.append(
        f"fit <- robu(yi ~ {formula}, data=dat, studynum={_studynum(fit.clusters.name)}, var.eff.size=vi{how}, "
        f"small={'TRUE' if fit.small else 'FALSE'})"
    )
    slots = [i + 1 for i in fit.design.tested]
    if fit.small and len(slots) > 1:
        lines.append(f'Wald_test(fit, constraints=constrain_zero({slots[0]}:{slots[-1]}), vcov="CR2", test="HTZ")')
    return "\n".join(lines)


def _head(fit: RVEResults) -> list[str]:
    effects, sizes = fit.effects, fit.clusters.sizes
    low, high = int(sizes.min()), int(sizes.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    corrected = (
        "CR2, t with Satterthwaite df" if fit.small else f"no small-sample correction, t({fit.n_clusters - fit.p})"
    )
    rho = f", rho = {fit.settings.rho:g}" if fit.working_model == "CORR" else ""
    lines = [
        f"Robust variance estimation (k = {fit.k} effects in {fit.n_clusters} clusters, {each} each)",
        f"{effects.provenance.source}: {effects.scale_label} ({effects.measure})",
        f"Working model: {WORKING[fit.working_model]}{rho}; clusters: {fit.clusters.name}",
        f"Inference: {corrected}",
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
    ]
    return [part for line in lines for part in wrapped(line)]


def _heterogeneity(fit: RVEResults) -> list[str]:
    if fit.working_model == "given":
        return ["Heterogeneity: not estimated, weights were given"]
    lines = [f"tau2   = {fit.tau2:.4f} between clusters (tau = {fit.tau:.4f}), by moments"]
    if not isinstance(fit.omega2, NotApplicable):
        lines.append(f"omega2 = {fit.omega2:.4f} between effects of one cluster")
    if not isinstance(fit.I2, NotApplicable):
        lines.append(f"I2     = {fit.I2:.2f} % (from QE = {fit.QE:.4f}, {fit.QE_mean:.2f} expected by chance)")
    return lines


def _moderators(fit: RVEResults) -> list[str]:
    if fit.design.formula == "1":
        return []
    test = fit.omnibus
    if isinstance(test.stat, NotApplicable):
        return [*wrapped(f"Test of moderators: n/a, {test.stat.reason}"), ""]
    label = f"F(df1 = {test.df1}, df2 = {test.df2:.2f})"
    return [f"Test of moderators: {label} = {test.stat:.4f}, p {p_value(test.pval)}", ""]


def _cells(fit: RVEResults) -> list[tuple[str, ...]]:
    rows = zip(fit.beta, fit.se, fit.stat, fit.ddf, fit.pval, fit.ci_lb, fit.ci_ub, strict=True)
    return [
        (number(b), number(se), number(t), number(df, 2), bare_p(p), number(lb), number(ub))
        for b, se, t, df, p, lb, ub in rows
    ]


def _on_r(fit: RVEResults) -> list[str]:
    measure = fit.effects.measure
    if fit.design.formula != "1" or measure not in ("ZCOR", "COR", "UCOR"):
        return []
    row = fit.predict(scale="r" if measure == "ZCOR" else None).iloc[0]
    lines = (
        ["", f"As r: {row.pred:.3f} [{number(row.ci_lb, 3)}, {number(row.ci_ub, 3)}]"] if measure == "ZCOR" else [""]
    )
    if row.pi_lb == row.pi_lb:
        lines.append(
            f"{level_text(fit.level)} prediction interval for an effect of a new cluster (r): "
            f"[{row.pi_lb:.3f}, {row.pi_ub:.3f}]"
        )
    return lines if len(lines) > 1 else []


def _labels(fit: RVEResults) -> list[str]:
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [*([label] if provenance.synthetic else []), *(f"Caution: {caution}" for caution in provenance.cautions)]


def _remarks(fit: RVEResults) -> list[str]:
    labels = [line for label in _labels(fit) for line in wrapped(label)]
    return [*remarks(fit.notes), *(["", *labels] if labels else [])]


def _studynum(name: str) -> str:
    """Return the clusters as robu takes them; labels that were given are called ``cluster``."""
    columns = name.split(" + ")
    if len(columns) > 1:
        return f"interaction({', '.join(map(_r_name, columns))}, drop=TRUE)"
    return f"factor({'cluster' if name == 'given cluster' else _r_name(name)})"


def _r_name(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"
