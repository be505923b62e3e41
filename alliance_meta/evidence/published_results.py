"""The registry of published results: what meta-analyses of the alliance print, as they print it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from alliance_meta.effects.datasets import (
    data_root,
    load_dataset,
    published_reliabilities,
    read_resource,
    read_resource_text,
)
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.tables.format import fixed

NOT_STUDIES = (
    "these are published pooled results, not studies: the syntheses share primary studies, so that no model of them "
    "means anything, neither a mean nor a prediction. Use study-level data"
)

PRINTED = ("k", "n_total", "estimate", "ci_low", "ci_high")

Filter = str | Sequence[str] | None
# Instead of a population: the registry's other table.
RELIABILITY = "reliability"

# Column -> the argument that filters by it.
FILTERS = {**{name: name for name in ("population", "format", "relation", "metric")}, "evidence_level": "evidence"}


def published(
    population: Filter = None,
    *,
    format: Filter = None,
    relation: Filter = None,
    year: int | tuple[int, int] | None = None,
    metric: Filter = None,
    evidence: Filter = None,
    measure: Filter = None,
    align_signs: bool = False,
    moderators: bool = False,
) -> pd.DataFrame:
    """Return published results of alliance meta-analyses and their neighbours, as printed.

    Reference values to plot and to compare with. The syntheses overlap: one primary study stands in many of
    them, so their results are never pooled. They are not study-level data.

    Parameters
    ----------
    population, format, relation, metric, evidence : str or sequence of str, optional
        Keep the entries whose column contains the text (capitals do not matter); a sequence keeps exactly
        the values it lists. `relation` ``"alliance-outcome"`` also finds ``"split alliance-outcome"``;
        ``["alliance-outcome"]`` does not. `evidence` is the column ``evidence_level``. The population
        ``"reliability"`` gives what is printed of the reliability of alliance measures instead of results.
    year : int or (int, int), optional
        One year, or the first and last year of a span.
    measure : str or sequence of str, optional
        Of the reliabilities: the alliance measure. ``"WAI"`` also finds ``"WAI-S"``, ``["WAI"]`` does not.
    align_signs : bool
        Turn estimates whose positive sign means a worse outcome (alliance with symptoms, split alliances),
        so that positive always means a better outcome; ``sign_flipped`` marks them. The default leaves every
        sign as printed.
    moderators : bool
        Return what the entries print of their moderators instead, one row per level or verdict.

    Returns
    -------
    DataFrame
        The registry's columns (``id authors year title doi population format relation metric k n_total
        estimate ci_low ci_high ci_level model_as_reported heterogeneity_as_reported evidence_level
        evidence_location notes``), ``sign_flipped``, and the printed text of the numbers in
        ``k_printed``, ``estimate_printed`` and so on. Numbers that were not printed are NaN. ``.attrs``
        holds the cautions. Of reliabilities: ``measure version rater kind sessions value printed ci_low ci_high k
        n_total population authors year title doi evidence_level evidence_location notes``; where a source prints
        a range or a bound, it stands in ``printed`` and ``value`` is NaN.

    Raises
    ------
    InputError
        If a filter fits no entry at all, or belongs to the other table.

    Examples
    --------
    >>> import alliance_meta as am
    >>> found = am.published(relation=["alliance-outcome"], metric=["r"], year=2018)
    >>> found.loc[found["id"] == "fluckiger2018_f2f", ["k", "estimate_printed"]].values.tolist()
    [[295.0, '.278']]
    >>> am.published("reliability", measure=["WAI-S"])[["rater", "kind", "value"]].values.tolist()
    [['client', 'alpha', 0.86], ['therapist', 'alpha', 0.9]]
    """
    if population == RELIABILITY:
        unfit = {"format": format, "relation": relation, "metric": metric, "align_signs": align_signs or None}
        return _reliabilities(measure, year, evidence, {**unfit, "moderators": moderators or None})
    if measure is not None:
        raise InputError("measure= belongs to reliabilities: published('reliability', measure=...)")
    table = load_dataset("published")
    frame = table.frame
    filters = {
        "population": population,
        "format": format,
        "relation": relation,
        "metric": metric,
        "evidence_level": evidence,
    }
    keep = pd.Series(True, index=frame.index)
    for column, wanted in filters.items():
        if wanted is not None:
            keep &= _matches(frame, column, wanted)
    if year is not None:
        keep &= _years(frame["year"], year)
    frame = _with_text(frame)
    signs = groups()["outcome_sign"].reindex(frame["id"]).to_numpy()
    frame["sign_flipped"] = False
    if align_signs:
        frame = _aligned(frame, signs == -1)
    frame = frame[keep.to_numpy()].reset_index(drop=True)
    if moderators:
        frame = _moderators(frame)
    assert table.card is not None
    frame.attrs["cautions"] = list(table.card.cautions)
    frame.attrs["not_studies"] = NOT_STUDIES
    frame.attrs["licence"] = table.card.licence
    return frame


def groups() -> pd.DataFrame:
    """Return heading, label, sign and role of every entry of the registry, indexed by its id."""
    return read_resource(data_root() / "published", "groups").set_index("id")


def _reliabilities(measure: Filter, year: int | tuple[int, int] | None, evidence: Filter, unfit: Any) -> pd.DataFrame:
    for name, given in unfit.items():
        if given is not None:
            raise InputError(f"{name}= belongs to results, not to reliabilities; use measure=, year=, evidence=")
    frame = published_reliabilities()
    keep = pd.Series(True, index=frame.index)
    for column, wanted in {"measure": measure, "evidence_level": evidence}.items():
        if wanted is not None:
            keep &= _matches(frame, column, wanted)
    if year is not None:
        keep &= _years(frame["year"], year)
    return frame[keep.to_numpy()].reset_index(drop=True)


def _matches(frame: pd.DataFrame, column: str, wanted: str | Sequence[str]) -> pd.Series[bool]:
    values = frame[column]
    known = sorted(values.dropna().unique())
    if isinstance(wanted, str):
        found = values.str.contains(wanted, case=False, regex=False, na=False)
        unknown = [] if found.any() else [wanted]
    else:
        found = values.isin(list(wanted))
        unknown = [value for value in wanted if value not in known]
    if unknown:
        others = [
            c
            for c in FILTERS
            if c != column and c in frame and frame[c].str.contains(unknown[0], case=False, regex=False).any()
        ]
        instead = f"; use {' or '.join(f'{FILTERS[c]}={unknown[0]!r}' for c in others)}" if others else ""
        raise InputError(
            f"no published result has the {column} {', '.join(map(repr, unknown))}"
            f"{instead or did_you_mean(unknown[0], known)}; there are {', '.join(map(repr, known))}"
        )
    return found


def _years(values: pd.Series[float], year: int | tuple[int, int]) -> pd.Series[bool]:
    first, last = (year, year) if isinstance(year, int) else year
    found = values.between(first, last)
    if not found.any():
        span = str(first) if first == last else f"{first} to {last}"
        raise InputError(
            f"no published result is of {span}; the registry spans {fixed(values.min(), 0)} to {fixed(values.max(), 0)}"
        )
    return found


def _with_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the printed text of every number."""
    text = read_resource_text(data_root() / "published", "results")
    for name in PRINTED:
        frame[f"{name}_printed"] = text[name].to_numpy()
    return frame


def _aligned(frame: pd.DataFrame, flip: Any) -> pd.DataFrame:
    flip = flip & frame["estimate"].notna().to_numpy()
    frame = frame.copy()
    low, high = frame["ci_low"].copy(), frame["ci_high"].copy()
    frame.loc[flip, "estimate"] = -frame.loc[flip, "estimate"]
    frame.loc[flip, "ci_low"] = -high[flip]
    frame.loc[flip, "ci_high"] = -low[flip]
    frame["sign_flipped"] = flip
    return frame


def _moderators(entries: pd.DataFrame) -> pd.DataFrame:
    """Moderator rows of the given entries; a row may name the common stem of several entries."""
    rows = read_resource(data_root() / "published", "moderators")
    ids = list(entries["id"])
    wanted = [any(entry == stem or entry.startswith(f"{stem}_") for entry in ids) for stem in rows["id"]]
    return rows[wanted].reset_index(drop=True)
