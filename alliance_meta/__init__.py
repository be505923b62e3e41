"""Meta-analysis of study-level correlations between the therapeutic alliance and outcome.

Names are loaded when first used, so that `import alliance_meta` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from alliance_meta import bayes as bayes
    from alliance_meta import bias as bias
    from alliance_meta import moderators as moderators
    from alliance_meta import plots as plots
    from alliance_meta import sensitivity as sensitivity
    from alliance_meta.bayes import priors as priors
    from alliance_meta.bayes.exact.model import BayesianModel as BayesianModel
    from alliance_meta.bayes.exact.results import BayesianResults as BayesianResults
    from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance as SamplingCovariance
    from alliance_meta.effects.card import DataCard as DataCard
    from alliance_meta.effects.coders import CoderAgreement as CoderAgreement
    from alliance_meta.effects.coders import coder_agreement as coder_agreement
    from alliance_meta.effects.contract.template import codebook as codebook
    from alliance_meta.effects.contract.template import write_template as write_template
    from alliance_meta.effects.converting.artifacts import correct_artifacts as correct_artifacts
    from alliance_meta.effects.converting.rows import convert as convert
    from alliance_meta.effects.converting.statistic import Conversion as Conversion
    from alliance_meta.effects.converting.statistic import conversions as conversions
    from alliance_meta.effects.converting.statistic import to_r as to_r
    from alliance_meta.effects.datasets import list_datasets as list_datasets
    from alliance_meta.effects.datasets import load_dataset as load_dataset
    from alliance_meta.effects.dependent.aggregate import aggregate as aggregate
    from alliance_meta.effects.dependent.covariance import impute_V as impute_V
    from alliance_meta.effects.dependent.hierarchy import select_effects as select_effects
    from alliance_meta.effects.dependent.rcalc import rcalc as rcalc
    from alliance_meta.effects.dependent.within import split_within as split_within
    from alliance_meta.effects.escalc import escalc as escalc
    from alliance_meta.effects.sheet.coded import CodedTable as CodedTable
    from alliance_meta.effects.sheet.ingest import check_coded as check_coded
    from alliance_meta.effects.sheet.ingest import read_coded as read_coded
    from alliance_meta.effects.table import EffectSizes as EffectSizes
    from alliance_meta.errors import CannotRunError as CannotRunError
    from alliance_meta.errors import CodingError as CodingError
    from alliance_meta.errors import InputError as InputError
    from alliance_meta.errors import Problem as Problem
    from alliance_meta.evidence.checking import Check as Check
    from alliance_meta.evidence.claims import ClaimsAudit as ClaimsAudit
    from alliance_meta.evidence.claims import ClaimVerdict as ClaimVerdict
    from alliance_meta.evidence.claims import claims as claims
    from alliance_meta.evidence.consistency import ConsistencyReport as ConsistencyReport
    from alliance_meta.evidence.consistency import consistency as consistency
    from alliance_meta.evidence.consistency import scan_text as scan_text
    from alliance_meta.evidence.meaning import Meaning as Meaning
    from alliance_meta.evidence.meaning import meaning as meaning
    from alliance_meta.evidence.published import published as published
    from alliance_meta.evidence.reproduce import reproduce as reproduce
    from alliance_meta.evidence.umbrella import Umbrella as Umbrella
    from alliance_meta.evidence.umbrella import umbrella as umbrella
    from alliance_meta.models.comparison import ModelComparison as ModelComparison
    from alliance_meta.models.comparison import anova as anova
    from alliance_meta.models.exact_correlation import ExactCorrelationModel as ExactCorrelationModel
    from alliance_meta.models.location_scale import LocationScaleModel as LocationScaleModel
    from alliance_meta.models.multilevel import MultilevelModel as MultilevelModel
    from alliance_meta.models.random_effects import RandomEffectsModel as RandomEffectsModel
    from alliance_meta.models.recipes import che as che
    from alliance_meta.models.recipes import che_plus as che_plus
    from alliance_meta.models.recipes import sce as sce
    from alliance_meta.models.rve import RVEModel as RVEModel
    from alliance_meta.models.true_effects import TrueEffects as TrueEffects
    from alliance_meta.models.true_effects import prediction_intervals as prediction_intervals
    from alliance_meta.models.true_effects import true_effects as true_effects
    from alliance_meta.not_applicable import NotApplicable as NotApplicable
    from alliance_meta.notes import Note as Note
    from alliance_meta.results.exact_correlation import ExactCorrelationResults as ExactCorrelationResults
    from alliance_meta.results.location_scale import LocationScaleResults as LocationScaleResults
    from alliance_meta.results.multilevel import MultilevelResults as MultilevelResults
    from alliance_meta.results.random_effects import RandomEffectsResults as RandomEffectsResults
    from alliance_meta.results.robust import RobustResults as RobustResults
    from alliance_meta.results.rve import RVEResults as RVEResults
    from alliance_meta.sensitivity.dependence import compare_dependence as compare_dependence
    from alliance_meta.sensitivity.dependence_result import DependenceComparison as DependenceComparison

_HOMES = {
    "BayesianModel": "bayes.exact.model",
    "BayesianResults": "bayes.exact.results",
    "CannotRunError": "errors",
    "Check": "evidence.checking",
    "ClaimVerdict": "evidence.claims",
    "ClaimsAudit": "evidence.claims",
    "CodedTable": "effects.sheet.coded",
    "CoderAgreement": "effects.coders.agreement",
    "CodingError": "errors",
    "ConsistencyReport": "evidence.consistency",
    "Conversion": "effects.converting.statistic",
    "DataCard": "effects.card",
    "DependenceComparison": "sensitivity.dependence_result",
    "EffectSizes": "effects.table",
    "ExactCorrelationModel": "models.exact_correlation",
    "ExactCorrelationResults": "results.exact_correlation",
    "InputError": "errors",
    "LocationScaleModel": "models.location_scale",
    "LocationScaleResults": "results.location_scale",
    "Meaning": "evidence.meaning",
    "ModelComparison": "models.comparison",
    "MultilevelModel": "models.multilevel",
    "MultilevelResults": "results.multilevel",
    "NotApplicable": "not_applicable",
    "Note": "notes",
    "Problem": "errors",
    "RVEModel": "models.rve",
    "RVEResults": "results.rve",
    "RandomEffectsModel": "models.random_effects",
    "RandomEffectsResults": "results.random_effects",
    "RobustResults": "results.robust",
    "SamplingCovariance": "core.dependent.sampling_covariance",
    "TrueEffects": "models.true_effects",
    "Umbrella": "evidence.umbrella",
    "aggregate": "effects.dependent.aggregate",
    "anova": "models.comparison",
    "che": "models.recipes",
    "che_plus": "models.recipes",
    "check_coded": "effects.sheet.ingest",
    "codebook": "effects.contract.codebook",
    "coder_agreement": "effects.coders.agreement",
    "claims": "evidence.claims",
    "compare_dependence": "sensitivity.dependence",
    "consistency": "evidence.consistency",
    "conversions": "effects.converting.statistic",
    "convert": "effects.converting.rows",
    "correct_artifacts": "effects.converting.artifacts",
    "escalc": "effects.escalc",
    "impute_V": "effects.dependent.covariance",
    "list_datasets": "effects.datasets",
    "load_dataset": "effects.datasets",
    "meaning": "evidence.meaning",
    "prediction_intervals": "models.true_effects",
    "priors": "bayes",
    "published": "evidence.published",
    "rcalc": "effects.dependent.rcalc",
    "read_coded": "effects.sheet.ingest",
    "reproduce": "evidence.reproduce",
    "scan_text": "evidence.consistency",
    "sce": "models.recipes",
    "select_effects": "effects.dependent.hierarchy",
    "split_within": "effects.dependent.within",
    "to_r": "effects.converting.statistic",
    "true_effects": "models.true_effects",
    "umbrella": "evidence.umbrella",
    "write_template": "effects.contract.template",
}
_SUBPACKAGES = ("bayes", "bias", "moderators", "plots", "sensitivity")

__all__ = sorted([*_HOMES, *_SUBPACKAGES, "__version__"])

__getattr__, __dir__ = lazy(__name__, _HOMES, submodules=_SUBPACKAGES)
