"""Sentences to paste: results in APA style, and what a correlation means for a clinician. No number is typed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.words import tr
from alliance_meta.reporting.writing import escape


def results_prose(fits: Iterable[Fitted]) -> str:
    """Return one paragraph for each analysis, as APA style writes results; numbers as placeholders."""
    return "\n\n".join(f"**{escape(fitted.spec.label)}.** {' '.join(_sentences(fitted))}" for fitted in fits)


def _sentences(fitted: Fitted) -> Iterator[str]:
    there = fitted.statistics
    of = {key: f"{{{fitted.spec.id}.{key}}}" for key in there} | {"level": fitted.level}
    if math.isnan(there["n_total"]["value"]):
        based = tr("Based on *k* = {k} effects from {studies} studies,", **of)
    else:
        based = tr("Based on *k* = {k} effects from {studies} studies (*N* = {n_total}),", **of)
    yield f"{based} {_mean(fitted, of) if fitted.fit.p == 1 else _moderated(fitted, of)}"
    if fitted.fit.p == 1 and "pi" in there:
        yield tr("The true effect of a new study is expected in {pi} ({level} prediction interval).", **of)
    more = [f"τ = {of['tau']}"] if "tau" in there else []
    more += [f"*I*² = {of['I2']}"] if "I2" in there else []
    if "Q_p" in there:
        more.append(f"*Q*({of['Q_df']}) = {of['Q']}, {_named(of['Q_p'])}")
    if more:
        yield tr("Heterogeneity: {numbers}.", numbers=", ".join(more))


def _mean(fitted: Fitted, of: Mapping[str, str]) -> str:
    """Return what the mean is, behind what it is based on."""
    bayes = fitted.table_kind == "posterior"
    point, interval = ("r", "r_ci") if fitted.on_r else ("estimate", "ci")
    parts = {
        "point": of[point],
        "level": of["level"],
        "interval": of[interval],
        "kind": tr("credible interval") if bayes else tr("CI"),
        "test": "" if bayes or "p" not in of else f", {_named(of['p'])}",
    }
    if fitted.on_r:
        return tr("the mean correlation was *r* = {point}, {level} {kind} {interval}{test}.", **parts)
    return tr("the mean effect was {point}, {level} {kind} {interval}{test}.", **parts)


def _moderated(fitted: Fitted, of: Mapping[str, str]) -> str:
    """Return what the moderators say, behind what it is based on."""
    test = f" (*p* = {of['QM_p']})" if "QM_p" in of else ""
    moderators = escape(str(fitted.spec.mods))
    return tr(
        "the model had the moderators {moderators}{test}; see its coefficients.", moderators=moderators, test=test
    )


def _named(placeholder: str) -> str:
    """Return a placeholder of a p value that is written with its name."""
    return f"{placeholder[:-1]}:p_named}}"


def in_plain_words(chosen: Iterable[Fitted]) -> str:
    """Return what the first mean correlation says of people, compared in pairs; empty where there is none."""
    for fitted in chosen:
        if fitted.on_r and fitted.fit.p == 1 and "pairs" in fitted.statistics:
            of = {key: f"{{{fitted.spec.id}.{key}}}" for key in ("r", "pairs", "pairs_ci")}
            return tr(
                "*For readers in practice.* A correlation of {r} means: of two people of one study, the one with more "
                "of the first also has more of the second in about {pairs} of pairs, where 50% would be no relation "
                "({level} CI {pairs_ci}). It says nothing of what would happen if one of the two were changed.",
                level=fitted.level,
                **of,
            )
    return ""
