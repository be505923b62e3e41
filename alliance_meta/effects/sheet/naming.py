"""Which column of a sheet is which: its own names, the usual other names, what the user says, and what lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.effects.sheet.columns import ALIASES, LABEL_NAMES, canonical_name, is_missing, number_of, rank_of
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.reading import Sheet
from alliance_meta.errors import InputError
from alliance_meta.notes import Measure, check_option, did_you_mean, shell_words


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


VARIANCE = _set("v vi var variance variances")
ERROR = _set("se sei stderr std error sterr stde ste standarderror")
FISHER = _set("z zr zi zcor fisher fishers fisherz fz rz")
CORRELATION = _set("r ri cor corr correlation correlations pearson rho rs spearman")
# Names of effects that say nothing of their kind; those of differences; those of one arm of a trial.
NEUTRAL = _set("es effect effects effectsize estimate est")
DIFFERENCE = re.compile(r"cohen|hedge|smd|odds|ratio|(?<![a-z])(?:ln|log)")
ARM = re.compile(r"[0-9]|group|control|ctrl|treat|trt|exp")
EFFECT = FISHER | NEUTRAL | _set(
    "yi y te g d smd md hedges hedge cohen dppc lnrr lnor logor lor logrr lrr rom lnhr loghr diff difference b beta di "
    "gi"
)  # fmt: skip
# Limits of intervals; other statistics, and what is whole or small without being a sample size or a correlation.
LOWER, UPPER = _set("ll lb lower low lcl lo"), _set("ul ub upper upp up ucl hi high")
OTHER = LOWER | UPPER | _set(
    "p pval pvalue t tval f chi chisq chi2 r2 rsq rsquared i2 tau tau2 q df alpha weight weights w ci sd sig rel icc "
    "reliability kappa mean m zval prop proportion percent rate score id age year week weeks session sessions page "
    "items se2 sq squared"
)  # fmt: skip
SIZE = _set(
    "n ni ntotal ntot nobs size samplesize participants people persons subjects clients patients respondents dyads "
    "pairs cases observations"
)
YEARS, MOST_PAIRS = (1900, 2100), 3


@dataclass(frozen=True)
class Suggestions:
    """What could be meant: the columns of r and n, or the words that name finished effects."""

    r: str | None
    n: str | None
    finished: str | None
    limits: str | None = None


def suggest(sheet: Sheet) -> Suggestions:
    """Look for columns that could be r, n, or finished effects with their variances."""
    values = {name: column for name in sheet.header if (column := _numbers(name, sheet.columns[name])) is not None}
    sizes = [name for name, column in values.items() if _could_be_n(name, column)]
    n = sizes[0] if len(sizes) == 1 else None
    finished = _finished_words(values, n)
    correlations = [name for name, column in values.items() if _could_be_r(name, column)]
    named = [name for name in correlations if _words(name) & CORRELATION]
    if named and finished is not None and not _words(named[0]) & {"z"}:
        finished = None
    chosen = named if len(named) == 1 else correlations
    limits = None if finished else _limits_words(values)
    return Suggestions(chosen[0] if len(chosen) == 1 else None, n, finished, limits)


def _words(name: str) -> set[str]:
    """Return the words of a header, in lower case; a statistic glued to another (``seTE``, ``vg``) is split."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("²", "2").replace("^", "")
    words = set(re.findall(r"[a-z]+2?", spaced.casefold()))
    squeezed = spaced.casefold().replace(" ", "")
    words |= {squeezed} & EFFECT
    glued = re.fullmatch(r"(se|var|v)_?(te|d|g|z|zr|r|es|yi|smd|l(?:n|og)(?:rr|or|hr)|lor|md|diff)i?", squeezed)
    return words | {part for part in glued.groups() if part} if glued else words


def _numbers(name: str, cells: list[str]) -> Array | None:
    """Return the numbers of a column of numbers, None for any other."""
    if canonical_name(name) in LABEL_NAMES:
        return None
    filled = [cell for cell in cells if not is_missing(cell)]
    numbers = [number_of(cell) for cell in filled]
    values = np.array([number for number in numbers if number is not None])
    return values if values.size and values.size == len(filled) else None


