"""From a coding sheet to effect sizes: reading, converting, dependence between effects, data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.core.dependent import SamplingCovariance as SamplingCovariance
    from alliance_meta.effects.card import DataCard as DataCard
    from alliance_meta.effects.coders import CoderAgreement as CoderAgreement
    from alliance_meta.effects.coders import coder_agreement as coder_agreement
    from alliance_meta.effects.contract.template import codebook as codebook
    from alliance_meta.effects.contract.template import write_template as write_template
    from alliance_meta.effects.converting.artifacts import correct_artifacts as correct_artifacts
    from alliance_meta.effects.converting.rows import Conversion as Conversion
    from alliance_meta.effects.converting.rows import conversions as conversions
    from alliance_meta.effects.converting.rows import convert as convert
    from alliance_meta.effects.converting.rows import to_r as to_r
    from alliance_meta.effects.datasets import list_datasets as list_datasets
    from alliance_meta.effects.datasets import load_dataset as load_dataset
    from alliance_meta.effects.dependent.aggregate import aggregate as aggregate
    from alliance_meta.effects.dependent.covariance import impute_V as impute_V
    from alliance_meta.effects.dependent.hierarchy import select_effects as select_effects
    from alliance_meta.effects.dependent.hierarchy import split_within as split_within
    from alliance_meta.effects.dependent.rcalc import rcalc as rcalc
    from alliance_meta.effects.exchange.deposit import deposit as deposit
    from alliance_meta.effects.exchange.export import export as export
    from alliance_meta.effects.exchange.foreign import read as read
    from alliance_meta.effects.exchange.versions import Moves as Moves
    from alliance_meta.effects.exchange.versions import SheetDiff as SheetDiff
    from alliance_meta.effects.exchange.versions import diff as diff
    from alliance_meta.effects.flow import Flow as Flow
    from alliance_meta.effects.flow import read_flow as read_flow
    from alliance_meta.effects.sheet.coded import CodedTable as CodedTable
    from alliance_meta.effects.sheet.ingest import check_coded as check_coded
    from alliance_meta.effects.sheet.ingest import read_coded as read_coded
    from alliance_meta.effects.simulated import SimulatedTable as SimulatedTable
    from alliance_meta.effects.simulated import simulate as simulate
    from alliance_meta.effects.sizes import escalc as escalc
    from alliance_meta.effects.table import EffectSizes as EffectSizes

__getattr__, __dir__, __all__ = lazy(__name__)
