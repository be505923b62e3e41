"""`EffectSizes`: the immutable table every model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.dependent import IntArray, codes
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.sheet.columns import column_letter, without_codes
from alliance_meta.effects.studies import (
    STUDY,
    count_people,
    empty_labels,
    find_columns,
    plain_text,
    same_groups,
    sample_codes,
    spaced,
)
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.tables.document import Document, as_html, frame_table
from alliance_meta.tables.format import plural

if TYPE_CHECKING:
    from alliance_meta._typing import Array

MEASURE_LABELS = {
    "ZCOR": "Fisher z",
    "COR": "correlation r",
    "UCOR": "bias-corrected correlation r",
    "GEN": "effect size",
}

# Squares and cubes of weights and effects in these ranges have room in a floating-point number, and sums of weights
# that differ by less than the last factor keep digits of both.
VARIANCES, MOST_EFFECT, LEAST_SHARE = (1e-40, 1e40), 1e20, 1e-15
# A column that is nowhere further than this from the effects repeats them, if more than so many effects agree.
ROUNDED, COPIED = 0.006, 3


@dataclass(frozen=True, eq=False)
class EffectSizes:
    """Effect sizes with their sampling variances, one row per effect; nothing in it can be changed.

    Make one with `escalc` (from r and n) or `EffectSizes.from_arrays` (from finished effect sizes).

    Attributes
    ----------
    yi : ndarray of shape (k,)
        Effect sizes on the analysis scale that `measure` names (Fisher z for ``ZCOR``).
    vi : ndarray of shape (k,)
        Sampling variances on the same scale, > 0.
    ni : ndarray of shape (k,) or None
        Sample sizes.
    slab : tuple of str
        Study labels, made unique by a, b, ... where two rows share one.
    study_id : tuple of str
        Which study each row belongs to (equal to the unmade labels unless a column says otherwise).
    moderators : pandas.DataFrame
        Every other column of the coding sheet, row by row.
    measure : {"ZCOR", "COR", "UCOR", "GEN"}
        The analysis scale.
    vtype : str or None
        Which variance formula was used.
    direction : str
        What a positive effect means.
    provenance : Provenance
        Origin and every step since.
    notes : tuple of Note
        Printed by every report.
    columns : mapping
        Which columns of the sheet the effects came from (``ri``, ``ni``).
    unreported : pandas.DataFrame or None
        Rows of the sheet that are known only as not significant (``ns``), which are no effects: ``slab study_id ni
        sign``, the last 1 or -1 where the sheet gives it in ``es_sign``. `alliance_meta.bias.unreported` uses them.
    """

    yi: Array
    vi: Array
    ni: Array | None
    slab: tuple[str, ...]
    study_id: tuple[str, ...]
    _moderators: pd.DataFrame = field(repr=False)
    measure: str
    vtype: str | None
    direction: str
    provenance: Provenance
    notes: tuple[Note, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, repr=False)
    unreported: pd.DataFrame | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("yi", "vi", "ni"):
            values = getattr(self, name)
            if values is not None:
                values = np.array(values, dtype=float)
                values.flags.writeable = False
                object.__setattr__(self, name, values)

    @classmethod
    def from_arrays(
        cls,
        yi: Any,
        vi: Any,
        *,
        ni: Any = None,
        mods: pd.DataFrame | Mapping[str, Any] | None = None,
        measure: str = "GEN",
        slab: Sequence[str] | None = None,
        study_id: Sequence[Any] | None = None,
        direction: str = "as given",
    ) -> EffectSizes:
        """Make a table from finished effect sizes and variances.

        Parameters
        ----------
        yi, vi : array-like of shape (k,)
            Effects and their sampling *variances* (not standard errors) on one scale.
        ni : array-like of shape (k,), optional
            Sample sizes.
        mods : DataFrame or mapping of arrays, optional
            Moderators, one row per effect.
        measure : str
            ``"ZCOR"`` if `yi` are Fisher z, so that predictions can be given as r.
        slab : sequence of str, optional
            Study labels; ``Study 1`` ... by default.
        study_id : sequence, optional
            Study of each effect; by default the moderator of that name, else the labels.
        direction : str
            What a positive effect means, in words.

        Raises
        ------
        CodingError
            For every missing or infinite effect, every variance that is not a positive number, every empty study
            and arrays of unequal length; all problems at once.
        InputError
            A moderator ``study_id`` that sorts the effects otherwise than `study_id`.

        Examples
        --------
        >>> from alliance_meta import EffectSizes
        >>> es = EffectSizes.from_arrays([0.2, 0.3], [0.01, 0.02], measure="ZCOR")
        >>> es.k, es.slab
        (2, ('Study 1', 'Study 2'))
        """
        y, v = (np.atleast_1d(np.asarray(values, dtype=float)) for values in (yi, vi))
        frame = pd.DataFrame(mods).reset_index(drop=True) if mods is not None else pd.DataFrame(index=range(y.size))
        frame, notes = without_codes(frame)
        _check_lengths(y.size, {"vi": v, "ni": ni, "mods": frame, "slab": slab, "study_id": study_id})
        if study_id is None and STUDY in frame:
            study_id = frame[STUDY].tolist()
        elif study_id is not None and STUDY in frame and not same_groups(frame[STUDY], study_id):
            raise InputError(
                f"study_id and the moderator {STUDY!r} sort the effects otherwise: one name has one meaning; leave one "
                "of them out, or rename the moderator"
            )
        labels = tuple(map(str, slab)) if slab is not None else tuple(f"Study {i + 1}" for i in range(y.size))
        studies = tuple(map(plain_text, study_id)) if study_id is not None else labels
        _check_values(y, v, studies)
        return cls(
            yi=y,
            vi=v,
            ni=None if ni is None else np.asarray(ni, dtype=float),
            slab=unique_labels(labels),
            study_id=studies,
            _moderators=frame,
            measure=measure,
            vtype=None,
            direction=direction,
            provenance=Provenance(source="arrays"),
            notes=tuple(notes),
        )

    @property
    def k(self) -> int:
        """Number of effects."""
        return int(self.yi.size)

    @cached_property
    def n_studies(self) -> int:
        """Number of studies."""
        return len(set(self.study_id))

    @cached_property
    def samples(self) -> IntArray:
        """Sample of each effect, (k,), numbered from 0: within a study, rows of one sample, or with the same n."""
        name = find_columns(self._moderators.columns).sample
        n = np.zeros(self.k) if self.ni is None else self.ni
        return sample_codes(codes(self.study_id), n, None if name is None else self._moderators[name].tolist())

    @cached_property
    def people(self) -> int | None:
        """Number of people, each sample counted once; None without sample sizes."""
        return None if self.ni is None else count_people(self.samples, self.ni)

    @property
    def counted(self) -> str:
        """How many effects there are, and from how many studies where these are fewer."""
        return f"k = {self._effects_and_studies}"

    @property
    def _effects_and_studies(self) -> str:
        studies = "" if self.n_studies == self.k else f" from {plural(self.n_studies, 'study', 'studies')}"
        return f"{plural(self.k, 'effect')}{studies}"

    @property
    def heading(self) -> str:
        """Origin and scale, and where several effects come from one study also studies and people."""
        people = "" if self.people is None else f", {spaced(self.people)} people"
        counts = "" if self.n_studies == self.k else f"; {self._effects_and_studies}{people}"
        return f"{self.provenance.source}: {self.scale_label} ({self.measure}){counts}"

    @property
    def counts(self) -> dict[str, Any]:
        """Studies, and people of whom each sample counts once, as tables of a fit have them."""
        people = NotApplicable("no sample sizes") if self.people is None else self.people
        return {"studies": self.n_studies, "people": people}

    @cached_property
    def sei(self) -> Array:
        """Standard errors, (k,)."""
        return np.sqrt(self.vi)

    def outcome_columns(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns named that the effects came from, or that repeat them, as z or as r."""
        origins = {self.columns[name] for name in ("ri", "yi") if name in self.columns}
        both = np.array([self.yi, np.tanh(self.yi)])
        return [name for name in names if name in origins or self._repeats(both, self._moderators[name])]

    def _repeats(self, both: Array, column: pd.Series[Any]) -> bool:
        """Tell whether a column is one of `both`, up to rounding and sign."""
        if self.k <= COPIED or not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            return False
        x = column.to_numpy(dtype=float, na_value=np.nan)
        away = np.abs(np.abs(x) - np.abs(both)).max(axis=1)
        return bool(away.min() <= ROUNDED and np.ptp(x) > COPIED * ROUNDED)

    @property
    def moderators(self) -> pd.DataFrame:
        """A copy of the moderators."""
        return self._moderators.copy()

    @property
    def scale_label(self) -> str:
        """The analysis scale in words."""
        return MEASURE_LABELS.get(self.measure, self.measure)

    @property
    def frame(self) -> pd.DataFrame:
        """Labels, effects, variances and moderators as one data frame."""
        columns: dict[str, Any] = {
            "slab": list(self.slab),
            "study_id": list(self.study_id),
            "yi": self.yi,
            "vi": self.vi,
        }
        if self.ni is not None:
            columns["ni"] = self.ni
        own = pd.DataFrame(columns)
        others = self._moderators.drop(columns=[c for c in self._moderators if c in own]).reset_index(drop=True)
        return pd.concat([own, others], axis=1)

    def take(self, rows: Any, *, step: str | None = None) -> EffectSizes:
        """Return the rows that `rows` (a mask or positions) picks, in that order."""
        index = np.arange(self.k)[rows]
        return replace(
            self,
            yi=self.yi[index],
            vi=self.vi[index],
            ni=None if self.ni is None else self.ni[index],
            slab=tuple(self.slab[i] for i in index),
            study_id=tuple(self.study_id[i] for i in index),
            _moderators=self._moderators.iloc[index].reset_index(drop=True),
            provenance=self.provenance if step is None else self.provenance.after(step),
        )

    def __len__(self) -> int:
        return self.k

    def __str__(self) -> str:
        return f"EffectSizes: k = {self.k}, {self.measure} ({self.scale_label}), {self.provenance.source}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(Document(str(self), blocks=[frame_table(self.frame)]))


