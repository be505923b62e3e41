"""Hypotheses as they are written down, ``"mu = 0"`` or ``"0.1 < theta_new < 0.5"``, and Bayes factors of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta.errors import InputError
from alliance_meta.expressions import plain_text
from alliance_meta.notes import NotApplicable
from alliance_meta.tables.format import factor

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMS = "write 'mu = 0', 'mu > 0.1', '0.1 < mu < 0.3' or '|mu| < 0.1'"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One quantity, and the value or the range it has."""

    text: str  # as it was written
    name: str  # the quantity
    # lower, upper: equal for a point.
    lower: float
    upper: float

    @property
    def is_point(self) -> bool:
        """Whether a single value is stated."""
        return self.lower == self.upper

    @property
    def opposite(self) -> str:
        """What holds if the hypothesis does not."""
        if self.is_point:
            return f"{self.name} is not {self.lower:g}"
        if np.isinf(self.upper):
            return f"{self.name} <= {self.lower:g}"
        if np.isinf(self.lower):
            return f"{self.name} >= {self.upper:g}"
        return f"{self.name} is outside {self.lower:g} to {self.upper:g}"


def read_hypothesis(text: str) -> Hypothesis:
    """Read a hypothesis; strict and weak inequalities are the same, as every quantity is continuous."""
    plain = (
        plain_text(text, where="a hypothesis", most=1000)
        .replace("≤", "<=")
        .replace("≥", ">=")
        .replace("==", "=")
        .strip()
    )
    parts = re.split(r"(<=|>=|<|>|=)", plain)
    terms, signs = [one.strip() for one in parts[::2]], [one[0] for one in parts[1::2]]
    if len(terms) == 3 and signs[0] == signs[1] and signs[0] in "<>":
        outer = (terms[0], terms[2]) if signs[0] == "<" else (terms[2], terms[0])
        name, lower, upper = terms[1], _number(outer[0], text), _number(outer[1], text)
        if lower < upper and name:
            return Hypothesis(plain, name, lower, upper)
    if len(terms) == 2 and terms[0]:
        name, value = terms[0], _number(terms[1], text)
        size = re.fullmatch(r"\|(.+)\|", name)
        if size and signs[0] == "<" and value > 0:
            return Hypothesis(plain, size[1].strip(), -value, value)
        if not size:
            lower, upper = {"=": (value, value), "<": (-np.inf, value), ">": (value, np.inf)}[signs[0]]
            return Hypothesis(plain, name, lower, upper)
    raise InputError(f"{text!r} is not a hypothesis about one quantity; {_FORMS}")


def _number(number: str, text: str) -> float:
    if not _NUMBER.fullmatch(number) or not np.isfinite(float(number)):
        raise InputError(f"{text!r}: {number!r} is not a number; {_FORMS}")
    return float(number)


@dataclass(frozen=True, slots=True)
class BayesFactor:
    """How much more likely the data are under one hypothesis than under the other.

    Attributes
    ----------
    hypothesis : str
        The hypothesis as it was stated; the 0 in `bf01`.
    alternative : str
        The 1 in `bf01`.
    bf01 : float
        Above 1 the data speak for the stated hypothesis, below 1 for the alternative. `NotApplicable` where a
        prior is improper.
    bf10 : float
        Its inverse.
    log_bf01 : float
        Its natural logarithm, which does not overflow.
    error : float
        Bound of the relative numerical error of both.
    check : float
        The same Bayes factor by another route: posterior over prior density at a point (Savage and Dickey),
        posterior over prior odds of a range, from the posterior as it was fitted. It has fewer digits where
        the hypothesis is far from the data.
    """

    hypothesis: str
    alternative: str
    bf01: float
    bf10: float
    log_bf01: float
    error: float
    check: float

    def __str__(self) -> str:
        if self.bf01 != self.bf01:
            return f"BF01 of {self.hypothesis}: {self.bf01}"
        size = factor(abs(self.log_bf01), largest=1e4)
        pair = (self.hypothesis, self.alternative)
        name, (supported, other) = ("BF01", pair) if self.log_bf01 > 0 else ("BF10", pair[::-1])
        return f"{name} = {size}: the data are {size} times as likely if {supported} as if {other}"

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        names = ("hypothesis", "alternative", "bf01", "bf10", "log_bf01", "error", "check")
        return {name: getattr(self, name) for name in names}


def undefined(stated: Hypothesis, reason: str) -> BayesFactor:
    """Return a Bayes factor that is not applicable, with the reason."""
    none = NotApplicable(reason)
    return BayesFactor(stated.text, stated.opposite, none, none, none, none, none)


def shown(fit: Any, statement: str) -> BayesFactor:
    """Return the Bayes factor that summaries show: of effects that depend on each other, none."""
    if not fit._nested and fit.effects.k > fit.effects.n_studies:
        reason = f"{fit.effects.k} effects of {fit.effects.n_studies} studies are no independent evidence"
        return undefined(read_hypothesis(statement), reason)
    found: BayesFactor = fit.bayes_factor(statement)
    return found
