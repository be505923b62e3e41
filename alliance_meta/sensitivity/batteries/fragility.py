"""`fragility`: which study, or how many studies that found nothing, would change what the interval says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta.effects.dependent.groups import ROWS, read_clusters
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import listed
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import AllianceMetaError, InputError, quiet
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import che
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit, frame_of, records_of
from alliance_meta.results.panel import on_r
from alliance_meta.sensitivity.deletion.left_out import leave_one_out
from alliance_meta.sensitivity.deletion.rows import WAYS
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, fixed_interval, format_count, format_level

# So many times as many null studies as there are studies are tried, and no more.
MOST_TIMES = 10
SHOWN = 5
Recipe = Callable[[EffectSizes], Any]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Fragility(Result):
    """What it takes to change whether the interval of the mean effect leaves out 0.

    Attributes
    ----------
    k, studies : int
    level : float
    measure : str
    estimate, ci_lb, ci_ub : float
        The mean effect, on the analysis scale.
    frame : DataFrame
        One row per study, sorted by how near its absence brings the interval to the other answer: ``label k estimate
        ci_lb ci_ub``, for Fisher z ``r r_lb r_ub``, and ``turns``: whether the answer changes without it; ``k`` effects
        are left.
    null_studies : float
        How many studies that average 0 would have to be added until the interval holds 0.
    provenance : Provenance
    """

    k: int
    studies: int
    level: float
    measure: str
    estimate: float
    ci_lb: float
    ci_ub: float
    frame: pd.DataFrame
    null_studies: float
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the interval of all studies leaves out 0."""
        return _away(self.ci_lb, self.ci_ub)

    @property
    def turning(self) -> tuple[str, ...]:
        """The studies without any one of which the answer changes."""
        return tuple(self.frame["label"][self.frame["turns"].astype(bool)])

    def tidy(self) -> pd.DataFrame:
        """Return one row per study left out, the one that brings the interval nearest to the other answer first."""
        return self.frame.copy()

    def text(self) -> str:
        """Say in words what it would take."""
        own, other = ("leaves out 0", "hold 0") if self.leaves_out_zero else ("holds 0", "leave out 0")
        parts = [f"The {format_level(self.level)} interval {own}."]
        if not len(self.frame):
            parts.append("No study can be left out.")
        elif self.turning:
            which = listed(self.turning, SHOWN)
            parts.append(f"Without any one of {len(self.turning)} of {self.studies} studies it would {other}: {which}.")
        else:
            nearest = self.frame.iloc[0]
            names = ("r_lb", "r_ub") if self.measure == "ZCOR" else ("ci_lb", "ci_ub")
            limits = fixed_interval(nearest[names[0]], nearest[names[1]], 3)
            parts.append(
                f"No single study turns that: without {nearest['label']}, the nearest to it, it would be {limits}."
            )
        if not math.isnan(self.null_studies):
            added = format_count(self.null_studies)
            parts.append(f"About {added} further studies of one effect each, which average 0, would make it {other}.")
        elif self.leaves_out_zero and isinstance(self.null_studies, NotApplicable):
            parts.append(f"Null studies: {self.null_studies.reason}.")
        return " ".join(parts)

    def _content(self) -> Document:
        many = f"k = {self.k}" + (f" in {self.studies} studies" if self.studies < self.k else "")
        mean = f"{fixed(self.estimate)} {fixed_interval(self.ci_lb, self.ci_ub)}"
        return self._document(f"Fragility of the mean effect {mean} ({many})", [self.text()])

    def _values(self) -> dict[str, Any]:
        names = ("k", "studies", "level", "measure", "estimate", "ci_lb", "ci_ub", "leaves_out_zero", "turning")
        rows = self.frame.astype(object).to_dict("records")
        return {**self._these(*names, "null_studies"), "text": self.text(), "left_out": rows}


def _away(lower: float, upper: float) -> bool:
    return lower > 0.0 or upper < 0.0


def limits(fit: Any) -> tuple[float, float]:
    """Return the interval of the mean effect of a fit."""
    lower, upper = np.atleast_1d(fit.ci_lb), np.atleast_1d(fit.ci_ub)
    return float(lower[0]), float(upper[0])


def fragility(effects: EffectSizes, *, model: Recipe | None = None, cluster: str = "study_id") -> Fragility:
    r"""Say which study, or how many studies that found nothing, would change whether the interval leaves out 0.

    That an interval leaves out 0 may rest on one study. The model is fitted again without each study in turn. Then
    studies are added that on average found nothing, each with one effect of the median sampling variance, until the
    interval holds 0: if it takes more of them than anyone believes to lie in drawers, the conclusion is not fragile.

    Parameters
    ----------
    effects : EffectSizes
    model : callable, optional
        ``model(effects)`` returns a fit without moderators: ``lambda es: BayesianModel(es).fit()``. By default
        `che` where a study has several effects, else `RandomEffectsModel`.
    cluster : str
        Column of the studies.

    Returns
    -------
    Fragility

    Raises
    ------
    InputError
        A `model` that gives no fit with one mean and an interval; effects without a study.

    See Also
    --------
    leave_one_out : all that changes without each study.
    bias.fsn : how many effects of 0 it takes by formulas without heterogeneity.

    Notes
    -----
    The m null studies have true and sampling variance like the others: their effects are
    :math:`\sqrt{\tilde v + \tau^2}\,\Phi^{-1}((i - .5) / m)`, i = 1..m, with the median sampling variance. Effects of
    exactly 0 would seem to agree with one another, and robust inference would reward that. No more than ten times as
    many as there are studies are tried. Atal, Porcher, Boutron & Ravaud (2019, doi:10.1016/j.jclinepi.2019.03.012)
    call fragile what few changes turn. R: none for dependent effects.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> found = sensitivity.fragility(escalc(load_dataset("molloy2014")))
    >>> found.turning, found.null_studies
    ((), 62.0)
    """
    check_effects(effects, "fragility")
    recipe = (lambda some: _default(some, cluster)) if model is None else model
    fit: Any = recipe(effects)
    if not isinstance(fit, Fit) or fit.p != 1 or not math.isfinite(limits(fit)[0]):
        raise InputError("fragility needs a model of one mean effect with an interval: model(effects) must return it")
    return of_fit(fit, recipe, cluster)


