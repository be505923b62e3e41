"""`MultilevelModel`: effects within samples within studies, crossed factors, several outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.mixed.likelihood import Component, MixedProblem, mixed_problem
from alliance_meta.core.mixed.plan import Term
from alliance_meta.core.mixed.search import MixedFit, maximise_mixed, observed_information
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.design import Design, design_of
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, InputError, NotIdentifiedWarning
from alliance_meta.models.random_terms import ParsedTerm, parse_random
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.options import Degrees, check_level, check_option, did_you_mean
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.settings import FitSettings
from alliance_meta.tables.format import brief

FEW_GROUPS = 5
# Information on a parameter's own scale so small is rounding: the likelihood does not change in that direction.
FLAT = 1e-9


@dataclass(frozen=True, eq=False)
class MultilevelModel:
    r"""Meta-analysis of dependent effects: several outcomes, raters or times from the same people and studies.

    Effects from one study resemble each other for two reasons: they share true circumstances (therapists,
    patients, measures), which random terms describe, and they come from the same people, so their sampling errors
    go together, which `V` describes. Ignoring either makes the result look surer than it is.

    Parameters
    ----------
    effects : EffectSizes
    V : SamplingCovariance or array-like of shape (k, k), optional
        From `impute_V` or `rcalc`. Without it sampling errors are taken as independent.
    mods : str
        Right-hand side of a formula over the moderators, as in `RandomEffectsModel`.
    random : str or sequence of str
        Random terms. ``"study_id/es_id"``, the default: an intercept for each study and one for each effect within
        it, whether the sheet's effect ids start again in every study or not. ``"district/school"``: for districts
        and for schools within them. Several terms are crossed, ``("study_id", "measure")``: a factor that has its
        say in many studies; ids of effects that start again cannot be asked for so. ``"outcome | study_id"``: outcomes
        that vary together within studies, with the covariance that `struct` names; ``"1 + year | study_id"``: random
        slopes.
    struct : str or sequence of str, optional
        Covariance for each term ``inner | outer``: ``CS`` (one variance, one correlation; the default), ``HCS``
        (a variance for each level, one correlation), ``UN`` (unstructured), ``DIAG`` (no correlation), ``ID`` (one
        variance), ``AR`` and ``HAR`` (correlation falling with the steps between ordered levels), ``CAR`` (with
        the time between them), ``GEN`` (intercepts and slopes; the default for those).
    R : mapping, optional
        Factor -> DataFrame of known correlations between its levels, such as a tree of related measures.
    method : {"REML", "ML"}
    test : {"t", "z"}
    dfs : {"contain", "residual"}
        Degrees of freedom of t. ``contain``: the number of groups within which a moderator does not vary, less
        the coefficients; an effect that only differs between 20 studies is judged by 20 studies. For ``inner |
        outer`` the distinct pairs of both count as groups, too. ``residual``: k - p, as published three-level
        analyses mostly have it.
    level : float
        Confidence level of every interval, a fraction.
    fixed : mapping, optional
        Parameter -> value to hold it at, such as ``{"sigma2[study_id]": 0}``; ``fit().components`` and
        ``fit().random`` list the names.

    Notes
    -----
    .. math:: y = X\beta + \sum_j Z_j u_j + e, \quad u_j \sim N(0, G_j), \quad e \sim N(0, V)

    R: ``rma.mv(yi, V, random = ~ 1 | study_id/es_id, test = "t", dfs = "contain")``. Konstantopoulos (2011,
    doi:10.1002/jrsm.35) on three levels. The correlated and hierarchical effects model (CHE) of Pustejovsky &
    Tipton (2022, doi:10.1007/s11121-021-01246-3) is ``V=impute_V(effects, rho=.6)`` with
    ``random="study_id/es_id"`` and ``.robust()``; see `che` and `sce`.

    A likelihood of variances can have several peaks: up to 2,000 effects points all over the range are compared, with
    more there is one start and no other peak is looked for.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset
    >>> es = escalc(load_dataset("crede2010"))
    >>> fit = MultilevelModel(es, random="study_id/es_id").fit()
    >>> fit.sigma2.round(4).tolist()
    [0.023, 0.0329]
    """

    effects: EffectSizes
    V: Any = None
    mods: str = "1"
    random: str | Sequence[str] = f"{STUDY}/{ROWS}"
    struct: str | Sequence[str] | None = None
    R: Mapping[str, Any] | None = None
    method: Literal["REML", "ML"] = "REML"
    test: Literal["t", "z"] = "t"
    dfs: Degrees = "contain"
    level: float = 0.95
    fixed: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.effects, EffectSizes):
            raise InputError(
                f"MultilevelModel needs EffectSizes, not {type(self.effects).__name__}; make them with escalc"
            )
        check_option("method", self.method, Literal["REML", "ML"])
        check_option("test", self.test, Literal["t", "z"])
        check_option("dfs", self.dfs, Degrees)
        check_level(self.level)

    def fit(self) -> MultilevelResults:
        """Fit the model.

        Returns
        -------
        MultilevelResults

        Raises
        ------
        DesignError
            An unknown moderator, one with a single level, more coefficients than effects.
        InputError
            An unknown factor or one with missing values, a random term that repeats another, a `V` of another
            size, a covariance that cannot be inverted, an unknown name in `fixed`.

        Warns
        -----
        DroppedRowsWarning, RedundantModeratorWarning, ConvergenceWarning, NotIdentifiedWarning
            Each also stands in ``.notes`` of the result.
        """
        effects, V = self.effects, self._covariance()
        design = design_of(self.mods, effects)
        if not design.rows.all():
            effects = effects.take(design.rows, step=f"{int(design.rows.sum())} effects with every moderator")
            V = None if V is None else V.take(design.rows)
        if effects.k <= design.p:
            raise InputError(
                f"k = {effects.k} effects and {design.p} coefficients leave nothing to estimate random terms from; "
                "use RandomEffectsModel, or fewer moderators"
            )
        parsed = parse_random(self.random, effects, struct=self.struct, R=self.R)
        problem = _problem(effects, design, V, parsed, restricted=self.method == "REML")
        names = [name for term in parsed for name in term.label.parameters]
        fitted = maximise_mixed(problem, given=_given(self.fixed, names, parsed))
        _check_fit(fitted, V)
        return MultilevelResults(
            effects=effects,
            design=design,
            settings=FitSettings(self.method, self.test, self.level),
            fitted=fitted,
            random=tuple(term.label for term in parsed),
            V=V,
            degrees=self.dfs,
            notes=merge_notes(
                effects.notes, design.notes, () if V is None else V.notes, _notes(fitted, parsed, names, effects.k)
            ),
        )

    def _covariance(self) -> SamplingCovariance | None:
        k = self.effects.k
        if self.V is None:
            return None
        V = self.V if isinstance(self.V, SamplingCovariance) else SamplingCovariance.from_matrix(self.V)
        if k != V.k:
            raise InputError(f"V has {V.k} rows for {k} effects; make it from the same effects")
        return V


def _problem(
    effects: EffectSizes, design: Design, V: SamplingCovariance | None, parsed: list[ParsedTerm], *, restricted: bool
) -> MixedProblem:
    terms: list[Term] = []
    components = []
    for one in parsed:
        components.append(Component(one.structure, tuple(range(len(terms), len(terms) + len(one.terms)))))
        terms += one.terms
    return mixed_problem(
        effects.yi,
        design.X,
        effects.vi if V is None else V.vi,
        terms=terms,
        components=components,
        blocks=None if V is None else V.blocks,
        restricted=restricted,
    )


def _given(fixed: Mapping[str, float] | None, names: list[str], parsed: list[ParsedTerm]) -> Array | None:
    if not fixed:
        return None
    given = np.full(len(names), np.nan)
    for name, value in fixed.items():
        if name not in names:
            raise InputError(f"fixed names {name!r}, which is not one of {', '.join(names)}{did_you_mean(name, names)}")
        low = 0.0 if name.startswith(("sigma2", "tau2")) else -1.0
        if not value >= low:
            raise InputError(f"fixed[{name!r}] = {value!r} is below {brief(low)}")
        given[names.index(name)] = float(value)
    roots = [
        getattr(term.structure, "by_sd", False) and n.startswith("tau2")
        for term in parsed
        for n in term.label.parameters
    ]
    return np.where(roots, np.sqrt(np.abs(given)), given)


def _check_fit(fitted: MixedFit, V: SamplingCovariance | None) -> None:
    if not fitted.point.valid:
        why = "V is singular" if V is not None else "the parameters held fixed make it so"
        raise InputError(f"the covariance of the effects cannot be inverted: {why}; add a random term for each row")


def _notes(fitted: MixedFit, parsed: list[ParsedTerm], names: list[str], k: int) -> list[Note]:
    notes = []
    if not fitted.converged:
        message = f"The search for the variances had not settled after {fitted.steps} steps; do not use this fit."
        notes.append(warn_note("not-converged", message, ConvergenceWarning, stacklevel=4))
    lone = [name for term in parsed for name in term.label.lone]
    notes += _edge_notes(fitted, names, lone)
    if lone:
        message = (
            f"{', '.join(lone)} {'are' if len(lone) > 1 else 'is'} not identified: a single group has that level, and "
            "one effect tells no variance. Use a structure with one variance for all levels (CS, AR), or merge the "
            "level."
        )
        notes.append(warn_note("not-identified", message, NotIdentifiedWarning, stacklevel=4))
    notes += _unidentified(fitted, names)
    if len(fitted.maxima) > 1:
        below = fitted.maxima[0] - fitted.maxima[1]
        message = (
            f"The likelihood has another peak, lower by {brief(below, 2)} only: other variances fit almost as well, "
            "and the answer is shaky. sensitivity.profile shows how far."
        )
        notes.append(Note("second-peak", message))
    for term in parsed:
        label = term.label
        if label.n < FEW_GROUPS:
            notes.append(
                Note(
                    "few-groups",
                    f"{label.name} has {label.n} groups: its variance rests on very few and can be far off.",
                )
            )
    inner = [term.label for term in parsed if not term.label.within and term.label.struct == "ID"]
    if inner and all(label.n < k for label in inner) and not any(term.label.within for term in parsed):
        finest = max(inner, key=lambda label: label.n)
        notes.append(
            Note(
                "no-row-level",
                f"No random term varies by row ({finest.name} has {finest.n} groups for {k} effects): effects of one "
                f"group are taken to share one true effect. Write '{finest.name}/{ROWS}' unless that is meant.",
            )
        )
    return notes


def _edge_notes(fitted: MixedFit, names: list[str], lone: list[str]) -> list[Note]:
    """Say what is estimated at the edge of its range, but for what one group alone tells, and why."""
    at = np.flatnonzero(fitted.at_bound)
    at = at[[names[j] not in lone for j in at]] if at.size else at
    if not at.size:
        return []
    problem = fitted.point.problem
    low, high = problem.bounds
    step = problem.units
    moved = np.repeat(fitted.theta[None], at.size, axis=0)
    inward = np.where(fitted.theta <= low, 1.0, -1.0) * np.minimum(step, 0.5 * (high - low))
    moved[np.arange(at.size), at] += inward[at]
    flat = np.abs(problem.at(moved).logliks - fitted.point.loglik) < FLAT
    correlation = np.array([names[j].startswith("rho") for j in at])
    words = (
        (flat, "the likelihood does not change with {it}: the data do not tell {it}."),
        (~flat & ~correlation, "the data show no variation there that the rest of the model does not explain."),
        (~flat & correlation, "with so few groups the true value may lie anywhere; see the interval."),
    )
    notes = []
    for which, why in words:
        found = [names[j] for j in at[which]]
        if found:
            many = len(found) > 1
            message = (
                f"{', '.join(found)} {'are' if many else 'is'} estimated at the edge of {'their' if many else 'its'} "
                f"range: {why.format(it='them' if many else 'it')}"
            )
            notes.append(Note("component-at-edge", message))
    return notes


def _unidentified(fitted: MixedFit, names: list[str]) -> list[Note]:
    """Name the parameters along which the likelihood does not change."""
    free = np.flatnonzero(~(fitted.at_bound | fitted.fixed))
    if free.size == 0:
        return []
    if _curvature(fitted, fitted.point.average_information, free)[0] > FLAT:
        return []
    # A factor of a covariance that is 0 has no average information there, but the likelihood bends.
    curvature, vectors = _curvature(fitted, observed_information(fitted), free)
    if curvature > FLAT:
        return []
    loading = np.abs(vectors[:, 0])
    involved = [names[free[j]] for j in np.flatnonzero(loading > 0.2 * loading.max())]
    message = (
        f"The data cannot tell {' and '.join(involved)} apart: the likelihood is flat in their direction. "
        "Leave one of these terms out, or hold it fixed."
    )
    return [warn_note("not-identified", message, NotIdentifiedWarning, stacklevel=5)]


def _curvature(fitted: MixedFit, information: Array, free: IntArray) -> tuple[float, Array]:
    """Return the smallest curvature on the scale of the parameters themselves, and the directions, flattest first."""
    unit = np.maximum(np.abs(fitted.theta), fitted.point.problem.units)[free]
    H = information[np.ix_(free, free)] * np.outer(unit, unit)
    scale = np.sqrt(np.maximum(np.abs(np.diag(H)), 1.0))
    values, vectors = np.linalg.eigh(H / np.outer(scale, scale))
    return float(values[0]), vectors
