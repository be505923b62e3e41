"""Bias in the published literature, and estimates that are less exposed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bias.not_significant import UnreportedResults as UnreportedResults
    from alliance_meta.bias.not_significant import unreported as unreported
    from alliance_meta.bias.p_values import PCurveResult as PCurveResult
    from alliance_meta.bias.p_values import PUniformResult as PUniformResult
    from alliance_meta.bias.p_values import ZCurveResult as ZCurveResult
    from alliance_meta.bias.p_values import pcurve as pcurve
    from alliance_meta.bias.p_values import puniform as puniform
    from alliance_meta.bias.p_values import zcurve as zcurve
    from alliance_meta.bias.panels import BiasPanel as BiasPanel
    from alliance_meta.bias.panels import panel as panel
    from alliance_meta.bias.selection_models.copas_model import CopasResult as CopasResult
    from alliance_meta.bias.selection_models.copas_model import copas as copas
    from alliance_meta.bias.selection_models.result import SelectionResult as SelectionResult
    from alliance_meta.bias.selection_models.weights import WeightGrid as WeightGrid
    from alliance_meta.bias.selection_models.weights import selmodel as selmodel
    from alliance_meta.bias.selection_models.weights import vevea_woods as vevea_woods
    from alliance_meta.bias.significance import ExcessSignificance as ExcessSignificance
    from alliance_meta.bias.significance import FailSafeN as FailSafeN
    from alliance_meta.bias.significance import fsn as fsn
    from alliance_meta.bias.significance import tes as tes
    from alliance_meta.bias.small_study.adjusted import HenmiCopasResult as HenmiCopasResult
    from alliance_meta.bias.small_study.adjusted import LimitMeta as LimitMeta
    from alliance_meta.bias.small_study.adjusted import TrimFill as TrimFill
    from alliance_meta.bias.small_study.adjusted import hc as hc
    from alliance_meta.bias.small_study.adjusted import limitmeta as limitmeta
    from alliance_meta.bias.small_study.adjusted import trimfill as trimfill
    from alliance_meta.bias.small_study.asymmetry import RankTest as RankTest
    from alliance_meta.bias.small_study.asymmetry import RegressionTest as RegressionTest
    from alliance_meta.bias.small_study.asymmetry import ranktest as ranktest
    from alliance_meta.bias.small_study.asymmetry import regtest as regtest
    from alliance_meta.bias.small_study.precision import Peese as Peese
    from alliance_meta.bias.small_study.precision import Pet as Pet
    from alliance_meta.bias.small_study.precision import PetPeese as PetPeese
    from alliance_meta.bias.small_study.precision import Uwls as Uwls
    from alliance_meta.bias.small_study.precision import Uwls3 as Uwls3
    from alliance_meta.bias.small_study.precision import Waap as Waap
    from alliance_meta.bias.small_study.precision import pet_peese as pet_peese
    from alliance_meta.bias.small_study.precision import uwls as uwls
    from alliance_meta.bias.small_study.precision import uwls3 as uwls3
    from alliance_meta.bias.small_study.precision import waap as waap
    from alliance_meta.bias.truncated import RightTruncated as RightTruncated
    from alliance_meta.bias.truncated import rtma as rtma
    from alliance_meta.bias.worst import UnseenStudies as UnseenStudies
    from alliance_meta.bias.worst import WorstCase as WorstCase
    from alliance_meta.bias.worst import unseen as unseen
    from alliance_meta.bias.worst import worst_case as worst_case

__getattr__, __dir__, __all__ = lazy(__name__)
