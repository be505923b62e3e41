"""Bayesian models: `bayes.priors`, models for PyMC in `bayes.pymc`, and `bayes.sample` to draw from these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.bayes import priors as priors
    from alliance_meta.bayes import pymc as pymc
    from alliance_meta.bayes.averaging import average as average
    from alliance_meta.bayes.averaging_results import AveragedResults as AveragedResults
    from alliance_meta.bayes.bias_models import PEESE as PEESE
    from alliance_meta.bayes.bias_models import PET as PET
    from alliance_meta.bayes.bias_models import PSMA as PSMA
    from alliance_meta.bayes.bias_models import WeightFunction as WeightFunction
    from alliance_meta.bayes.compiled import CompiledModel as CompiledModel
    from alliance_meta.bayes.compiled import compile as compile
    from alliance_meta.bayes.correlation import exact_correlation as exact_correlation
    from alliance_meta.bayes.correlation_results import BayesianCorrelationResults as BayesianCorrelationResults
    from alliance_meta.bayes.hypotheses import BayesFactor as BayesFactor
    from alliance_meta.bayes.leave_out import LeaveOneOut as LeaveOneOut
    from alliance_meta.bayes.loo_comparison import LooComparison as LooComparison
    from alliance_meta.bayes.loo_comparison import compare as compare
    from alliance_meta.bayes.map_priors import map_prior as map_prior
    from alliance_meta.bayes.map_results import MapPrior as MapPrior
    from alliance_meta.bayes.map_update import MapUpdate as MapUpdate
    from alliance_meta.bayes.marginals import Marginal as Marginal
    from alliance_meta.bayes.multilevel_results import BayesianMultilevelResults as BayesianMultilevelResults
    from alliance_meta.bayes.powers import PowerScaling as PowerScaling
    from alliance_meta.bayes.powers import power_scaling as power_scaling
    from alliance_meta.bayes.predictive import PredictiveCheck as PredictiveCheck
    from alliance_meta.bayes.predictive import predictive_check as predictive_check
    from alliance_meta.bayes.prior_predictions import PriorPredictive as PriorPredictive
    from alliance_meta.bayes.prior_predictions import prior_predictive as prior_predictive
    from alliance_meta.bayes.robma import robma as robma
    from alliance_meta.bayes.robma_results import RobmaResults as RobmaResults
    from alliance_meta.bayes.sampled_loo import SampledLeaveOneOut as SampledLeaveOneOut
    from alliance_meta.bayes.sampled_marginals import SampledMarginal as SampledMarginal
    from alliance_meta.bayes.sampled_predictive import sample_prior as sample_prior
    from alliance_meta.bayes.sampled_results import SampledPosterior as SampledPosterior
    from alliance_meta.bayes.sampling import sample as sample
    from alliance_meta.bayes.updating import sequential as sequential
    from alliance_meta.bayes.updating_results import SequentialResults as SequentialResults

_HOMES = {
    "AveragedResults": "averaging_results",
    "BayesFactor": "hypotheses",
    "BayesianCorrelationResults": "correlation_results",
    "BayesianMultilevelResults": "multilevel_results",
    "CompiledModel": "compiled",
    "LeaveOneOut": "leave_out",
    "LooComparison": "loo_comparison",
    "MapPrior": "map_results",
    "MapUpdate": "map_update",
    "Marginal": "marginals",
    "PEESE": "bias_models",
    "PET": "bias_models",
    "PSMA": "bias_models",
    "PowerScaling": "powers",
    "PredictiveCheck": "predictive",
    "PriorPredictive": "prior_predictions",
    "RobmaResults": "robma_results",
    "SampledLeaveOneOut": "sampled_loo",
    "SampledMarginal": "sampled_marginals",
    "SampledPosterior": "sampled_results",
    "SequentialResults": "updating_results",
    "WeightFunction": "bias_models",
    "average": "averaging",
    "compare": "loo_comparison",
    "compile": "compiled",
    "exact_correlation": "correlation",
    "map_prior": "map_priors",
    "power_scaling": "powers",
    "predictive_check": "predictive",
    "prior_predictive": "prior_predictions",
    "robma": "robma",
    "sample": "sampling",
    "sample_prior": "sampled_predictive",
    "sequential": "updating",
}
_SUBMODULES = ("priors", "pymc")

__all__ = sorted([*_HOMES, *_SUBMODULES])

__getattr__, __dir__ = lazy(__name__, _HOMES, submodules=_SUBMODULES)
