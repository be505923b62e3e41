"""Random intercepts of PyMC models: what the terms mean, which are integrated out, and the likelihood that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.core.dependent import IntArray, SamplingCovariance, codes, nested
from alliance_meta.core.mixed.nested import Chain, lay_out, simulate, split
from alliance_meta.effects.dependent.groups import ROWS, expand, factor, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note

FEW_GROUPS = 5
# A variance below this share of the largest is rounding.
SINGULAR = 1e-12
TERM = "term"


@dataclass(frozen=True, eq=False)
class Intercepts:
    """Random intercepts: one for each level of each term."""

    names: tuple[str, ...]  # terms, as they were written
    labels: tuple[tuple[str, ...], ...]  # levels of each
    groups: tuple[IntArray, ...]  # (k,) each: code of each row's level
    rows: int | None  # position of the term that varies from row to row
    chain: tuple[int, ...]  # positions of the terms that are integrated out of the model, the finest first
    unit: IntArray  # (k,): cluster of each row: a group of the coarsest of these
    units: tuple[str, ...]  # what the clusters are called, by code
    within: tuple[int, ...]  # positions of the terms that are drawn and vary within clusters
    across: tuple[int, ...]  # positions of the terms that are drawn and cut across clusters

    def variable(self, i: int) -> str:
        """Return the name of the drawn effects of a term; files of draws take slashes for folders."""
        return f"u_{self.names[i]}".replace("/", "_")

    @property
    def drawn(self) -> tuple[int, ...]:
        """Positions of the terms whose effects are parameters of the model."""
        return self.within + self.across

    def notes(self, k: int) -> list[Note]:
        """Say which terms rest on their priors, and where rows are taken to share a true effect."""
        few = [
            Note("prior-bound", f"{name} has {len(labels)} groups: what is said about tau[{name}] rests on its prior.")
            for name, labels in zip(self.names, self.labels, strict=True)
            if len(labels) < FEW_GROUPS
        ]
        if self.rows is None:
            few.append(
                Note(
                    "no-row-level",
                    f"No random term varies by row (there are {k}): effects of one group are taken to share one true "
                    f"effect. Add {ROWS!r} unless that is meant.",
                )
            )
        return few


def read_intercepts(random: str | Sequence[str], effects: EffectSizes, V: SamplingCovariance | None) -> Intercepts:
    """Read the random terms and decide which of them can be integrated out."""
    names, labels, groups = _terms(random, effects)
    for i, j in combinations(range(len(names)), 2):
        if (codes(groups[i]) == codes(groups[j])).all():
            raise InputError(
                f"{names[i]} and {names[j]} put the effects into the same groups, so that they cannot be told apart; "
                "leave one out"
            )
    k = effects.k
    rows = next((i for i, group in enumerate(groups) if int(group.max()) == k - 1), None)
    coarse = [i for i in range(len(names)) if i != rows]
    base = None if V is None else V.codes
    chain, other = split([groups[i] for i in coarse], base) if coarse else ((), ())
    if coarse and not chain:
        _refuse_wide_V(names[coarse[0]])
    unit, units = np.arange(k, dtype=np.intp), effects.slab
    if chain:
        unit, units = groups[coarse[chain[-1]]], labels[coarse[chain[-1]]]
    elif V is not None:
        unit, units = V.codes, V.labels
    within = tuple(coarse[i] for i in other if nested(groups[coarse[i]], unit))
    return Intercepts(
        names=names,
        labels=labels,
        groups=groups,
        rows=rows,
        chain=tuple(coarse[i] for i in chain),
        unit=unit,
        units=tuple(units),
        within=within,
        across=tuple(coarse[i] for i in other if coarse[i] not in within),
    )


def _refuse_wide_V(name: str) -> None:
    raise InputError(f"V correlates effects of different groups of {name!r}; its blocks must lie within them")


def _terms(
    random: str | Sequence[str], effects: EffectSizes
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[IntArray, ...]]:
    items = [random] if isinstance(random, str) else list(random)
    wide = [item for item in items if sides(item)[0] != "1"]
    if wide or not items:
        raise InputError(
            f"random={random!r}: these models take intercepts, such as ('study_id', {ROWS!r}); for other random terms "
            "see MultilevelModel"
        )
    paths = [path for item in items for path in expand(sides(item)[1])]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    found = [factor(path, effects) for path in paths]
    return tuple(paths), tuple(tuple(levels) for levels, _ in found), tuple(group for _, group in found)


def recoded(new: Intercepts, old: Intercepts) -> Intercepts:
    """Return the terms of other effects with the codes of the drawn effects that the model has."""
    if (new.chain, new.within, new.across, new.rows) != (old.chain, old.within, old.across, old.rows):
        raise InputError(
            f"{', '.join(new.names)} lie within one another otherwise than in the data the model was made with; make "
            "the model anew from these effects"
        )
    labels, groups = list(new.labels), list(new.groups)
    for i in old.drawn:
        place = {label: at for at, label in enumerate(old.labels[i])}
        strange = [label for label in labels[i] if label not in place]
        if strange:
            raise InputError(
                f"{old.names[i]} has {strange[0]!r}, for which the compiled model has no effect; make it anew from "
                "these effects"
            )
        groups[i] = np.array([place[label] for label in labels[i]], dtype=np.intp)[groups[i]]
        labels[i] = old.labels[i]
    return replace(new, labels=tuple(labels), groups=tuple(groups))


def arrays_of(terms: Intercepts, effects: EffectSizes, V: SamplingCovariance | None) -> dict[str, Any]:
    """Return what of the effects and their groups stands in the model as data."""
    above = [terms.groups[i] for i in terms.chain]
    chain = lay_out(effects.vi if V is None else V.vi, None if V is None else V.blocks, above)
    if terms.rows is None and not chain.d.min() > SINGULAR * chain.d.max():
        raise InputError(f"V is singular: add a random term for each row, {ROWS!r}")
    data: dict[str, Any] = {"yi": effects.yi, "vi": chain.d}
    if chain.members is not None:
        data |= {"W": chain.W, "Q": chain.Q, "members": chain.members.ravel()}
    data |= {f"parent_{level}": parent for level, parent in enumerate(chain.parents, start=1)}
    return data | {f"group_{i}": terms.groups[i] for i in terms.drawn}


def add_drawn(terms: Intercepts, tau: Any) -> dict[int, Any]:
    """Add the drawn effects of each such term to the model in context."""
    pm = load("pymc")
    found = {}
    for i in terms.drawn:
        name, dim = terms.variable(i), terms.names[i]
        z = pm.Normal(f"z{name[1:]}", 0.0, 1.0, dims=dim)
        found[i] = pm.Deterministic(name, tau[i] * z, dims=dim)
    return found


def add_likelihood(terms: Intercepts, data: dict[str, Any], mean: Any, drawn: dict[int, Any], tau: Any) -> None:
    """Add the data to the model in context; `data` are its `pymc.Data` by name."""
    pm = load("pymc")
    pt = load("pytensor.tensor")
    for i, effects in drawn.items():
        mean = mean + effects[data[f"group_{i}"]]
    levels = [data[f"parent_{level}"] for level in range(1, len(terms.chain) + 1)]
    Q = data.get("Q")

    def logp(value: Any, mean: Any, tau: Any) -> Any:
        """Return the log density of all results."""
        e, W, rows = value - mean, data.get("W"), 0.0 if terms.rows is None else tau[terms.rows] ** 2
        if Q is not None:
            e = (Q * e[data["members"]].reshape(Q.shape)).sum(axis=1)
        total = data["vi"] + rows
        w = 1.0 / total
        size, sums = (w, e * w) if W is None else (W**2 * w, W * e * w)
        logs, squares = pt.log(total).sum(), (e**2 * w).sum()
        for at, parent in zip(terms.chain, levels, strict=True):
            size, sums = _sum_by(pt, size, parent), _sum_by(pt, sums, parent)
            variance = tau[at] ** 2
            inner = 1.0 + variance * size
            logs, squares = logs + pt.log(inner).sum(), squares - variance * (sums**2 / inner).sum()
            size, sums = size / inner, sums / inner
        return -0.5 * (value.shape[0] * np.log(2.0 * np.pi) + logs + squares)

    def random(mean: Any, tau: Any, rng: Any = None, size: Any = None) -> Any:
        """Draw results."""
        return _simulate(terms, data, np.asarray(mean), np.asarray(tau), rng, size)

    mean = mean + pt.zeros_like(data["yi"])
    pm.CustomDist("y", mean, tau, logp=logp, random=random, signature="(k),(l)->(k)", observed=data["yi"], dims="study")


def _sum_by(pt: Any, values: Any, parent: Any) -> Any:
    """Return the sums of values by group."""
    return pt.inc_subtensor(pt.zeros(parent.max() + 1)[parent], values)


def _simulate(terms: Intercepts, data: dict[str, Any], mean: Array, tau: Array, rng: Any, size: Any) -> Array:
    """Draw the effects; with the data that the model has at this moment."""
    now = {name: one.get_value() for name, one in data.items()}
    Q = now.get("Q")
    members = None if Q is None else now["members"].reshape(Q.shape)
    parents = tuple(now[f"parent_{level}"] for level in range(1, len(terms.chain) + 1))
    chain = Chain(now["vi"], now.get("W", np.ones(len(now["vi"]))), members, Q, parents)
    batch = np.broadcast_shapes(mean.shape[:-1], tau.shape[:-1])
    batch = batch if size is None else tuple(size)
    mean, tau = (np.broadcast_to(one, (*batch, one.shape[-1])) for one in (mean, tau))
    out = np.empty((*batch, len(now["vi"])))
    for at in np.ndindex(*batch):
        rows = 0.0 if terms.rows is None else float(tau[at][terms.rows])
        out[at] = simulate(chain, mean[at], tau[at][list(terms.chain)], rows, rng)
    return out


def add_arrays(arrays: dict[str, Any]) -> dict[str, Any]:
    """Add the data to the model in context."""
    pm = load("pymc")
    by_row = ("yi", "vi")
    return {name: pm.Data(name, one, dims="study" if name in by_row else None) for name, one in arrays.items()}


def drawn_dims(terms: Intercepts) -> dict[str, list[str]]:
    """Return the dimension of each term that is drawn, with its labels."""
    return {terms.names[i]: list(terms.labels[i]) for i in terms.drawn}


def drawn_effects(terms: Intercepts, draws: Any, which: Sequence[int]) -> Array | float:
    """Return what the drawn effects of some terms add to the mean of each row, (S, k)."""
    return sum((draws[terms.variable(i)][:, terms.groups[i]] for i in which), start=0.0)
