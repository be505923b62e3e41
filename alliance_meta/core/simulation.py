r"""Simulated meta-analyses whose truth is known: many data sets at once, with or without selective reporting.

Effect i of study j has the true value :math:`\theta_{ij} = \mu + x_j'\beta + \tau u_j + \omega w_{ij}` on the scale
of Fisher z; unreliable measures shrink what can be observed of it to
:math:`\operatorname{artanh}(a \tanh \theta_{ij})`. Its estimate is that plus
:math:`\sqrt{v_j}\,(\sqrt\rho\, g_j + \sqrt{1 - \rho}\, h_{ij})` with :math:`v_j = 1 / (n_j - 3)`; all letters without
an index are constants, and u, w, g and h standard normal.

Studies are drawn until so many as asked for have something to report. Every quantity of every block of replicates has
a random stream of its own, in which replicates follow one another, so that a replicate is the same however many there
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.errors import InputError

Alternative = Literal["greater", "less", "two.sided"]
By = Literal["effect", "cluster"]

# Effects in a block; changing it changes which data a seed gives.
BLOCK = 1 << 14
# Each turn draws twice as many studies as the one before it: in all 2^9 - 1 times as many as are wanted.
MOST_TURNS = 9
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """Where whole numbers are drawn from: `values`, or the whole numbers from `low` to `high`, log-uniformly or not."""

    low: int = 1
    high: int = 1
    logarithmic: bool = False
    values: Array | None = None

    def draw(self, rng: np.random.Generator, size: int) -> IntArray:
        """Return so many numbers."""
        u = rng.random(size)
        if self.values is not None:
            return self.values[(u * len(self.values)).astype(np.intp)].astype(np.intp)
        if self.logarithmic:
            low, high = np.log(self.low - 0.5), np.log(self.high + 0.5)
            return np.clip(np.rint(np.exp(low + u * (high - low))), self.low, self.high).astype(np.intp)
        return self.low + (u * (self.high - self.low + 1)).astype(np.intp)

    @property
    def most(self) -> int:
        """The largest number there can be."""
        return self.high if self.values is None else int(self.values.max())


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """With which probability a p-value is reported, relative to the likeliest."""

    # (J,): of a step function the p-values at which it changes; of a beta density the two between which it changes.
    steps: Array
    weights: Array  # one more than steps; of a beta density its two parameters
    beta: bool
    alternative: Alternative
    by: By  # whether every effect is reported or not by its own p-value, or a whole study by that of its first effect

    def probability(self, p: Array) -> Array:
        """Return the probability of being reported for each p-value."""
        if not self.beta:
            return self.weights[np.searchsorted(self.steps, p)] / self.weights.max()
        a, b = self.weights - 1.0
        # The density's logarithm is a sum of two that are monotone: it peaks at an end, or at its mode.
        mode = a / (a + b) if a > 0 and b > 0 else self.steps[0]
        ends = np.clip(np.array([*self.steps, mode]), *self.steps)
        inside = np.clip(p, *self.steps)
        log = special.xlogy(a, inside) + special.xlog1py(b, -inside)
        return np.exp(log - (special.xlogy(a, ends) + special.xlog1py(b, -ends)).max())


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is simulated."""

    k: int  # studies in each data set
    per_study: Whole
    n: Whole
    mu: float
    tau: float
    omega: float
    rho: float
    shifts: tuple[Array, ...] = ()  # for each moderator what its levels, which are equally likely, add to mu
    attenuation: float = 1.0  # what unreliable measures leave of a correlation
    selection: Selection | None = None
    # p_hacking, unreported: shares of the effects that are not significant: estimated again until they are; reported
    # without a number.
    p_hacking: float = 0.0
    unreported: float = 0.0

    @property
    def alternative(self) -> Alternative:
        """Which effects are favoured."""
        return "greater" if self.selection is None else self.selection.alternative


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Data sets one after the other, one row per effect."""

    # replicate, study (K,): the data set, and the study within it, both from 0.
    replicate: IntArray
    study: IntArray
    n: IntArray  # (K,)
    # y, v (K,): estimate and sampling variance, Fisher z.
    y: Array
    v: Array
    # theta, expected (K,): the true effect, and what is left of it by unreliable measures.
    theta: Array
    expected: Array
    p: Array  # (K,): p-value of y / sqrt(v) on the favoured side
    levels: IntArray  # (K, q): level of each moderator
    hacked: Mask  # (K,)
    unreported: Mask  # (K,)
    drawn: IntArray  # (B,): studies that were made until each data set was full


ROWS = tuple(one.name for one in fields(Simulated) if one.name not in ("replicate", "study", "drawn"))


def p_values(z: Array, alternative: Alternative) -> Array:
    """Return the p-values of standard normal deviates."""
    if alternative == "two.sided":
        return 2.0 * special.ndtr(-np.abs(z))
    return special.ndtr(-z if alternative == "greater" else z)


def simulate(plan: Plan, *, replicates: int, seed: int) -> Simulated:
    """Return so many data sets.

    Raises
    ------
    InputError
        Selection that leaves less than one study in 511.
    """
    size = max(1, BLOCK // (plan.k * plan.per_study.most))
    parts = []
    for number, start in enumerate(range(0, replicates, size)):
        part, drawn = _block(plan, min(size, replicates - start), (seed, number))
        part["replicate"] += start
        parts.append((part, drawn))
    drawn = np.concatenate([one for _, one in parts])
    return Simulated(drawn=drawn, **{name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]})


def _block(plan: Plan, B: int, key: tuple[int, int]) -> tuple[dict[str, AnyArray], IntArray]:
    """Return the rows of B data sets, in order, and how many studies were made for each."""
    need, drawn = np.full(B, plan.k), np.zeros(B, dtype=np.intp)
    pieces: list[dict[str, AnyArray]] = []
    for turn in range(MOST_TURNS):
        active = np.flatnonzero(need)
        if not active.size:
            break
        many = plan.k * 2**turn
        owner, rows, there = _studies(plan, active.size * many, (*key, turn))
        place = there.reshape(active.size, many).cumsum(axis=1)
        wanted = need[active, None]
        used = place[:, -1] >= wanted[:, 0]
        drawn[active] += np.where(used, (place < wanted).sum(axis=1) + 1, many)
        chosen = (there & (place <= wanted).ravel())[owner]
        study = (plan.k - wanted + place - 1).ravel()
        rows |= {"replicate": np.repeat(active, many)[owner], "study": study[owner]}
        pieces.append({name: values[chosen] for name, values in rows.items()})
        need[active] = np.maximum(need[active] - place[:, -1], 0)
    if need.any():
        raise InputError(
            f"the selection leaves next to nothing: of {int(drawn.max())} studies fewer than {plan.k} had anything to "
            "report; raise its weights, or mu"
        )
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    order = np.lexsort((joined["study"], joined["replicate"]))
    return {name: values[order] for name, values in joined.items()}, drawn


def _studies(plan: Plan, S: int, key: Sequence[int]) -> tuple[IntArray, dict[str, AnyArray], Mask]:
    """Return the study of each reported effect, all that is known of it, and which of S studies report any."""
    streams = (np.random.default_rng(np.random.SeedSequence(key[0], spawn_key=(*key[1:], i))) for i in range(11))
    sizes, n = plan.per_study.draw(next(streams), S), plan.n.draw(next(streams), S)
    levels = (next(streams).random((S, len(plan.shifts))) * [len(one) for one in plan.shifts]).astype(np.intp)
    mean = plan.mu + plan.tau * next(streams).standard_normal(S)
    for i, shift in enumerate(plan.shifts):
        mean += shift[levels[:, i]]
    shared = next(streams).standard_normal(S)
    owner = np.repeat(np.arange(S), sizes)
    K = len(owner)
    theta = mean[owner] + plan.omega * next(streams).standard_normal(K)
    expected = theta if plan.attenuation == 1 else np.arctanh(plan.attenuation * np.tanh(theta))
    error = np.sqrt(plan.rho) * shared[owner] + np.sqrt(1.0 - plan.rho) * next(streams).standard_normal(K)
    v = 1.0 / (n[owner] - 3.0)
    y, hacked = _hacked(plan, expected, v, error, next(streams))
    z = y / np.sqrt(v)
    p = p_values(z, plan.alternative)
    unreported = (next(streams).random(K) < plan.unreported) & (p_values(z, "two.sided") >= SIGNIFICANT)
    kept = _reported(plan.selection, p, sizes, owner, next(streams))
    there = np.zeros(S, dtype=bool)
    there[owner[kept]] = True
    columns = (n[owner], y, v, theta, expected, p, levels[owner], hacked, unreported)
    return owner[kept], {name: column[kept] for name, column in zip(ROWS, columns, strict=True)}, there


def _reported(
    selection: Selection | None, p: Array, sizes: IntArray, owner: IntArray, rng: np.random.Generator
) -> Mask:
    if selection is None:
        return np.ones(len(p), dtype=bool)
    if selection.by == "effect":
        return rng.random(len(p)) < selection.probability(p)
    first = np.cumsum(sizes) - sizes
    return (rng.random(len(sizes)) < selection.probability(p[first]))[owner]


def _hacked(plan: Plan, expected: Array, v: Array, error: Array, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Return the estimates, some that were not significant drawn again until they were, and which these are."""
    se = np.sqrt(v)
    y = expected + se * error
    u = rng.random((len(y), 2))
    side = {"greater": 1.0, "less": -1.0}.get(plan.alternative, np.where(y < 0, -1.0, 1.0))
    cut = -special.ndtri(0.5 * SIGNIFICANT)
    hacked = (side * y < cut * se) & (u[:, 0] < plan.p_hacking)
    lowest = cut - side * expected / se
    again = -special.ndtri((1.0 - u[:, 1]) * special.ndtr(-lowest))
    return np.where(hacked, expected + side * se * again, y), hacked