def _could_be_r(name: str, values: Array) -> bool:
    words = _words(name)
    if words & (VARIANCE | ERROR | OTHER | FISHER) or (np.abs(values) >= 1).any() or not values.any():
        return False
    if DIFFERENCE.search(name.casefold()) or words & (EFFECT - NEUTRAL):
        return False
    # Variances, standard errors, shares and p-values are all positive, so only a name or a minus sign tells.
    return bool(words & CORRELATION) or bool((values < 0).any())


def _could_be_n(name: str, values: Array) -> bool:
    whole = bool((values >= 1).all() and (values == np.round(values)).all() and values.max() >= 10)
    years = bool(((values >= YEARS[0]) & (values <= YEARS[1])).all())
    words = _words(name)
    # n1i, n.t and nTi count one arm of a trial.
    arm = any(len(word) < 3 and word not in SIZE for word in words) or ARM.search(name.casefold()) is not None
    return whole and not years and bool(words & SIZE) and not arm and not words & (VARIANCE | ERROR | OTHER)


def _finished_words(values: dict[str, Array], n: str | None) -> str | None:
    """Return the words that name finished effects, e.g. ``yi='es.z', vi='vi.z', measure='ZCOR'``."""
    for kind, marks in (("vi", VARIANCE), ("sei", ERROR)):
        pairs: dict[str, str] = {}
        for second, numbers in values.items():
            if not _words(second) & marks or not (numbers > 0).all() or _words(second) & (OTHER - {"sd"}):
                continue
            effect = _effect_of(second, values)
            if effect is not None:
                pairs.setdefault(effect, second)
        if pairs:
            return ", or ".join(_as_words(effect, kind, pairs[effect]) for effect in list(pairs)[:MOST_PAIRS])
    effects = [name for name in values if _words(name) & FISHER and not _words(name) & (VARIANCE | ERROR | OTHER)]
    return _as_words(effects[0], "ni", n) if len(effects) == 1 and n is not None else None


def _limits_words(values: dict[str, Array]) -> str | None:
    """Return what makes standard errors of limits that stand beside an effect, as ``g_LL`` and ``g_UL`` do."""
    for low in (name for name in values if _words(name) & LOWER):
        stem = _words(low) - LOWER
        highs = [name for name in values if _words(name) & UPPER and _words(name) - UPPER == stem]
        effects = [name for name in values if _words(name) == stem]
        if highs and effects and _lies_between(*(values[name] for name in (low, effects[0], highs[0]))):
            return (
                f"{low!r} and {highs[0]!r} seem to be limits of {effects[0]!r}: in 95% intervals their difference / "
                f"3.92 is the standard error (that of logarithms for a ratio, of Fisher's z for a correlation); add it "
                f"as a column and name both with yi={effects[0]!r} and sei="
            )
    return None


def _lies_between(low: Array, middle: Array, high: Array) -> bool:
    return low.size == middle.size == high.size and bool(((low <= middle) & (middle <= high)).all())


def _effect_of(second: str, values: dict[str, Array]) -> str | None:
    """Return the effects that belong to a column of variances: of the same stem, else the only ones."""
    others = [
        name for name in values if name != second and not _words(name) & (VARIANCE | ERROR | OTHER) and _is_effect(name)
    ]
    stem = _words(second) - VARIANCE - ERROR
    same = [name for name in others if stem and stem <= _words(name)]
    return same[0] if same else others[0] if len(others) == 1 else None


def _is_effect(name: str) -> bool:
    return bool(_words(name) & (EFFECT | CORRELATION))


def _as_words(effect: str, kind: str, second: str) -> str:
    words = _words(effect)
    options = {"yi": effect, kind: second}
    if words & FISHER:
        options["measure"] = "ZCOR"
    elif words & CORRELATION:
        options["measure"] = "COR"
    said = ", ".join(f"{name}={value!r}" for name, value in options.items())
    typed = shell_words(*(word for name, value in options.items() for word in (f"--{name}", value)))
    check = ", if it is Fisher's z and no test" if kind == "ni" else ""
    return f"{said} (command line: {typed}){check}"


# What the columns of finished effects hold, in the order of preference.
SECONDS = ("vi", "sei")


