"""Subsets of candidate terms, the effects they can all be fitted to, and their designs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.design import Design, design_of
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, DesignError, DroppedRowsWarning, InputError
from alliance_meta.formulas import parse_formula
from alliance_meta.notes import Note, warn_note

MOST = 12


def read_terms(candidates: Sequence[str], always: Sequence[str]) -> tuple[list[str], dict[str, frozenset[str]]]:
    """Return the names of all terms as the formula spells them, those of `always` first, and their factors."""
    if isinstance(candidates, str) or isinstance(always, str):
        raise InputError("candidates and always are lists of terms, such as ['rater', 'year']")
    if not 1 <= len(candidates) <= MOST:
        many = f"{len(candidates)} candidates make {2 ** len(candidates)} models" if candidates else "no candidates"
        raise InputError(f"{many}; give 1 to {MOST}, chosen for a reason")
    factors: dict[str, frozenset[str]] = {}
    for given in [*always, *candidates]:
        found = [term for term in parse_formula(given, where="a candidate").formula if str(term) != "1"]
        if len(found) != 1:
            listed = ", ".join(repr(str(term)) for term in found) or "nothing"
            raise InputError(f"{given!r} is not one term: it stands for {listed}")
        name = str(found[0])
        if name in factors:
            raise InputError(f"{name!r} is there twice")
        factors[name] = frozenset(str(factor) for factor in found[0].factors)
    return list(factors), factors


def complete_effects(
    effects: EffectSizes, terms: Sequence[str], factors: dict[str, frozenset[str]]
) -> tuple[EffectSizes, list[Note]]:
    """Return the effects that have a value of every term, and a note if some do not."""
    rows: Mask = np.ones(effects.k, dtype=bool)
    for factor in dict.fromkeys(factor for term in terms for factor in sorted(factors[term])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            rows = rows & design_of(factor, effects).rows
    if not rows.any():
        raise DesignError("no effect has a value of every candidate")
    if rows.all():
        return effects, []
    lost = int((~rows).sum())
    message = f"{lost} of {effects.k} effects left out of every model: they lack a value of some candidate."
    note = warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=4)
    return effects.take(rows, step=f"{int(rows.sum())} effects with every candidate"), [note]


def all_subsets(
    always: tuple[str, ...], candidates: tuple[str, ...], factors: dict[str, frozenset[str]]
) -> list[tuple[str, ...]]:
    """Return every subset in which an interaction has those of its parts that are candidates."""
    parts = {t: [s for s in candidates if factors[s] < factors[t]] for t in candidates}
    return [
        always + chosen
        for size in range(len(candidates) + 1)
        for chosen in combinations(candidates, size)
        if all(part in chosen for term in chosen for part in parts[term])
    ]


def whole_design(effects: EffectSizes, terms: Sequence[str], factors: dict[str, frozenset[str]]) -> Design | None:
    """Return the design of all terms if every subset's design is a part of it, else None."""
    known = set(factors.values())
    for term in terms:
        inside = sorted(factors[term])
        parts = [frozenset(c) for size in range(1, len(inside)) for c in combinations(inside, size)]
        if not all(part in known for part in parts):
            return None
    return _design(effects, terms)


def _design(effects: EffectSizes, terms: Sequence[str]) -> Design | None:
    """Return the design of the terms, None if it has redundant columns or more columns than effects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        try:
            made = design_of(" + ".join(terms) or "1", effects)
        except DesignError:
            return None
    return None if any(note.code == "redundant-moderator" for note in made.notes) else made


def subset_columns(
    effects: EffectSizes, chosen: tuple[str, ...], whole: Design | None
) -> tuple[Array, tuple[str, ...]] | None:
    """Return the columns of a subset and their names, None if it has no design of its own."""
    if whole is None:
        made = _design(effects, chosen)
        return None if made is None else (made.X, made.names)
    slots = [0, *(slot for term in chosen for slot in whole.terms[term])]
    return whole.X[:, slots], tuple(whole.names[slot] for slot in slots)
