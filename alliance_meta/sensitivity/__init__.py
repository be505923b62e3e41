"""How far do the conclusions depend on assumptions? Questions asked of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.sensitivity.assumed_rho import RhoGrid as RhoGrid
    from alliance_meta.sensitivity.assumed_rho import rho_grid as rho_grid
    from alliance_meta.sensitivity.bootstrapping import Bootstrap as Bootstrap
    from alliance_meta.sensitivity.bootstrapping import bootstrap as bootstrap
    from alliance_meta.sensitivity.hetero import HeteroscedasticityTest as HeteroscedasticityTest
    from alliance_meta.sensitivity.hetero import hettest as hettest
    from alliance_meta.sensitivity.likelihood import LikelihoodRatioTest as LikelihoodRatioTest
    from alliance_meta.sensitivity.likelihood import lr_test as lr_test
    from alliance_meta.sensitivity.permutation import PermutationTest as PermutationTest
    from alliance_meta.sensitivity.permutation import permutation_test as permutation_test
    from alliance_meta.sensitivity.wild import WildBootstrap as WildBootstrap
    from alliance_meta.sensitivity.wild import wild_bootstrap as wild_bootstrap

_HOMES = {
    "Bootstrap": "bootstrapping",
    "HeteroscedasticityTest": "hetero",
    "LikelihoodRatioTest": "likelihood",
    "PermutationTest": "permutation",
    "WildBootstrap": "wild",
    "RhoGrid": "assumed_rho",
    "bootstrap": "bootstrapping",
    "hettest": "hetero",
    "lr_test": "likelihood",
    "permutation_test": "permutation",
    "wild_bootstrap": "wild",
    "rho_grid": "assumed_rho",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