@dataclass(frozen=True)
class SheetOptions:
    """What the user says of a sheet, in the words of `read_coded`."""

    ri: str | None = None
    ni: str | None = None
    yi: str | None = None
    vi: str | None = None
    sei: str | None = None
    study: str | None = None
    measure: Measure | None = None
    sheet: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        codes = (self.missing,) if isinstance(self.missing, str | int | float) else tuple(self.missing)
        object.__setattr__(self, "missing", tuple(map(str, codes)))
        if self.measure is not None:
            check_option("measure", self.measure, Measure)
        used: dict[str, str] = {}
        for option, column in self.named.items():
            if used.setdefault(column, option) != option:
                first, pair = used[column], f"{_plain(used[column])} and {_plain(option)}"
                raise InputError(f"{first} and {option} both name the column {column!r}; {pair} need a column each")
        if self.ri is not None and (self.yi or self.vi or self.sei):
            raise InputError("ri= names correlations and yi=, vi=, sei= finished effects; give one or the other")
        if self.vi is not None and self.sei is not None:
            raise InputError("vi= and sei= say the same thing twice; give the variances or the standard errors")

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The columns that the user named, by option."""
        options = ("ri", "ni", "yi", "vi", "sei")
        return {option: value for option in options if (value := getattr(self, option)) is not None}

    def known_as(self, cell: str) -> str | None:
        """Return the column that a header cell stands for, given the columns that the user named."""
        for option, column in self.named.items():
            if cell == column:
                return _plain(option)
        name = canonical_name(cell)
        return None if name in [_plain(option) for option in self.named] else name


def _plain(option: str) -> str:
    """Return what an option's column is called in the contract."""
    return {"ri": "r", "ni": "n"}.get(option, option)


@dataclass(frozen=True)
class Finished:
    """The columns of finished effects: `yi`, and `second`, which holds their ``kind``: "vi", "sei" or "ni"."""

    yi: str
    second: str
    kind: str


@dataclass(frozen=True)
class Names:
    """The columns by name.

    `names` gives the name in the table by that in the file; `r` and `n` are the columns of correlations and sample
    sizes, whether they are there or not; `finished` those of effects that take their place; `convertible` says that r
    can be made of other statistics, and `study` is the column that the user named so.
    """

    names: dict[str, str]
    r: str = "r"
    n: str = "n"
    finished: Finished | None = None
    convertible: bool = False
    study: str | None = None


def name_columns(sheet: Sheet, options: SheetOptions, found: Findings) -> Names:
    """Name every column; announce renamed ones, report r and n where they lack."""
    names = {header: header for header in sheet.header}
    wanted = {_plain(option): column for option, column in options.named.items()}
    named = {**options.named, **({} if options.study is None else {"study": options.study})}
    for option, column in named.items():
        if column not in names:
            _lacks_named(sheet, option, column, found)
    meant = {header: canonical_name(header) for header in sheet.header if header not in named.values()}
    for name in ALIASES:
        if name in wanted or name in names or name in named:
            continue
        candidates = [header for header, known in meant.items() if known == name]
        candidates.sort(key=lambda header: rank_of(header, name))
        if len(candidates) > 1 and name in ("r", "n"):
            _ambiguous(sheet, name, candidates, found)
        elif candidates:
            names[candidates[0]] = name
            found.note("column-name", f"{sheet.source}: column {candidates[0]!r} is read as {name!r}")
    there = set(names.values())
    r, n = wanted.get("r", "r"), wanted.get("n", "n")
    convertible = "es_type" in there and not options.named
    finished = None if convertible else _finished(there, wanted, r, n, options)
    if finished is None and not convertible:
        _report_lacking(sheet, options, there, found)
    if finished is not None:
        _announce_finished(sheet, finished, options, found)
    elif convertible and not {"r", "n"} <= there:
        found.note("convertible", f"{sheet.source}: r can be made of es_type and es_value; see convert")
    study = options.study if options.study in names else None
    return Names(names, r, n, finished, convertible and not {"r", "n"} <= there, study)


