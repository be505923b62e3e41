"""`reproduce`: printed results beside ours, and which choices make the difference; also of a typed sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.conditions import check_subset
from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.description import PACKAGE
from alliance_meta.effects.contract.template import printed_moderators
from alliance_meta.effects.converting.rows import convert
from alliance_meta.effects.datasets import list_datasets, load_dataset
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.effects.sheet.examine import examine
from alliance_meta.effects.sheet.ingest import read_coded
from alliance_meta.errors import CodingError, InputError, quiet
from alliance_meta.evidence.printed import HAIR, Fit, PrintedNumber, agrees, cut_off, gaps, read_printed
from alliance_meta.evidence.route_engine import (
    Followed,
    Samples,
    follow,
    join,
    make_samples,
    one_level,
    several_levels,
    simple_means,
)
from alliance_meta.evidence.routes import TESTS, Route, route_from
from alliance_meta.formulas import parse_formula
from alliance_meta.notes import NotApplicable

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


SHEETS = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm")


def is_sheet(name: str | Path) -> bool:
    """Tell a file from the name of a shipped data set."""
    path = Path(name)
    return path.suffix.lower() in SHEETS or path.name != str(name) or path.is_file()


def read_sheet(name: str | Path, **naming: Any) -> tuple[CodedTable, list[PublishedResult]]:
    """Return the rows of a sheet and the printed results beside it; `naming` says what `SheetOptions` does.

    Raises `CodingError`, `InputError`: errors in the sheet; no printed result beside it, or one that cannot be read.
    """
    reading = examine(name, hold="read", **naming)
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    wrong = [problem for problem in reading.problems if problem.kind in ("description", "published")]
    if wrong:
        raise CodingError(wrong, source=reading.source)
    if not reading.published:
        raise InputError(
            f"{reading.source} has no printed result beside it; `alliance-meta template NAME` writes a sheet with one, "
            f"or name it in {PACKAGE}: alliance_meta.published = [{{'printed': {{'estimate': '.275', 'k': '190'}}}}]"
        )
    table = with_r(reading.table)
    for place, result in enumerate(reading.published):
        _check(result, list(table.columns), f"{PACKAGE}: alliance_meta.published[{place}]")
    return table, list(reading.published)


def read_rows(table: Any, ri: str | None, ni: str | None, *, who: str) -> CodedTable:
    """Return the rows that a user names: a table, a data frame, a file, or a shipped data set; `who` asks."""
    if isinstance(table, CodedTable):
        return table
    if isinstance(table, pd.DataFrame):
        return CodedTable(table, Provenance(source="data frame"))
    if not isinstance(table, str | Path):
        raise InputError(f"{who} needs rows: a table, a file or the name of a data set, not {type(table).__name__}")
    return with_r(read_coded(table, ri=ri, ni=ni)) if is_sheet(table) else load_dataset(str(table))


def printed_results(name: str | Path, **naming: Any) -> tuple[PublishedResult, ...]:
    """Return the printed results of a sheet or of a shipped data set."""
    if is_sheet(name):
        return tuple(read_sheet(name, **naming)[1])
    card = load_dataset(str(name)).card
    return () if card is None else card.published


def _check(result: PublishedResult, columns: list[str], where: str) -> None:
    """Refuse what a description asks for and no table can give, before anything is run."""
    if result.subset is not None:
        check_subset(result.subset, columns, where=f"{where}.subset")
    if result.route is None:
        return
    route = route_from(result.route, where=f"{where}.route")
    if route.subset is not None:
        check_subset(route.subset, columns, where=f"{where}.route.subset")
    parse_formula(route.mods, where=f"{where}.route.mods")


def with_r(table: CodedTable) -> CodedTable:
    """Make r of other statistics where the sheet has them."""
    if "es_type" not in table.columns or table.column("es_type").isna().all():
        return table
    with quiet():
        return convert(table)


COLUMNS = ("dataset", "result", "source", "kind", "quantity", "scale", "printed", "ours", "agrees", "route", "note")


def reproduce(name: str | Path | None = None) -> pd.DataFrame:
    """Compute the printed results of a data set, or of your own sheet, anew and say which agree.

    When a student's number differs from the paper's, a choice nobody wrote down is the usual reason: the
    estimator, the scale, the variance of r, the reference distribution. Where the route to a printed result
    is known it is followed. Where it is not, the nearest of the usual routes is shown, with a plain word if
    none of them gives the printed digits; rarer routes that happen to round to them are named, not counted.

    Type the studies of a published meta-analysis into the sheet that `write_template` makes, and this says whether
    they give its number: the printed result stands in the ``datapackage.json`` beside the sheet. Where a study (or
    sample) has several rows, three-level models and one mean per study are tried too. Means at levels of moderators
    that the article prints stand there as well: write the rows of each into ``subset``, such as ``"alliance_rater ==
    'client'"``, and they are compared too, by the route of the whole. What it says of moderators without a value is
    listed as it says it. `sensitivity.match` shows all routes, not only the nearest.

    Parameters
    ----------
    name : str or Path, optional
        A data set, or the file of a coding sheet; by default every data set that has a printed result.

    Returns
    -------
    DataFrame
        One row per printed number: ``dataset result source kind quantity scale printed ours agrees route
        note``. ``printed`` is text, because its digits say how far it binds; ``ours`` is unrounded;
        ``agrees`` is True when ours rounds to it, and None where nothing was run. ``kind`` says who printed
        it: ``published`` (the article), ``recalculated`` (a later paper) or ``documentation`` (a package).

    Raises
    ------
    InputError
        An unknown data set, or one without any printed result; a sheet with errors, all of them at once.

    Examples
    --------
    >>> from alliance_meta.evidence import reproduce
    >>> table = reproduce("molloy2014")
    >>> table.loc[table["quantity"] == "estimate", ["scale", "printed", "agrees"]].values.tolist()
    [['z', '0.1499', True], ['r', '0.149', True]]
    """
    import pandas as pd

    if name is not None and is_sheet(name):
        rows = list(_sheet_rows(name))
    elif name is not None:
        rows = _table_rows(load_dataset(str(name)))
    else:
        tables = [load_dataset(one) for one in list_datasets()["name"]]
        rows = [row for table in tables if table.card and table.card.published for row in _table_rows(table)]
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    # A float column would turn the reason of a NotApplicable into a bare NaN.
    out["ours"] = pd.Series([row["ours"] for row in rows], dtype=object)
    return out


def _table_rows(table: CodedTable) -> list[dict[str, Any]]:
    card = table.card
    if card is None or not card.published:
        name = table.provenance.dataset
        raise InputError(f"{name} has no printed result to reproduce; `alliance-meta data show {name}` says what it is")
    return [row for result in card.published for row in _rows(table, result, _follow(table, result))]


def _sheet_rows(name: str | Path) -> Iterator[dict[str, Any]]:
    """Compare a typed sheet with what is printed of it, moderators included."""
    table, results = read_sheet(name)
    whole: Route | None = None
    for result in results:
        followed = _level(table, result, whole) if result.moderator else _follow(table, result)
        whole = whole or followed.taken
        yield from _rows(table, result, followed)
    for result in results:
        yield from _verdict_rows(table, result)


@dataclass(frozen=True)
class _Followed:
    """Our numbers, the route in words, a note, and the route itself if one was taken."""

    ours: Mapping[str, float]
    route: str
    note: str
    taken: Route | None = None


def _rows(table: CodedTable, result: PublishedResult, followed: _Followed) -> Iterator[dict[str, Any]]:
    for quantity, printed in result.printed.items():
        value = followed.ours.get(quantity, NotApplicable("not computed here"))
        of = result.moderator or ("" if result.coefficient == "intrcpt" else result.coefficient)
        name = f"{quantity} [{of}]" if of else quantity
        reason = f" ({name}: {value.reason})" if isinstance(value, NotApplicable) else ""
        yield {
            "dataset": table.card.name if table.card else table.provenance.source,
            "result": result.id,
            "source": f"{result.source}; {result.where}",
            "kind": result.kind,
            "quantity": name,
            "scale": result.scale,
            "printed": printed,
            "ours": value,
            "agrees": None if reason else agrees(value, printed),
            "route": followed.route,
            "note": f"{followed.note}{reason}".strip(),
        }


def _follow(table: CodedTable, result: PublishedResult) -> _Followed:
    if result.route is not None:
        route = route_from(result.route)
        values = follow(route, table, scale=result.scale, coefficient=result.coefficient)
        return _Followed(values, route.words, result.note, route)
    if not result.search:
        return _Followed({}, "none built here", result.note)
    found = search(table, read_printed(result.printed), scale=result.scale, subset=result.subset)
    best = _best(found)
    verdict = _verdict(found, printed=result.printed.get("estimate", "the printed value"))
    count = _count(best, result.printed.get("k"))
    note = " ".join(part for part in (verdict, count, result.note) if part)
    return _Followed(_numbers(best, result.printed.get("k")), best.route.words, note, best.route)


def _numbers(one: Found, k: str | None) -> Mapping[str, float]:
    """Return what a route gives; k of a multilevel model is the number of studies or of effects, as printed."""
    if k is None or one.gaps["k"] > 1.0 or agrees(one.values["k"], k):
        return one.values
    return {**one.values, "k": one.values["n_effects"]}


def _best(found: Search) -> Found:
    """Return the nearest usual route, one that fits if any does."""
    return (found.best(fit="rounded", usual=True, most=1) or found.best(usual=True, most=1))[0]


def _level(table: CodedTable, result: PublishedResult, whole: Route | None) -> _Followed:
    """Compare the mean at one level of a moderator: by the route of the whole, else by the nearest usual one."""
    if result.subset is None:
        return _Followed({}, "not run", f"Say which rows are meant: subset in {PACKAGE}. {result.note}".strip())
    try:
        found = search(table, read_printed(result.printed), scale=result.scale, subset=result.subset)
    except CodingError as error:
        return _Followed({}, "not run", str(error))
    routes = found.followed.routes
    same = None if whole is None else replace(whole, subset=result.subset)
    one = found.found(routes.index(same)) if same in routes else _best(found)
    how = "By the route of the whole" if same in routes else "The route of the whole cannot be followed on these rows"
    if not one.agrees and found.count(usual=True):
        others = found.count(usual=True)
        which = "1 other usual route gives it" if others == 1 else f"{others} other usual routes give it"
        one, how = _best(found), f"{how}, it is not given; {which}"
    count = _count(one, result.printed.get("k"))
    note = " ".join(part for part in (f"{how}, each level alone.", count, result.note) if part)
    return _Followed(_numbers(one, result.printed.get("k")), one.route.words, note, one.route)


def _verdict_rows(table: CodedTable, result: PublishedResult) -> Iterator[dict[str, Any]]:
    """Show what the article prints of moderators without a value."""
    name = result.id.removesuffix("-printed")
    if result.moderator or name == result.id:
        return
    for row in printed_moderators(name):
        if row["estimate"] and "INTERCEPT" not in row["level"]:
            continue
        yield {
            "dataset": table.provenance.source,
            "result": f"{name}-moderators",
            "source": f"{result.source}; {result.where}",
            "kind": result.kind,
            "quantity": f"moderator [{row['moderator']}]",
            "scale": result.scale,
            "printed": ", ".join(part for part in (row["level"], row["test_statistic"], _p(row["p"])) if part),
            "ours": NotApplicable("the article prints no value of this level"),
            "agrees": None,
            "route": "none: the article prints no value of a level",
            "note": row["notes"],
        }


def _p(text: str) -> str:
    return text and (f"p {text}" if text[:1] in "<>=" else f"p = {text}")


def _count(best: Found, printed: str | None) -> str:
    """Say that the table has more or fewer effects than were printed: no choice of method mends that."""
    if printed is None or best.gaps["k"] <= 1.0:
        return ""
    k = int(best.values["k"])
    return (
        f"The table gives k = {k} where {printed} is printed: {'rows lack' if k < float(printed) else 'too many rows'}."
    )


def _verdict(found: Search, *, printed: str) -> str:
    """Say what a search shows; that a route gives the printed digits is no proof that the authors took it."""
    usual, fitting = int(found.usual.sum()), found.count(usual=True)
    if fitting:
        which = "this one gives" if fitting == 1 else f"{fitting} of {usual} usual ones, such as this, give"
        return f"The article does not say its route; {which} the printed digits, which does not prove it was taken."
    verdict = f"NOT reproduced: none of the {usual} usual routes gives {printed}; the nearest is shown."
    chance = found.best(fit="rounded")
    if chance:
        verdict += (
            f" Of all {len(found)} routes {len(chance)} would round to it ({chance[0].route.words}), "
            "which is what chance alone allows in a search this wide."
        )
    return verdict
