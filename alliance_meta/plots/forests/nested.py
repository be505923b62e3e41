"""The forest plot of dependent effects: its rows, its nests and its words.

The rows of a forest under the levels of a moderator: the model with a mean for each, its test, what a mean rests on.

One model with the means of all levels is fitted, with the random terms, covariances and tests of the overall fit, so
that the diamonds, their test and a table of the moderator are the same numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.dependent.groups import Clusters, read_clusters
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
from alliance_meta.notes import NotApplicable, Note, check_level, check_option, did_you_mean, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.naming import NOT_CODED, effect_names, readable
from alliance_meta.plots.forests.parts import (
    Columns,
    Order,
    chosen,
    column_key,
    dot_key,
    effect_rows,
    estimate,
    fit_frame,
    fitted_levels,
    fitted_rows,
    missing_last,
    sort_values,
    summary_rows,
)
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.multilevel import MultilevelResults, study_term
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import FEW_DF, RobustResults, robust_results
from alliance_meta.results.rve import RVEResults
from alliance_meta.sensitivity.deletion.rows import check_known, on_rows
from alliance_meta.sensitivity.refitting import part, refitted
from alliance_meta.tables.format import format_count, format_df, format_level, format_percent, plural

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


Drawn = list[tuple[int, list[int]]]


@dataclass(frozen=True, eq=False)
class Nest:
    """Studies and their effects.

    Attributes
    ----------
    clusters : Clusters
        The studies: code of each effect, and labels.
    marks : ndarray of shape (n, 3) or None
        Each study's mean true effect with its interval, on the analysis scale.
    """

    clusters: Clusters
    marks: Array | None


def find_nest(fit: Any, nest: str | None, level: float) -> Nest:
    """Return the studies: those of the column `nest`, of the robust clusters, or of the coarsest random term."""
    model = parts.model_of(fit)
    if nest is not None:
        clusters = read_clusters(fit.effects, nest)
    elif isinstance(fit, RobustResults):
        clusters = _given(fit.cluster, fit._clusters.cluster, fit._clusters.labels)
    elif isinstance(fit, RVEResults):
        clusters = fit.clusters
    else:
        clusters = _of_terms(fit)
    marks = _marks(model, clusters, level) if isinstance(model, MultilevelResults) else None
    return Nest(readable(clusters, fit.effects.moderators), marks)


def _given(name: str, codes: Any, labels: Sequence[str]) -> Clusters:
    return Clusters(name, np.asarray(codes, dtype=np.intp), tuple(labels))


def _of_terms(fit: MultilevelResults) -> Clusters:
    """Return the groups of the coarsest random intercept, or of the coarsest outer factor."""
    try:
        _, term = study_term(fit)
    except InputError:
        several = [term for term in fit.random if term.n < fit.k]
        if not several:
            return read_clusters(fit.effects, "study_id")
        term = min(several, key=lambda one: one.n)
    return _given(term.outer, term.group, term.levels)


def _marks(model: MultilevelResults, clusters: Clusters, level: float) -> Array | None:
    """Return the study means that the model predicts, if its groups are the studies."""
    try:
        _, term = study_term(model)
    except InputError:
        return None
    pairs = np.unique(np.column_stack([clusters.codes, term.group]), axis=0)
    if not len(pairs) == clusters.n == term.n:
        return None
    found = model.blup(level=level)[["pred", "pi_lb", "pi_ub"]].to_numpy(dtype=float)
    return found[pairs[:, 1]]


def sort_nest(fit: Any, nest: Nest, order: Order) -> tuple[Drawn, list[Note]]:
    """Return the studies with their effects in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    codes = nest.clusters.codes
    studies = list(range(nest.clusters.n))
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = sort_values(fit, name)
        absent = sum(value is None for value in values)
        if absent:
            notes.insert(0, Note("forest-order", f"{absent} of {len(values)} effects have no {name!r} and come last."))
        positions = missing_last(positions, values, reverse)
        studies = missing_last(studies, _of_studies(fit, nest, name, values), reverse)
    place = {i: at for at, i in enumerate(positions)}
    return [(c, sorted(np.flatnonzero(codes == c).tolist(), key=place.__getitem__)) for c in studies], notes


def _of_studies(fit: Any, nest: Nest, name: str, values: list[Any]) -> list[Any]:
    """Return what each study is sorted by: its own estimate or total weight, else what its effects have."""
    clusters = nest.clusters
    if name == "effect":
        if nest.marks is not None:
            return list(nest.marks[:, 0])
        weights = np.asarray(fit.weights)
        total = clusters.mean(weights)
        return list(clusters.mean(weights * fit.effects.yi) / np.where(total == 0, 1.0, total))
    if name == "precision":
        return list(clusters.mean(np.asarray(values, dtype=float)))
    if name == "weight":
        return list(np.bincount(clusters.codes, np.asarray(values, dtype=float), minlength=clusters.n))
    return [_first(clusters.codes, c, values) for c in range(clusters.n)]


