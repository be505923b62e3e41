"""Sentences to paste: results in APA style, and what a correlation means for a clinician. No number is typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.writing import escape


def results_prose(fits: Iterable[Fitted]) -> str:
    """Return one paragraph for each analysis, as APA style writes results; numbers as placeholders."""
    return "\n\n".join(f"**{escape(fitted.spec.label)}.** {' '.join(_sentences(fitted))}" for fitted in fits)


def _sentences(fitted: Fitted) -> Iterator[str]:
    name, there = fitted.spec.id, fitted.statistics
    yield f"Based on *k* = {{{name}.k}} effects from {{{name}.studies}} studies (*N* = {{{name}.n_total}}),"
    bayes = fitted.table_kind == "posterior"
    if fitted.fit.p > 1:
        test = f" (*p* = {{{name}.QM_p}})" if "QM_p" in there else ""
        yield f"the model had the moderators {escape(str(fitted.spec.mods))}{test}; see its coefficients."
    else:
        point, interval = ("r", "r_ci") if fitted.on_r else ("estimate", "ci")
        what = "correlation was *r*" if fitted.on_r else "effect was"
        kind = "credible interval" if bayes else "CI"
        test = "" if bayes or "p" not in there else f", {{{name}.p:p_named}}"
        yield f"the mean {what} = {{{name}.{point}}}, {fitted.level} {kind} {{{name}.{interval}}}{test}."
        if "pi" in there:
            yield f"The true effect of a new study is expected in {{{name}.pi}} ({fitted.level} prediction interval)."
    more = [f"τ = {{{name}.tau}}"] if "tau" in there else []
    more += [f"*I*² = {{{name}.I2}}"] if "I2" in there else []
    if "Q_p" in there:
        more.append(f"*Q*({{{name}.Q_df}}) = {{{name}.Q}}, {{{name}.Q_p:p_named}}")
    if more:
        yield f"Heterogeneity: {', '.join(more)}."


def in_plain_words(chosen: Iterable[Fitted]) -> str:
    """Return what the first mean correlation says of clients, compared in pairs; empty where there is none."""
    for fitted in chosen:
        if fitted.on_r and fitted.fit.p == 1 and "pairs" in fitted.statistics:
            name = fitted.spec.id
            return (
                f"*For readers in practice.* A correlation of {{{name}.r}} means: of two clients of one study, the "
                f"one with more of the first also has more of the second in about {{{name}.pairs}} of pairs, where "
                f"50% would be no relation ({fitted.level} CI {{{name}.pairs_ci}}). It says nothing of what would "
                "happen if one of the two were changed."
            )
    return ""
