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
    from alliance_meta import effects as effects
    from alliance_meta import evidence as evidence
    from alliance_meta import models as models
    from alliance_meta import moderators as moderators
    from alliance_meta import plots as plots
    from alliance_meta import sensitivity as sensitivity
    from alliance_meta.bayes import priors as priors
    from alliance_meta.bayes.exact.model import BayesianModel as BayesianModel
    from alliance_meta.effects.contract.template import write_template as write_template
    from alliance_meta.effects.converting.rows import convert as convert
    from alliance_meta.effects.datasets import list_datasets as list_datasets
    from alliance_meta.effects.datasets import load_dataset as load_dataset
    from alliance_meta.effects.dependent.aggregate import aggregate as aggregate
    from alliance_meta.effects.dependent.covariance import impute_V as impute_V
    from alliance_meta.effects.exchange.foreign import read as read
    from alliance_meta.effects.sheet.coded import CodedTable as CodedTable
    from alliance_meta.effects.sheet.ingest import check_coded as check_coded
    from alliance_meta.effects.sheet.ingest import read_coded as read_coded
    from alliance_meta.effects.simulated import simulate as simulate
    from alliance_meta.effects.sizes import escalc as escalc
    from alliance_meta.effects.table import EffectSizes as EffectSizes
    from alliance_meta.errors import CannotRunError as CannotRunError
    from alliance_meta.errors import CodingError as CodingError
    from alliance_meta.errors import InputError as InputError
    from alliance_meta.errors import Problem as Problem
    from alliance_meta.evidence.claims_audit import claims as claims
    from alliance_meta.evidence.consistency_check import consistency as consistency
    from alliance_meta.evidence.published_results import published as published
    from alliance_meta.models.location_scale import LocationScaleModel as LocationScaleModel
    from alliance_meta.models.multilevel import MultilevelModel as MultilevelModel
    from alliance_meta.models.random_effects import RandomEffectsModel as RandomEffectsModel
    from alliance_meta.models.recipes import che as che
    from alliance_meta.models.rve import RVEModel as RVEModel
    from alliance_meta.moderators.table import moderator_table as moderator_table
    from alliance_meta.notes import NotApplicable as NotApplicable
    from alliance_meta.notes import Note as Note

# Names that the top once had, and the package that has them now.
_MOVED = {
    name: package
    for package, names in {
        "bayes": "BayesianResults",
        "effects": "CoderAgreement Conversion DataCard SamplingCovariance codebook coder_agreement conversions "
        "correct_artifacts rcalc select_effects split_within to_r",
        "evidence": "Check ClaimVerdict ClaimsAudit ConsistencyReport Meaning Umbrella meaning reproduce scan_text "
        "umbrella",
        "models": "ExactCorrelationModel ExactCorrelationResults LocationScaleResults ModelComparison "
        "MultilevelResults RVEResults RandomEffectsResults RobustResults TrueEffects anova che_plus "
        "prediction_intervals sce true_effects",
        "sensitivity": "DependenceComparison compare_dependence",
    }.items()
    for name in names.split()
}

__getattr__, __dir__, __all__ = lazy(__name__, moved=_MOVED)
__all__ += ["__version__"]
