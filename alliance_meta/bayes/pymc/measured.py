"""A moderator that is measured with error: which one, how large the errors are, and what a reader must know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.pymc.parts import slopes
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError, SuspiciousInputWarning
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import did_you_mean

MOST_NAMED = 5
# Moderator -> a column, or one number for all.
Measured = Mapping[str, str | float]


@dataclass(frozen=True, eq=False)
class Measurement:
    """The moderator with error.

    Attributes
    ----------
    name : str
    place : int
        Among the slopes.
    w, size : ndarray of shape (k,)
        Measured values; standard errors where `by_error`, otherwise reliabilities.
    by_error : bool
    source : str or float
        The column of `size`, or the number.
    notes : tuple of Note
    """

    name: str
    place: int
    w: Array
    size: Array
    by_error: bool
    source: str | float
    notes: tuple[Note, ...] = ()

    def of(self, effects: EffectSizes) -> Measurement:
        """Return the same moderator, measured in other studies."""
        size = _sizes(effects, self.name, self.source, by_error=self.by_error)
        return replace(self, w=effects.moderators[self.name].to_numpy(dtype=float), size=size)


def one_moderator(error: Measured | None, reliability: Measured | None) -> tuple[str, bool, str | float]:
    """Return the moderator, whether its error is given, and the column or number."""
    for which, given in (("error", error), ("reliability", reliability)):
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"{which}={given!r} is not a mapping such as {{'quality': 'quality_{which}'}}")
    both = [(name, True, source) for name, source in (error or {}).items()]
    both += [(name, False, source) for name, source in (reliability or {}).items()]
    if len(both) != 1:
        named = ", ".join(repr(name) for name, *_ in both) or "none"
        raise InputError(f"error and reliability must name one moderator together, not {len(both)} ({named})")
    return both[0]


def measured_in(effects: EffectSizes, design: Design, name: str, source: str | float, *, by_error: bool) -> Measurement:
    """Check the moderator and its errors; return what the model needs of them."""
    _check_term(design, name)
    size = _sizes(effects, name, source, by_error=by_error)
    w = effects.moderators[name].to_numpy(dtype=float)
    place = slopes(design).index(design.names.index(name))
    notes = _notes(name, source, w, size, by_error=by_error)
    return Measurement(name, place, w, size, by_error, source, notes)


def _sizes(effects: EffectSizes, name: str, source: str | float, *, by_error: bool) -> Array:
    """Return the standard error, or the reliability, of each measured value."""
    what = "error" if by_error else "reliability"
    said = f"{what}={{{name!r}: {source!r}}}"
    table = effects.moderators
    if isinstance(source, str):
        if source not in table:
            columns = [str(column) for column in table]
            hint = did_you_mean(source, columns) or "."
            raise InputError(f"{said}: no column {source!r}{hint} Columns: {', '.join(columns)}")
        size = pd.to_numeric(table[source], errors="coerce").to_numpy(dtype=float)
    elif isinstance(source, bool) or not isinstance(source, int | float | np.number):
        raise InputError(f"{said}: give a column or a number")
    else:
        size = np.full(effects.k, float(source))
    _check_size(effects, size, what, name, by_error=by_error)
    return size


def _check_term(design: Design, name: str) -> None:
    if not design.has_intercept:
        raise DesignError(f"mods={design.formula!r} has no intercept, which a moderator with error needs")
    plain = design.terms.get(name, ())
    if len(plain) != 1 or name in design.levels:
        raise DesignError(
            f"mods={design.formula!r}: {name!r} must be a numeric term of its own, such as '{name} + ...'"
        )
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    others = [term for term in design.terms if term != name and word.search(term)]
    if others:
        raise DesignError(
            f"mods={design.formula!r}: {name!r} is measured with error and may only be a term of its own, not in "
            f"{', '.join(map(repr, others))}"
        )


def _check_size(effects: EffectSizes, size: Array, what: str, name: str, *, by_error: bool) -> None:
    fine = np.isfinite(size) & ((size >= 0) if by_error else (size > 0) & (size <= 1))
    if fine.all():
        return
    wrong = [f"{effects.slab[i]} ({size[i]:g})" for i in np.flatnonzero(~fine)]
    more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    limits = "a standard error of at least 0" if by_error else "a reliability above 0 and up to 1"
    raise InputError(f"{what} of {name}: {', '.join(wrong[:MOST_NAMED])}{more} must be {limits}")


def _notes(name: str, source: str | float, w: Array, size: Array, *, by_error: bool) -> tuple[Note, ...]:
    where = f"the column {source}" if isinstance(source, str) else f"{source:g}"
    what = "standard error" if by_error else "reliability"
    message = (
        f"{name} counts as measured with error ({what}: {where}); its coefficient is that of true values. Errors are "
        "assumed to be unrelated to the true values and to the sampling errors of the effects."
    )
    notes = [Note("measurement-error", message)]
    if by_error and np.mean(size**2) >= w.var(ddof=1):
        message = (
            f"The standard errors of {name} are as large as the differences between its measured values "
            f"(mean square {np.mean(size**2):.3g}, variance {w.var(ddof=1):.3g}): it says next to nothing about true "
            "values, and its coefficient rests on the priors."
        )
        notes.append(warn_note("unreliable-moderator", message, SuspiciousInputWarning, stacklevel=5))
    return tuple(notes)