def of_fit(fit: Any, recipe: Recipe, cluster: str) -> Fragility:
    """Return the fragility of a fit that the recipe made of its effects."""
    effects: EffectSizes = fit.effects
    groups = read_clusters(effects, cluster)
    (lower, upper), estimate = limits(fit), float(fit.beta[0])
    away = _away(lower, upper)
    with quiet():
        rows, lost = _without_each(fit, recipe, cluster)
        null = _null_studies(fit, recipe, cluster, groups.n) if away else NotApplicable("the interval holds 0 already")
    for row in rows:
        row |= on_r(row, effects.measure)
        row["turns"] = _away(row["ci_lb"], row["ci_ub"]) != away
        row["near"] = max(row["ci_lb"], -row["ci_ub"])
    rows.sort(key=lambda row: float(row["near"]), reverse=not away)
    columns = (
        "label",
        "k",
        "estimate",
        "ci_lb",
        "ci_ub",
        *(("r", "r_lb", "r_ub") if effects.measure == "ZCOR" else ()),
    )
    notes = []
    if lost:
        notes.append(Note("cluster-needed", f"The model cannot be fitted without {listed(lost, SHOWN)}."))
    return Fragility(
        k=effects.k,
        studies=groups.n,
        level=fit.level,
        measure=effects.measure,
        estimate=estimate,
        ci_lb=lower,
        ci_ub=upper,
        frame=frame_of(rows)[[*columns, "turns"]] if rows else pd.DataFrame(columns=[*columns, "turns"]),
        null_studies=null,
        provenance=effects.provenance,
        notes=merge_notes(notes),
    )


def _default(effects: EffectSizes, cluster: str) -> Any:
    several = len(read_clusters(effects, cluster).several) > 0
    return che(effects, cluster=cluster) if several else RandomEffectsModel(effects).fit()


def _without_each(fit: Any, recipe: Recipe, cluster: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the mean and its interval without each study, and the studies without which there is none."""
    groups = read_clusters(fit.effects, cluster)
    if groups.n < 2:
        return [], list(groups.labels)
    if type(fit) in WAYS:
        table = leave_one_out(fit, by=cluster).tidy()
        found: list[dict[Any, Any]] = records_of(table[["label", "k", "estimate", "ci_lb", "ci_ub"]])
    else:
        found = [_refitted(fit, recipe, groups, code) for code in range(groups.n)]
    rows = [{str(name): value for name, value in row.items()} for row in found]
    lost = [str(row["label"]) for row in rows if math.isnan(row["ci_lb"])]
    return [row for row in rows if not math.isnan(row["ci_lb"])], lost


def _refitted(fit: Any, recipe: Recipe, groups: Any, code: int) -> dict[str, Any]:
    kept = np.flatnonzero(groups.codes != code)
    row: dict[str, Any] = {"label": groups.labels[code], "k": len(kept)}
    try:
        one = recipe(fit.effects.take(kept))
        return row | {"estimate": float(one.beta[0]), **dict(zip(("ci_lb", "ci_ub"), limits(one), strict=True))}
    except AllianceMetaError as error:
        return row | dict.fromkeys(("estimate", "ci_lb", "ci_ub"), NotApplicable(str(error)))


def _null_studies(fit: Any, recipe: Recipe, cluster: str, studies: int) -> float:
    """Return how many null studies make the interval hold 0, by bisection."""
    most = MOST_TIMES * studies

    def holds(m: int) -> bool:
        """Tell whether the interval holds 0 with m null studies."""
        return not _away(*limits(recipe(with_null(fit, m, cluster))))

    try:
        if not holds(most):
            return NotApplicable(
                f"more than {format_count(most)} are needed, {MOST_TIMES} times as many as there are studies"
            )
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return float(high)
    except AllianceMetaError as error:
        return NotApplicable(f"the model cannot be fitted with them ({error})")


def with_null(fit: Any, m: int, cluster: str) -> EffectSizes:
    """Return the effects of a fit and m studies of one effect each that average 0 and scatter as the others do."""
    effects: EffectSizes = fit.effects
    v = float(np.median(effects.vi))
    scores = special.ndtri((np.arange(m) + 0.5) / m)
    labels = [f"null study {i + 1}" for i in range(m)]
    frame = effects.moderators
    named = {name: labels for name in {cluster, ROWS, "study_id"} if name in frame}
    frame = frame[list(named)].astype(object)
    rows = pd.DataFrame(named, index=range(m))
    return replace(
        effects,
        yi=np.append(effects.yi, math.sqrt(v + float(fit.tau2)) * scores),
        vi=np.append(effects.vi, np.full(m, v)),
        ni=None if effects.ni is None else np.append(effects.ni, np.full(m, np.median(effects.ni))),
        slab=(*effects.slab, *labels),
        study_id=(*effects.study_id, *labels),
        _moderators=pd.concat([frame, rows], ignore_index=True),
    )
