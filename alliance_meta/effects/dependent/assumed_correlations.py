"""Correlations that are assumed between sampling errors: reading them, and laying them out by cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.dependent.groups import Grouping
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

HOW = (
    "give rho as a number, as a pair (same type, different types), or as correlations by pair, "
    "{('client', 'therapist'): 0.4, ...} or a DataFrame with the names as labels"
)


@dataclass(frozen=True, slots=True, eq=False)
class Assumption:
    """What is assumed of two effects of one cluster.

    Attributes
    ----------
    by_type : ndarray of shape (t, t)
        Correlations between types, within a type on the diagonal; NaN where not given.
    by_obs : ndarray of shape (o, o) or None
        Correlations within a type between the things observed, in place of the diagonal of `by_type`.
    type, obs : Grouping or None
    time : ndarray of shape (k,) or None
    phi : float
    """

    by_type: Array
    by_obs: Array | None
    type: Grouping | None
    obs: Grouping | None
    time: Array | None
    phi: float

    def blocks(self, rows: IntArray) -> Array:
        """Return the correlations (n, m, m) among the effects of the clusters `rows` (n, m)."""
        left, right = rows[:, :, None], rows[:, None, :]
        if self.type is None:
            same: Any = True
            R = np.broadcast_to(self.by_type[0, 0], (*rows.shape, rows.shape[1]))
        else:
            first, second = self.type.codes[left], self.type.codes[right]
            same, R = first == second, self.by_type[first, second]
        if self.obs is not None:
            first, second = self.obs.codes[left], self.obs.codes[right]
            if self.by_obs is not None:
                R = np.where(same, self.by_obs[first, second], R)
            R = np.where(same & (first == second), 1.0, R)
        if self.time is not None:
            R = R * self.phi ** np.abs(self.time[left] - self.time[right])
        return np.where(left == right, 1.0, R)

    def missing(self, rows: IntArray, R: Array) -> list[str]:
        """Name the pairs whose correlation is needed in `R` and not given."""
        found = {}
        for n, a, b in np.argwhere(np.isnan(R)):
            i, j = rows[n, min(a, b)], rows[n, max(a, b)]
            by_obs = self.by_obs is not None and (self.type is None or self.type.codes[i] == self.type.codes[j])
            group = self.obs if by_obs else self.type
            if group is not None:
                pair = sorted(str(group.levels[group.codes[x]]) for x in (i, j))
                found[tuple(pair)] = f"{pair[0]!r} and {pair[1]!r}"
        return list(found.values())


def read_assumption(
    rho: Any, *, type: Grouping | None, obs: Grouping | None, time: Array | None, phi: float | None
) -> Assumption:
    """Read `rho` as `impute_V` takes it."""
    by_obs = None
    if type is None:
        if _is_pair(rho):
            raise InputError(f"rho={rho!r} is a pair (same type, different types): say with type= which effects are")
        if isinstance(rho, Real) or obs is None:
            by_type = np.array([[correlation(rho, "rho")]])
        else:
            by_type, by_obs = np.array([[np.nan]]), correlation_table(rho, obs.levels)
    elif _is_pair(rho):
        by_type = correlation_table(rho[1], type.levels)
        if isinstance(rho[0], Real):
            np.fill_diagonal(by_type, correlation(rho[0], "rho[0]"))
        elif obs is None:
            raise InputError("the first of the pair rho is a table: say with obs= which effects its names belong to")
        else:
            by_obs = correlation_table(rho[0], obs.levels)
    elif isinstance(rho, Real):
        raise InputError(f"rho={rho!r} with type= would be the same for all types: {HOW}; or leave type= out")
    else:
        by_type = correlation_table(rho, type.levels)
    return Assumption(by_type, by_obs, type, obs, time, 1.0 if phi is None else correlation(phi, "phi"))


def correlation(value: Any, name: str) -> float:
    """Return a number in [-1, 1], or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name}={value!r} is not a number" + (f"; {HOW}" if name.startswith("rho") else ""))
    if not -1 <= float(value) <= 1:
        hint = f"; write {float(value) / 100:g}" if 1 < abs(float(value)) <= 100 else ""
        raise InputError(f"{name}={value!r} is a correlation and must lie between -1 and 1{hint}")
    return float(value)


def known_blocks(r: Mapping[Any, Any], names: Mapping[str, int], sizes: IntArray) -> dict[int, Array]:
    """Check the correlation matrices that are known; return them by code of the cluster."""
    out, problems = {}, []
    for key, given in r.items():
        name = ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
        if name not in names:
            problems.append(f"r[{key!r}]: no such cluster{did_you_mean(name, list(names))}")
            continue
        R, m = np.asarray(given, dtype=float), int(sizes[names[name]])
        if R.shape != (m, m):
            problems.append(f"r[{key!r}] has shape {R.shape}; the cluster has {m} effects, so ({m}, {m}) is needed")
        elif not (np.isfinite(R).all() and np.array_equal(R, R.T) and (np.diag(R) == 1).all() and np.abs(R).max() <= 1):
            problems.append(f"r[{key!r}] is not a correlation matrix: symmetric, 1 on the diagonal, within [-1, 1]")
        else:
            out[names[name]] = R
    if problems:
        raise InputError("; ".join(problems))
    return out


def plain(spec: Any) -> Any:
    """Return correlations in numbers, text, lists and dictionaries only."""
    if isinstance(spec, (tuple, list)):
        return [plain(part) for part in spec]
    if isinstance(spec, pd.DataFrame):
        return {str(a): {str(b): float(value) for b, value in row.items()} for a, row in spec.iterrows()}
    if isinstance(spec, Mapping):
        return {", ".join(map(str, key)): float(value) for key, value in spec.items()}
    return float(spec)


def _is_pair(rho: Any) -> bool:
    return isinstance(rho, (tuple, list)) and len(rho) == 2


def correlation_table(spec: Any, levels: Sequence[Any], name: str = "rho") -> Array:
    """Return correlations between the levels, NaN where `spec` gives none."""
    place = {str(level): number for number, level in enumerate(levels)}
    out = np.full((len(place), len(place)), np.nan)
    if isinstance(spec, Real):
        out[...] = correlation(spec, name)
        return out
    given: dict[tuple[str, str], float] = {}
    for a, b, value in _entries(spec, name):
        r = correlation(value, f"{name} between {a!r} and {b!r}:")
        if given.setdefault((a, b), r) != r or given.setdefault((b, a), r) != r:
            raise InputError(
                f"{name} gives two correlations between {a!r} and {b!r}: {given[a, b]:g} and {r:g}; give one"
            )
        if a in place and b in place and not (a == b and r == 1):
            out[place[a], place[b]] = out[place[b], place[a]] = r
    return out


def _entries(spec: Any, name: str) -> Iterable[tuple[str, str, Any]]:
    """Yield pairs of names with their correlation."""
    if isinstance(spec, pd.DataFrame):
        for a in spec.index:
            yield from ((str(a), str(b), float(spec.loc[a, b])) for b in spec.columns if not pd.isna(spec.loc[a, b]))
    elif isinstance(spec, Mapping) and all(isinstance(key, tuple) and len(key) == 2 for key in spec):
        yield from ((str(a), str(b), value) for (a, b), value in spec.items())
    else:
        raise InputError(f"{name}={spec!r} is not understood: {HOW}")
