"""What a search for routes found, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta.evidence.closeness import HAIR
from alliance_meta.evidence.route_code import code
from alliance_meta.result import said
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from alliance_meta.evidence.route_search import Found
    from alliance_meta.sensitivity.matching import RouteMatch

MOST = 8
EXTRA_DECIMALS = 2
# In half units of the last digit: no rounding, and hardly a choice of method, makes a number this different.
FAR = 20.0
SYMBOLS = {"ci_lb": "lower limit", "ci_ub": "upper limit", "n_effects": "effects", "pval": "p", "QEdf": "df"}


def verdict(found: RouteMatch) -> str:
    """Say what was found."""
    result = _printed(found)
    usual = [one for one in found.fits if one.route.usual]
    all_of = f"{found.tried} routes, {found.usual} of them usual"
    if usual:
        rare = len(found.fits) - len(usual)
        beside = f", and {rare} rare one{'s' if rare > 1 else ''}" if rare else ""
        return (
            f"{len(usual)} of {found.usual} usual routes give{'s' if len(usual) == 1 else ''} {result}{beside}; first: "
            f"{usual[0].route.words}."
        )
    slips = [one for one in found.slips if one.route.usual]
    if slips:
        return (
            f"No usual route gives {result} by rounding alone. {_slip(found, slips[0])} The route: "
            f"{slips[0].route.words}." + _chance(found)
        )
    none = f"None of {found.usual} usual routes gives {result}." if found.fits or found.slips else ""
    none = none or f"NONE of {all_of}, gives {result}."
    return f"{none}{_chance(found)} {_nearest(found)}".strip()


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


def document(found: RouteMatch) -> Document:
    """Return verdict, counts and the first routes."""
    many, first = len(found.fits), found.best.route
    counts = (
        f"{found.tried} routes followed, {found.usual} of them usual. To the printed digits they give "
        f"{found.different} different result{'s' if found.different != 1 else ''}; {many} "
        f"route{' gives' if many == 1 else 's give'} the printed one."
    )
    routes = []
    for rank, one in enumerate(found.ranked[:MOST], 1):
        kind = "usual" if one.route.usual else "rare"
        off = fixed(one.distance / 2, 1)
        fit = {"rounded": "fits", "cut off": "fits, one number cut off", "no": f"{off} units off"}
        routes += [f"{rank:>3}. {one.route.words} [{kind}; {fit[one.fit]}]", f"     {_numbers(found, one)}"]
        routes += [f"     differs from 1 in: {', '.join(one.route.differs_from(first))}"] if rank > 1 else []
    left = len(found.fits) + len(found.slips) - MOST
    routes += [f"     ... and {left} more that fit"] if left > 0 else []
    follow = [f"to follow the first: {code(first)}"] if (found.fits or found.slips) and code(first) else []
    title = f"printed: {_printed(found)} ({found.source})"
    return Document(title, [found.verdict, counts], [routes, follow], said(found.notes))


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
