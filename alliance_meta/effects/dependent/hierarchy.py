"""`select_effects`: one effect per study, chosen by a declared order of preference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.studies import EMPTY, listed, plain_text
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DroppedRowsWarning, InputError
from alliance_meta.notes import Note, check_option, did_you_mean, merge_notes, warn_note

Tie = Literal["error", "first", "largest-n", "smallest-v", "mean"]
Unlisted = Literal["error", "last", "drop"]
ORDERS = ("lowest", "highest")


def select_effects(
    effects: EffectSizes,
    *,
    by: Mapping[str, Sequence[Any] | str],
    cluster: Any = "study_id",
    ties: Tie | Sequence[Tie] = "error",
    unlisted: Unlisted = "error",
    rho: float = 0.5,
) -> EffectSizes:
    """Keep one effect per study: the one that a declared order of preference puts first.

    A study that reports the alliance as seen by client, therapist and observer gives three correlations of the same
    patients. Choosing by a rule declared beforehand (here: client before therapist before observer) leaves one per
    study, and nobody can say that the largest was picked. What is left out is named in a note.

    Parameters
    ----------
    effects : EffectSizes
    by : mapping
        Moderator -> its values, the preferred first, as in ``{"alliance_rater": ["client", "therapist",
        "observer"], "session": "lowest"}``. A tuple holds values that are equally good. ``"lowest"`` or
        ``"highest"`` takes the smallest or largest number. The first moderator decides, the next only among what
        the ones before left.
    cluster : str, sequence of str, or array-like of shape (k,)
        Which effects stand for one study, as for `aggregate`.
    ties : str or sequence of str
        What decides between effects that the order leaves equal, one rule after the other: ``"largest-n"``,
        ``"smallest-v"``, ``"first"`` (the row that comes first), ``"mean"`` (their plain mean, with `rho`).
        ``"error"`` names the studies, so that a rule can be chosen.
    unlisted : {"error", "last", "drop"}
        What becomes of effects whose value is not in the list or missing: ``last`` puts them behind all others,
        ``drop`` leaves them out, and with them every study that has no other.
    rho : float
        Assumed correlation for ``ties="mean"``.

    Returns
    -------
    EffectSizes
        One row per cluster, in the order of first appearance.

    Raises
    ------
    InputError
        A moderator that is not there, values that are not listed, ties that no rule resolves; each with names.

    Warns
    -----
    DroppedRowsWarning
        Studies lost by ``unlisted="drop"``.

    See Also
    --------
    aggregate : the mean of a study's effects; it uses all of them, and gives up the difference between raters.

    Notes
    -----
    One effect per sample by a hierarchy of measures and times is how Murphy and Hutton (2018) kept effects
    independent. The choice costs information; a multilevel model with the rater as moderator uses every effect.

    Examples
    --------
    >>> from alliance_meta import EffectSizes
    >>> from alliance_meta.effects import select_effects
    >>> es = EffectSizes.from_arrays(
    ...     [0.2, 0.3, 0.1],
    ...     [0.01, 0.01, 0.02],
    ...     slab=["A", "A", "B"],
    ...     mods={"rater": ["therapist", "client", "observer"]},
    ... )
    >>> one = select_effects(es, by={"rater": ["client", "therapist", "observer"]})
    >>> one.slab
    ('A b', 'B')
    >>> print(one.notes[-1])
    1 of 3 effects left out to keep one per study_id: by rater (client, therapist, observer): A a.
    """
    if not isinstance(effects, EffectSizes):
        raise InputError(f"select_effects needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    rules = _rules(ties, effects)
    check_option("unlisted", unlisted, Unlisted)
    preferences = _preferences(effects, by, unlisted)
    clusters = read_clusters(effects, cluster)
    left = _Selection(clusters, np.ones(effects.k, dtype=bool), [])
    notes: list[Note] = []
    if unlisted == "drop":
        unknown = np.any([preference.unlisted for preference in preferences], axis=0)
        left = left.without(unknown, "not in the order declared")
        notes += _lost_studies(clusters, left.kept)
    for preference in preferences:
        left = left.best(preference.rank, f"by {preference.label}")
    for rule in rules:
        if rule not in ("error", "mean"):
            left = left.best(_tie_rank(effects, rule), f"ties ({rule})")
    tied = np.flatnonzero(np.bincount(clusters.codes[left.kept], minlength=clusters.n) > 1)
    if len(tied) and "mean" not in rules:
        raise InputError(_tied(effects, clusters, left.kept, tied, by))
    return _result(effects, clusters, left, notes, mean=len(tied) > 0, rho=rho, ties=rules, by=by)


@dataclass(frozen=True, eq=False)
class _Preference:
    """Ranks (k,) of a moderator's values, the best lowest, and which rows the declaration does not know."""

    label: str
    rank: Array
    unlisted: Mask


