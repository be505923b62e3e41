"""The rows of a forest under the levels of a moderator: the model with a mean for each, its test, what a mean rests on.

One model with the means of all levels is fitted, with the random terms, covariances and tests of the overall fit, so
that the diamonds, their test and a table of the moderator are the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alliance_meta._typing import AnyArray
from alliance_meta.effects.studies import listed
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.subgroups import (
    SharedTau2,
    SubgroupResults,
    level_design,
    new_notes,
    of_model,
    read_levels,
    subgroups,
)
from alliance_meta.notes import NotApplicable, Note, check_option, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.naming import NOT_CODED
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import FEW_DF, RobustResults, robust_results
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.deletion.rows import check_known, on_rows
from alliance_meta.sensitivity.refitting import part, refitted
from alliance_meta.tables.format import format_percent

# Robust inference reads errors off the differences between clusters: a level of one has none.
LEAST = 2


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of a moderator.

    Attributes
    ----------
    by : str
    rows : mapping of str to ndarray
        Effects of every level.
    means : SubgroupResults
        Of the levels that have a mean.
    words : str
        What the levels share.
    notes : tuple of Note
    """

    by: str
    rows: Mapping[str, AnyArray]
    means: SubgroupResults
    words: str
    notes: tuple[Note, ...]

    def test(self) -> str:
        """Return the test of the model whose means are drawn."""
        between = self.means.between
        if isinstance(between.stat, NotApplicable):
            return f"No test for subgroup differences: {between.stat.reason}"
        text = parts.test_text(between.stat, (between.df1, between.df2), between.pval)
        return f"Test for subgroup differences: {text}; {self.words}"


def find_levels(fit: Any, by: str, tau2: SharedTau2) -> Levels:
    """Return the levels with their means: those of the fit, or of a model of its kind with one mean for each."""
    check_option("tau2", tau2, SharedTau2)
    if parts.fitted_levels(fit)[0] == by:
        return _own(fit, by)
    if not parts.single_mean(fit):
        raise InputError(
            f"by={by!r}: subgroups are drawn for a model without moderators, or by the one categorical "
            f"moderator of the model; this fit has mods={fit.design.formula!r}"
        )
    rows, lost = read_levels(fit.effects, by)
    if isinstance(fit, RandomEffectsResults):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            means = subgroups(fit, by=by, tau2=tau2)
        return Levels(by, rows, means, _words(fit, means), means.notes)
    if tau2 == "separate":
        raise InputError(
            f"tau2='separate': effects of one study stand at several levels, so that levels fitted one by one cannot "
            f"be compared; draw am.models.sce(effects, subgroup={by!r}), by={by!r}, whose levels have their own tau2"
        )
    check_known(fit, "by")
    kept, small = _large_enough(fit, rows, by)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        model = _with_levels(fit, kept)
    means = of_model(model, by, kept)
    return Levels(by, rows, means, _words(fit, means), merge_notes(lost, small, new_notes(model, fit), _few_df(means)))


def _own(fit: Any, by: str) -> Levels:
    """Return the levels of a fit that has their means already."""
    coded = np.array([parts.cell(value) for value in fit.effects.moderators[by]])
    rows = {level: np.flatnonzero(coded == level) for level in parts.fitted_levels(fit)[1]}
    rows = {level: index for level, index in rows.items() if len(index)}
    means = of_model(fit, by, rows, variable=by)
    return Levels(by, rows, means, f"model {fit.design.formula} ({fit.model_label})", _few_df(means))


def _words(fit: Any, means: SubgroupResults) -> str:
    if means.model is None:
        return f"a separate τ² in each subgroup{'' if means.between.df2 is None else ' (Welch)'}"
    if means.model.method == "EE":
        return "one model with equal effects in each subgroup" if _varies(means) else "one study each, no τ²"
    if isinstance(fit, LocationScaleResults):
        return f"one model for all subgroups, τ² by {fit.scale_design.formula}"
    terms = getattr(parts.model_of(fit), "random", ())
    if any(term.within for term in terms):
        return "one model with a mean for each subgroup and the same random terms"
    return "one model with a common τ² for all subgroups"


def _varies(means: SubgroupResults) -> bool:
    """Return whether any level has more than one effect."""
    return any(len(index) > 1 for index in means.rows.values())


def _clusters(fit: Any) -> AnyArray | None:
    """Return the clusters that inference rests on, None where it rests on the model."""
    if isinstance(fit, RobustResults):
        return np.asarray(fit._clusters.cluster)
    return fit.clusters.codes if isinstance(fit, RVEResults) else None


