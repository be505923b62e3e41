"""What is known of the artifacts of a set of effects: by row, or as a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.correlations import artifacts as core
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.options import check_option, did_you_mean
from alliance_meta.tables.format import fixed

Given = str | float | Sequence[float] | Mapping[float, float] | None
RelIn = Literal["sample", "population"]

RELIABILITY = "a reliability lies in (0, 1]"
SPLIT = "a split is the share of people on one side, between 0 and 1"
RATIO = "u is the standard deviation in the sample over that in the population, above 0"
WORDS = {
    "rel_alliance": "reliability of the alliance",
    "rel_outcome": "reliability of the outcome",
    "split_alliance": "alliance cut in two",
    "split_outcome": "outcome cut in two",
    "u_alliance": "range restriction of the alliance",
}


@dataclass(frozen=True, eq=False)
class Artifact:
    """One artifact, as known for the rows or as a distribution.

    Attributes
    ----------
    name : str
    values : ndarray of shape (k,)
        One per row, NaN where unknown; all NaN for a distribution from elsewhere.
    elsewhere : Distribution or None
        Values that do not belong to rows, with weights.
    """

    name: str
    values: Array
    elsewhere: core.Distribution | None = None

    @property
    def complete(self) -> bool:
        """Whether every row has a value."""
        return bool(np.isfinite(self.values).all())

    def mean(self, weights: Array) -> float:
        """Return the mean of what is known."""
        found = self.distribution(weights)
        return float(found.weights @ found.values)

    def distribution(self, weights: Array) -> core.Distribution:
        """Return the known values, each row weighing as much as `weights` says."""
        if self.elsewhere is not None:
            return self.elsewhere
        known = np.isfinite(self.values)
        return core.Distribution(self.values[known], weights[known] / weights[known].sum())

    def filled(self, weights: Array) -> Array:
        """Return one value per row, the mean where unknown."""
        return np.where(np.isfinite(self.values), self.values, self.mean(weights))

    def words(self, weights: Array) -> str:
        """Say what is assumed."""
        k, known = len(self.values), int(np.isfinite(self.values).sum())
        mean = self.mean(weights)
        if self.elsewhere is not None:
            return f"{WORDS[self.name]} distributed around {fixed(mean, 2)}"
        if known < k:
            return f"{WORDS[self.name]} known in {known} of {k} rows, {fixed(mean, 2)} elsewhere"
        spread = float(np.ptp(self.values))
        return f"{WORDS[self.name]} {fixed(mean, 2)}" + (" on average, by row" if spread > 0 else "")


def read_artifacts(
    effects: EffectSizes, given: Mapping[str, Given], *, range_restriction: str, rel_alliance_in: str
) -> dict[str, Artifact]:
    """Read and check what is known of the artifacts."""
    check_option("range_restriction", range_restriction, core.RangeRestriction)
    check_option("rel_alliance_in", rel_alliance_in, RelIn)
    if effects.measure not in ("ZCOR", "COR", "UCOR"):
        raise InputError(f"artifacts attenuate correlations; these effects are {effects.scale_label}")
    known = {name: _read(effects, name, value) for name, value in given.items() if value is not None}
    if not known:
        raise InputError(f"name at least one artifact: {', '.join(f'{name}=' for name in given)}")
    if range_restriction == "indirect" and "u_alliance" in known and "rel_alliance" not in known:
        raise InputError(
            "indirect range restriction works through true scores: it needs rel_alliance= beside u_alliance="
        )
    return known


def weights_of(effects: EffectSizes) -> Array:
    """Return the sample sizes, or ones where they are unknown."""
    return np.ones(effects.k) if effects.ni is None else effects.ni


def correlations(effects: EffectSizes) -> Array:
    """Return the effects as r."""
    return np.tanh(effects.yi) if effects.measure == "ZCOR" else effects.yi


def _read(effects: EffectSizes, name: str, value: Given) -> Artifact:
    none = np.full(effects.k, np.nan)
    if isinstance(value, Mapping):
        values, weights = (np.array(list(part), dtype=float) for part in (value.keys(), value.values()))
        if not value or not (weights > 0).all():
            raise InputError(f"{name}: a distribution is {{value: weight}} with weights above 0, not {dict(value)!r}")
        found = Artifact(name, none, core.Distribution(values, weights / weights.sum()))
    else:
        values = _values(effects, name, value)
        found = Artifact(name, values)
    wrong = values[np.isfinite(values) & ~_allowed(name, values)]
    if wrong.size:
        hint = f"; in percent? write {wrong[0] / 100:g}" if 1 < wrong[0] <= 100 and name != "u_alliance" else ""
        rule = RELIABILITY if name.startswith("rel") else SPLIT if name.startswith("split") else RATIO
        raise InputError(f"{name}: {wrong[0]:g} is not possible; {rule}{hint}")
    if not np.isfinite(values).any():
        raise InputError(f"{name}: no row has a value")
    return found


def _values(effects: EffectSizes, name: str, value: Any) -> Array:
    if isinstance(value, str):
        frame = effects.moderators
        if value not in frame:
            known = [str(c) for c in frame.columns]
            raise InputError(f"{name}={value!r} is no column{did_you_mean(value, known)}. Columns: {', '.join(known)}")
        numbers = pd.to_numeric(frame[value], errors="coerce")
        lost = numbers.isna() & frame[value].notna()
        if lost.any():
            raise InputError(f"{name}: {frame[value][lost].iloc[0]!r} in column {value!r} is not a number")
        return numbers.to_numpy(dtype=float, na_value=np.nan)
    values = np.asarray(value, dtype=float)
    if values.ndim == 0:
        return np.full(effects.k, float(values))
    if values.shape != (effects.k,):
        raise InputError(
            f"{name} has {values.size} values for {effects.k} effects; give one each, or {{value: weight}}"
        )
    return values


def _allowed(name: str, values: Array) -> Mask:
    if name.startswith("rel"):
        return (values > 0) & (values <= 1)
    return (values > 0) & (values < 1) if name.startswith("split") else values > 0
