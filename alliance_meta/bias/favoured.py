"""The direction in which results are favoured, and what methods say that take effects as independent."""

from __future__ import annotations

import math
from typing import Literal

from alliance_meta.bias.given import Given
from alliance_meta.errors import DependenceWarning, InputError
from alliance_meta.notes import Note, check_option, warn_note

Side = Literal["right", "left"]
FEW = 10


def sign_of(source: Given, side: Side | None) -> float:
    """Return 1 where positive results are favoured, else -1; by default the sign of the mean."""
    if side is None:
        return source.sign
    check_option("side", side, Side)
    return 1.0 if side == "right" else -1.0


def side_of(sign: float) -> Side:
    """Return the name of a direction."""
    return "right" if sign > 0 else "left"


def check_alpha(alpha: float) -> None:
    """Raise an `InputError` unless a two-sided level of significance makes sense."""
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha={alpha!r} is the two-sided level of significance of the studies, between 0 and 0.5")


def as_independent(source: Given, who: str, *, stacklevel: int = 4) -> tuple[Note, ...]:
    """Warn, and return the note, where a method is about to take several effects of one study as independent."""
    if not source.dependent:
        return ()
    message = (
        f"{who} took {source.k} effects from {source.studies} studies as independent: what one study says several "
        "times counts several times. Make one effect of each study with aggregate or select_effects."
    )
    return (warn_note("dependence-ignored", message, DependenceWarning, stacklevel=stacklevel),)


def check_finite(**values: float) -> None:
    """Raise an `InputError` unless each of these values, on the analysis scale, is finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"{name}={value!r} must be a finite value on the analysis scale")


def few_effects(k: int, who: str, what: str = "Effects") -> tuple[Note, ...]:
    """Return the note on fewer than ten effects."""
    if not 0 < k < FEW:
        return ()
    return (Note("few-effects", f"{what}: {k}. With fewer than {FEW}, {who} says little."),)