def _large_enough(fit: Any, rows: Mapping[str, AnyArray], by: str) -> tuple[dict[str, AnyArray], tuple[Note, ...]]:
    """Return the levels that can have a mean, and a note on the others."""
    clusters = _clusters(fit)
    if clusters is None:
        return dict(rows), ()
    kept = {level: index for level, index in rows.items() if np.unique(clusters[index]).size >= LEAST}
    out = [level for level in rows if level not in kept]
    if len(kept) < 2:
        raise InputError(
            f"by={by!r}: {len(kept) or 'no'} level{'' if len(kept) == 1 else 's'} that {LEAST} studies or more have, "
            f"nothing to compare; show it as a column, columns=[{by!r}], or as label={by!r}"
        )
    if not out:
        return kept, ()
    message = (
        f"{by}: levels of fewer than {LEAST} studies have no mean and are not in the test, because robust inference "
        f"compares studies: {listed(out)}."
    )
    return kept, (Note("small-levels", message),)


def _with_levels(fit: Any, rows: Mapping[str, AnyArray]) -> Any:
    """Fit the same model with one mean for each level, to the effects that have one."""
    kept, design = level_design(fit.effects, rows)
    if isinstance(fit, RobustResults):
        labels = [fit._clusters.labels[i] for i in fit._clusters.cluster[kept]]
        return robust_results(_with_levels(fit.fit, rows), cluster=labels, type=fit.type)
    other = replace(fit, design=design)
    if isinstance(fit, MultilevelResults):
        return refitted(other, part(other, kept), kept, warm=False)
    return on_rows(other, kept)


def _few_df(means: SubgroupResults) -> tuple[Note, ...]:
    model = means.model
    ddf = model.row_ddf(model.design.new_rows({means._variable: list(means.rows)})[0])
    few = [level for level, df in zip(means.rows, ddf, strict=True) if df < FEW_DF]
    df2 = means.between.df2
    few += ["the test of differences"] if df2 is not None and df2 < FEW_DF else []
    if not few:
        return ()
    message = (
        f"Fewer than {FEW_DF} degrees of freedom: {listed(few)}. Do not trust these intervals and p-values "
        "(Tipton 2015, doi:10.1037/met0000011)."
    )
    return (Note("few-df", message),)


def level_rows(
    found: Levels,
    measure: str,
    level: float,
    body: Callable[[Sequence[int], str], list[dict[str, Any]]],
    counted: Callable[[AnyArray], str],
    left: Sequence[int],
) -> list[dict[str, Any]]:
    """Return heading, rows and diamond of each level, and the rows `left` without one.

    `body` makes the rows of some effects in their group, `counted` says how many effects these are.
    """
    means = found.means.predict(level=level)[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)
    predicted = dict(zip(found.means.rows, means, strict=True))
    made: list[dict[str, Any]] = []
    for name, index in found.rows.items():
        heading = {"kind": "heading", "label": name, "group": name}
        made += [heading, *body([int(i) for i in index], name)]
        row: dict[str, Any] = {"kind": "subgroup", "group": name}
        drawn = name in predicted and _stands(found, name, predicted[name])
        row["label"] = _label(found, name, counted(index), drawn=drawn)
        made += [row | parts.estimate(measure, *predicted[name]) if drawn else row, {"kind": "blank"}]
    if left:
        made += [{"kind": "heading", "label": NOT_CODED, "group": NOT_CODED}, *body(left, NOT_CODED)]
        made += [{"kind": "blank"}]
    return made


def _stands(found: Levels, name: str, mean: AnyArray) -> bool:
    """Return whether a level has a diamond: a study fitted by itself is its own summary."""
    alone = found.means.model is None and len(found.rows[name]) < 2
    return not (alone or np.isnan(mean).any())


def _label(found: Levels, name: str, count: str, *, drawn: bool) -> str:
    """Return what the diamond of a level rests on, or that there is none."""
    if found.means.model is None:
        return (
            f"Subtotal ({count}, I² = {format_percent(found.means.fits[name].I2)})" if drawn else f"No mean ({count})"
        )
    if not drawn:
        return f"No mean ({count}): needs {LEAST} studies"
    shares = len(found.rows[name]) == 1 and found.means.model.method != "EE"
    return f"Subtotal ({count}{', τ² of all levels' if shares else ''})"


def said(found: Levels, measure: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the means and their test for readers who cannot see the plot."""
    drawn = [row for row in rows if row["kind"] == "subgroup"]
    texts = [
        f"{row['group']}: {row['label']}{f' {parts.effect_text(measure, row)}' if 'yi' in row else ''}" for row in drawn
    ]
    return f"By {found.by}: {'; '.join(texts)}. {found.test()}."
