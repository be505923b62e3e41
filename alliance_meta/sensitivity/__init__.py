"""How far do the conclusions depend on assumptions? Questions asked of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.sensitivity.all_subsets import Gosh as Gosh
    from alliance_meta.sensitivity.all_subsets import gosh as gosh
    from alliance_meta.sensitivity.assumed_rho import RhoGrid as RhoGrid
    from alliance_meta.sensitivity.assumed_rho import rho_grid as rho_grid
    from alliance_meta.sensitivity.batteries.battery import SCENARIOS as SCENARIOS
    from alliance_meta.sensitivity.batteries.battery import Battery as Battery
    from alliance_meta.sensitivity.batteries.battery import battery as battery
    from alliance_meta.sensitivity.batteries.fragility import Fragility as Fragility
    from alliance_meta.sensitivity.batteries.fragility import fragility as fragility
    from alliance_meta.sensitivity.batteries.scenarios import Case as Case
    from alliance_meta.sensitivity.batteries.scenarios import Scenario as Scenario
    from alliance_meta.sensitivity.batteries.scenarios import only as only
    from alliance_meta.sensitivity.bootstrapping import Bootstrap as Bootstrap
    from alliance_meta.sensitivity.bootstrapping import MultilevelBootstrap as MultilevelBootstrap
    from alliance_meta.sensitivity.bootstrapping import bootstrap as bootstrap
    from alliance_meta.sensitivity.deletion.influences import Influence as Influence
    from alliance_meta.sensitivity.deletion.influences import influence as influence
    from alliance_meta.sensitivity.deletion.left_out import Refits as Refits
    from alliance_meta.sensitivity.deletion.left_out import cumulative as cumulative
    from alliance_meta.sensitivity.deletion.left_out import leave_one_out as leave_one_out
    from alliance_meta.sensitivity.dependence import DependenceComparison as DependenceComparison
    from alliance_meta.sensitivity.dependence import compare_dependence as compare_dependence
    from alliance_meta.sensitivity.forking.choices import Option as Option
    from alliance_meta.sensitivity.forking.multiverses import Multiverse as Multiverse
    from alliance_meta.sensitivity.forking.multiverses import multiverse as multiverse
    from alliance_meta.sensitivity.levels import ComponentTests as ComponentTests
    from alliance_meta.sensitivity.levels import LevelComparison as LevelComparison
    from alliance_meta.sensitivity.levels import compare_levels as compare_levels
    from alliance_meta.sensitivity.levels import component_tests as component_tests
    from alliance_meta.sensitivity.likelihood import HeteroscedasticityTest as HeteroscedasticityTest
    from alliance_meta.sensitivity.likelihood import LikelihoodRatioTest as LikelihoodRatioTest
    from alliance_meta.sensitivity.likelihood import ProfileLikelihood as ProfileLikelihood
    from alliance_meta.sensitivity.likelihood import hettest as hettest
    from alliance_meta.sensitivity.likelihood import lr_test as lr_test
    from alliance_meta.sensitivity.likelihood import profile as profile
    from alliance_meta.sensitivity.matching import RouteMatch as RouteMatch
    from alliance_meta.sensitivity.matching import match as match
    from alliance_meta.sensitivity.outliers import Baujat as Baujat
    from alliance_meta.sensitivity.outliers import QQNorm as QQNorm
    from alliance_meta.sensitivity.outliers import Radial as Radial
    from alliance_meta.sensitivity.outliers import baujat as baujat
    from alliance_meta.sensitivity.outliers import qqnorm as qqnorm
    from alliance_meta.sensitivity.outliers import radial as radial
    from alliance_meta.sensitivity.permutation import PermutationTest as PermutationTest
    from alliance_meta.sensitivity.permutation import WildBootstrap as WildBootstrap
    from alliance_meta.sensitivity.permutation import permutation_test as permutation_test
    from alliance_meta.sensitivity.permutation import wild_bootstrap as wild_bootstrap
    from alliance_meta.sensitivity.psychometric import Attenuation as Attenuation
    from alliance_meta.sensitivity.psychometric import Dependability as Dependability
    from alliance_meta.sensitivity.psychometric import HunterSchmidt as HunterSchmidt
    from alliance_meta.sensitivity.psychometric import attenuation as attenuation
    from alliance_meta.sensitivity.psychometric import dependability as dependability
    from alliance_meta.sensitivity.psychometric import hunter_schmidt as hunter_schmidt
    from alliance_meta.sensitivity.three_ways import ThreeWay as ThreeWay
    from alliance_meta.sensitivity.three_ways import three_way as three_way

__getattr__, __dir__, __all__ = lazy(__name__)
