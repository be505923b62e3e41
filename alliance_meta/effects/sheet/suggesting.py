"""Which columns could be r, n or finished effects, by their names and by their values; proposed, never taken."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.effects.sheet.columns import LABEL_NAMES, canonical_name, is_missing, number_of
from alliance_meta.effects.sheet.reading import Sheet
from alliance_meta.options import shell_words

VARIANCE = frozenset({"v", "vi", "var", "variance", "variances"})
ERROR = frozenset({"se", "sei", "stderr", "std", "error", "sterr", "stde", "ste", "standarderror"})
FISHER = frozenset({"z", "zr", "zi", "zcor", "fisher", "fishers", "fisherz", "fz", "rz"})
CORRELATION = frozenset({"r", "ri", "cor", "corr", "correlation", "correlations", "pearson", "rho", "rs", "spearman"})
EFFECT = FISHER | {
    *("yi", "y", "te", "es", "effect", "effects", "g", "d", "smd", "md", "hedges", "hedge", "cohen", "estimate", "est"),
    *(
        "dppc",
        "lnrr",
        "lnor",
        "logor",
        "lor",
        "logrr",
        "lrr",
        "rom",
        "diff",
        "difference",
        "b",
        "beta",
        "di",
        "gi",
        "effectsize",
    ),
}
# Other statistics, and what is whole or small without being a sample size or a correlation.
OTHER = frozenset(
    {
        *(
            "p",
            "pval",
            "pvalue",
            "t",
            "tval",
            "f",
            "chi",
            "chisq",
            "chi2",
            "r2",
            "rsq",
            "rsquared",
            "i2",
            "tau",
            "tau2",
        ),
        *("q", "df", "alpha", "weight", "weights", "w", "ci", "lb", "ub", "lower", "upper", "low", "high", "sd", "sig"),
        *("reliability", "rel", "icc", "kappa", "mean", "m", "zval", "prop", "proportion", "percent", "rate"),
        *(
            "score",
            "id",
            "age",
            "year",
            "week",
            "weeks",
            "session",
            "sessions",
            "page",
            "items",
            "se2",
            "sq",
            "squared",
        ),
    }
)
SIZE = frozenset(
    {
        *("n", "ni", "ntotal", "ntot", "nobs", "size", "samplesize", "participants", "people", "persons"),
        *("subjects", "clients", "patients", "respondents", "dyads", "pairs", "cases", "observations"),
    }
)
YEARS = (1900, 2100)
# Names of effects that say nothing of their kind; those of differences; those of one arm of a trial.
NEUTRAL = frozenset({"es", "effect", "effects", "effectsize", "estimate", "est"})
DIFFERENCE = re.compile(r"cohen|hedge|smd|odds|ratio")
ARM = re.compile(r"[0-9]|group|control|ctrl|treat|trt|exp")


@dataclass(frozen=True)
class Suggestions:
    """What could be meant: the columns of r and n, or the words that name finished effects."""

    r: str | None
    n: str | None
    finished: str | None


def suggest(sheet: Sheet) -> Suggestions:
    """Look for columns that could be r, n, or finished effects with their variances."""
    values = {name: column for name in sheet.header if (column := _numbers(name, sheet.columns[name])) is not None}
    sizes = [name for name, column in values.items() if _could_be_n(name, column)]
    n = sizes[0] if len(sizes) == 1 else None
    finished = _finished(values, n)
    correlations = [name for name, column in values.items() if _could_be_r(name, column)]
    named = [name for name in correlations if _words(name) & CORRELATION]
    if named and finished is not None and not _words(named[0]) & {"z"}:
        finished = None
    chosen = named if len(named) == 1 else correlations
    return Suggestions(chosen[0] if len(chosen) == 1 else None, n, finished)


def _words(name: str) -> set[str]:
    """Return the words of a header, in lower case; a statistic glued to another (``seTE``, ``vg``) is split."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("²", "2").replace("^", "")
    words = set(re.findall(r"[a-z]+2?", spaced.casefold()))
    squeezed = spaced.casefold().replace(" ", "")
    words |= {squeezed} & EFFECT
    glued = re.fullmatch(r"(se|var|v)_?(te|d|g|z|zr|r|es|yi|smd|lnrr|lnor|lor|md|diff)i?", squeezed)
    return words | set(glued.groups()) if glued else words


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


def _finished(values: dict[str, Array], n: str | None) -> str | None:
    """Return the words that name finished effects, e.g. ``yi='es.z', vi='vi.z', measure='ZCOR'``."""
    for kind, marks in (("vi", VARIANCE), ("sei", ERROR)):
        for second, numbers in values.items():
            if not _words(second) & marks or not (numbers > 0).all() or _words(second) & (OTHER - {"sd"}):
                continue
            effect = _effect_of(second, values)
            if effect is not None:
                return _as_words(effect, kind, second)
    effects = [name for name in values if _words(name) & FISHER and not _words(name) & (VARIANCE | ERROR | OTHER)]
    return _as_words(effects[0], "ni", n) if len(effects) == 1 and n is not None else None


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
