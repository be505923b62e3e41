"""Bayesian models: `bayes.priors`, models for PyMC in `bayes.pymc`, and `bayes.sample` to draw from these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bayes import priors as priors
    from alliance_meta.bayes import pymc as pymc
    from alliance_meta.bayes.averaged.bias import robma as robma
    from alliance_meta.bayes.averaged.bias_results import PEESE as PEESE
    from alliance_meta.bayes.averaged.bias_results import PET as PET
    from alliance_meta.bayes.averaged.bias_results import PSMA as PSMA
    from alliance_meta.bayes.averaged.bias_results import RobmaResults as RobmaResults
    from alliance_meta.bayes.averaged.bias_results import WeightFunction as WeightFunction
    from alliance_meta.bayes.averaged.moderators import average as average
    from alliance_meta.bayes.averaged.results import AveragedResults as AveragedResults
    from alliance_meta.bayes.exact.correlation import BayesianCorrelationResults as BayesianCorrelationResults
    from alliance_meta.bayes.exact.correlation import exact_correlation as exact_correlation
    from alliance_meta.bayes.exact.evidence import LeaveOneOut as LeaveOneOut
    from alliance_meta.bayes.exact.evidence import PowerScaling as PowerScaling
    from alliance_meta.bayes.exact.evidence import power_scaling as power_scaling
    from alliance_meta.bayes.exact.results import BayesianResults as BayesianResults
    from alliance_meta.bayes.exact.three_level import BayesianMultilevelResults as BayesianMultilevelResults
    from alliance_meta.bayes.hypotheses import BayesFactor as BayesFactor
    from alliance_meta.bayes.loo_comparison import LooComparison as LooComparison
    from alliance_meta.bayes.loo_comparison import compare as compare
    from alliance_meta.bayes.marginals import Marginal as Marginal
    from alliance_meta.bayes.predictive import PredictiveCheck as PredictiveCheck
    from alliance_meta.bayes.predictive import predictive_check as predictive_check
    from alliance_meta.bayes.priors.predictions import PriorPredictive as PriorPredictive
    from alliance_meta.bayes.priors.predictions import prior_predictive as prior_predictive
    from alliance_meta.bayes.sampled.loo import SampledLeaveOneOut as SampledLeaveOneOut
    from alliance_meta.bayes.sampled.predict import sample_prior as sample_prior
    from alliance_meta.bayes.sampled.quantities import CompiledModel as CompiledModel
    from alliance_meta.bayes.sampled.quantities import SampledMarginal as SampledMarginal
    from alliance_meta.bayes.sampled.quantities import compile as compile
    from alliance_meta.bayes.sampled.results import SampledPosterior as SampledPosterior
    from alliance_meta.bayes.sampled.sampling import sample as sample
    from alliance_meta.bayes.sequence import SequentialResults as SequentialResults
    from alliance_meta.bayes.sequence import sequential as sequential

__getattr__, __dir__, __all__ = lazy(__name__)
