"""How far do the conclusions depend on assumptions? Questions asked of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.sensitivity.assumed_rho import RhoGrid as RhoGrid
    from alliance_meta.sensitivity.assumed_rho import rho_grid as rho_grid
    from alliance_meta.sensitivity.attenuated import Attenuation as Attenuation
    from alliance_meta.sensitivity.attenuated import attenuation as attenuation
    from alliance_meta.sensitivity.bootstrapping import Bootstrap as Bootstrap
    from alliance_meta.sensitivity.bootstrapping import bootstrap as bootstrap
    from alliance_meta.sensitivity.hetero import HeteroscedasticityTest as HeteroscedasticityTest
    from alliance_meta.sensitivity.hetero import hettest as hettest
    from alliance_meta.sensitivity.likelihood import LikelihoodRatioTest as LikelihoodRatioTest
    from alliance_meta.sensitivity.likelihood import lr_test as lr_test
    from alliance_meta.sensitivity.permutation import PermutationTest as PermutationTest
    from alliance_meta.sensitivity.permutation import permutation_test as permutation_test
    from alliance_meta.sensitivity.psychometric import HunterSchmidt as HunterSchmidt
    from alliance_meta.sensitivity.psychometric import hunter_schmidt as hunter_schmidt
    from alliance_meta.sensitivity.sessions import Dependability as Dependability
    from alliance_meta.sensitivity.sessions import dependability as dependability
    from alliance_meta.sensitivity.wild import WildBootstrap as WildBootstrap
    from alliance_meta.sensitivity.wild import wild_bootstrap as wild_bootstrap

_HOMES = {
    "Attenuation": "attenuated",
    "Bootstrap": "bootstrapping",
    "Dependability": "sessions",
    "HeteroscedasticityTest": "hetero",
    "HunterSchmidt": "psychometric",
    "LikelihoodRatioTest": "likelihood",
    "PermutationTest": "permutation",
    "RhoGrid": "assumed_rho",
    "WildBootstrap": "wild",
    "attenuation": "attenuated",
    "bootstrap": "bootstrapping",
    "dependability": "sessions",
    "hettest": "hetero",
    "hunter_schmidt": "psychometric",
    "lr_test": "likelihood",
    "permutation_test": "permutation",
    "rho_grid": "assumed_rho",
    "wild_bootstrap": "wild",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