def _finished(there: set[str], wanted: Mapping[str, str], r: str, n: str, options: SheetOptions) -> Finished | None:
    """Tell whether finished effects stand in for r and n: because the user names them, or because r or n lacks."""
    said = any(name in wanted for name in ("yi", *SECONDS))
    if not said and (options.named or {r, n} <= there):
        return None
    yi = wanted.get("yi", "yi")
    kinds = [kind for kind in SECONDS if kind in wanted] or list(SECONDS)
    second = next((kind for kind in kinds if wanted.get(kind, kind) in there), None)
    if yi not in there:
        return None
    if second is not None:
        return Finished(yi, wanted.get(second, second), second)
    # The variance of Fisher's z follows from n alone.
    return Finished(yi, n, "ni") if options.measure == "ZCOR" and n in there else None


def _announce_finished(sheet: Sheet, finished: Finished, options: SheetOptions, found: Findings) -> None:
    columns = f"{finished.yi} and {finished.second}"
    said = "as named" if options.named else "without r and n"
    scale = f" ({options.measure})" if options.measure else ""
    text = f"{sheet.source}: {said}, {columns} are read as finished effects{scale}"
    if finished.kind == "ni":
        text += ", with the variance 1/(n - 3) of Fisher's z"
    found.note("finished-effects", text)


def _report_lacking(sheet: Sheet, options: SheetOptions, there: set[str], found: Findings) -> None:
    """Report the columns without which there is no effect, with those that could be meant."""
    ambiguous = {problem.value for problem in found.problems if problem.kind == "ambiguous-column"}
    said = [option for option in ("yi", *SECONDS) if option in options.named]
    if said:
        if all(options.named[option] in there for option in said):
            _lacks_other_half(sheet, said, found)
        return
    lacking = [
        name
        for name, option in (("r", "ri"), ("n", "ni"))
        if option not in options.named and name not in there and name not in ambiguous
    ]
    if not lacking:
        return
    suggested = suggest(sheet)
    # Where finished effects seem to be there, one line says it all.
    for place, name in enumerate(lacking[:1] if suggested.finished else lacking):
        _lacks(sheet, name, suggested, found, first=place == 0)


def _lacks_other_half(sheet: Sheet, said: list[str], found: Findings) -> None:
    need = "vi= or sei= (command line: --vi or --sei) with their variances or standard errors"
    if said[0] != "yi":
        need = "yi= (command line: --yi) with the effects"
    else:
        need += "; Fisher's z (measure='ZCOR') needs only n"
    message = f"{said[0]} is named without its other half: add {need}. {_columns(sheet)}"
    found.error(None, None, None, message, kind="lacks-column")


def _columns(sheet: Sheet) -> str:
    return f"Columns found: {', '.join(map(repr, sheet.header))}"


def _ambiguous(sheet: Sheet, name: str, candidates: list[str], found: Findings) -> None:
    listed = " and ".join(map(repr, candidates))
    option = f"{name}i"
    found.error(
        sheet.header_line,
        None,
        name,
        f"{listed} could each be {name}; say which: {option}={candidates[0]!r} "
        f"(command line: {shell_words(f'--{option}', candidates[0])})",
        kind="ambiguous-column",
    )


def _lacks_named(sheet: Sheet, option: str, column: str, found: Findings) -> None:
    hint = did_you_mean(column, list(sheet.header)) or "."
    message = f"there is no column {column!r}{hint} {_columns(sheet)}"
    found.error(None, None, None, message, kind="lacks-column")


def _lacks(sheet: Sheet, name: str, suggested: Suggestions, found: Findings, *, first: bool) -> None:
    hint = f" (nor {', '.join(alias for alias in ALIASES[name][1:4])})"
    column = {"r": suggested.r, "n": suggested.n}[name]
    if suggested.finished is not None and first:
        hint += f"; finished effects seem to be there: say {suggested.finished}"
    elif suggested.finished is None:
        option = f"{name}i"
        example = "..." if column is None else column
        typed = shell_words(f"--{option}", column) if column is not None else f"--{option} ..."
        hint += f"; if another column holds it, say {option}={example!r} (command line: {typed})"
        if first and suggested.limits is not None:
            hint += f"; {suggested.limits}"
        elif first:
            hint += "; finished effects need yi= with vi= or sei= (command line: --yi, --vi, --sei)"
    message = f"there is no column {name!r}{hint}. {_columns(sheet)}"
    found.error(None, None, None, message, kind="lacks-column")
