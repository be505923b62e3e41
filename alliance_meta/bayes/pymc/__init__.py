"""Models written in PyMC, for what the exact quadrature of `BayesianModel` does not cover.

Each function returns a `pymc.Model`, ready for `bayes.sample`. Priors are the same objects as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bayes.pymc.independent import normal_normal as normal_normal
    from alliance_meta.bayes.pymc.smoothing import smooth as smooth

_HOMES = {
    "normal_normal": "independent",
    "smooth": "smoothing",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
