"""Look for the routes that give printed numbers: one search, for `reproduce` and for `match`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import InputError
from alliance_meta.evidence.printed import HAIR, Fit, PrintedNumber, cut_off, gaps
from alliance_meta.evidence.route_engine import (
    Followed,
    Samples,
    join,
    make_samples,
    one_level,
    several_levels,
    simple_means,
)
from alliance_meta.evidence.routes import TESTS, Route

# Where none of these is printed, routes that only differ in inference print the same.
INFERENCE = frozenset({"ci_lb", "ci_ub", "se", "stat", "z", "t", "ddf", "pval", "pi_lb", "pi_ub"})
# People are the table's, whatever the route.
NOT_CHOSEN = frozenset({"N"})
COUNTS = frozenset({"k", "n_effects", "N", "QEdf", "ddf"})
# Numbers that must be met by rounding before one that is cut off is called a slip.
LEAST_BESIDE = 2
# What programs call by one name and compute in several ways: a printed number may be either.
ALSO = {"I2": "I2_Q"}


@dataclass(frozen=True, slots=True)
class Found:
    """A route with what it gives and how far that is from the printed numbers."""

    route: Route
    values: Mapping[str, float]  # by metafor's names
    # The largest distance, in half units of the last printed digit; at most 1 rounds to what is printed.
    distance: float
    # ``"cut off"``: all but one round to what is printed, and that one reads so if its further digits are cut off.
    fit: Fit
    gaps: Mapping[str, float]  # the distance of each printed number

    @property
    def agrees(self) -> bool:
        """Whether every printed number is met within its rounding."""
        return self.fit == "rounded"


@dataclass(frozen=True, eq=False)
class Search:
    """Every route that was followed, the nearest first."""

    printed: Mapping[str, PrintedNumber]
    samples: Samples  # what was pooled, and what could not be made
    followed: Followed  # every route and what it gives
    order: AnyArray  # places of the routes, best first: those that fit, usual ones before rare ones, then by distance
    fits: AnyArray  # (R,): 2 rounded, 1 cut off, 0 neither
    distances: Array  # (R,)
    each: Mapping[str, Array]  # (R,) each: distance of each printed number

    def __len__(self) -> int:
        return len(self.followed.routes)

    @cached_property
    def usual(self) -> AnyArray:
        """Which routes are usual, (R,)."""
        return np.array([route.usual for route in self.followed.routes])

    def found(self, place: int) -> Found:
        """Return one route."""
        kinds: tuple[Fit, Fit, Fit] = ("no", "cut off", "rounded")
        return Found(
            self.followed.routes[place],
            self.followed.of(place),
            float(self.distances[place]),
            kinds[int(self.fits[place])],
            {name: float(column[place]) for name, column in self.each.items()},
        )

    def best(self, *, fit: Fit | None = None, usual: bool | None = None, most: int | None = None) -> list[Found]:
        """Return routes in order, of one kind if asked."""
        wanted = {"rounded": 2, "cut off": 1, "no": 0, None: None}[fit]
        places = [
            int(place)
            for place in self.order
            if (wanted is None or self.fits[place] == wanted) and (usual is None or self.usual[place] == usual)
        ]
        return [self.found(place) for place in places[:most]]

    def count(self, *, fit: Fit = "rounded", usual: bool | None = None) -> int:
        """Return how many routes fit."""
        right = self.fits == {"rounded": 2, "cut off": 1, "no": 0}[fit]
        return int((right if usual is None else right & (self.usual == usual)).sum())

    @property
    def chosen(self) -> list[str]:
        """The printed numbers that tell routes apart."""
        return [name for name in self.each if name not in NOT_CHOSEN]

    @cached_property
    def different(self) -> int:
        """How many different results the routes print, to as many digits as are printed."""
        rounded = []
        for name in self.chosen:
            unit = 10.0 ** -self.printed[name].decimals
            values = self.followed.values.get(name, np.full(len(self), np.nan))
            rounded.append(np.where(np.isnan(values), np.inf, np.round(values / unit)))
        return len(np.unique(np.stack(rounded), axis=1).T) if rounded else 0


def search(
    table: CodedTable,
    printed: Mapping[str, PrintedNumber],
    *,
    scale: str,
    ri: str | None = None,
    ni: str | None = None,
    cluster: str | None = None,
    subset: str | None = None,
    level: float = 0.95,
) -> Search:
    """Follow every route and order them by how near they come to the printed numbers.

    Raises `InputError`: printed numbers of which none says anything about the route; a table of which no effect can be
    made.
    """
    samples = make_samples(table, scale=scale, ri=ri, ni=ni, cluster=cluster, subset=subset)
    tests = TESTS if INFERENCE & set(printed) else TESTS[:1]
    parts = [
        *one_level(samples.found, tests, scale=scale, level=level),
        *simple_means(samples.found, tests, scale=scale, level=level),
        *several_levels(samples.found, samples.groups, tests, scale=scale, level=level),
    ]
    followed = join(parts)
    each = {name: _gaps(followed, name, number) for name, number in printed.items()}
    chosen = [name for name in each if name not in NOT_CHOSEN]
    if not set(chosen) - COUNTS:
        raise InputError("nothing printed tells routes apart: give at least an estimate")
    distances: Array = np.stack([each[name] for name in chosen]).max(axis=0)
    fits = _fits(followed, printed, {name: each[name] for name in chosen})
    usual = np.array([route.usual for route in followed.routes])
    order = np.lexsort((_plainness(followed), distances, (fits > 0) & ~usual, -fits, _counts(each)))
    return Search(printed, samples, followed, order, fits, distances, each)


def _gaps(followed: Followed, name: str, number: PrintedNumber) -> Array:
    none = np.full(len(followed.routes), np.nan)
    found = gaps(followed.values.get(name, none), number)
    if name in ALSO:
        found = np.minimum(found, gaps(followed.values.get(ALSO[name], none), number))
    if name == "k":
        several = np.array([route.model in ("multilevel", "rve") for route in followed.routes])
        found = np.where(several, np.minimum(found, gaps(followed.values["n_effects"], number)), found)
    return found


def _fits(followed: Followed, printed: Mapping[str, PrintedNumber], each: Mapping[str, Array]) -> AnyArray:
    """Say of every route whether it rounds to what is printed (2), does so but for one digit cut off (1), or not.

    That one number in three reads as printed when its further digits are cut off is a slip that happens. One in one
    or two is no more than a second chance to agree.
    """
    rounded = np.stack([column <= 1.0 + HAIR for column in each.values()])
    none = np.full(len(followed.routes), np.nan)
    cut = np.stack(
        [
            np.zeros_like(rounded[0]) if name in COUNTS else cut_off(followed.values.get(name, none), printed[name])
            for name in each
        ]
    )
    measured = np.array([name not in COUNTS for name in each])
    one = (~rounded).sum(axis=0) == 1
    enough = rounded[measured].sum(axis=0) >= LEAST_BESIDE
    slip = one & (rounded | cut).all(axis=0) & enough
    return np.where(rounded.all(axis=0), 2, np.where(slip, 1, 0))


def _counts(each: Mapping[str, Array]) -> AnyArray:
    """Put routes to another number of studies than the printed one last."""
    wrong = np.zeros(len(next(iter(each.values()))), dtype=bool)
    for name in ("k", "n_effects"):
        if name in each:
            wrong |= each[name] > 1.0
    return wrong


def _plainness(followed: Followed) -> Array:
    """Break ties: usual routes first, without averaging before with."""
    return np.array([(not route.usual) * 2.0 + (route.per is not None) for route in followed.routes])
