"""What routes pool: the effects of a table on every scale, all of them or one per group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent.aggregation import gls_of, mean_of
from alliance_meta.core.robust.clusters import codes as codes_of
from alliance_meta.core.robust.clusters import nested
from alliance_meta.effects.escalc import VTYPES
from alliance_meta.effects.finished import finished_columns
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.studies import plain_text
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, CodingError, InputError
from alliance_meta.evidence.route_fit import clusters_of, make_effects, means_as_effects
from alliance_meta.evidence.routes import SCALE_WORDS, Route

SAMPLES = ("sample_id", "sampleid")
# Ways to make the effects of a group one: (how, assumed correlation).
AVERAGES: tuple[tuple[str, float | None], ...] = (("mean", 0.5), ("mean r", None), ("mean", 1.0), ("CS", 0.5))


@dataclass(frozen=True, eq=False)
class Sample:
    """Effects that are ready to be pooled, and the choices that led to them.

    Attributes
    ----------
    y, v : ndarray of shape (k,)
    n : ndarray of shape (k,) or None
    stem : Route
        The route so far.
    effects : EffectSizes
        Before averaging.
    """

    y: Array
    v: Array
    n: Array | None
    stem: Route
    effects: EffectSizes

    @property
    def k(self) -> int:
        """Number of effects."""
        return int(self.y.size)


@dataclass(frozen=True, eq=False)
class Samples:
    """Everything that can be pooled, one entry per scale, columns and way to average; and what cannot, and why."""

    found: tuple[Sample, ...]
    groups: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def make_samples(
    table: CodedTable, *, scale: str, ri: str | None, ni: str | None, cluster: str | None, subset: str | None
) -> Samples:
    """Make the effects of every route.

    Raises
    ------
    InputError, CodingError
        A table without correlations, or of which no effect can be made; an unknown column or subset.
    """
    rows = table if subset is None else table.query(subset)
    if cluster is not None and cluster != "study_id":
        rows.column(cluster)
    whole: list[Sample] = []
    skipped: dict[str, CodingError] = {}
    for stem in _stems(rows, scale, ri, ni, subset):
        try:
            whole.append(_sample(rows, stem))
        except CodingError as error:
            skipped.setdefault(SCALE_WORDS[stem.measure], error)
    if not whole:
        raise next(iter(skipped.values()))
    why = {scale: str(error) for scale, error in skipped.items()}
    groups = groupings(whole[0].effects, cluster, why)
    averaged = [one for sample in whole for group in groups for one in _averaged(sample, group)]
    return Samples((*whole, *averaged), groups, why)


def groupings(effects: EffectSizes, cluster: str | None, skipped: dict[str, str]) -> tuple[str, ...]:
    """Return the columns by which several effects belong together, each kind of grouping once."""
    candidates = [cluster] if cluster is not None else ["study_id", *_sample_columns(effects)]
    found: dict[tuple[int, ...], str] = {}
    for name in candidates:
        try:
            clusters = clusters_of(effects, name)
        except InputError as error:
            if cluster is not None:
                raise
            skipped[f"several effects by {name}"] = str(error)
            continue
        if 1 < clusters.n < effects.k:
            found.setdefault(tuple(clusters.codes.tolist()), name)
    if cluster is not None and not found:
        raise InputError(f"cluster={cluster!r} puts no two effects together, or all of them")
    return tuple(found.values())


def _sample_columns(effects: EffectSizes) -> Iterator[str]:
    """Yield the columns that tell samples apart, within studies where their numbers begin anew in each."""
    studies = codes_of(list(effects.study_id))
    for name in SAMPLES:
        if name in effects.moderators.columns:
            codes = codes_of([plain_text(value) for value in effects.moderators[name]])
            yield name if nested(codes, studies) else f"study_id/{name}"


def _stems(table: CodedTable, scale: str, ri: str | None, ni: str | None, subset: str | None) -> Iterator[Route]:
    """Yield the columns and scales that effects can be made of."""
    if ri is None and ni is None and "ri" not in table.defaults and (names := finished_columns(table)):
        yield Route(names[0], names[1], measure="GEN", vtype=None, subset=subset)
        return
    first = ri or table.defaults.get("ri", "r"), ni or table.defaults.get("ni", "n")
    second = f"{first[0]}_recoded", f"{first[1]}_recoded"
    for pair in (first, second) if set(second) <= set(table.columns) else (first,):
        for measure in ("ZCOR", "COR", "UCOR") if scale == "r" else ("ZCOR",):
            for vtype in VTYPES[measure]:
                yield Route(pair[0], pair[1], measure=measure, vtype=vtype, subset=subset)


def _sample(rows: CodedTable, stem: Route) -> Sample:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        effects = make_effects(rows, stem, measure=stem.measure, vtype=stem.vtype)
    return Sample(effects.yi, effects.vi, effects.ni, stem, effects)


def _averaged(sample: Sample, group: str) -> Iterator[Sample]:
    clusters = clusters_of(sample.effects, group)
    if clusters.n == sample.k or clusters.n < 2:
        return
    n = None if sample.n is None else clusters.mean(sample.n)
    alone, first = clusters.sizes == 1, clusters.first
    for how, rho in AVERAGES:
        if how == "mean r":
            if sample.stem.measure not in ("ZCOR", "COR") or sample.stem.vtype == "H0" or n is None:
                continue
            r = np.tanh(sample.y) if sample.stem.measure == "ZCOR" else sample.y
            y, v = means_as_effects(clusters.mean(r), n, sample.stem.measure, sample.stem.vtype)
        else:
            use = mean_of if how == "mean" else gls_of
            y, v, _ = use(sample.y, sample.v, clusters.codes, np.full(clusters.n, float(rho or 0.0)))
            y, v = np.where(alone, sample.y[first], y), np.where(alone, sample.v[first], v)
        yield Sample(y, v, n, replace(sample.stem, per=group, how=how, rho=rho), sample.effects)


def of_size(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Return samples by their number of effects: those of one size are fitted together."""
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.k, []).append(sample)
    return found