@dataclass(frozen=True, eq=False)
class _Selection:
    """Rows still kept, and what was left out by which rule."""

    clusters: Clusters
    kept: Mask
    dropped: list[tuple[str, AnyArray]]

    def without(self, rows: Mask, why: str) -> _Selection:
        """Leave out rows."""
        gone = np.flatnonzero(self.kept & rows)
        return replace(
            self, kept=self.kept & ~rows, dropped=[*self.dropped, (why, gone)] if len(gone) else self.dropped
        )

    def best(self, rank: Array, why: str) -> _Selection:
        """Leave out what another row of the cluster precedes."""
        top = np.full(self.clusters.n, np.inf)
        np.minimum.at(top, self.clusters.codes[self.kept], rank[self.kept])
        return self.without(rank > top[self.clusters.codes], why)


def _rules(ties: Any, effects: EffectSizes) -> tuple[str, ...]:
    rules = (ties,) if isinstance(ties, str) else tuple(ties)
    for rule in rules:
        check_option("ties", rule, Tie)
    if any(rule in ("mean", "error", "first") for rule in rules[:-1]):
        raise InputError(f"ties={list(rules)}: no rule can follow 'first', 'mean' or 'error', which leave nothing tied")
    if "largest-n" in rules and effects.ni is None:
        raise InputError("ties='largest-n' needs the sample sizes; give ni=, or use 'smallest-v'")
    return rules


def _preferences(effects: EffectSizes, by: Any, unlisted: str) -> list[_Preference]:
    if not isinstance(by, Mapping) or not by:
        raise InputError(
            "by must name at least one moderator and its values, such as {'rater': ['client', 'observer']}"
        )
    frame = effects.moderators
    problems = []
    out = []
    for name, order in by.items():
        if name not in frame:
            known = [str(column) for column in frame.columns]
            problems.append(f"{name!r} is not a column{did_you_mean(str(name), known)}; columns: {', '.join(known)}")
            continue
        column: pd.Series[Any] = frame[str(name)]
        try:
            one = _preference(column, str(name), order)
        except InputError as error:
            problems.append(str(error))
            continue
        if unlisted == "error" and one.unlisted.any():
            problems.append(_unlisted(column, str(name), order, one.unlisted))
        out.append(one)
    if problems:
        raise InputError("by: " + "; ".join(problems))
    return out


def _preference(column: pd.Series[Any], name: str, order: Any) -> _Preference:
    if isinstance(order, str):
        if order not in ORDERS:
            raise InputError(f"{name!r}: {order!r} must be a list of values, 'lowest' or 'highest'")
        return _numeric(column, name, order)
    ranks: dict[str, int] = {}
    for place, entry in enumerate(order):
        for value in entry if isinstance(entry, tuple) else (entry,):
            if plain_text(value) in ranks:
                raise InputError(f"{name!r} lists {value!r} twice")
            ranks[plain_text(value)] = place
    codes, levels = pd.factorize(column)
    last = len(ranks) + 1
    of_level = np.array([ranks.get(plain_text(level), last) for level in levels] + [last], dtype=float)
    rank = of_level[codes]
    shown = ", ".join("/".join(map(str, e)) if isinstance(e, tuple) else str(e) for e in order)
    return _Preference(f"{name} ({shown})", rank, rank == last)


