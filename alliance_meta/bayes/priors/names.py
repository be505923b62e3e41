"""Priors from the words in which they are printed, for files and command lines."""

from __future__ import annotations

import re
from dataclasses import fields

from alliance_meta.bayes.priors.prior import Cauchy, Flat, HalfCauchy, HalfNormal, HalfT, Normal, Prior, StudentT
from alliance_meta.bayes.priors.tau import (
    BergerDeely,
    DuMouchel,
    Exponential,
    Gamma,
    InverseGamma,
    Jeffreys,
    LogNormal,
    Lomax,
    Shrinkage,
    Uniform,
)
from alliance_meta.errors import InputError
from alliance_meta.expressions import plain_text
from alliance_meta.notes import did_you_mean

OF_EFFECTS: tuple[type[Prior], ...] = (Normal, StudentT, Cauchy, Flat)
OF_TAU: tuple[type[Prior], ...] = (
    HalfNormal, HalfT, HalfCauchy, Exponential, Lomax, InverseGamma, Gamma, LogNormal, Uniform, Jeffreys,
    BergerDeely, DuMouchel, Shrinkage,
)  # fmt: skip
MOST_TEXT = 200
_CALL = re.compile(r"\s*([A-Za-z][A-Za-z -]*?)\s*(?:\(([^()]*)\))?\s*")


def parse(text: str) -> Prior:
    """Read a prior as it is printed, such as ``"half-normal(0.3)"``.

    Parameters
    ----------
    text : str
        What ``str(prior)`` gives; the name of its class will do as well, and capitals, blanks and hyphens do not
        matter.

    Returns
    -------
    Prior

    Raises
    ------
    InputError
        No such prior, or numbers that it does not take.

    Examples
    --------
    >>> from alliance_meta import priors
    >>> priors.parse("half-normal(0.3)") == priors.HalfNormal(0.3)
    True
    >>> print(priors.parse("HalfT(4, 0.3)"), priors.parse("student t(4, 0, .5)"), priors.parse("flat"))
    half-t(4, 0.3) Student t(4, 0, 0.5) flat
    """
    found = _CALL.fullmatch(plain_text(text, where="a prior", most=MOST_TEXT))
    known = {_plain(name): kind for kind in (*OF_EFFECTS, *OF_TAU) for name in (kind.label, kind.__name__)}
    if found is None or _plain(found[1]) not in known:
        labels = [kind.label for kind in (*OF_EFFECTS, *OF_TAU)]
        hint = did_you_mean(found[1] if found else text, labels)
        raise InputError(f"{text!r} is no prior{hint} (known: {', '.join(labels)}; e.g. 'half-normal(0.3)')")
    kind = known[_plain(found[1])]
    numbers = [_number(text, part) for part in (found[2] or "").split(",") if part.strip()]
    if kind is Uniform and len(numbers) == 2 and numbers[0] == 0:
        numbers = numbers[1:]
    names = [one.name for one in fields(kind) if not one.name.startswith("vi")]  # type: ignore[arg-type]
    if len(numbers) > len(names):
        raise InputError(f"{text!r}: {kind.label} takes {len(names)} numbers ({', '.join(names) or 'none'})")
    try:
        return kind(*numbers)
    except TypeError:
        raise InputError(f"{text!r}: {kind.label} needs {', '.join(names)}") from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _number(text: str, part: str) -> float:
    try:
        return float(part.replace("_", "?"))
    except ValueError:
        raise InputError(f"{text!r}: {part.strip()!r} is not a number") from None
