"""Pearson correlations with their sample sizes, for likelihoods that need more than an effect and its variance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError


def pearson(effects: EffectSizes, *, smallest: int = 3) -> tuple[Array, Array]:
    """Return r (k,) and n (k,) of plain Pearson correlations.

    Raises `InputError`: the effects are not such correlations, their sample sizes are missing or below `smallest`, an r
    is 1 or -1.
    """
    if effects.measure not in ("ZCOR", "COR"):
        raise InputError(
            f"the exact likelihood is that of Pearson correlations; these effects are {effects.measure!r}. "
            "Use escalc with measure='ZCOR' or 'COR'"
        )
    if effects.ni is None:
        raise InputError("the exact likelihood needs the sample sizes; give ni=")
    r, n = np.tanh(effects.yi) if effects.measure == "ZCOR" else effects.yi, effects.ni
    small = [effects.slab[int(i)] for i in np.flatnonzero(~(n >= smallest))]
    if small:
        raise InputError(f"the density of r needs n >= {smallest}; smaller or missing in: {', '.join(small)}")
    perfect = [effects.slab[int(i)] for i in np.flatnonzero(~(np.abs(r) < 1))]
    if perfect:
        raise InputError(f"a correlation of exactly 1 or -1 has no likelihood: {', '.join(perfect)}")
    if effects.measure == "ZCOR":
        other = np.flatnonzero((n > 3) & ~np.isclose(effects.vi * (n - 3.0), 1.0, rtol=1e-6))
        if len(other):
            raise InputError(
                f"{effects.slab[int(other[0])]}: its variance is not 1 / (n - 3), so this z is not that of a plain "
                "Pearson correlation of n pairs; the exact likelihood does not apply"
            )
    return r, n


def as_fisher_z(effects: EffectSizes) -> EffectSizes:
    """Return Pearson correlations with n >= 4 on Fisher's z; others are refused as by `pearson`."""
    r, n = pearson(effects, smallest=4)
    if effects.measure == "ZCOR":
        return effects
    return replace(
        effects,
        yi=np.arctanh(r),
        vi=1.0 / (n - 3.0),
        measure="ZCOR",
        vtype=None,
        provenance=effects.provenance.after("Fisher z of r"),
    )
