"""Correcting effect sizes for unreliable, dichotomised or range-restricted measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.correlations import artifacts as core
from alliance_meta.effects.contract.vocabulary import ALLIANCE_MEASURES, RATERS, Vocabulary, plain
from alliance_meta.effects.datasets import published_reliabilities
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AdaptedInputWarning, CodingError, InputError, Problem
from alliance_meta.notes import Note, check_option, did_you_mean, merge_notes, warn_note
from alliance_meta.tables.format import brief, fixed, plural

SAME = ("alliance_measure", "alliance_rater")
SHEET, PUBLISHED, MEAN = "sheet", "published", "mean of the others"


def with_published(frame: pd.DataFrame, own: Array) -> tuple[Array, list[str], Note | None]:
    """Fill missing reliabilities of the alliance with published ones of the same measure and rater.

    Only Cronbach's alpha of the whole score counts: subscales are less reliable, and a retest or a
    generalizability coefficient answers another question. Several published values are averaged.

    `frame`: columns of the sheet; ``alliance_measure`` and ``alliance_rater`` must be among them.
    `own` (k,): the reliabilities of the rows, NaN where missing; never changed where known.
    Returns values, origins, note: the filled values, where each comes from (``sheet``, ``published`` or ``mean of the
      others``), and what was taken; None if nothing was.
    Raises `InputError`: if the sheet does not say measure and rater.
    """
    lacking = [name for name in SAME if name not in frame]
    if lacking:
        raise InputError(
            f"published reliabilities go by measure and rater: the sheet has no {' and no '.join(lacking)}"
        )
    table = published_reliabilities()
    table = table[(table["kind"] == "alpha") & table["value"].notna() & (table["measure"] != "other")]
    known = {key: rows for key, rows in table.groupby(["measure", "rater"])}
    values, taken = own.copy(), dict[tuple[str, str], int]()
    for i in np.flatnonzero(np.isnan(own)):
        row = frame.iloc[i]
        key = (_word(row["alliance_measure"], ALLIANCE_MEASURES), _word(row["alliance_rater"], RATERS))
        if key in known and _whole(row.get("alliance_component")):
            values[i] = float(known[key]["value"].mean())
            taken[key] = taken.get(key, 0) + 1
    origins = np.where(np.isfinite(own), SHEET, np.where(np.isfinite(values), PUBLISHED, MEAN)).tolist()
    if not taken:
        return values, origins, None
    said = "; ".join(_said(key, known[key], count) for key, count in taken.items())
    text = f"Reliability of the alliance taken from publications where the sheet has none: {said}."
    return values, origins, warn_note("artifact-published", text, AdaptedInputWarning)


def _word(cell: Any, words: Vocabulary) -> str:
    """Return the word that the cell is, in any spelling or its other names; never one that is only similar."""
    if pd.isna(cell):
        return ""
    same = (term.value for term in words.terms if plain(str(cell)) in map(plain, (term.value, *term.also)))
    return next(same, "")


def _whole(component: Any) -> bool:
    return component is None or pd.isna(component) or str(component) == "total"


def _said(key: tuple[str, str], rows: pd.DataFrame, count: int) -> str:
    sources = ", ".join(f"{row['title']} ({row['evidence_location']})" for _, row in rows.iterrows())
    effects = plural(count, "effect")
    return f"{key[0]} by the {key[1]} {fixed(rows['value'].mean(), 2)} in {effects}, from {sources}"


Given = str | float | Sequence[float] | Array | Mapping[float, float] | None
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
    """One artifact, as known for the rows or as a distribution."""

    name: str
    values: Array  # (k,): one per row, NaN where unknown; all NaN for a distribution from elsewhere
    elsewhere: core.Distribution | None = None  # values that do not belong to rows, with weights

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


Missing = Literal["mean", "error"]
Reliability = Literal["sheet", "published"]


def correct_artifacts(
    effects: EffectSizes,
    *,
    rel_alliance: Given = None,
    rel_outcome: Given = None,
    split_alliance: Given = None,
    split_outcome: Given = None,
    u_alliance: Given = None,
    range_restriction: core.RangeRestriction = "direct",
    rel_alliance_in: RelIn = "sample",
    missing: Missing = "mean",
    reliability: Reliability = "sheet",
) -> EffectSizes:
    r"""Correct every effect for what its measures blurred; effect and sampling variance alike.

    An alliance rated with error correlates less with outcome than the alliance itself. Dividing by the square root
    of the reliabilities estimates the correlation between the constructs. That is another question than how well
    a questionnaire predicts outcome: report both.

    Parameters
    ----------
    effects : EffectSizes
        Correlations (measure ``ZCOR``, ``COR`` or ``UCOR``).
    rel_alliance, rel_outcome : str, float or sequence of float, optional
        Reliability of the measures: a column of the sheet, one value for all, or one per row.
    split_alliance, split_outcome : str, float or sequence of float, optional
        Where a continuous measure was cut in two: the share of people on one side.
    u_alliance : str, float or sequence of float, optional
        Standard deviation of the alliance in the sample over that in the population of interest.
    range_restriction : {"direct", "indirect"}
        Whether people were selected by their alliance score itself (Thorndike's case II), or by something related
        to it (case IV, which needs `rel_alliance`).
    rel_alliance_in : {"sample", "population"}
        Where the reliability of the alliance was found; matters with `u_alliance` only.
    missing : {"mean", "error"}
        Rows without a value: the mean of the others, with a note, or refuse.
    reliability : {"sheet", "published"}
        Whether rows without `rel_alliance` (by default the sheet's column of this name) get the published
        Cronbach's alpha of the same measure and rater, ``published("reliability")``, before `missing` applies.
        Such rows say ``published`` in a column ``rel_alliance_from``, and a note names the sources. Those are
        other samples: the sample's own reliability is always better.

    Returns
    -------
    EffectSizes
        On the same scale, with a column ``attenuation`` (observed over corrected r) among the moderators. Every
        model takes it.

    Raises
    ------
    InputError
        Nothing to correct for, other effects than correlations, values outside their range.
    CodingError
        Corrected correlations beyond 1, which have no Fisher z.

    Warns
    -----
    AdaptedInputWarning
        Rows that got the mean of the others, or a published reliability.

    See Also
    --------
    sensitivity.attenuation : the pooled result under each correction, side by side.
    sensitivity.hunter_schmidt : Hunter and Schmidt's own way of pooling.

    Notes
    -----
    With reliabilities and splits, :math:`\rho = r / A`, :math:`A = \sqrt{r_{xx} r_{yy}}\, a_x a_y`,
    :math:`a = \phi(z)/\sqrt{pq}`, and the variance is divided by :math:`A^2`; with range restriction it is
    multiplied by the squared slope of the correction. Reliabilities count as known. Schmidt & Hunter (2015), Methods
    of Meta-Analysis; case IV: Hunter, Schmidt & Le (2006, doi:10.1037/0021-9010.91.3.594).
    R: ``psychmeta::correct_r``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from alliance_meta import escalc
    >>> from alliance_meta.effects import correct_artifacts
    >>> sheet = pd.DataFrame({"study": ["A", "B"], "r": [0.2, 0.3], "n": [50, 80], "alpha": [0.9, 0.8]})
    >>> es = escalc(sheet, measure="COR")
    >>> true = correct_artifacts(es, rel_alliance="alpha", rel_outcome=0.85)
    >>> true.yi.round(3).tolist(), (true.vi / es.vi).round(3).tolist()
    ([0.229, 0.364], [1.307, 1.471])
    """
    check_option("missing", missing, Missing)
    check_option("reliability", reliability, Reliability)
    notes: list[Note] = []
    if reliability == "published":
        effects, rel_alliance = _from_publications(effects, rel_alliance, notes)
    given = {
        "rel_alliance": rel_alliance,
        "rel_outcome": rel_outcome,
        "split_alliance": split_alliance,
        "split_outcome": split_outcome,
        "u_alliance": u_alliance,
    }
    known = read_artifacts(effects, given, range_restriction=range_restriction, rel_alliance_in=rel_alliance_in)
    weights = weights_of(effects)
    for one in known.values():
        if one.complete:
            continue
        text = one.words(weights)
        if missing == "error" or one.elsewhere is not None:
            raise InputError(
                f"{text}: every row needs a value of {one.name}; missing='mean' takes the mean of the others"
            )
        notes.append(
            warn_note("artifact-mean", f"{text[0].upper()}{text[1:]}, the mean of the others.", AdaptedInputWarning)
        )
    by = row_steps(known, weights, effects.k, kind=range_restriction, rel_in=rel_alliance_in)
    return corrected_effects(effects, by, known, notes)


def _from_publications(effects: EffectSizes, given: Given, notes: list[Note]) -> tuple[EffectSizes, Given]:
    """Return the effects with the column ``rel_alliance_from``, and the reliabilities with published ones."""
    if isinstance(given, Mapping):
        raise InputError("reliability='published' fills rows; a distribution in rel_alliance= belongs to no row")
    if given is None and "rel_alliance" in effects.moderators:
        given = "rel_alliance"
    own = np.full(effects.k, np.nan) if given is None else _values(effects, "rel_alliance", given)
    values, origins, note = with_published(effects.moderators, own)
    if note is not None:
        notes.append(note)
    return replace(effects, _moderators=effects.moderators.assign(rel_alliance_from=origins)), values


def row_steps(
    known: Mapping[str, Artifact], weights: Array, k: int, *, kind: core.RangeRestriction, rel_in: str
) -> core.Steps:
    """Return the steps from rho to r of every row."""
    full: dict[str, Array] = {name: np.ones(k) for name in WORDS}
    full |= {name: one.filled(weights) for name, one in known.items()}
    full |= {name: core.dichotomy(full[name]) for name in known if name.startswith("split")}
    rxx, u = full["rel_alliance"], full["u_alliance"]
    if rel_in == "population" and "u_alliance" in known:
        rxx = core.restricted_reliability(rxx, u)
    by = core.steps(rxx, full["rel_outcome"], full["split_alliance"], full["split_outcome"], u, kind=kind)
    wrong = ~(np.isfinite(by.u) & (by.inner > 0) & (by.outer > 0) & (rxx > 0))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"u_alliance={u[i]:g} and a reliability of {full['rel_alliance'][i]:g} contradict each other: error alone "
            "would vary more than the scores did; check both, and rel_alliance_in="
        )
    return by


def corrected_effects(
    effects: EffectSizes, by: core.Steps, known: Mapping[str, Artifact], notes: Sequence[Note] = ()
) -> EffectSizes:
    """Return the effects with the steps undone."""
    r = correlations(effects)
    found = core.correct(r, by)
    yi, vi = found.rho, effects.vi * found.slope**2
    beyond = ~(np.abs(found.rho) < 1.0)
    notes = list(notes)
    impossible = beyond if effects.measure == "ZCOR" else ~np.isfinite(found.rho)
    if impossible.any():
        raise CodingError(_beyond(effects, r, found.rho, impossible), source=effects.provenance.source)
    if effects.measure == "ZCOR":
        yi, vi = np.arctanh(found.rho), vi * (1.0 - r**2) ** 2 / (1.0 - found.rho**2) ** 2
    elif beyond.any():
        labels = ", ".join(effects.slab[i] for i in np.flatnonzero(beyond)[:5])
        notes.append(Note("beyond-one", f"{int(beyond.sum())} corrected correlations lie beyond 1: {labels}."))
    words = "; ".join(one.words(weights_of(effects)) for one in known.values())
    notes.append(Note("corrected-artifacts", f"Effects are corrected for artifacts: {words}."))
    return replace(
        effects,
        yi=yi,
        vi=vi,
        _moderators=effects.moderators.assign(attenuation=found.attenuation),
        provenance=effects.provenance.after(f"corrected for artifacts: {words}"),
        notes=merge_notes(effects.notes, notes),
    )


def _beyond(effects: EffectSizes, r: Array, rho: Array, beyond: Mask) -> list[Problem]:
    problems = []
    for i in np.flatnonzero(beyond):
        why = f"becomes {brief(rho[i], 3)}, which has no Fisher z; use escalc(measure='COR')"
        if np.isnan(rho[i]):
            why = "is larger than any correlation could be observed with these artifacts; check them"
        problems.append(Problem(int(i) + 1, None, brief(r[i], 3), f"{effects.slab[i]}: r = {brief(r[i], 3)} {why}"))
    return problems
