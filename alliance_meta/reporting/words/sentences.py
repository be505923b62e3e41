"""The methods of a fit in another language: sentence by sentence, where every sentence of them is in the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from string import Formatter
from typing import Final

from alliance_meta.reporting.words import is_english, marked, tr

# What fits say in English; a part in braces is a phrase of `PHRASES`, or stays as it is.
SENTENCES: Final = marked(
    (
        "{k} effects became {n}, one per {cluster}: {several} of {size} effects as plain means on the {scale} scale, "
        "with {assumed}, an assumption.",
        "Each {cluster} has one effect: nothing was averaged.",
        "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3) for the analysis and "
        "back-transformed for presentation.",
        "Raw correlations were analysed.",
        "Raw correlations were analysed with the sampling variance metafor calls {vtype}.",
        "Correlations corrected for small-sample bias were analysed.",
        "Correlations corrected for small-sample bias were analysed (sampling variance {vtype}).",
        "Effect sizes were analysed on the scale given.",
        "An equal-effects model was fitted to {effects}.",
        "An equal-effects model with the moderators {moderators} was fitted to {effects}.",
        "A random-effects model was fitted to {effects}; the between-study variance was estimated by {estimator} and "
        "its confidence interval by the Q-profile method.",
        "A random-effects model with the moderators {moderators} was fitted to {effects}; the between-study variance "
        "was estimated by {estimator} and its confidence interval by the Q-profile method.",
        "Coefficients were tested with the Knapp-Hartung adjustment and a t distribution with {df} degrees of freedom.",
        "Coefficients were tested with the Knapp-Hartung adjustment, its factor never below 1, and a t distribution "
        "with {df} degrees of freedom.",
        "Coefficients were tested against the normal distribution (Wald).",
        "Coefficients were tested against a t distribution with {df} degrees of freedom.",
        "Prediction intervals use {distribution}.",
        "I² is computed from τ².",
        "A multilevel model was fitted to {effects} by {estimator}, with random effects for {terms}.",
        "A multilevel model with the moderators {moderators} was fitted to {effects} by {estimator}, with random "
        "effects for {terms}.",
        "Sampling errors were taken as independent.",
        "Sampling errors of effects from the same people were taken to be correlated ({assumption}).",
        "Coefficients were tested against {distribution}.",
        "These model-based standard errors, tests and confidence intervals were then replaced by cluster-robust ones "
        "({adjustment}; {clusters} clusters by {cluster}) with Satterthwaite degrees of freedom (Pustejovsky & Tipton, "
        "2018).",
        "Several coefficients were tested together by the approximate Hotelling test (Tipton & Pustejovsky, 2015).",
    )
)
PHRASES: Final = marked(
    (
        "k = {k} effect",
        "k = {k} effects",
        "k = {k} effects from {studies} studies",
        "restricted maximum likelihood",
        "maximum likelihood",
        "the DerSimonian-Laird estimator",
        "the Paule-Mandel estimator",
        "the normal distribution",
        "t with {df} degrees of freedom",
        "t distributions with containment degrees of freedom",
        "t distributions with k - p degrees of freedom",
        "{first} ({n} groups); {second} ({m} groups)",
        "{first} ({n} groups)",
        "rho = {rho} within {cluster}",
        "rho={rho}",
        "{n} cluster",
        "{n} clusters",
        "{low} to {high}",
        "CR2: bias-reduced linearisation",
        "correlated and hierarchical effects (rho = {rho}, REML), {type} by {cluster} with Satterthwaite df; one "
        "tau2 for all levels of a moderator",
        "correlated and hierarchical effects (ρ = {rho}, REML), {type} by {cluster} with Satterthwaite df; one τ² "
        "for all levels of a moderator",
        "{formula}, {m} of {k} effects",
    )
)
# A stop inside a part is one of a number or a name: no blank follows it, but for n.s. and et al.
_END = re.compile(r"(?<!n\.s)(?<!et al)\.\s+")


@cache
def _parsed(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words around the parts of a template, one more than there are parts, and the names of these."""
    pairs = [(words, name) for words, name, *_ in Formatter().parse(template)]
    names = tuple(name for _, name in pairs if name)
    return (*(words for words, _ in pairs), "")[: len(names) + 1], names


def fields(template: str, text: str) -> dict[str, str] | None:
    """Return the parts of a text that a template fits, each as short as can be; None where it does not fit.

    Words are looked for one after the other, in time that grows with the text alone.

    >>> fields("{n} of {k} rows", "2 of 5 rows"), fields("{n} of {k} rows", "2 rows")
    ({'n': '2', 'k': '5'}, None)
    """
    words, names = _parsed(template)
    if not (text.startswith(words[0]) and text.endswith(words[-1])):
        return None
    if not names:
        return {} if text == template else None
    at, stop, found = len(words[0]), len(text) - len(words[-1]), dict[str, str]()
    for name, after in zip(names, words[1:], strict=True):
        end = stop if name == names[-1] else text.find(after, at + 1, stop)
        if end <= at or _END.search(text, at, end):
            return None
        found[name] = text[at:end]
        at = end + len(after)
    return found


def in_language(text: str, known: Sequence[str] = SENTENCES, part: Callable[[str], str] | None = None) -> str:
    """Return sentences in the language that is spoken now; as they are where any of them is not `known`.

    By default they are the methods of a fit. What stands in braces goes through `part`, by default `phrase`.
    """
    if is_english():
        return text
    said, found, at = part or phrase, [], 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        one, at = text[at:end].rstrip(), end
        fits = ((sentence, parts) for sentence in known if (parts := fields(sentence, one)) is not None)
        if (fit := next(fits, None)) is None:
            return text
        found.append(tr(fit[0], **{name: said(value) for name, value in fit[1].items()}))
    return " ".join(found)


def phrase(text: str, known: Sequence[str] = PHRASES, part: Callable[[str], str] = str) -> str:
    """Return a phrase in the language that is spoken now; as it is where it fits none of the templates.

    What stands in braces goes through `part`, by default as it is.
    """
    if is_english():
        return text
    for one in known:
        parts = fields(one, text)
        if parts is not None:
            return tr(one, **{name: part(value) for name, value in parts.items()})
    return text
