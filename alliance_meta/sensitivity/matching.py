"""`match`: which choices lead from the rows of a meta-analysis to the number it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.evidence.printed import HAIR
from alliance_meta.evidence.reproduction import Found, Search, read_rows, search
from alliance_meta.evidence.routes import code
from alliance_meta.evidence.scan import PrintedLine, read_line
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result, said
from alliance_meta.results.fit import Noun
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

MOST = 8
EXTRA_DECIMALS = 2
# In half units of the last digit: no rounding, and hardly a choice of method, makes a number this different.
FAR = 20.0
SYMBOLS = {"ci_lb": "lower limit", "ci_ub": "upper limit", "n_effects": "effects", "pval": "p", "QEdf": "df"}


def _chance(found: RouteMatch) -> str:
    """Say of rare routes that agree what a search this wide makes of them."""
    if not found.fits:
        return ""
    many = len(found.fits)
    return (
        f" Of all {found.tried} routes {many} rare one{'s' if many > 1 else ''} would round to it "
        f"({found.fits[0].route.words}), which is what chance alone allows in a search this wide."
    )


def _slip(found: RouteMatch, one: Found) -> str:
    """Say which number was cut off."""
    name = next(name for name, gap in one.gaps.items() if gap > 1.0 + HAIR and name not in ("N",))
    number = found.search.printed[name]
    digits = number.decimals
    value = one.values[name]
    return (
        f"One gives it but for the {SYMBOLS.get(name, name)}: {_fixed(value, digits + EXTRA_DECIMALS)} rounds to "
        f"{_fixed(value, digits)} and reads {number.text} only if cut off."
    )


def _nearest(found: RouteMatch) -> str:
    near = found.nearest_usual
    if near is None:
        return ""
    values = found.search.followed.values["estimate"]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    digits = found.search.printed["estimate"].decimals + 1
    far = ""
    if near.distance > FAR:
        far = (
            f" All routes lie between {_fixed(low, digits)} and {_fixed(high, digits)}: no choice of method explains a "
            "gap this large; look for other rows, another sign, or a corrected value."
            if not low <= found.search.printed["estimate"].range.middle <= high
            else ""
        )
    return f"The nearest usual one is {near.route.words}: {_numbers(found, near)}.{far}"


def _printed(found: RouteMatch) -> str:
    """Write the printed result as a paper does."""
    printed = dict(found.printed)
    parts = [f"{found.scale} = {printed.pop('estimate')}"]
    if "ci_lb" in printed:
        parts[0] += f" [{printed.pop('ci_lb')}, {printed.pop('ci_ub')}]"
    parts += [f"{SYMBOLS.get(name, name)} {'' if text[:1] in '<>' else '= '}{text}" for name, text in printed.items()]
    return ", ".join(parts)


def _numbers(found: RouteMatch, one: Found) -> str:
    """Write what a route gives of the printed numbers, each with two digits more."""
    shown = []
    for name, number in found.search.printed.items():
        value = one.values.get(name, float("nan"))
        digits = 0 if name in ("k", "n_effects", "N", "QEdf") else number.decimals + EXTRA_DECIMALS
        symbol = found.scale if name == "estimate" else SYMBOLS.get(name, name)
        shown.append(f"{symbol} {_fixed(value, digits)}" if value == value else f"{symbol} not given")
    return ", ".join(shown)


def _fixed(value: float, digits: int) -> str:
    text = fixed(value, digits)
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


NEAREST = 5
SHOWN = ("k", "estimate", "se", "ci_lb", "ci_ub", "ddf", "tau2", "I2", "QE")
COLUMNS = ("rank", "route", "usual", "fit", "distance", "differs_in", *SHOWN)

NO_PROOF = (
    "That a route gives the printed digits is no proof that it was taken: many routes give the same few digits, and "
    "among many some agree by chance. What the paper says of its method counts for more."
)


@dataclass(frozen=True, eq=False, repr=False)
class RouteMatch(Result):
    """The routes from a table to a printed number, ranked by how near they come.

    Attributes
    ----------
    printed : mapping of str to str
        The printed numbers that were compared, by metafor's names.
    scale : {"r", "z"}
        Scale of the printed estimate.
    source : str
        Where the rows came from.
    search : Search
        Every route that was followed.
    """

    printed: Mapping[str, str]
    scale: str
    source: str
    search: Search = field(repr=False)
    notes: tuple[Note, ...] = ()

    @property
    def tried(self) -> int:
        """How many routes were followed."""
        return len(self.search)

    @property
    def usual(self) -> int:
        """How many of them are usual: what common programs do, or did, by default."""
        return int(self.search.usual.sum())

    different = Noun[int]("search.different", "How many different results the routes give, to the printed digits.")

    @cached_property
    def fits(self) -> tuple[Found, ...]:
        """Routes whose every number rounds to the printed one: the usual ones first, then by distance."""
        return tuple(self.search.best(fit="rounded"))

    @cached_property
    def slips(self) -> tuple[Found, ...]:
        """Routes that do so but for one number, whose digits were cut off instead of rounded."""
        return tuple(self.search.best(fit="cut off"))

    @cached_property
    def nearest(self) -> tuple[Found, ...]:
        """The nearest of the other routes."""
        return tuple(self.search.best(fit="no", most=NEAREST))

    @cached_property
    def nearest_usual(self) -> Found | None:
        """The best usual route, whether it fits or not."""
        return next(iter(self.search.best(usual=True, most=1)), None)

    @cached_property
    def best(self) -> Found:
        """The route that ranks first."""
        return self.search.best(most=1)[0]

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        result = _printed(self)
        usual = [one for one in self.fits if one.route.usual]
        all_of = f"{self.tried} routes, {self.usual} of them usual"
        if usual:
            rare = len(self.fits) - len(usual)
            beside = f", and {rare} rare one{'s' if rare > 1 else ''}" if rare else ""
            return (
                f"{len(usual)} of {self.usual} usual routes give{'s' if len(usual) == 1 else ''} {result}{beside}; "
                f"first: {usual[0].route.words}."
            )
        slips = [one for one in self.slips if one.route.usual]
        if slips:
            return (
                f"No usual route gives {result} by rounding alone. {_slip(self, slips[0])} The route: "
                f"{slips[0].route.words}." + _chance(self)
            )
        none = f"None of {self.usual} usual routes gives {result}." if self.fits or self.slips else ""
        none = none or f"NONE of {all_of}, gives {result}."
        return f"{none}{_chance(self)} {_nearest(self)}".strip()

    @property
    def outcome(self) -> str:
        """``"usual"``, ``"slip"``, ``"rare"`` or ``"none"``: what kind of route gives the printed number."""
        if any(one.route.usual for one in self.fits):
            return "usual"
        if any(one.route.usual for one in self.slips):
            return "slip"
        return "rare" if self.fits or self.slips else "none"

    @property
    def ranked(self) -> tuple[Found, ...]:
        """Those that fit, those with a slip, and the nearest of the others."""
        return (*self.fits, *self.slips, *self.nearest)

    def tidy(self) -> pd.DataFrame:
        """Return one row per route that fits, and the nearest of the others.

        Returns
        -------
        DataFrame
            ``rank route usual fit distance differs_in k estimate se ci_lb ci_ub ddf tau2 I2 QE``. ``distance`` is the
            largest one in half units of the last printed digit; ``differs_in`` compares with the first route.
        """
        first = self.best.route
        rows = [
            {
                "rank": rank,
                "route": one.route.words,
                "usual": one.route.usual,
                "fit": one.fit,
                "distance": one.distance,
                "differs_in": ", ".join(one.route.differs_from(first)),
                **{name: one.values.get(name, float("nan")) for name in SHOWN},
            }
            for rank, one in enumerate(self.ranked, 1)
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _values(self) -> dict[str, Any]:
        return {
            "printed": dict(self.printed),
            **self._these("scale", "source", "outcome", "verdict", "tried", "usual", "different"),
            "fits": len(self.fits),
            "routes": [_plain(one, rank) for rank, one in enumerate(self.ranked, 1)],
        }

    def _content(self) -> Document:
        many, first = len(self.fits), self.best.route
        counts = (
            f"{self.tried} routes followed, {self.usual} of them usual. To the printed digits they give "
            f"{self.different} different result{'s' if self.different != 1 else ''}; {many} "
            f"route{' gives' if many == 1 else 's give'} the printed one."
        )
        routes = []
        for rank, one in enumerate(self.ranked[:MOST], 1):
            kind = "usual" if one.route.usual else "rare"
            off = fixed(one.distance / 2, 1)
            fits = {"rounded": "fits", "cut off": "fits, one number cut off", "no": f"{off} units off"}
            routes += [f"{rank:>3}. {one.route.words} [{kind}; {fits[one.fit]}]", f"     {_numbers(self, one)}"]
            routes += [f"     differs from 1 in: {', '.join(one.route.differs_from(first))}"] if rank > 1 else []
        left = len(self.fits) + len(self.slips) - MOST
        routes += [f"     ... and {left} more that fit"] if left > 0 else []
        follow = [f"to follow the first: {code(first)}"] if (self.fits or self.slips) and code(first) else []
        title = f"printed: {_printed(self)} ({self.source})"
        return Document(title, [self.verdict, counts], [routes, follow], said(self.notes))


def match(
    printed: str | Mapping[str, str],
    table: CodedTable | pd.DataFrame | str | Path,
    *,
    scale: str | None = None,
    ri: str | None = None,
    ni: str | None = None,
    cluster: str | None = None,
    subset: str | None = None,
    level: float | None = None,
) -> RouteMatch:
    """Find the choices that lead from the rows of a meta-analysis to the number it prints.

    The same sixteen correlations give a mean of .123 or of .154, depending on choices that a paper need not name:
    the scale, the variance of a correlation, the estimator, the reference distribution of the interval, what was done
    with several effects of one study. This follows every combination that is in use, compares with the printed digits,
    and says which give them, in what they differ, and plainly if none does.

    Parameters
    ----------
    printed : str or mapping
        As the paper has it, ``"r = .149 [.087, .209], k = 16"``, or as text by name, ``{"estimate": ".149", "ci_lb":
        ".087", "ci_ub": ".209"}``; also ``k N se z t p QE QEdf I2 tau2``. The digits count: .30 binds further than .3.
    table : CodedTable, DataFrame, str or Path
        The rows; a file or the name of a data set are read.
    scale : {"r", "z"}, optional
        Scale of the printed estimate, if the text does not say; r by default.
    ri, ni : str, optional
        Columns with correlations and sample sizes, as in `escalc`.
    cluster : str, optional
        Column that says which effects belong together; by default studies, and samples within them.
    subset : str, optional
        Expression that picks rows.
    level : float, optional
        Of the printed interval, if the text does not say; .95 by default.

    Returns
    -------
    RouteMatch

    Raises
    ------
    InputError
        Numbers that cannot be read or have no estimate among them; rows that no effect can be made of.

    Notes
    -----
    A route fits if each of its numbers rounds to the printed one. A usual route is one that a common program takes by
    default; the others are told apart as rare, because among hundreds some agree by chance. `RouteMatch.different` says
    how much the printed digits can tell: where all routes give three results, a third of them agree whatever was done.

    Examples
    --------
    >>> import alliance_meta as am
    >>> found = am.sensitivity.match("z = .1499 [.0881, .2118], tau2 = .0081", am.load_dataset("molloy2014"))
    >>> [one.route.words for one in found.fits]
    ['Fisher z, REML, Wald z']
    """
    line = read_line(printed, scale=scale, level=level)
    rows = read_rows(table, ri, ni, who="match")
    found = search(rows, line.numbers, scale=line.scale, ri=ri, ni=ni, cluster=cluster, subset=subset, level=line.level)
    return RouteMatch(
        printed={name: number.text for name, number in line.numbers.items()},
        scale=line.scale,
        source=rows.provenance.dataset or rows.provenance.source,
        search=found,
        notes=merge_notes(rows.notes, found.samples.found[0].effects.notes, _notes(line, found)),
    )


def _notes(line: PrintedLine, found: Search) -> list[Note]:
    notes = [Note("no-proof", NO_PROOF)]
    if line.ignored:
        notes.append(Note("not-compared", f"Not compared: {', '.join(line.ignored)}."))
    notes += [Note("not-tried", f"{scale}: not tried. {why}") for scale, why in found.samples.skipped.items()]
    if "N" in found.each and min(found.each["N"]) > 1.0:
        people = found.found(int(found.order[0])).values.get("N", float("nan"))
        notes.append(
            Note("other-people", f"N = {line.numbers['N'].text} is printed, the table has {fixed(people, 0)} people.")
        )
    return notes


def _plain(one: Found, rank: int) -> dict[str, Any]:
    far = NotApplicable("this route does not give it")
    gaps = {name: far if value == float("inf") else value for name, value in one.gaps.items()}
    return {
        "rank": rank,
        "words": one.route.words,
        "usual": one.route.usual,
        "fit": one.fit,
        "distance": far if one.distance == float("inf") else one.distance,
        "route": one.route.to_dict(),
        "code": code(one.route),
        "values": dict(one.values),
        "gaps": gaps,
    }
