"""What tests of bias and selection models do by simulation; ``python -m tests.validation.bias_simulation`` writes it.

Two questions. Do the tests hold their level where nothing was selected? And does the clustered three-parameter
selection model (3PSM) do under selection at a one-sided p of .025 what Pustejovsky, Citkowicz & Joshi publish?

Their data are standardised mean differences d of N people in two groups. Here Fisher z of N people is drawn, and
doubled: that has the d's sampling variance, 4 / N, and so their scale, on which the weak penalties are defined.
Theirs: correlated errors (rho = .8), variance within studies half of that between them, selection of single effects.
Sizes and numbers of effects of a study are drawn apart from 20 quantiles of the 615 evaluations that they draw from
(``wwc_es`` in metaselection 0.3.0; the two are hardly related there, r_s = .06).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.bias.selection_models.result import Inference, replicates, solved_by, spread
from alliance_meta.core.dependent import codes
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.core.selection.search import fit_selection
from alliance_meta.core.selection.weights import selection_problem
from alliance_meta.core.simulation import Plan, Selection, Whole, simulate
from alliance_meta.errors import AllianceMetaWarning

RESULT = Path(__file__).with_name("bias_simulation.json")
SEED = 2017
LEVEL = 0.95
STEP = 0.025
SCALE = 2.0  # d for each unit of Fisher z

# fmt: off
N = np.array([39, 46, 56, 63, 74, 86, 99, 126, 145, 192, 240, 299, 398, 468, 617, 896, 1071, 1318, 1602, 2064.0])
EFFECTS = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 15.0])
# fmt: on
MUS, WEIGHTS, STUDIES = (0.0, 0.2), (0.05, 0.2, 1.0), (15, 30, 60, 120)
TAU, RATIO, RHO = 0.3, 0.5, 0.8
BOOTSTRAPPED = (15, 30, 60)
RESAMPLED = 199

KS, TAUS = (20, 60), (0.0, 0.1)
INDEPENDENT = ("regtest rma", "regtest lm", "ranktest", "tes", "selmodel")
DEPENDENT = ("regtest che", "regtest rma", "selmodel CR0", "selmodel model")


def effects(simulated, b):
    """Return data set b as effect sizes."""
    rows = np.flatnonzero(simulated.replicate == b)
    studies = [f"s{i}" for i in simulated.study[rows]]
    y, v, n = (getattr(simulated, name)[rows] for name in ("y", "v", "n"))
    return am.EffectSizes.from_arrays(y, v, ni=n, measure="ZCOR", study_id=studies)


def p_of_weight(found):
    """Return the p-value of a weight of 1, by its standard error on the log scale, or NaN at its bound."""
    weight = found.parts[-1]
    if np.isnan(weight.error):
        return np.nan
    return float(two_sided_p(np.log(weight.estimate) / np.array(weight.error), None))


def p_values(es):
    """Return the p-value of each test, NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        fit = am.RandomEffectsModel(es).fit()
    asked = {
        "regtest rma": lambda: bias.regtest(fit, model="rma").pval,
        "regtest lm": lambda: bias.regtest(fit, model="lm").pval,
        "regtest che": lambda: bias.regtest(fit, model="che").pval,
        "ranktest": lambda: bias.ranktest(fit).pval,
        "tes": lambda: bias.tes(fit).pval,
        "selmodel": lambda: bias.selmodel(fit, alternative="greater").lrt.pval,
        "selmodel CR0": lambda: p_of_weight(bias.selmodel(fit, alternative="greater", vcov="CR0")),
        "selmodel model": lambda: p_of_weight(bias.selmodel(fit, alternative="greater", vcov="model")),
    }
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        for name in INDEPENDENT if es.n_studies == es.k else DEPENDENT:
            try:
                found[name] = float(asked[name]())
            except am.InputError:  # every effect is significant, or none
                found[name] = np.nan
    return found


def level_cell(k, tau, dependent, *, replicates, seed):
    """Return how often each test has p < .05 (tes: .10, its own level) without selection, and of how many data sets."""
    sizes, within = (Whole(1, 6), 0.7 * tau) if dependent else (Whole(1, 1), 0.0)
    plan = Plan(k, sizes, Whole(20, 200, True), 0.2, tau, within, 0.6)
    made = simulate(plan, replicates=replicates, seed=seed)
    p = [p_values(effects(made, b)) for b in range(replicates)]
    rejected = {}
    for name in p[0]:
        values = np.array([one[name] for one in p])
        there = values[~np.isnan(values)]
        rejected[name] = {"rate": float((there < (0.1 if name == "tes" else 0.05)).mean()), "of": len(there)}
    return {"k": k, "tau": tau, "dependent": dependent, "rejected": rejected}