def _first(codes: IntArray, c: int, values: list[Any]) -> Any:
    known = [values[i] for i in np.flatnonzero(codes == c) if values[i] is not None]
    return min(known, default=None)


def bottom(fit: Any, groups: Nest, level: float, *, simple: bool, beside: bool, found: Levels | None) -> list[str]:
    """Return heterogeneity, the test of moderators, how coefficients are tested, and what the diamonds are."""
    lines = [parts.heterogeneity(fit, level, simple=simple)]
    if not simple and found is None:
        lines.append(parts.moderator_test(fit))
    if isinstance(fit, RobustResults):
        df = f", t({format_df(float(fit.ddf[0]))})" if simple and math.isfinite(fit.ddf[0]) else ""
        clusters = f"{format_count(fit.n_clusters)} clusters by {fit.cluster}"
        lines.append(f"Cluster-robust inference: {fit.type}, {clusters}{df}")
    text = format_level(level)
    model = parts.model_of(fit)
    if simple and isinstance(model, MultilevelResults) and any(term.n == model.k for term in model.random):
        lines.append("Prediction interval: the true effect of a new row (outcome, rater, time) in a new study")
    if groups.marks is not None:
        lines.append(
            "Grey diamonds of studies (numbers where a study has several effects): mean true effect that the model "
            f"predicts (BLUP), {text} interval"
        )
    if beside:
        lines.append(f"Grey diamonds beside effects: fitted values with their {text} confidence intervals")
    return lines


_FIT = ("fit", "fit_lb", "fit_ub")
Dependent = MultilevelResults | RobustResults | RVEResults


def nested_data(
    fit: Dependent,
    *,
    columns: Columns | None,
    order: Order,
    level: float | None,
    rob: Columns | None,
    label: str | None,
    nest: str | None,
    title: str | None,
    show_cautions: bool,
    by: str | None,
    tau2: SharedTau2,
) -> pd.DataFrame:
    """Return the frame of `forest_data` for dependent effects."""
    used = fit.level if level is None else level
    check_level(used)
    shown, dots = chosen(fit.effects, columns, rob)
    studies = find_nest(fit, nest, used)
    found = None if by is None else find_levels(fit, by, tau2)
    groups = studies if found is None else _by_level(studies, found)
    drawn, notes = sort_nest(fit, groups, order)
    rows = effect_rows(fit, used, shown, dots)
    end = summary_rows(fit, used, _total(rows, studies)) if parts.single_mean(fit) else []
    simple = bool(end)
    fitted = {} if simple or fitted_levels(fit)[0] is not None else _fitted(fit, used)
    texts = _texts(fit, label)
    names, lettered = _names(fit, groups, texts)
    own = [column_key(name) for name in shown] + [dot_key(name, shown) for name in dots]

    def body(members: Sequence[int], group: str) -> list[dict[str, Any]]:
        """Return the rows of some effects, under the level of that name."""
        some = set(members)
        there = [one for one in drawn if one[1][0] in some]
        return _body(fit.effects.measure, rows, (names, texts), groups, there, fitted, own, group)

    text = parts.description(fit, f"{_counted(fit.k, studies.clusters.n)} with intervals at {format_level(used)}", end)
    lines = bottom(fit, groups, used, simple=simple, beside=bool(fitted), found=found)
    more: tuple[Note, ...] = ()
    if found is None:
        made = [*body(range(fit.k), ""), {"kind": "blank"}, *(end or _levels(fit, used))]
    else:
        made = _under_levels(fit, found, studies, body, used)
        text = f"{text} {said(found, fit.effects.measure, made)}"
        twice = _twice(studies, found)
        more = merge_notes(found.notes, twice)
        lines = [*lines, found.test(), *(note.message.partition(": ")[0] for note in twice)]
        made = [*made, *end] if end else made[:-1]
    return fit_frame(
        fit, made, level=used, title=title, show_cautions=show_cautions, columns=shown, rob=dots, order=order,
        notes=merge_notes(fit.notes, notes, lettered, more, _negative(rows)), bottom=lines, description=text,
        pooled=float(fit.beta[0]) if simple else None, by=by, tau2=None if by is None else tau2,
    )  # fmt: skip


def _under_levels(fit: Dependent, found: Levels, studies: Nest, body: Any, level: float) -> list[dict[str, Any]]:
    """Return the rows of every level, each with what its mean rests on."""
    codes = studies.clusters.codes
    left = np.setdiff1d(np.arange(fit.k), np.concatenate(list(found.rows.values())))

    def counted(index: AnyArray) -> str:
        """Say how many effects of how many studies these are."""
        return _counted(len(index), np.unique(codes[index]).size)

    return level_rows(found, fit.effects.measure, level, body, counted, left.tolist())


def _counted(effects: int, studies: int) -> str:
    several = f"{plural(effects, 'effect')} in {plural(studies, 'study', 'studies')}"
    return several if effects != studies else plural(studies, "study", "studies")


