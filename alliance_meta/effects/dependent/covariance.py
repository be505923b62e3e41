"""`impute_V`: sampling covariances of effects from the same people, under an assumed correlation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray, SamplingCovariance, check_room, codes, stacks
from alliance_meta.effects.dependent.groups import Grouping, grouping, numeric_column
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, PositiveDefiniteCheck, check_option, did_you_mean

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

HOW = (
    "give rho as a number, as a pair (same type, different types), or as correlations by pair, "
    "{('client', 'therapist'): 0.4, ...} or a DataFrame with the names as labels"
)


@dataclass(frozen=True, slots=True, eq=False)
class Assumption:
    """What is assumed of two effects of one cluster."""

    by_type: Array  # (t, t): correlations between types, within a type on the diagonal; NaN where not given
    # (o, o) or None: correlations within a type between the things observed, in place of the diagonal of `by_type`.
    by_obs: Array | None
    type: Grouping | None
    obs: Grouping | None
    time: Array | None  # (k,) or None
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


def impute_V(
    effects: EffectSizes,
    *,
    cluster: Any = "study_id",
    rho: Any = 0.6,
    type: Any = None,
    obs: Any = None,
    time: Any = None,
    phi: float | None = None,
    subgroup: Any = None,
    r: Mapping[Any, Any] | None = None,
    check: PositiveDefiniteCheck = "error",
) -> SamplingCovariance:
    """Give effects from the same people the covariance an assumed correlation implies.

    When one sample yields several effects, such as the alliance rated by client and by therapist, their errors
    are correlated: by chance, the same people were in all of them. Papers rarely print what it takes to compute
    that correlation (where they do, see `rcalc`), so one is assumed. Results should be shown for several values
    of `rho`, say .3, .5 and .7.

    Parameters
    ----------
    effects : EffectSizes
        Their `vi` are the variances.
    cluster : str or array-like of shape (k,)
        Which effects come from the same people: ``"study_id"``, a column of the moderators, or values.
    rho : float, pair, mapping or DataFrame
        Assumed correlation between the *sampling errors* of two effects of a cluster, in [-1, 1]. With `type`:
        a pair (same type, different types), or correlations between the types, either a mapping
        ``{("client", "therapist"): 0.4, ("client", "client"): 0.8, ...}`` or a symmetric DataFrame with the
        types as labels; entry (a, a) holds for two effects of one type, and 1 there means "not given". Either
        member of the pair may itself be a mapping or DataFrame: the first between values of `obs`, the second
        between types. With `obs` alone: a number, a mapping or a DataFrame between its values.
    type : str or array-like of shape (k,), optional
        Column with the construct, outcome, rater or measure of each effect.
    obs : str or array-like of shape (k,), optional
        What was measured, where the same is measured repeatedly: two effects of one cluster with the same
        `type` and `obs` correlate perfectly except for their distance in `time`. By default every effect
        measures something else.
    time : str or array-like of shape (k,), optional
        When it was measured: numbers in any unit.
    phi : float, optional
        Correlation of errors one unit of `time` apart, in [-1, 1]; ``phi ** |t1 - t2|`` multiplies the above.
        For `phi` alone, as with one measure over time, put that measure's name in `obs` or set ``rho=1``.
    subgroup : str or array-like of shape (k,), optional
        Different people within a cluster: effects of different subgroups are independent.
    r : mapping, optional
        Cluster (with `subgroup`: a pair of cluster and subgroup) -> correlation matrix of its effects, in the
        order of the rows, where it is known; these clusters do not use the assumption.
    check : {"error", "nearest", "warn"}
        What to do if the correlations of a cluster contradict one another, see `SamplingCovariance.checked`.

    Returns
    -------
    SamplingCovariance
        Covariance of effects i and j: correlation times ``sqrt(vi[i] * vi[j])``.

    Raises
    ------
    InputError
        A column that is not there or has gaps; a correlation outside [-1, 1], or one that is needed and not
        given; correlations that no data can have, with the clusters.

    Warns
    -----
    NotPositiveDefiniteWarning
        With ``check="nearest"`` or ``"warn"``, where a cluster fails.

    Notes
    -----
    One `rho` for all is possible if -1/(m - 1) < rho < 1, where m is the size of the largest cluster. With
    clusters of one effect each, V is diagonal and nothing is assumed. R: metafor's ``vcalc(vi, cluster, subgroup,
    obs, type, time1, rho, phi)``; there `obs` must be given for `rho` to hold within a type.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, impute_V
    >>> es = EffectSizes.from_arrays(
    ...     [0.2, 0.3, 0.4], [0.01, 0.01, 0.01], study_id=["A"] * 3, mods={"rater": ["client", "client", "therapist"]}
    ... )
    >>> impute_V(es, type="rater", rho=(0.8, 0.4)).to_dense().round(4).tolist()
    [[0.01, 0.008, 0.004], [0.008, 0.01, 0.004], [0.004, 0.004, 0.01]]
    """
    check_option("check", check, PositiveDefiniteCheck)
    clusters = grouping(effects, cluster, "cluster")
    given = {"type": type, "obs": obs, "subgroup": subgroup}
    groups = {name: grouping(effects, spec, name) for name, spec in given.items() if spec is not None}
    names = {name: _word(group.name, name) for name, group in {"cluster": clusters, **groups}.items()}
    if time is not None:
        names["time"] = _word(time if isinstance(time, str) else None, "time")
    of, labels = _blocks(clusters, groups.get("subgroup"))
    times = _times(effects, time, phi, of)
    assumed = read_assumption(rho, type=groups.get("type"), obs=groups.get("obs"), time=times, phi=phi)
    settings: dict[str, Any] = {**names, "rho": plain(rho), **({} if phi is None else {"phi": phi}), "check": check}
    words = _sentence(rho, names, phi, r)
    about: dict[str, Any] = {
        "labels": labels,
        "cluster": clusters.name,
        "assumption": words,
        "settings": settings,
        "notes": (_note(of, len(labels), names["cluster"], words),),
    }
    if groups.keys() <= {"subgroup"} and times is None and not r:
        V = SamplingCovariance(effects.vi, of, rho=float(assumed.by_type[0, 0]), **about)
    else:
        V = SamplingCovariance.from_stacks(effects.vi, of, _covariances(effects.vi, of, labels, assumed, r), **about)
    return V.checked(check, _stacklevel=4)


def _blocks(clusters: Grouping, subgroups: Grouping | None) -> tuple[IntArray, tuple[str, ...]]:
    """Return the block of each effect and the name of each block."""
    if subgroups is None:
        return clusters.codes, tuple(map(str, clusters.levels))
    of = codes(clusters.codes * len(subgroups.levels) + subgroups.codes)
    first = np.unique(of, return_index=True)[1]
    pairs = zip(clusters.codes[first], subgroups.codes[first], strict=True)
    return of, tuple(f"{clusters.levels[c]}, {subgroups.levels[s]}" for c, s in pairs)


def _times(effects: EffectSizes, time: Any, phi: Any, of: IntArray) -> Array | None:
    if (time is None) != (phi is None):
        raise InputError("time= and phi= belong together: give both, or neither")
    if time is None:
        return None
    correlation(phi, "phi")
    times = numeric_column(effects, time, "time")
    start = np.zeros(of.max() + 1)
    start[of] = times
    if phi < 0 and ((times - start[of]) % 1).any():
        raise InputError(
            f"phi={phi!r} to the power of a distance in time that is not a whole number is undefined; "
            "make phi 0 or more, or the times whole numbers"
        )
    return times


def _covariances(
    vi: Array, of: IntArray, labels: tuple[str, ...], assumed: Assumption, r: Mapping[Any, Any] | None
) -> list[Array]:
    """Return the blocks of V, stack by stack."""
    check_room(of, labels)
    known = known_blocks(r or {}, {label: n for n, label in enumerate(labels)}, np.bincount(of))
    s = np.sqrt(vi)
    out, missing = [], dict[str, None]()
    for rows in stacks(of):
        R = assumed.blocks(rows)
        for n, code in enumerate(of[rows[:, 0]]) if known else ():
            if code in known:
                R[n] = known[code]
        missing |= dict.fromkeys(assumed.missing(rows, R))
        out.append(R * (s[rows][:, :, None] * s[rows][:, None, :]))
    if missing:
        raise InputError(f"rho gives no correlation between {'; '.join(missing)}, which stand in one cluster: add it")
    return out


def _word(name: str | None, argument: str) -> str:
    return name if name is not None else f"the given {argument}"


def _sentence(rho: Any, names: Mapping[str, str], phi: float | None, r: Mapping[Any, Any] | None) -> str:
    """Return the assumption in words."""
    kind = names.get("type", names.get("obs", ""))
    if isinstance(rho, (tuple, list)):
        parts = [f"{part:g}" if isinstance(part, Real) else "as given" for part in rho]
        text = f"rho = {parts[0]} for the same {kind} and {parts[1]} for another {kind}"
    elif isinstance(rho, Real):
        text = f"rho = {float(rho):g}"
    else:
        text = f"rho as given for each pair of {kind}"
    if "time" in names:
        text += f" times {phi:g}^|difference in {names['time']}|"
    text += f" within {names['cluster']}"
    if "obs" in names:
        text += f", perfect for the same {names['obs']}" + (" at the same time" if "time" in names else "")
    if "subgroup" in names:
        text += f", 0 across {names['subgroup']}"
    return text + (f"; known for {len(r)} cluster{'s' if len(r) != 1 else ''}" if r else "")


def _note(of: IntArray, n: int, cluster: str, assumption: str) -> Note:
    if n == of.size:
        return Note(
            "diagonal-V", f"No two effects share a value of {cluster}: V is diagonal and assumes no correlation."
        )
    return Note(
        "assumed-V",
        f"The correlation of sampling errors was assumed, not estimated: {assumption}. Vary it and compare.",
    )
