"""What a name of rows that belong together means: ``cluster=``, ``random=`` and ``subgroup=`` all ask here.

A name has one meaning. ``study_id`` is the study of each effect (`EffectSizes.study_id`), ``es_id`` the sheet's own
name of each effect or else the row, any other name a column of the sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.studies import EMPTY, FILL, STUDY, listed, plain_text, same_groups
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

ROWS = "es_id"


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Effects sorted into groups."""

    name: str | None  # the column; None for values that were given as they are
    codes: IntArray  # (k,): group of each effect, numbered from 0 as they first appear
    levels: tuple[Any, ...]  # what each group is called, by code


class Levels(Sequence[str]):
    """What the n groups of a factor are called, put into words when they are asked for: many fits never do."""

    def __init__(self, n: int, words: Callable[[], list[str]]) -> None:
        self._n, self._words = n, words

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(self._words())

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        return self._texts[at]


def grouping(effects: EffectSizes, spec: Any, argument: str) -> Grouping:
    """Return the groups that `spec` makes: a name, or k values."""
    values = _values(effects, spec, argument)
    codes, levels = pd.factorize(values)
    _refuse_gaps(effects, (codes < 0) | _empty_text(levels)[codes], spec, argument)
    # Python's own numbers become text in a tenth of the time.
    names = levels.tolist() if isinstance(levels, np.ndarray) and levels.dtype.kind in "iuf" else levels
    return Grouping(spec if isinstance(spec, str) else None, codes.astype(np.intp), tuple(names))


def numeric_column(effects: EffectSizes, spec: Any, argument: str) -> Array:
    """Return the numbers (k,) that `spec` names or is."""
    values = pd.Series(_values(effects, spec, argument))
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    text = values[np.isnan(numbers) & values.notna().to_numpy()]
    if len(text):
        raise InputError(
            f"{_called(spec, argument)} must hold numbers, not {text.iloc[0]!r} ({effects.slab[text.index[0]]})"
        )
    _refuse_gaps(effects, ~np.isfinite(numbers), spec, argument)
    return numbers


def _values(effects: EffectSizes, spec: Any, argument: str) -> Any:
    if isinstance(spec, str):
        return column(effects, spec, argument)
    values = pd.Series(list(spec)) if np.ndim(spec) == 1 else None
    if values is None or len(values) != effects.k:
        size = "one value" if values is None else f"{len(values)} values"
        raise InputError(f"{argument} has {size} for {effects.k} effects; name a column, or give one value per effect")
    return values


def column(effects: EffectSizes, name: str, argument: str) -> Any:
    """Return the k values that a name stands for, wherever it is used."""
    frame = effects.moderators
    there = frame[name].reset_index(drop=True) if name in frame else None
    if name == STUDY:
        if there is not None and there.notna().any() and not same_groups(there, effects.study_id):
            raise InputError(
                f"{argument}={name!r} has two meanings: the study of each effect and a moderator of that name sort the "
                "effects otherwise; rename the moderator, or give it as the study (study_id=)"
            )
        return np.array(effects.study_id, dtype=object)
    if name == ROWS and _names_no_effects(there):
        return np.arange(1, effects.k + 1)
    if there is not None:
        return there
    if name == "slab":
        return np.array(effects.slab, dtype=object)
    known = list(dict.fromkeys([STUDY, ROWS, "slab", *map(str, frame.columns)]))
    raise InputError(f"{argument}={name!r} is not a column{did_you_mean(name, known)}. Columns: {', '.join(known)}")


def _names_no_effects(ids: pd.Series[Any] | None) -> bool:
    """Tell whether the sheet has no effect ids of its own, so that the rows are meant."""
    return ids is None or bool(ids.isna().all())


def _empty_text(levels: Any) -> Any:
    """Tell which levels are empty, with one place more for the code -1 of a missing value."""
    blank = frozenset(EMPTY)
    text = pd.api.types.infer_dtype(levels, skipna=False) == "string"
    if levels.dtype.kind in "iuf" or (text and blank.isdisjoint(map(str.strip, levels))):
        return np.arange(len(levels) + 1) == len(levels)
    return np.array([*[isinstance(level, str) and level.strip() in blank for level in levels], True])


def _refuse_gaps(effects: EffectSizes, gaps: Any, spec: Any, argument: str) -> None:
    lost = [effects.slab[i] for i in np.flatnonzero(gaps)]
    if lost:
        raise InputError(
            f"{_called(spec, argument)} is empty for {len(lost)} of {effects.k} effects ({listed(lost)}); {FILL}"
        )


def _called(spec: Any, argument: str) -> str:
    return f"{argument}={spec!r}" if isinstance(spec, str) else argument


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters in the order in which they first appear: name of the grouping, code (k,) of each row, labels (n,)."""

    name: str
    codes: IntArray
    labels: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.labels)

    @cached_property
    def sizes(self) -> IntArray:
        """Rows per cluster."""
        return np.bincount(self.codes, minlength=self.n).astype(np.intp)

    @cached_property
    def several(self) -> IntArray:
        """Codes of the clusters with more than one row."""
        return np.flatnonzero(self.sizes > 1)

    @cached_property
    def first(self) -> IntArray:
        """Row in which each cluster first appears."""
        return np.unique(self.codes, return_index=True)[1].astype(np.intp)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.codes, kind="stable")

    def mean(self, values: Array) -> Array:
        """Return the mean of `values` (k,) in each cluster."""
        return np.bincount(self.codes, values, minlength=self.n) / self.sizes

    def extremes(self, values: IntArray) -> tuple[IntArray, IntArray]:
        """Return the lowest and the highest of `values` (k,) in each cluster."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        ordered = values[self._order]
        return np.minimum.reduceat(ordered, starts), np.maximum.reduceat(ordered, starts)

    def named(self, which: Iterable[Any]) -> str:
        """Name clusters by label, the first few of many."""
        return listed([self.labels[int(i)] for i in which])


