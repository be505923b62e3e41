"""Models of effect sizes, what compares them, and what they say of each study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
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
    from alliance_meta.models.true_shares import TrueEffects as TrueEffects
    from alliance_meta.models.true_shares import prediction_intervals as prediction_intervals
    from alliance_meta.models.true_shares import true_effects as true_effects
    from alliance_meta.results.exact_correlation import ExactCorrelationResults as ExactCorrelationResults
    from alliance_meta.results.location_scale import LocationScaleResults as LocationScaleResults
    from alliance_meta.results.multilevel import MultilevelResults as MultilevelResults
    from alliance_meta.results.random_effects import RandomEffectsResults as RandomEffectsResults
    from alliance_meta.results.robust import RobustResults as RobustResults
    from alliance_meta.results.rve import RVEResults as RVEResults

__getattr__, __dir__, __all__ = lazy(__name__)