def _numeric(column: pd.Series[Any], name: str, order: str) -> _Preference:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    text = column[np.isnan(numbers) & column.notna().to_numpy()]
    if len(text):
        raise InputError(f"{name!r} holds {text.iloc[0]!r}, which is no number; list its values in order of preference")
    rank = np.where(np.isnan(numbers), np.inf, numbers if order == "lowest" else -numbers)
    return _Preference(f"{name} ({order})", np.where(np.isinf(rank), np.finfo(float).max, rank), np.isnan(numbers))


def _unlisted(column: pd.Series[Any], name: str, order: Any, rows: Mask) -> str:
    values = list(dict.fromkeys(plain_text(value) for value in column[rows]))
    known = [] if isinstance(order, str) else [str(v) for e in order for v in (e if isinstance(e, tuple) else (e,))]
    named = [("(missing)" if v in EMPTY else repr(v)) + did_you_mean(v, known).replace("; ", ", ") for v in values]
    return (
        f"{name!r} has {listed(named)} in {int(rows.sum())} row{'s' if rows.sum() > 1 else ''}, not in the order "
        "declared; add them, or say unlisted='last' or unlisted='drop'"
    )


def _tie_rank(effects: EffectSizes, rule: str) -> Array:
    if rule == "largest-n":
        assert effects.ni is not None
        return -np.nan_to_num(effects.ni, nan=0.0)
    return effects.vi if rule == "smallest-v" else np.arange(effects.k, dtype=float)


def _tied(effects: EffectSizes, clusters: Clusters, kept: Mask, tied: AnyArray, by: Iterable[Any]) -> str:
    rows = np.flatnonzero(kept & (clusters.codes == tied[0]))
    others = [rule for rule in get_args(Tie) if rule != "error"]
    return (
        f"{' and '.join(map(str, by))} leave{'s' if len(list(by)) == 1 else ''} {len(tied)} of {clusters.n} clusters "
        f"with more than one effect ({clusters.named(tied)}), such as {listed([effects.slab[int(i)] for i in rows])}; "
        f"add a moderator to by=, or a rule for ties: {', '.join(map(repr, others))}"
    )


def _lost_studies(clusters: Clusters, kept: Mask) -> list[Note]:
    lost = np.flatnonzero(np.bincount(clusters.codes[kept], minlength=clusters.n) == 0)
    if len(lost) == clusters.n:
        raise InputError("unlisted='drop' leaves no effect: no value of the sheet stands in the order declared")
    if not len(lost):
        return []
    message = f"{len(lost)} of {clusters.n} clusters have no effect in the order declared and are lost: "
    message += listed([clusters.labels[int(i)] for i in lost], most=len(lost)) + "."
    return [warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=4)]


def _result(
    effects: EffectSizes,
    clusters: Clusters,
    left: _Selection,
    notes: list[Note],
    *,
    mean: bool,
    rho: float,
    ties: Sequence[str],
    by: Mapping[str, Any],
) -> EffectSizes:
    rows = np.flatnonzero(left.kept)
    # Clusters are numbered as they first appear.
    rows = rows[np.argsort(clusters.codes[rows], kind="stable")]
    step = f"select_effects by {', '.join(map(str, by))}; ties={', '.join(ties)}: {len(rows)} of {effects.k} effects"
    out = effects.take(rows, step=step)
    gone = [f"{why}: {', '.join(effects.slab[int(i)] for i in which)}" for why, which in left.dropped]
    total = effects.k - len(rows)
    message = f"{total} of {effects.k} effects left out to keep one per {clusters.name}: {'; '.join(gone)}."
    if not gone:
        message = f"The order declared leaves out no effect: none precedes another of its {clusters.name}."
    out = replace(out, notes=merge_notes(effects.notes, notes, [Note("selected-effects", message)]))
    if not mean:
        return out
    labels = [clusters.labels[int(code)] for code in clusters.codes[rows]]
    return aggregate(out, cluster=pd.Series(labels, name=clusters.name), rho=rho, how="mean")
