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
    )
)
# A stop inside a part is one of a number or a name: no blank follows it, but for n.s. and et al.
_PART = r"(?:n\.s\.|et al\.|[^.]|\.(?=\S))+?"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    parts = [re.escape(fixed) + (f"(?P<{name}>{_PART})" if name else "") for fixed, name, *_ in Formatter().parse(text)]
    return re.compile("".join(parts))


def in_language(text: str, known: Sequence[str] = SENTENCES, part: Callable[[str], str] | None = None) -> str:
    """Return sentences in the language that is spoken now; as they are where any of them is not `known`.

    By default they are the methods of a fit. What stands in braces goes through `part`, by default `phrase`.
    """
    if is_english():
        return text
    said = part or phrase
    found, at = [], 0
    while at < len(text):
        for sentence in known:
            match = re.compile(_pattern(sentence).pattern + r"(?:\s+|$)").match(text, at)
            if match:
                found.append(tr(sentence, **{name: said(one) for name, one in match.groupdict().items()}))
                at = match.end()
                break
        else:
            return text
    return " ".join(found)


def phrase(text: str, known: Sequence[str] = PHRASES) -> str:
    """Return a phrase in the language that is spoken now; as it is where it fits none of the templates."""
    if is_english():
        return text
    for one in known:
        match = _pattern(one).fullmatch(text)
        if match:
            return tr(one, **match.groupdict())
    return text