def _by_level(groups: Nest, found: Levels) -> Nest:
    """Return studies apart for each level, without the mean true effect of a study, which is of all levels."""
    level = np.full(groups.clusters.codes.size, len(found.rows))
    for at, index in enumerate(found.rows.values()):
        level[index] = at
    codes, seen = pd.factorize(groups.clusters.codes * (len(found.rows) + 1) + level)
    labels = [groups.clusters.labels[int(one) // (len(found.rows) + 1)] for one in seen]
    return Nest(_given(groups.clusters.name, codes, labels), None)


def _twice(groups: Nest, found: Levels) -> list[Note]:
    """Return a note on studies with effects at several levels, which stand under each."""
    at = [np.unique(groups.clusters.codes[index]) for index in found.rows.values()]
    counts = np.bincount(np.concatenate(at), minlength=groups.clusters.n)
    several = np.flatnonzero(counts > 1)
    if not several.size:
        return []
    which = f"have effects at several levels of {found.by} and stand under each"
    which = which.replace("have", "has").replace("stand", "stands") if several.size == 1 else which
    words = f"{plural(several.size, 'study', 'studies')} {which}"
    return [Note("forest-levels", f"{words}: {groups.clusters.named(several)}.")]


def _negative(rows: Sequence[dict[str, Any]]) -> list[Note]:
    below = [str(row["label"]) for row in rows if row["weight"] < 0]
    if not below:
        return []
    message = (
        f"Negative weight of {listed(below)}: the assumed correlation is high for sampling variances that differ this "
        "much within a study, and other effects of the study count the more; drawn as the smallest square."
    )
    return [Note("negative-weights", message)]


def _texts(fit: Dependent, label: str | None) -> list[str]:
    """Return what the chosen moderator says of each effect."""
    frame = fit.effects.moderators
    if label is None:
        return [""] * fit.effects.k
    if label not in frame:
        known = [str(name) for name in frame.columns]
        hint = did_you_mean(label, known)
        raise InputError(f"label: no column {label!r}{hint} Columns: {', '.join(known) or 'none'}")
    return [parts.cell(value) for value in frame[label]]


def _names(fit: Dependent, groups: Nest, texts: Sequence[str]) -> tuple[list[str], list[Note]]:
    """Return what each effect is called under its study: the text chosen, or what distinguishes it."""
    names, notes = effect_names(fit.effects.slab, fit.effects.moderators, groups.clusters)
    return [text or name for text, name in zip(texts, names, strict=True)], [] if any(texts) else notes


def _body(
    measure: str,
    rows: Sequence[dict[str, Any]],
    called: tuple[Sequence[str], Sequence[str]],
    groups: Nest,
    drawn: Drawn,
    fitted: dict[int, dict[str, float]],
    own: Sequence[str],
    level: str,
) -> list[dict[str, Any]]:
    """Return a row for each study and its effects; a study with one effect is one row."""
    names, texts = called
    body: list[dict[str, Any]] = []
    for code, members in drawn:
        study = groups.clusters.labels[code]
        mark = None if groups.marks is None else groups.marks[code]
        if len(members) == 1:
            what = f"{study}: {texts[members[0]]}" if texts[members[0]] else study
            beside = fitted.get(members[0]) or ({} if mark is None else dict(zip(_FIT, mark, strict=True)))
            body.append({**rows[members[0]], "label": what, "group": level, **beside})
            continue
        mine = [rows[i] for i in members]
        shared = {name: mine[0][name] for name in ("ni", *own) if all(row[name] == mine[0][name] for row in mine)}
        head = {
            "kind": "cluster",
            "label": study,
            "group": study,
            "weight": sum(row["weight"] for row in mine),
            **shared,
        }
        body.append(head if mark is None else {**head, **estimate(measure, *mark)})
        for i, row in zip(members, mine, strict=True):
            kept = {name: value for name, value in row.items() if name not in shared}
            body.append({**kept, "kind": "effect", "label": names[i], "group": study, **fitted.get(i, {})})
    return body


def _fitted(fit: Dependent, level: float) -> dict[int, dict[str, float]]:
    """Return the fitted value beside each effect."""
    predicted = fit.predict(level=level)[["pred", "ci_lb", "ci_ub"]].to_numpy(dtype=float)
    return {i: dict(zip(_FIT, values, strict=True)) for i, values in enumerate(predicted)}


def _levels(fit: Dependent, level: float) -> list[dict[str, Any]]:
    """Return the mean of each level of the model's one categorical moderator, if that is what it has."""
    name, levels = fitted_levels(fit)
    if name is None:
        return []
    return fitted_rows(fit, [], [], name, levels, level=level)[1:]


def _total(rows: Sequence[dict[str, Any]], groups: Nest) -> float | None:
    """Return the total sample size; None where a study's effects are of different people, or sizes are not known."""
    sizes = np.array([math.nan if row["ni"] is None else float(row["ni"]) for row in rows])
    first = sizes[groups.clusters.first]
    by_code = np.empty(groups.clusters.n)
    by_code[groups.clusters.codes[groups.clusters.first]] = first
    return float(first.sum()) if (by_code[groups.clusters.codes] == sizes).all() else None
