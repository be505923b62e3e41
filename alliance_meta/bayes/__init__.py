"""Bayesian models. `bayes.pymc` holds models for PyMC, `bayes.sample` draws from their posterior."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _SUBMODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
