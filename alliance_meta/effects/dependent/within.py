"""`split_within`: a moderator cut into its difference within studies and its difference between them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
from alliance_meta.effects.studies import listed, plain_text
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, did_you_mean, merge_notes

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
