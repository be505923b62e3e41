"""Profile likelihoods of a multilevel model's variances and correlations, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Correlated, Reordered, Scaled, Structure, Unstructured
from alliance_meta.core.mixed.likelihood import Component
from alliance_meta.core.mixed.profile import ProfileCurve, profile_curve
from alliance_meta.core.mixed.search import MixedFit
from alliance_meta.notes import NotApplicable, Note

if TYPE_CHECKING:
    from alliance_meta.results.multilevel_quantities import MultilevelQuantities

GIVEN = "given, not estimated"
OPEN = "the likelihood stays too high as far as it was followed"
COSTLY = "takes minutes with so many columns; ask for it by name: sensitivity.profile(fit, components=...)"
# Unstructured covariances of more columns have profiles only on request.
MOST_COLUMNS = 3
FLAT = "the likelihood does not fall: the data do not tell it"


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a variance or correlation is found: the fit, the parameter, and the power that makes it natural.

    `costly` ones, of many columns, are only computed when they are asked for by name.
    """

    name: str
    estimate: float
    fit: MixedFit | None = None
    parameter: int = 0
    power: int = 1
    costly: bool = False

    def curve(self, *, level: float, points: int) -> ProfileCurve:
        """Return the profile in natural units."""
        assert self.fit is not None
        made = profile_curve(self.fit, self.parameter, level=level, points=points)
        if self.power == 1:
            return made
        lb, ub = made.lb**self.power, made.ub**self.power
        low, high = (edge**self.power for edge in made.edges)
        return replace(made, values=made.values**self.power, estimate=self.estimate, lb=lb, ub=ub, edges=(low, high))


def slots(fit: MultilevelQuantities) -> Iterator[Slot]:
    """Yield every variance and correlation, in the order of ``fit.components``; without a fit where it was given."""
    estimates = {str(name): float(value) for name, value in fit.components["estimate"].items()}
    base = by_name(fit)
    for at, (term, part) in enumerate(fit._parts):
        structure = base.point.problem.components[at].structure
        own = [name for name in estimates if name in term.parameters or f"[{term.name}: " in name]
        if isinstance(structure, Unstructured):
            yield from _unstructured(base, at, own, estimates)
            continue
        for offset, name in enumerate(own):
            fixed = bool(base.fixed[part.start + offset])
            power = 2 if structure.by_sd and offset < len(own) - 1 else 1
            yield Slot(name, estimates[name], None if fixed else base, part.start + offset, power)


def by_name(fit: MultilevelQuantities) -> MixedFit:
    """Return the fit with standard deviations and a correlation in the place of Cholesky factors of one or two."""
    found, problem = fit.fitted, fit.point.problem
    for at, (term, part) in enumerate(fit._parts):
        structure, q = problem.components[at].structure, len(term.columns)
        if not isinstance(structure, Unstructured) or q > 2 or fit.fitted.fixed[part].any():
            continue
        G = structure.matrices(fit.fitted.theta[part])[0]
        if q == 1:
            found = _exchanged(found, at, Scaled(np.ones((1, 1))), G[0])
        else:
            sd = np.sqrt(np.diag(G))
            rho = float(G[0, 1] / sd.prod()) if sd.all() else 0.0
            found = _exchanged(found, at, Correlated(2, np.ones((2, 2))), np.array([*sd, np.clip(rho, -1.0, 1.0)]))
    return found


def _unstructured(fit: MixedFit, at: int, names: list[str], estimates: dict[str, float]) -> Iterator[Slot]:
    """Yield the slots of three or more effects, each with a factor in which it is a parameter of its own."""
    problem = fit.point.problem
    part, structure = problem.slices[at], problem.components[at].structure
    assert isinstance(structure, Unstructured)
    if fit.fixed[part].any():
        yield from (Slot(name, estimates[name]) for name in names)
        return
    G, q = structure.matrices(fit.theta[part])[0], structure.q
    pairs = [(j, i) for i in range(q) for j in range(i)]
    for name, front in zip(names, [*((i,) for i in range(q)), *pairs], strict=True):
        structure = Reordered(q, front)
        made = _exchanged(fit, at, structure, structure.theta(G))
        at_parameter = part.start + 2 * (len(front) - 1)
        yield Slot(name, estimates[name], made, at_parameter, 2 if len(front) == 1 else 1, q > MOST_COLUMNS)


def _exchanged(fit: MixedFit, at: int, structure: Structure, theta: Array) -> MixedFit:
    """Return the fit with another structure in the place of a term's, at the same covariance."""
    problem, part = fit.point.problem, fit.point.problem.slices[at]
    components = list(problem.components)
    components[at] = Component(structure, components[at].terms)
    new = replace(problem, components=tuple(components))
    values = fit.theta.copy()
    values[part] = theta
    return replace(fit, point=new.at(values), at_bound=np.zeros(new.n, dtype=bool))


def curves(fit: MultilevelQuantities, *, level: float, points: int) -> dict[str, ProfileCurve | NotApplicable]:
    """Return the profile of every variance and correlation; the reason for one that was given."""
    found: dict[str, ProfileCurve | NotApplicable] = {}
    for slot in slots(fit):
        if slot.fit is None or slot.costly:
            found[slot.name] = NotApplicable(GIVEN if slot.fit is None else COSTLY)
        else:
            found[slot.name] = slot.curve(level=level, points=points)
    return found


def limits(curve: ProfileCurve | NotApplicable) -> tuple[float, float]:
    """Return the interval of a curve, with the reason where a limit does not exist."""
    if isinstance(curve, NotApplicable):
        return curve, curve
    beyond = NotApplicable(FLAT if curve.verdict == "flat" else OPEN)
    return (curve.lb if np.isfinite(curve.lb) else beyond), (curve.ub if np.isfinite(curve.ub) else beyond)


def remarks_on(found: dict[str, ProfileCurve | NotApplicable]) -> list[Note]:
    """Return a note for each curve that is no single peak at the estimate."""
    words = {
        "flat": "does not fall on one side of the estimate: the data do not identify this component. Leave the term "
        "out, or hold it fixed",
        "higher": "is higher elsewhere than at the estimate: the search ended at a lower maximum. Do not use this fit",
        "several": "has more than one peak: look at the plot before trusting the estimate or the interval",
    }
    return [
        Note(f"profile-{curve.verdict}", f"The profile likelihood of {name} {words[curve.verdict]}.")
        for name, curve in found.items()
        if not isinstance(curve, NotApplicable) and curve.verdict in words
    ]
