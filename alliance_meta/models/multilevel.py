"""`MultilevelModel`: effects within samples within studies, crossed factors, several outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray, SamplingCovariance
from alliance_meta.core.mixed.covariance import Scaled, Term, kind_of, most_within, structure_of
from alliance_meta.core.mixed.likelihood import Component, MixedProblem, mixed_problem
from alliance_meta.core.mixed.search import FINEST, MixedFit, maximise_mixed, observed_information
from alliance_meta.design import Design, design_of
from alliance_meta.effects.dependent.groups import ROWS, Levels, expand, factor, sides
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes, check_effects
from alliance_meta.errors import ConvergenceWarning, DesignError, InputError, NotIdentifiedWarning
from alliance_meta.notes import Degrees, Note, Struct, check_level, check_option, did_you_mean, merge_notes, warn_note
from alliance_meta.results.coefficients import FitSettings
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.multilevel_quantities import RandomTerm
from alliance_meta.tables.format import brief

# Rows finer than this share of what the random terms add are why a search did not settle.
FINE = 1e-7


def parse_random(
    random: Sequence[str] | str, effects: EffectSizes, *, struct: Any, R: Mapping[str, Any] | None
) -> list[RandomTerm]:
    """Parse every random term; `struct` names the covariance of those with an inner part, in their order."""
    items: list[Any] = [random] if not isinstance(random, list | tuple) else list(random)
    if other := [item for item in items if not isinstance(item, str)]:
        raise InputError(
            f"random has {other[0]!r}, which is {type(other[0]).__name__}; name columns in text, such as "
            "random='study_id/es_id'"
        )
    if not items:
        raise InputError("random is empty; name at least one factor, such as random='study_id/es_id'")
    wide = [item for item in items if sides(item)[0] != "1"]
    structs = _structs(struct, wide)
    unknown = [name for name in (R or {}) if name not in [p for item in items for p in _paths(item)]]
    if unknown:
        raise InputError(f"R has {', '.join(map(repr, unknown))}, which random does not name")
    found: list[RandomTerm] = []
    known: dict[str, tuple[Levels, IntArray]] = {}
    for item in items:
        left, right = sides(item)
        if left == "1":
            found += [_intercept(path, effects, (R or {}).get(path), known) for path in expand(right)]
        else:
            found.append(_wide(left, right, structs[wide.index(item)], effects))
    names = [term.name for term in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    return found


def _paths(item: str) -> list[str]:
    left, right = sides(item)
    return expand(right) if left == "1" else [right]


def _structs(struct: Any, wide: list[str]) -> list[Struct]:
    default = ["GEN" if _is_slope(sides(item)[0]) else "CS" for item in wide]
    given: list[Any] = default if struct is None else [struct] * len(wide) if isinstance(struct, str) else list(struct)
    if struct is not None and not wide:
        raise InputError("struct is given, but no random term has the form 'inner | outer'")
    if len(given) != len(wide):
        raise InputError(f"struct has {len(given)} names for {len(wide)} terms of the form 'inner | outer'")
    for name in given:
        check_option("struct", name, Struct)
    return [given[i] for i in range(len(wide))]


def _is_slope(left: str) -> bool:
    return "+" in left or not re.fullmatch(r"[A-Za-z_]\w*", left)


def _intercept(path: str, effects: EffectSizes, R: Any, known: dict[str, tuple[Levels, IntArray]]) -> RandomTerm:
    levels, group = factor(path, effects, known)
    given = R is not None
    structure = Scaled(_correlations(R, path, levels) if given else np.ones((1, 1)), linked=given)
    return RandomTerm(path, "R" if given else "ID", structure.names(path, ()), levels, group, structure)


def _correlations(R: Any, path: str, levels: Levels) -> Array:
    if not isinstance(R, pd.DataFrame):
        raise InputError(f"R[{path!r}] must be a DataFrame whose rows and columns are the levels of {path}")
    frame = R.copy()
    frame.index, frame.columns = frame.index.map(str), frame.columns.map(str)
    missing = [level for level in levels if level not in frame.index or level not in frame.columns]
    if missing:
        raise InputError(f"R[{path!r}] has no row and column for {', '.join(map(repr, missing[:5]))}")
    matrix = frame.loc[list(levels), list(levels)].to_numpy(dtype=float)
    if not (np.isfinite(matrix).all() and np.allclose(matrix, matrix.T, atol=1e-12)):
        raise InputError(f"R[{path!r}] must be symmetric and without missing values")
    if np.linalg.eigvalsh(matrix)[0] < -1e-8:
        raise InputError(f"R[{path!r}] is not positive semi-definite: it is no correlation matrix")
    return np.asarray(matrix)


def _wide(left: str, right: str, struct: Struct, effects: EffectSizes) -> RandomTerm:
    outer_levels, outer = factor(right, effects)
    name, kind = f"{left} | {right}", kind_of(struct)
    inner = slopes = None
    if kind.slopes:
        slopes = _slopes(left, name, effects)
        columns = slopes.names
    else:
        levels, inner = factor(left, effects)
        columns = tuple(levels)
    if inner is not None and kind.ordered:
        columns, inner = _ordered(columns, inner, numeric=kind.numeric, name=left)
    structure = structure_of(struct, columns, 0 if inner is None else most_within(outer, inner))
    parameters = structure.names(name, columns)
    return RandomTerm(name, struct, parameters, outer_levels, outer, structure, columns, inner, slopes)


def _slopes(left: str, name: str, effects: EffectSizes) -> Design:
    try:
        design = design_of(left, effects)
    except DesignError as error:
        raise DesignError(str(error).replace("mods=", f"random term {name!r}: ", 1)) from error
    if not design.rows.all():
        gone = ", ".join(effects.slab[i] for i in np.flatnonzero(~design.rows)[:5])
        raise InputError(f"random term {name!r}: a value is missing for {gone}; fill it in or leave the rows out")
    return design


def _ordered(levels: tuple[str, ...], inner: IntArray, *, numeric: bool, name: str) -> tuple[tuple[str, ...], IntArray]:
    """Return the levels in the order of time: as numbers where they are, else as they first appear."""
    try:
        times = np.array([float(level) for level in levels])
    except ValueError:
        if numeric:
            raise InputError(f"struct='CAR' needs numbers in {name!r}; {levels[0]!r} is not one") from None
        return levels, inner
    order = np.argsort(times)
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.arange(order.size)
    return tuple(levels[i] for i in order), place[inner]


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
        check_effects(self.effects, "MultilevelModel")
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
        V = self._covariance()
        design = design_of(self.mods, self.effects)
        effects = design.taking_part(self.effects)
        if V is not None and not design.rows.all():
            V = V.take(design.rows)
        if effects.k <= design.p:
            raise InputError(
                f"k = {effects.k} effects and {design.p} coefficients leave nothing to estimate random terms from; "
                "use RandomEffectsModel, or fewer moderators"
            )
        parsed = parse_random(self.random, effects, struct=self.struct, R=self.R)
        problem = _problem(effects, design, V, parsed, restricted=self.method == "REML")
        names = [name for term in parsed for name in term.parameters]
        fitted = maximise_mixed(problem, given=_given(self.fixed, names, parsed))
        _check_fit(fitted, V)
        return MultilevelResults(
            effects=effects,
            design=design,
            settings=FitSettings(self.method, self.test, self.level),
            fitted=fitted,
            random=tuple(parsed),
            V=V,
            degrees=self.dfs,
            notes=merge_notes(
                effects.notes, design.notes, () if V is None else V.notes, _notes(fitted, parsed, names, effects.k)
            ),
        )

    def _covariance(self) -> SamplingCovariance | None:
        if self.V is None:
            return None
        V = self.V if isinstance(self.V, SamplingCovariance) else SamplingCovariance.from_matrix(self.V)
        k, rows = self.effects.k, V.vi.size
        if k != rows:
            raise InputError(f"V has {rows} rows for {k} effects; make it from the same effects")
        return V


def _problem(
    effects: EffectSizes, design: Design, V: SamplingCovariance | None, parsed: list[RandomTerm], *, restricted: bool
) -> MixedProblem:
    terms: list[Term] = []
    components = []
    for one in parsed:
        own = one.terms
        components.append(Component(one.structure, tuple(range(len(terms), len(terms) + len(own)))))
        terms += own
    return mixed_problem(
        effects.yi,
        design.X,
        effects.vi if V is None else V.vi,
        terms=terms,
        components=components,
        blocks=None if V is None else V.blocks,
        restricted=restricted,
    )


def _given(fixed: Mapping[str, float] | None, names: list[str], parsed: list[RandomTerm]) -> Array | None:
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
    roots = [term.structure.by_sd and n.startswith("tau2") for term in parsed for n in term.parameters]
    return np.where(roots, np.sqrt(np.abs(given)), given)


def _check_fit(fitted: MixedFit, V: SamplingCovariance | None) -> None:
    if not fitted.point.valid:
        why = "V is singular" if V is not None else "the parameters held fixed make it so"
        raise InputError(f"the covariance of the effects cannot be inverted: {why}; add a random term for each row")
    shares = fitted.point.own_shares
    if shares.min() < (FINEST if fitted.converged else FINE):
        row = int(fitted.point.problem.plan.order[np.argmin(shares)])
        what = f"effect {row + 1} has next to no variance of its own" if V is None else "V is nearly singular"
        raise InputError(
            f"{what} beside what the random terms add, so that the likelihood cannot be computed to enough digits; "
            "check the unit of the sampling variances, or add a random term for each row"
        )


def _notes(fitted: MixedFit, parsed: list[RandomTerm], names: list[str], k: int) -> list[Note]:
    notes = []
    if not fitted.converged:
        message = f"The search for the variances had not settled after {fitted.steps} steps; do not use this fit."
        notes.append(warn_note("not-converged", message, ConvergenceWarning, stacklevel=4))
    lone = [name for term in parsed for name in term.lone]
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
        if term.n < FEW_GROUPS:
            message = f"{term.name} has {term.n} groups: its variance rests on very few and can be far off."
            notes.append(Note("few-groups", message))
    inner = [term for term in parsed if not term.within and not term.structure.linked]
    if inner and all(term.n < k for term in inner) and not any(term.within for term in parsed):
        finest = max(inner, key=lambda term: term.n)
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
    inside = np.repeat(fitted.theta[None], at.size, axis=0)
    inward = np.where(fitted.theta <= low, 1.0, -1.0) * np.minimum(step, 0.5 * (high - low))
    inside[np.arange(at.size), at] += inward[at]
    flat = np.abs(problem.at(inside).logliks - fitted.point.loglik) < FLAT
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
