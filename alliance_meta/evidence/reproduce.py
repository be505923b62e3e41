"""`reproduce`: printed results beside ours, and which choices make the difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.datasets import list_datasets, load_dataset
from alliance_meta.errors import InputError
from alliance_meta.evidence.closeness import agrees, read_printed
from alliance_meta.evidence.own_sheet import is_sheet, sheet_rows
from alliance_meta.evidence.route_fit import follow
from alliance_meta.evidence.route_search import Found, Search, search
from alliance_meta.evidence.routes import route_from
from alliance_meta.not_applicable import NotApplicable

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from alliance_meta.effects.card import PublishedResult
    from alliance_meta.effects.coded import CodedTable

COLUMNS = ("dataset", "result", "source", "kind", "quantity", "scale", "printed", "ours", "agrees", "route", "note")


def reproduce(name: str | Path | None = None) -> pd.DataFrame:
    """Compute the printed results of a data set, or of your own sheet, anew and say which agree.

    When a student's number differs from the paper's, a choice nobody wrote down is the usual reason: the
    estimator, the scale, the variance of r, the reference distribution. Where the route to a printed result
    is known it is followed. Where it is not, the nearest of the usual routes is shown, with a plain word if
    none of them gives the printed digits; rarer routes that happen to round to them are named, not counted.

    Type the studies of a published meta-analysis into the sheet that `write_template` makes, and this says whether
    they give its number: the printed result stands in the ``datapackage.json`` beside the sheet. Where a study (or
    sample) has several rows, routes with one mean per study are tried too.

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
    >>> from alliance_meta import reproduce
    >>> table = reproduce("molloy2014")
    >>> table.loc[table["quantity"] == "estimate", ["scale", "printed", "agrees"]].values.tolist()
    [['z', '0.1499', True], ['r', '0.149', True]]
    """
    import pandas as pd

    if name is not None and is_sheet(name):
        rows = list(sheet_rows(name, _result_rows))
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
    return [row for result in card.published for row in _result_rows(table, result)]


def _result_rows(table: CodedTable, result: PublishedResult) -> Iterator[dict[str, Any]]:
    ours, route, note = _follow(table, result)
    for quantity, printed in result.printed.items():
        value = ours.get(quantity, NotApplicable("not computed here"))
        yield {
            "dataset": table.card.name if table.card else table.provenance.source,
            "result": result.id,
            "source": f"{result.source}; {result.where}",
            "kind": result.kind,
            "quantity": quantity if result.coefficient == "intrcpt" else f"{quantity} [{result.coefficient}]",
            "scale": result.scale,
            "printed": printed,
            "ours": value,
            "agrees": None if isinstance(value, NotApplicable) else agrees(value, printed),
            "route": route,
            "note": f"{note} ({quantity}: {value.reason})".strip() if isinstance(value, NotApplicable) else note,
        }


def _follow(table: CodedTable, result: PublishedResult) -> tuple[dict[str, float], str, str]:
    """Return our numbers, the route in words and a note."""
    if result.route is not None:
        route = route_from(result.route)
        return follow(route, table, scale=result.scale, coefficient=result.coefficient), route.words, result.note
    if not result.search:
        return {}, "none built here", result.note
    found = search(table, read_printed(result.printed), scale=result.scale)
    best = (found.best(fit="rounded", usual=True, most=1) or found.best(usual=True, most=1))[0]
    verdict = _verdict(found, printed=result.printed.get("estimate", "the printed value"))
    count = _count(best, result.printed.get("k"))
    return dict(best.values), best.route.words, " ".join(part for part in (verdict, count, result.note) if part)


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
