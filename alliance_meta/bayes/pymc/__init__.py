"""Models written in PyMC, for what the exact quadrature of `BayesianModel` does not cover.

Each function returns a `pymc.Model`, ready for `bayes.sample`. Priors are the same objects as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bayes.pymc.correlation import exact_correlation as exact_correlation
    from alliance_meta.bayes.pymc.dependent import crossed as crossed
    from alliance_meta.bayes.pymc.dependent import multilevel as multilevel
    from alliance_meta.bayes.pymc.heterogeneity import group_tau as group_tau
    from alliance_meta.bayes.pymc.heterogeneity import location_scale as location_scale
    from alliance_meta.bayes.pymc.independent import normal_normal as normal_normal
    from alliance_meta.bayes.pymc.independent import smooth as smooth
    from alliance_meta.bayes.pymc.independent import t_effects as t_effects

__getattr__, __dir__, __all__ = lazy(__name__)