def read_clusters(effects: EffectSizes, cluster: Any) -> Clusters:
    """Read `cluster`: a column, a sequence of columns that only together tell clusters apart, or k labels."""
    names = _column_names(effects, cluster)
    groups = [grouping(effects, name, "cluster") for name in names or [cluster]]
    levels = [[plain_text(level) for level in group.levels] for group in groups]
    codes = groups[0].codes
    labels = levels[0]
    for group, texts in zip(groups[1:], levels[1:], strict=True):
        joined, pairs = pd.factorize(codes * len(texts) + group.codes)
        codes = joined.astype(np.intp)
        labels = [f"{labels[int(pair) // len(texts)]} / {texts[int(pair) % len(texts)]}" for pair in pairs]
    given = str(cluster.name) if isinstance(cluster, pd.Series) and cluster.name is not None else "given cluster"
    return Clusters(" + ".join(names) or given, codes, tuple(labels))


def _column_names(effects: EffectSizes, cluster: Any) -> list[str]:
    """Return the columns that `cluster` names; none where it holds labels."""
    if isinstance(cluster, str):
        return [cluster]
    known = {STUDY, "slab", *effects.moderators.columns}
    named = isinstance(cluster, list | tuple) and all(isinstance(name, str) and name in known for name in cluster)
    return list(cluster) if named else []


def sides(item: str) -> tuple[str, str]:
    """Return what varies and between which groups; ``"1"`` where only the intercept does."""
    left, bar, right = item.partition("|")
    if not bar:
        return "1", left.strip().lstrip("~").strip()
    return left.strip().lstrip("~").strip(), right.strip()


def expand(path: str) -> list[str]:
    """Return the factors of a path: of ``a/b``, a and b within a."""
    parts = [part.strip() for part in path.split("/")]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def factor(
    name: str, effects: EffectSizes, known: dict[str, tuple[Levels, IntArray]] | None = None
) -> tuple[Levels, IntArray]:
    """Return the levels and the codes of a factor of ``random=``; ``a/b`` is b within a.

    ``es_id`` tells effects apart: within studies it must do so, and by itself only where no study counts anew.
    `known` keeps the columns that were read already.
    """
    first, *rest = (part.strip() for part in name.split("/"))
    known = {} if known is None else known
    if first not in known:
        known[first] = _levels(first, effects)
    levels, code = known[first]
    if first == ROWS and len(levels) < effects.k:
        raise InputError(
            f"random={ROWS!r} by itself crosses studies, but the ids start again: {len(levels)} ids for {effects.k} "
            f"effects. Write random='{STUDY}/{ROWS}' for effects within studies; for a factor that cuts across "
            f"studies (one kind of effect in many of them), give the column another name: random=('{STUDY}', 'kind')"
        )
    for part in rest:
        inner, within = _levels(part, effects)
        pairs = code * len(inner) + within
        both = np.arange(effects.k)
        if len(inner) < effects.k:
            both, pairs = pd.factorize(pairs)
        if part == ROWS and len(pairs) < effects.k:
            twice = effects.slab[int(np.flatnonzero(pd.Series(both).duplicated())[0])]
            raise InputError(
                f"the column {ROWS!r} repeats within {name.rpartition('/')[0]} ({twice}): it must tell effects apart; "
                "number them, or rename it"
            )
        levels, code = _paired(levels, inner, pairs), both.astype(np.intp)
    return levels, code


def _paired(outer: Levels, inner: Levels, pairs: IntArray) -> Levels:
    def words() -> list[str]:
        """Return the names, the outer level before the inner."""
        above, below = (index.tolist() for index in np.divmod(pairs, len(inner)))
        return [f"{outer[a]}/{inner[b]}" for a, b in zip(above, below, strict=True)]

    return Levels(len(pairs), words)


def _levels(name: str, effects: EffectSizes) -> tuple[Levels, IntArray]:
    """Return the levels as text, in the order in which they appear, and the codes."""
    k = effects.k
    if name == ROWS and _names_no_effects(effects.moderators.get(ROWS)):
        return Levels(k, lambda: list(map(str, range(1, k + 1)))), np.arange(k, dtype=np.intp)
    found = grouping(effects, name, "random")
    texts = list(map(str, found.levels))
    levels = list(dict.fromkeys(texts))
    if len(levels) == len(texts):
        return Levels(len(texts), lambda: texts), found.codes
    merged = {level: code for code, level in enumerate(levels)}
    return Levels(len(levels), lambda: levels), np.array([merged[text] for text in texts], dtype=np.intp)[found.codes]


def as_level(value: object) -> str:
    """Return a value as text by which levels are compared: 1 and 1.0 are the same."""
    return str(value).removesuffix(".0")
