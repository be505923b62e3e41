"""The structured abstract that opens a report, and sentences to paste; no number is typed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Abstract, Declaration, Item
from alliance_meta.reporting.tables import Table, comparison
from alliance_meta.reporting.words import marked, tr
from alliance_meta.reporting.writing import escape

# The parts of an abstract, in reading order: key of the declaration -> what stands before it.
PARTS: Final = marked(
    {
        "question": "Question",
        "data": "Data",
        "methods": "Methods",
        "results": "Results",
        "robustness": "Bias and sensitivity",
        "limits": "What it does not say",
    }
)
RESULTS: Final = "results"
QUESTION: Final = marked("What is the mean effect in these studies, and how far do they differ?")
LIMITS: Final = marked(
    "These are relations between two things measured in the same clients, averaged over studies: they do not show that "
    "one causes the other, and they predict no single client."
)
OTHER_LIMITS: Final = marked(
    "These are averages over studies: by themselves they show no cause, and they predict no single client."
)


def main_analyses(declaration: Declaration, fits: Mapping[str, Fitted]) -> list[Fitted]:
    """Return the analyses that the abstract and the table of results are about: those named, else the first mean."""
    if declaration.abstract.of:
        return [fits[name] for name in declaration.abstract.of]
    means = [fitted for fitted in fits.values() if fitted.fit.p == 1]
    return (means or list(fits.values()))[:1]


def results_table(chosen: list[Fitted], fits: Mapping[str, Fitted]) -> Table | None:
    """Return the main results, one row for each mean; None where the abstract is of none."""
    means = tuple(fitted.spec.id for fitted in chosen if fitted.fit.p == 1)
    if not means:
        return None
    words = tr("The main results. CI: confidence interval; df: degrees of freedom.")
    item = Item(table="comparison", of=means, caption=words)
    return comparison(item, fits)


def abstract(declaration: Declaration, chosen: list[Fitted], spread: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the parts of the abstract, each with its heading and its words, which may hold placeholders.

    `spread` has the numbers of tables of bias and of sensitivity, by the names prose may quote.
    """
    own: Abstract = declaration.abstract
    made = {
        "question": tr(QUESTION) if chosen else "",
        "data": _each(chosen, _data),
        "methods": _each(chosen, _methods),
        "results": _each(chosen, _results),
        "robustness": _each(chosen, lambda fitted: _robustness(fitted, spread)),
        "limits": tr(LIMITS if all(fitted.on_r for fitted in chosen) else OTHER_LIMITS) if chosen else "",
    }
    if not chosen and not any(getattr(own, part) for part in PARTS):
        return []
    texts = {part: getattr(own, part) or made[part] for part in PARTS}
    return [{"part": part, "label": tr(PARTS[part]), "text": text} for part, text in texts.items() if text]


def _each(chosen: list[Fitted], say: Any) -> str:
    """Return one sentence for each analysis, behind its name where there are several; those alike are said once."""
    said: dict[str, list[str]] = {}
    for fitted in chosen:
        text = say(fitted)
        if text:
            said.setdefault(text, []).append(escape(fitted.spec.label))
    if len(said) == 1 and (len(chosen) == 1 or len(next(iter(said.values()))) == len(chosen)):
        return next(iter(said))
    return "\n".join(f"- *{'; '.join(names)}:* {text}" for text, names in said.items())


def _data(fitted: Fitted) -> str:
    name = fitted.spec.id
    of = {"k": f"{{{name}.k}}", "studies": f"{{{name}.studies}}", "people": f"{{{name}.n_total}}"}
    # The sheet need not say how many people there are.
    if math.isnan(fitted.statistics["n_total"]["value"]):
        return tr("{k} effects from {studies} studies.", **of)
    return tr("{k} effects from {studies} studies, N = {people}.", **of)


def _methods(fitted: Fitted) -> str:
    of = {"scale": escape(fitted.effects.scale_label), "model": escape(fitted.short_label()), "level": fitted.level}
    if fitted.fit.p == 1:
        return tr("Effects as {scale}; {model}; {level} intervals.", **of)
    of["moderators"] = escape(str(fitted.spec.mods))
    return tr("Effects as {scale}; {model}, with the moderators {moderators}; {level} intervals.", **of)


def _results(fitted: Fitted) -> str:
    name, there = fitted.spec.id, fitted.statistics
    point, interval = ("r", "r_ci") if fitted.on_r else ("estimate", "ci")
    if fitted.fit.p > 1:
        return tr("Test of the moderators: p = {p}.", p=f"{{{name}.QM_p}}") if "QM_p" in there else ""
    word = "*r*" if fitted.on_r else tr("mean effect")
    spread = [f"τ = {{{name}.tau}}"] + ([f"I² = {{{name}.I2}}"] if "I2" in there else [])
    future = f"; {tr('a new study is expected in {interval}', interval=f'{{{name}.pi}}')}" if "pi" in there else ""
    return f"{word} = {{{name}.{point}}} {{{name}.{interval}}}{future}; {', '.join(spread)}."


def _robustness(fitted: Fitted, spread: Mapping[str, Any]) -> str:
    return " ".join(_ranges(fitted.spec.id, spread))


RANGES: Final = marked(
    {
        "bias": "Corrected for a biased literature the mean lies between {lowest} and {highest}, by method.",
        "sensitivity": "Over the usual other analyses it lies between {lowest} and {highest}.",
    }
)


def _ranges(name: str, spread: Mapping[str, Any]) -> Iterator[str]:
    for kind, text in RANGES.items():
        if f"{name}_lowest" in spread.get(kind, {}):
            yield tr(text, lowest=f"{{{kind}.{name}_lowest}}", highest=f"{{{kind}.{name}_highest}}")


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
