"""`select_effects`, one effect per study by preference, and `split_within`, a moderator within and between."""

from __future__ import annotations

import re
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


# Deviations below this share of the largest value are what floating point leaves of none.
ROUNDING = 1e-12


def split_within(effects: EffectSizes, column: str, *, cluster: Any = "study_id", reference: Any = None) -> EffectSizes:
    r"""Cut a moderator into what varies within studies and what varies between them.

    Studies that had observers rate the alliance may differ from studies that asked clients in a hundred ways. A
    study that did both compares them on the same patients, and nothing but the rater differs. A moderator put into a
    model as it is mixes the two comparisons; cut in two, each gets its own coefficient, and only the one within
    studies is free of what distinguishes the studies.

    Parameters
    ----------
    effects : EffectSizes
    column : str
        A moderator: numbers (session, year of measurement) or text (rater, measure).
    cluster : str, sequence of str, or array-like of shape (k,)
        Which effects come from one study.
    reference : optional
        For text: the level the others are compared with; the first in alphabetical order by default.

    Returns
    -------
    EffectSizes
        The same effects with new moderators. Numbers: ``<column>_within``, the deviation from the study's mean, and
        ``<column>_between``, that mean. Text: for each level but the reference ``<column>_<level>_within``, 1 or 0
        less the share of the study's effects at that level, and ``<column>_<level>_between``, that share. A note says
        which studies tell about the difference within studies.

    Raises
    ------
    InputError
        A column that is not there, empty throughout, or constant within every study; a `reference` that is no level;
        names that are taken.

    See Also
    --------
    che : the model to put both parts into.

    Notes
    -----
    With the mean :math:`\bar x_j` of study j,

    .. math:: y_{ij} = \beta_0 + \beta_w (x_{ij} - \bar x_j) + \beta_b \bar x_j + u_j + w_{ij} + e_{ij}

    :math:`\beta_w` compares effects of the same study. Where these have equal sampling variances, as Fisher's z of
    one sample has, nothing added to all effects of a study changes it, as if each study had an intercept of its own.
    :math:`\beta_b` compares studies; :math:`\beta_b - \beta_w` is what the study's mean adds, which
    ``mods="x + x_between"`` estimates as the coefficient of ``x_between``. Effects with an empty cell have neither
    part and do not count towards the mean. Raudenbush & Bryk (2002), Hierarchical linear models, chapter 5.

    *Rater as a contrast within studies*: ``split_within(es, "rater", reference="client")``, then
    ``che(es, mods="rater_observer_within + rater_observer_between + rater_therapist_within +
    rater_therapist_between")``; the coefficients ``_within`` are observer and therapist less client in the same
    study, and ``fit.test(["rater_observer_within", "rater_therapist_within"])`` asks whether raters differ at all.

    *Time of assessment as growth*: ``split_within(es, "session")``, then
    ``che(es, mods="session_within + session_between")``; ``session_within`` is the change of the effect per session
    within a study. ``MultilevelModel(..., random=("1 + session_within | study_id", "es_id"))`` lets it differ
    between studies.

    Examples
    --------
    >>> from alliance_meta import EffectSizes
    >>> from alliance_meta.effects import split_within
    >>> es = EffectSizes.from_arrays(
    ...     [0.2, 0.3, 0.25], [0.01] * 3, study_id=["A", "A", "B"], mods={"rater": ["client", "observer", "client"]}
    ... )
    >>> split_within(es, "rater").moderators.iloc[:, 1:].to_dict("list")
    {'rater_observer_within': [-0.5, 0.5, 0.0], 'rater_observer_between': [0.5, 0.5, 0.0]}
    """
    if not isinstance(effects, EffectSizes):
        raise InputError(f"split_within needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    values, known = _column(effects, column)
    clusters = read_clusters(effects, cluster)
    parts, base = _indicators(values, known, column, reference)
    new: dict[str, Array] = {}
    means = {name: _means(x, known, clusters) for name, x in parts.items()}
    for name, x in parts.items():
        new[f"{name}_within"], new[f"{name}_between"] = x - means[name], means[name]
    within = np.column_stack([new[f"{name}_within"] for name in parts])
    scale = max(float(np.abs(x[known]).max()) for x in parts.values())
    varying = _varying(within, known, clusters, ROUNDING * scale)
    _check(effects, column, clusters, varying, new)
    frame = effects.moderators.assign(**new)
    step = f"split_within {column} by {clusters.name}" + (f", reference {base}" if base is not None else "")
    notes = _notes(effects, column, clusters, varying, known, list(new), base)
    return replace(
        effects, _moderators=frame, provenance=effects.provenance.after(step), notes=merge_notes(effects.notes, notes)
    )


def _column(effects: EffectSizes, column: Any) -> tuple[pd.Series[Any], Mask]:
    frame = effects.moderators
    if not isinstance(column, str) or column not in frame:
        known = [str(name) for name in frame.columns]
        raise InputError(
            f"column {column!r} is not a moderator{did_you_mean(str(column), known)}; columns: {', '.join(known)}"
        )
    values: pd.Series[Any] = frame[column]
    there = values.notna().to_numpy()
    if not there.any():
        raise InputError(f"column {column!r} is empty throughout")
    return values, there


def _indicators(
    values: pd.Series[Any], known: Mask, column: str, reference: Any
) -> tuple[dict[str, Array], str | None]:
    """Return the columns of numbers to cut, NaN where nothing is known, and the reference level of text."""
    if pd.api.types.is_numeric_dtype(values):
        if reference is not None:
            raise InputError(f"column {column!r} holds numbers, which have no reference level; leave reference out")
        x = values.to_numpy(dtype=float, na_value=np.nan)
        if np.isinf(x).any():
            raise InputError(f"column {column!r} holds an infinite number")
        return {_word(column): x}, None
    texts = [plain_text(value) if there else "" for value, there in zip(values, known, strict=True)]
    levels = sorted({text for text, there in zip(texts, known, strict=True) if there})
    base = levels[0] if reference is None else plain_text(reference)
    if base not in levels:
        raise InputError(
            f"reference={reference!r} is no level of {column!r}{did_you_mean(base, levels)}; levels: {listed(levels)}"
        )
    parts: dict[str, Array] = {}
    for level in levels:
        if level == base:
            continue
        name = f"{_word(column)}_{_word(level)}"
        if name in parts:
            raise InputError(f"two levels of {column!r} would both be called {name}; rename one of them")
        parts[name] = np.where(known, [float(text == level) for text in texts], np.nan)
    if not parts:
        raise InputError(f"column {column!r} is {base!r} throughout: there is nothing to compare")
    return parts, base


def _word(text: str) -> str:
    """Return a text as part of a name that formulas can hold."""
    return re.sub(r"\W+", "_", text).strip("_") or "_"


def _means(x: Array, known: Mask, clusters: Clusters) -> Array:
    """Return each row's mean over the known rows of its cluster, NaN for unknown rows."""
    counts = np.bincount(clusters.codes[known], minlength=clusters.n)
    sums = np.bincount(clusters.codes[known], x[known], minlength=clusters.n)
    return np.where(known, (sums / np.maximum(counts, 1))[clusters.codes], np.nan)


def _varying(within: Array, known: Mask, clusters: Clusters, least: float) -> AnyArray:
    """Return the codes of the clusters in which a part varies."""
    moving = known & (np.abs(np.where(known[:, None], within, 0.0)).max(axis=1) > least)
    return np.unique(clusters.codes[moving])


def _check(effects: EffectSizes, column: str, clusters: Clusters, varying: AnyArray, new: dict[str, Array]) -> None:
    taken = [name for name in new if name in effects.moderators]
    if taken:
        raise InputError(f"the moderators already hold {', '.join(taken)}; rename or drop them first")
    if not len(varying):
        raise InputError(
            f"column {column!r} does not vary within any {clusters.name}: no study compares its values, and there is "
            "nothing to cut; put it into mods as it is"
        )


def _notes(
    effects: EffectSizes,
    column: str,
    clusters: Clusters,
    varying: AnyArray,
    known: Mask,
    names: list[str],
    base: str | None,
) -> list[Note]:
    rows = int((np.isin(clusters.codes, varying) & known).sum())
    less = f", each level less {base!r}" if base is not None else ""
    text = (
        f"{column} was cut into parts within and between {clusters.name}{less}: mods='{' + '.join(names)}'. Only "
        f"{len(varying)} of {clusters.n} clusters hold several values of it and tell about the parts within "
        f"({rows} of {effects.k} effects): {clusters.named(varying)}."
    )
    notes = [Note("split-within", text)]
    empty = [effects.slab[int(i)] for i in np.flatnonzero(~known)]
    if empty:
        message = f"No {column} in {len(empty)} of {effects.k} effects, which have neither part: {listed(empty)}."
        notes.append(Note("split-within-empty", message))
    return notes
