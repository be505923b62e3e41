"""`reproduce`: printed results beside ours, and which choices make the difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.contract.description import PACKAGE
from alliance_meta.effects.contract.template import printed_moderators
from alliance_meta.effects.datasets import list_datasets, load_dataset
from alliance_meta.errors import CodingError, InputError
from alliance_meta.evidence.own_sheet import is_sheet, read_sheet
from alliance_meta.evidence.printed import agrees, read_printed
from alliance_meta.evidence.route_fit import follow
from alliance_meta.evidence.route_search import Found, Search, search
from alliance_meta.evidence.routes import Route, route_from
from alliance_meta.notes import NotApplicable

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from alliance_meta.effects.card import PublishedResult
    from alliance_meta.effects.sheet.coded import CodedTable

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