def published_plan(mu, weight, studies):
    """Return a cell of the published design, on the scale of Fisher z."""
    selection = Selection(np.array([STEP]), np.array([1.0, weight]), False, "greater", "effect")
    many, n = Whole(values=EFFECTS), Whole(values=N)
    tau = TAU / SCALE
    return Plan(studies, many, n, mu / SCALE, tau, tau * np.sqrt(RATIO), RHO, selection=selection)


def inference(cluster, vcov, *, penalised=True, iterations=RESAMPLED):
    """Return how `bias.selmodel` would be told to solve the model and to say how sure it is."""
    return Inference("CML", penalised, vcov, cluster, "two-stage", "percentile", iterations, 1, 1)


def unadjusted(y, v, cluster):
    """Return CHE-ISCW's mean, weighted by the inverse sampling covariance (rho = .8), and its CR2 standard error.

    With one variance in a study its weight is k / (v (1 + (k - 1) rho)), and CR2 divides the squares of what studies
    add by 1 less their share of the weight (Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004).
    """
    k = np.bincount(cluster)
    w = k / (np.bincount(cluster, v) / k * (1.0 + (k - 1.0) * RHO))
    means, share = np.bincount(cluster, y) / k, w / w.sum()
    mu = float(share @ means)
    return mu, float(np.sqrt((share**2 * (means - mu) ** 2 / (1.0 - share)).sum()))


def one_data_set(y, v, study, mu, resample):
    """Return estimate and whether the interval holds mu, of each way to make one."""
    cluster = codes(study)
    half = critical_value(LEVEL, None)
    problem = selection_problem(y, v, np.ones((len(y), 1)), family="stepfun", steps=np.array([STEP]),
                                alternative="greater")  # fmt: skip
    highest = fit_selection(problem)
    out = {}
    for name, penalised in (("penalised", True), ("unpenalised", False)):
        how = inference(cluster, "CR0", penalised=penalised)
        found = solved_by(highest, how)
        estimate = float(found.theta[0])
        out[name] = estimate
        for vcov in ("CR0", "model"):
            se = np.sqrt(spread(found, inference(cluster, vcov, penalised=penalised))[0, 0])
            out[f"{name} {vcov}"] = np.nan if np.isnan(se) else float(abs(estimate - mu) <= half * se)
        if resample and penalised:
            draws = replicates(found, inference(cluster, "bootstrap"))
            low, high = draws.limits(0, estimate, float(se), "percentile", LEVEL)
            out["penalised bootstrap"] = float(low <= mu <= high)
    estimate, se = unadjusted(y, v, cluster)
    out["unadjusted"] = estimate
    out["unadjusted CR2"] = float(abs(estimate - mu) <= critical_value(LEVEL, cluster.max()) * se)
    return out


def selection_cell(mu, weight, studies, *, replicates, resampled, seed):
    """Return bias and coverage of a cell; the bootstrap is made of the first `resampled` data sets only."""
    made = simulate(published_plan(mu, weight, studies), replicates=replicates, seed=seed)
    found = []
    for b in range(replicates):
        rows = made.replicate == b
        data = SCALE * made.y[rows], SCALE**2 * made.v[rows], made.study[rows]
        found.append(one_data_set(*data, mu, b < resampled))
    cell = {"mu": mu, "weight": weight, "studies": studies, "bias": {}, "mc_se": {}, "coverage": {}, "of": {}}
    for name in dict.fromkeys(name for one in found for name in one):
        values = np.array([one[name] for one in found if name in one])
        values = values[~np.isnan(values)]
        if name in ("penalised", "unpenalised", "unadjusted"):
            cell["bias"][name] = float(values.mean() - mu)
            cell["mc_se"][name] = float(values.std(ddof=1) / np.sqrt(len(values)))
        else:
            cell["coverage"][name], cell["of"][name] = float(values.mean()), len(values)
    return cell


def run(*, replicates, resampled, seed):
    """Return all cells."""
    levels = [(k, tau, False) for k in KS for tau in TAUS] + [(k, 0.1, True) for k in KS]
    grid = [(mu, weight, studies) for mu in MUS for weight in WEIGHTS for studies in STUDIES]
    return {
        "seed": seed,
        "replicates": replicates,
        "resampled": resampled,
        "level": [level_cell(*one, replicates=replicates, seed=seed) for one in levels],
        "selection": [
            selection_cell(
                *one,
                replicates=replicates,
                resampled=resampled if one[0] == MUS[1] and one[2] in BOOTSTRAPPED else 0,
                seed=seed,
            )
            for one in grid
        ],
    }


if __name__ == "__main__":
    made = run(replicates=400, resampled=150, seed=SEED)
    RESULT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
