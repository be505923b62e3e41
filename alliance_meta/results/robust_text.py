"""Cluster-robust results in words and as tables: summary, HTML, the methods sentences, R code, JSON."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.export import plain
from alliance_meta.results.wording import WIDTH, bare_p, level_text, number, p_value, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.results.robust import RobustResults

ADJUSTMENTS = {
    "CR0": "no small-sample adjustment",
    "CR1": "residuals times sqrt(J / (J - 1)), J clusters",
    "CR1p": "residuals times sqrt(J / (J - p)), J clusters, p coefficients",
    "CR1S": "residuals times sqrt(J (k - 1) / ((J - 1) (k - p))), J clusters, k effects, p coefficients",
    "CR2": "bias-reduced linearisation",
    "CR3": "close to leaving each cluster out in turn",
}
HEADS = ("estimate", "se", "tval", "df", "pval", "ci_lb", "ci_ub")
SIZES = (9, 8, 8, 6, 7, 8, 8)


def tidy(fit: RobustResults) -> pd.DataFrame:
    """Return one row per coefficient."""
    columns = {
        "estimate": fit.beta,
        "se": fit.se,
        "stat": fit.stat,
        "ddf": fit.ddf,
        "pval": fit.pval,
        "ci_lb": fit.ci_lb,
        "ci_ub": fit.ci_ub,
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def statistics(fit: RobustResults) -> dict[str, Any]:
    """Return the statistics by name."""
    m, ddf = fit.QMdf
    found = {
        "k": fit.k,
        "p": fit.p,
        "cluster": fit.cluster,
        "n_clusters": fit.n_clusters,
        "type": fit.type,
        "level": fit.level,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": ddf,
        "QMp": fit.QMp,
    }
    for name in ("tau2", "I2", "QE", "QEdf", "QEp", "loglik"):
        if hasattr(fit.fit, name):
            found[name] = getattr(fit.fit, name)
    return found


def glance(fit: RobustResults) -> pd.DataFrame:
    """Return one row with the statistics."""
    # A float column would turn the reason of a NotApplicable into a bare NaN.
    columns = {
        name: pd.Series([value], dtype=object if isinstance(value, NotApplicable) else None)
        for name, value in statistics(fit).items()
    }
    return pd.DataFrame(columns)


def to_dict(fit: RobustResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    frame = fit.predict()
    return plain(
        {
            "statistics": statistics(fit),
            "coefficients": {"term": list(fit.names), **tidy(fit).to_dict(orient="list")},
            "vb": fit.vb,
            "omnibus": fit.omnibus.to_dict(),
            "predictions": {frame.attrs["scale"]: {"label": list(frame.index), **frame.to_dict(orient="list")}},
            "clusters": {"label": list(fit._clusters.labels), "effects": fit.sizes},
            "notes": [note.to_dict() for note in fit.notes],
            "fit": fit.fit.to_dict(),
        }
    )


def summary(fit: RobustResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    width = min(max(8, *(len(name) for name in fit.names)), WIDTH - sum(SIZES) - len(SIZES))
    table = [" " * width + "".join(f" {head:>{size}}" for head, size in zip(HEADS, SIZES, strict=True))]
    for name, cells in zip(fit.names, _cells(fit), strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        table.append(f"{short:{width}}" + "".join(f" {cell:>{size}}" for cell, size in zip(cells, SIZES, strict=True)))
    return "\n".join([*_head(fit), "", *_moderators(fit), *table, *_on_r(fit), *_remarks(fit)])


def html(fit: RobustResults) -> str:
    """Return the summary as HTML for a notebook."""
    lines = [*_head(fit), *_moderators(fit), *_on_r(fit)]
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


def methods(fit: RobustResults) -> str:
    """Return the sentences for a methods section."""
    several = (
        " Several coefficients were tested together by the approximate Hotelling test (Tipton & Pustejovsky, 2015)."
        if fit.p > 1
        else ""
    )
    return (
        f"{fit.fit.methods_text()} These model-based standard errors, tests and confidence intervals were then "
        f"replaced by cluster-robust ones ({fit.type}: {ADJUSTMENTS[fit.type]}; {fit.n_clusters} clusters by "
        f"{fit.cluster}) with Satterthwaite degrees of freedom (Pustejovsky & Tipton, 2018).{several}"
    )


def r_code(fit: RobustResults) -> str:
    """Return the R code that gives the same numbers."""
    given = fit.cluster == "as given"
    column = "cluster" if given else f"dat${_r_name(fit.cluster)}"
    arguments = f'vcov="{fit.type}", cluster={column}'
    lines = [fit.fit.r_code(), "library(clubSandwich)", *(["# cluster: the clusters given"] if given else [])]
    lines.append(f"coef_test(fit, {arguments})")
    slots = [i + 1 for i in fit.design.tested]
    if len(slots) > 1:
        chosen = (
            f"{slots[0]}:{slots[-1]}" if slots[-1] - slots[0] + 1 == len(slots) else f"c({', '.join(map(str, slots))})"
        )
        lines.append(f'Wald_test(fit, constraints=constrain_zero({chosen}), {arguments}, test="HTZ")')
    return "\n".join(lines)


def _head(fit: RobustResults) -> list[str]:
    low, high = int(fit.sizes.min()), int(fit.sizes.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    effects = fit.effects
    lines = [
        f"Cluster-robust inference ({fit.type}; k = {fit.k} effects in {fit.n_clusters} clusters, {each} each)",
        f"{effects.provenance.source}: {effects.scale_label} ({effects.measure})",
        f"Clusters: {fit.cluster}; t tests with Satterthwaite df",
        f"Model: {fit.fit.summary().partition(chr(10))[0]}",
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
    ]
    tau2 = getattr(fit.fit, "tau2", float("nan"))
    if tau2 == tau2:
        lines.append(f"tau2 = {tau2:.4f} (of the model)")
    return [part for line in lines for part in wrapped(line)]


def _moderators(fit: RobustResults) -> list[str]:
    if fit.design.formula == "1":
        return []
    test = fit.omnibus
    if isinstance(test.stat, NotApplicable):
        return [*wrapped(f"Test of moderators: n/a, {test.stat.reason}"), ""]
    label = f"F(df1 = {test.df1}, df2 = {test.df2:.2f})"
    return [f"Test of moderators: {label} = {test.stat:.4f}, p {p_value(test.pval)} (HTZ)", ""]


def _cells(fit: RobustResults) -> list[tuple[str, ...]]:
    rows = zip(fit.beta, fit.se, fit.stat, fit.ddf, fit.pval, fit.ci_lb, fit.ci_ub, strict=True)
    return [
        (number(b), number(se), number(t), number(df, 2), bare_p(p), number(lb), number(ub))
        for b, se, t, df, p, lb, ub in rows
    ]


def _on_r(fit: RobustResults) -> list[str]:
    measure = fit.effects.measure
    if fit.design.formula != "1" or measure not in ("ZCOR", "COR", "UCOR"):
        return []
    row = fit.predict(scale="r" if measure == "ZCOR" else None).iloc[0]
    lines = [""]
    if measure == "ZCOR":
        lines.append(
            f"As r: {row.pred:.3f} [{number(row.ci_lb, 3)}, {number(row.ci_ub, 3)}] (median true correlation, tanh)"
        )
    if row.pi_lb == row.pi_lb:
        lines.append(
            f"{level_text(fit.level)} prediction interval for a new effect (r): "
            f"[{row.pi_lb:.3f}, {row.pi_ub:.3f}] (t({row.ddf:.2f}))"
        )
    return lines if len(lines) > 1 else []


def _labels(fit: RobustResults) -> list[str]:
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [*([label] if provenance.synthetic else []), *(f"Caution: {caution}" for caution in provenance.cautions)]


def _remarks(fit: RobustResults) -> list[str]:
    labels = [line for label in _labels(fit) for line in wrapped(label)]
    return [*remarks(fit.notes), *(["", *labels] if labels else [])]


def _r_name(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"
