"""What summaries with cluster-robust tests share: each coefficient has degrees of freedom of its own."""

from __future__ import annotations

import html as _html
from collections.abc import Sequence
from typing import Any

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.wording import WIDTH, bare_p, level_text, number, p_value, remarks, wrapped

HEADS = ("estimate", "se", "tval", "df", "pval", "ci_lb", "ci_ub")
SIZES = (9, 8, 8, 6, 7, 8, 8)


def table(fit: Any) -> list[str]:
    """Return the coefficients as lines."""
    width = min(max(8, *(len(name) for name in fit.names)), WIDTH - sum(SIZES) - len(SIZES))
    lines = [" " * width + "".join(f" {head:>{size}}" for head, size in zip(HEADS, SIZES, strict=True))]
    for name, cells in zip(fit.names, _cells(fit), strict=True):
        short = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(f"{short:{width}}" + "".join(f" {cell:>{size}}" for cell, size in zip(cells, SIZES, strict=True)))
    return lines


def page(fit: Any, lines: Sequence[str]) -> str:
    """Return lines, coefficients and notes as HTML for a notebook; the first line is its title."""
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


def moderator_test(fit: Any, name: str) -> list[str]:
    """Return the test of all moderators, and an empty line; `name` is what the test is called."""
    if fit.design.formula == "1":
        return []
    test = fit.omnibus
    if isinstance(test.stat, NotApplicable):
        return [*wrapped(f"Test of moderators: n/a, {test.stat.reason}"), ""]
    label = f"F(df1 = {test.df1}, df2 = {test.df2:.2f})"
    return [f"Test of moderators: {label} = {test.stat:.4f}, p {p_value(test.pval)} ({name})", ""]


def on_r(fit: Any) -> list[str]:
    """Return the mean effect as r with both intervals; nothing for models with moderators."""
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


def closing(fit: Any) -> list[str]:
    """Return notes and cautions, after an empty line."""
    labels = [line for label in _labels(fit) for line in wrapped(label)]
    return [*remarks(fit.notes), *(["", *labels] if labels else [])]


def effects_per_cluster(sizes: Any) -> str:
    """Return ``1 to 11 each``."""
    low, high = int(min(sizes)), int(max(sizes))
    return f"{low} each" if low == high else f"{low} to {high} each"


def _cells(fit: Any) -> list[tuple[str, ...]]:
    rows = zip(fit.beta, fit.se, fit.stat, fit.ddf, fit.pval, fit.ci_lb, fit.ci_ub, strict=True)
    return [
        (number(b), number(se), number(t), number(df, 2), bare_p(p), number(lb), number(ub))
        for b, se, t, df, p, lb, ub in rows
    ]


def _labels(fit: Any) -> list[str]:
    provenance = fit.effects.provenance
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    return [*([label] if provenance.synthetic else []), *(f"Caution: {caution}" for caution in provenance.cautions)]