def unique_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Append a, b, ... to labels that occur more than once, never merging two rows.

    >>> unique_labels(["A 2001", "B 2002", "A 2001"])
    ('A 2001a', 'B 2002', 'A 2001b')
    """
    total = Counter(labels)
    taken = {label for label, count in total.items() if count == 1}
    turn: dict[str, int] = {}
    out = []
    for label in labels:
        if total[label] == 1:
            out.append(label)
            continue
        while True:
            turn[label] = turn.get(label, 0) + 1
            candidate = label + (" " if not label[-1:].isdigit() else "") + column_letter(turn[label] - 1).lower()
            if candidate not in taken:
                break
        taken.add(candidate)
        out.append(candidate)
    return tuple(out)


def _check_lengths(k: int, columns: Mapping[str, Any]) -> None:
    wrong = {name: len(values) for name, values in columns.items() if values is not None and len(values) != k}
    if wrong:
        listed = ", ".join(f"{name} has {size}" for name, size in wrong.items())
        raise InputError(f"yi has {k} rows but {listed}; each needs one value per effect")
    if k == 0:
        raise InputError("yi is empty: a table of effects needs at least one row")


def impossible(y: Array, v: Array) -> list[tuple[int, str, str, str]]:
    """Return row, ``"yi"`` or ``"vi"``, value and reason of all that no effect or sampling variance can be."""
    low, high = VARIANCES
    with np.errstate(over="ignore"):
        largest = max(np.max(v, initial=0.0), np.max(y * y, initial=0.0))
    fine = np.isfinite(v) & (v > 0)
    beyond = fine & ((v < low) | (v > high))
    lost = fine & ~beyond & (v < LEAST_SHARE * largest)
    rules = (
        ("yi", y, ~np.isfinite(y), "an effect size must be a finite number; leave the row out"),
        ("yi", y, np.isfinite(y) & (np.abs(y) > MOST_EFFECT), f"no effect is beyond {MOST_EFFECT:g}; check its unit"),
        ("vi", v, ~fine, "a sampling variance must be positive and finite, not {:g}"),
        ("vi", v, beyond, f"a sampling variance is between {low:g} and {high:g}, not {{:g}}; check its unit"),
        (
            "vi",
            v,
            lost & np.isfinite(largest),
            f"{{:g}} is less than {LEAST_SHARE:g} times the largest variance or squared effect, {largest:g}; no study "
            "is so exact: check its unit",
        ),
    )
    return [
        (int(i), name, repr(float(values[i])), why.format(values[i]))
        for name, values, bad, why in rules
        for i in np.flatnonzero(bad)
    ]


def _check_values(y: Array, v: Array, studies: Sequence[str]) -> None:
    problems = [Problem(row + 1, name, value, why) for row, name, value, why in impossible(y, v)]
    problems += empty_labels(studies, range(1, y.size + 1), STUDY)
    if problems:
        raise CodingError(problems, source="arrays (rows counted from 1)")


def check_effects(effects: object, who: str) -> None:
    """Raise an `InputError` unless these are `EffectSizes`; `who` needs them."""
    if not isinstance(effects, EffectSizes):
        raise InputError(f"{who} needs EffectSizes, not {type(effects).__name__}; make them with escalc")
