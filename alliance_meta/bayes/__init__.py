"""Bayesian models. `bayes.pymc` holds models for PyMC, `bayes.sample` draws from their posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bayes import pymc as pymc
    from alliance_meta.bayes.sampling import SampledPosterior as SampledPosterior
    from alliance_meta.bayes.sampling import sample as sample

_HOMES = {
    "SampledPosterior": "sampling",
    "sample": "sampling",
}
_SUBMODULES = ("pymc",)

__all__ = sorted([*_HOMES, *_SUBMODULES])

__getattr__, __dir__ = lazy(__name__, _HOMES, submodules=_SUBMODULES)
