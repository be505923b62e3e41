"""What a declaration may not say: checks that return every problem in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from alliance_meta.core.robust.rve import Working
from alliance_meta.effects.dependent.aggregate import Aggregation
from alliance_meta.errors import InputError
from alliance_meta.options import (
    Degrees,
    Measure,
    RobustType,
    Tau2Method,
    Test,
    VType,
    check_level,
    check_option,
    did_you_mean,
)
from alliance_meta.reporting.made import ID, LONGEST_ID
from alliance_meta.reporting.spec import (
    BAYES,
    MULTILEVEL,
    PIECE_FIGURES,
    PIECE_TABLES,
    PIECES,
    RANDOM,
    REPRODUCE,
    RVE,
    Analysis,
    AnalysisKind,
    Declared,
    FigureKind,
    Item,
    Section,
    TableKind,
)
from alliance_meta.tables.format import brief

if TYPE_CHECKING:
    from alliance_meta.bayes.priors.prior import Prior

ONE_EACH = ("left_out", REPRODUCE)
NEED_BY = ("bubble", "means")
RESERVED = (*PIECES, "ref", "printed", REPRODUCE, "rho")
_IDENTIFIER = re.compile(ID)
NAMED = f"must be lower-case letters, digits and _, begin with a letter and have at most {LONGEST_ID} characters"

# Key -> the kinds of analysis that have it; every other key belongs to all.
KEYS: dict[str, tuple[str, ...]] = {
    "method": (RANDOM, MULTILEVEL),
    "test": (RANDOM, MULTILEVEL),
    "aggregate": (RANDOM,),
    "random": (MULTILEVEL, BAYES),
    "struct": (MULTILEVEL,),
    "dfs": (MULTILEVEL,),
    "robust": (RANDOM, MULTILEVEL),
    "working": (RVE,),
    "cluster": (RANDOM, MULTILEVEL, RVE),
    "rho": (RANDOM, MULTILEVEL, RVE),
    "mu_prior": (BAYES,),
    "tau_prior": (BAYES,),
    "beta_prior": (BAYES,),
}
_PRIORS = ("mu_prior", "tau_prior", "beta_prior")
_OPTIONS: dict[str, Any] = {
    "measure": Measure,
    "vtype": VType,
    "aggregate": Aggregation,
    "dfs": Degrees,
    "robust": RobustType,
    "working": Working,
}
_OF_KIND: dict[str, dict[str, Any]] = {
    RANDOM: {"method": Tau2Method, "test": Test},
    MULTILEVEL: {"method": Literal["REML", "ML"], "test": Literal["t", "z"]},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    RANDOM: {"method": "REML", "test": "knha"},
    MULTILEVEL: {"method": "REML", "test": "t", "dfs": "contain", "random": ("study_id/es_id",)},
    RVE: {"working": "CORR"},
    BAYES: {"mu_prior": "normal(0, 0.5)", "tau_prior": "half-normal(0.3)"},
}
DEFAULT_RHO = {RANDOM: 0.5, RVE: 0.8}


def with_defaults(spec: Declared) -> Declared:
    """Return an analysis with the defaults of its kind in place of what was left out."""
    wanted = dict(_DEFAULTS.get(spec.kind, {}))
    if spec.dependent and spec.kind != BAYES:
        wanted["cluster"] = "study_id"
    if (spec.kind == RVE and spec.working in (None, "CORR")) or spec.aggregate is not None:
        wanted["rho"] = DEFAULT_RHO[spec.kind]
    return replace(spec, **{name: value for name, value in wanted.items() if getattr(spec, name) in (None, ())})


def as_che(spec: Declared) -> Declared | None:
    """Return what is made of dependent effects where no kind was named; None where the keys mean another model."""
    from alliance_meta.models.recipes import DEFAULT_RHO as CHE_RHO

    options = _OF_KIND[MULTILEVEL]
    fits = all(MULTILEVEL in KEYS.get(key, (MULTILEVEL,)) for key in spec.said) and all(
        getattr(spec, key) in get_args(choices) for key, choices in options.items() if key in spec.said
    )
    if "kind" in spec.said or spec.dependent or not fits:
        return None
    changed: dict[str, Any] = {key: None for key in options if key not in spec.said}
    changed |= {"kind": MULTILEVEL, "rho": CHE_RHO, "robust": "CR2"}
    return with_defaults(replace(spec, **changed))


def analysis_problems(analyses: Sequence[Analysis], folder: Path) -> Iterator[str]:
    """Yield what is wrong with the analyses."""
    seen: set[str] = set()
    for analysis in analyses:
        where = f"[[analysis]] ({analysis.id})"
        if not _IDENTIFIER.fullmatch(analysis.id):
            yield f"{where}: id {NAMED}"
        if analysis.id in RESERVED:
            yield f"{where}: the id {analysis.id!r} is taken by the report itself"
        if analysis.id in seen:
            yield f"{where}: the id occurs twice; each analysis needs its own"
        seen.add(analysis.id)
        for problem in (*_option_problems(analysis), *_useless(analysis), *_data_problems(analysis.data, folder)):
            yield f"{where}: {problem}"


def _option_problems(spec: Analysis) -> Iterator[str]:
    yield from _refused(check_option, "kind", spec.kind, AnalysisKind)
    for name, options in {**_OPTIONS, **_OF_KIND.get(spec.kind, {})}.items():
        value = getattr(spec, name)
        if value is not None and spec.kind in KEYS.get(name, (spec.kind,)):
            yield from _refused(check_option, name, value, options)
    yield from _refused(check_level, spec.level)
    for name in _PRIORS:
        if getattr(spec, name) is not None:
            yield from (f"{name}: {problem}" for problem in _refused(read_prior, getattr(spec, name), name))
    low = 0.0 if spec.kind == RVE else -1.0
    if spec.rho is not None and not low <= spec.rho <= 1.0:
        yield f"rho={brief(spec.rho)} is a correlation of sampling errors and must lie between {brief(low)} and 1"


def read_prior(text: str, name: str) -> Prior:
    """Return the prior that a key of an analysis names.

    Raises
    ------
    InputError
        No such prior, or one of tau where one of an effect is needed.
    """
    from alliance_meta.bayes.exact.setup import check_kind
    from alliance_meta.bayes.priors.names import parse
    from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior

    prior = parse(text)
    check_kind(prior, TauPrior if name == "tau_prior" else EffectPrior, name)
    return prior


def _useless(spec: Analysis) -> Iterator[str]:
    """Yield the keys that would do nothing: what was written was meant to do something."""
    if spec.kind not in get_args(AnalysisKind):
        return
    for name, kinds in KEYS.items():
        if getattr(spec, name) not in (None, ()) and spec.kind not in kinds:
            belongs = " or ".join(f"kind = {kind!r}" for kind in kinds)
            yield f"{name} does nothing with kind = {spec.kind!r}; it belongs to {belongs}"
    if spec.kind == RANDOM and spec.rho is not None and spec.aggregate is None:
        yield "rho does nothing without aggregate; add aggregate = 'mean', or take kind = 'multilevel' or 'rve'"
    if spec.kind == RVE and spec.rho is not None and spec.working == "HIER":
        yield "rho does nothing with working = 'HIER', whose errors are independent"
    users = {RANDOM: ("aggregate", "robust"), MULTILEVEL: ("rho", "robust")}.get(spec.kind, ())
    if users and spec.cluster is not None and all(getattr(spec, name) is None for name in users):
        yield f"cluster does nothing without {' or '.join(users)}"
    if spec.struct and not any("|" in term for term in spec.random):
        yield "struct does nothing without a random term 'inner | outer'"


def _data_problems(data: str, folder: Path, key: str = "data") -> Iterator[str]:
    from alliance_meta.effects.datasets import list_datasets

    names = [str(name) for name in list_datasets()["name"]]
    if data in names or _is_file(folder / data):
        return
    hint = did_you_mean(data, names)
    yield (
        f"{key}={data!r} is neither a shipped data set nor a file beside the declaration{hint} "
        f"(shipped: {', '.join(names)})"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def item_problems(
    sections: Sequence[Section], analyses: Sequence[Analysis], pieces: Collection[str], folder: Path
) -> Iterator[str]:
    """Yield what is wrong with the figures and tables; `pieces` are the declared views of published results."""
    known = [analysis.id for analysis in analyses]
    for section in sections:
        for item in section.item:
            where = f"[[section]] {section.heading!r}"
            problems = _figure_problems(item, known) if item.drawn is not None else _table_problems(item, known, folder)
            if item.id is not None and not _IDENTIFIER.fullmatch(item.id):
                yield f"{where}: id={item.id!r} {NAMED}"
            for problem in problems:
                yield f"{where}: {problem}"
            wanted = item.piece
            if wanted is not None and wanted not in pieces:
                yield f"{where}: [{wanted}] is not declared, and {item.drawn or item.table!r} shows it"


def _figure_problems(item: Item, known: Sequence[str]) -> Iterator[str]:
    kind = str(item.drawn)
    if item.figure is not None:
        yield from _refused(check_option, "figure", kind, FigureKind)
        if kind not in get_args(FigureKind):
            return
        if len(item.of) != 1:
            yield f"figure={kind!r} shows one analysis, not {len(item.of)}; write of = '...'"
    if kind in NEED_BY and item.by is None:
        yield f"figure={kind!r} needs by = the moderator that it shows"
    key = "forest" if item.forest is not None else "of"
    for identifier in item.shown:
        if kind == "shares" and item.piece is None:
            yield f"figure='shares' shows of = {PIECE_FIGURES[kind]!r}, not {identifier!r}"
        elif item.piece is None:
            yield from _unknown(key, identifier, known)


def _table_problems(item: Item, known: Sequence[str], folder: Path) -> Iterator[str]:
    if item.table is None:
        return
    table = item.table
    yield from _refused(check_option, "table", table, TableKind)
    if table not in get_args(TableKind) or table in PIECE_TABLES:
        return
    if not item.of:
        yield f"table={table!r} needs of = [...]"
    elif table in ONE_EACH and len(item.of) > 1:
        yield f"table={table!r} shows one, not {len(item.of)}; write one item for each"
    for identifier in item.of:
        if table == REPRODUCE:
            yield from _data_problems(identifier, folder, key="of")
        else:
            yield from _unknown("of", identifier, known)


def _unknown(key: str, identifier: str, known: Sequence[str]) -> Iterator[str]:
    if identifier not in known:
        listed = ", ".join(known) or "none"
        yield f"{key}={identifier!r} is no analysis{did_you_mean(identifier, list(known))} (declared: {listed})"


def _refused(check: Callable[..., object], *arguments: Any) -> Iterator[str]:
    try:
        check(*arguments)
    except InputError as error:
        yield str(error)
