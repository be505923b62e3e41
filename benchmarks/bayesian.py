"""How each Python contender does a Bayesian case, and the numbers that all must give.

As in `contenders`, but what counts is the time of the processor, on all its cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from cases import Case, Data
from contenders import Task
from scipy import special

Answer = tuple[float, ...]
# mu ~ N(0, 1) and tau ~ half-normal(0.3), as in bayesian.R.
MU_SD, TAU_SCALE = 1.0, 0.3
SCALES = np.linspace(0.05, 1.0, 40)
# How closely a contender has to meet the others: on a grid (bayesmeta), by simulation, by simulation and bridges.
AGREE = {
    "grid": {"rel_tol": 5e-3, "abs_tol": 2e-5},
    "draws": {"rel_tol": 0.05, "abs_tol": 0.01},
    "bridge": {"rel_tol": 0.01, "abs_tol": 0.05},
}


def model(case: Case, data: Data) -> Task | None:
    """The public interface, from effect sizes to a result."""
    from alliance_meta import BayesianModel, bayes
    from alliance_meta.bayes import priors

    effects, names = _effects(case, data)
    given = {"mu_prior": priors.Normal(0.0, MU_SD), "tau_prior": priors.HalfNormal(TAU_SCALE)}
    facts: dict[str, float] = {}

    def posterior() -> Answer:
        fit = BayesianModel(effects, **given).fit()
        facts["error"] = fit.error_bound
        return fit.log_marginal_likelihood, *_moments(fit.exact)

    def everything() -> Answer:
        fit = BayesianModel(effects, **given).fit()
        table = fit.tidy()
        return fit.log_marginal_likelihood, *table.loc["mu", ["mean", "sd"]], table.loc["tau", "mean"]

    def grid() -> Answer:
        fit = BayesianModel(effects, **given).fit()
        table = fit.prior_sensitivity(tau_priors=[priors.HalfNormal(scale) for scale in SCALES])
        return (float(np.mean(table["log_marginal_likelihood"])),)

    def loo() -> Answer:
        return (BayesianModel(effects, **given).fit().loo().elpd,)

    def three_level() -> Answer:
        fit = BayesianModel(effects, mods=" + ".join(names), random="~ 1 | study_id/es_id", **given).fit()
        facts["error"] = fit.error_bound
        return (fit.log_marginal_likelihood,)

    def subsets() -> Answer:
        found = bayes.average(effects, candidates=names, **given)
        facts["error"] = found.error_bound
        return tuple(found.inclusion["posterior"])

    def robma() -> Answer:
        found = bayes.robma(effects)
        facts["error"] = float((found.posterior_probabilities * found.errors).sum())
        facts["worst"] = float(found.errors.max())
        factors = found.inclusion.loc[["effect", "heterogeneity", "bias"], "bf10"]
        return *np.log(factors.to_numpy(float)), found.posterior("mu").mean

    ways: dict[str, Callable[[], Answer]] = {
        "posterior": posterior,
        "everything": everything,
        "priors": grid,
        "loo": loo,
        "three-level posterior": three_level,
        "subsets": subsets,
        "robma": robma,
    }
    return Task(ways[case.kind], facts=facts)


def arrays(case: Case, data: Data) -> Task | None:
    """The numerical core, from arrays to arrays."""
    from alliance_meta.bayes.exact.setup import with_tau
    from alliance_meta.bayes.priors.prior import HalfNormal
    from alliance_meta.core.bayes.quadrature import TauDensity
    from alliance_meta.core.bayes.reweighted import delete_each
    from alliance_meta.core.bayes.two_level import ExactPosterior, ExactProblem, prepare, solve

    prior = HalfNormal(TAU_SCALE)
    density = TauDensity(prior.logpdf, prior.upper, prior.tail, (), True)

    def solved() -> ExactPosterior:
        one = prepare(data.y, data.v, data.X, np.zeros(1), np.array([MU_SD**-2]))
        return solve(with_tau(ExactProblem(one, density), prior))

    def posterior() -> Answer:
        found = solved()
        return found.log_marginal, *_moments(found)

    def loo() -> Answer:
        return (float(delete_each(solved()).log_predictive.sum()),)

    ways = {"posterior": posterior, "loo": loo}
    return Task(ways[case.kind]) if case.kind in ways else None


def pymc(case: Case, data: Data) -> Task | None:
    """It samples, and knows no marginal likelihood; importing, compiling and sampling are timed apart."""
    if case.kind != "posterior":
        return None
    start = time.process_time()
    import nutpie
    import pymc

    facts = {"import": time.process_time() - start}
    from alliance_meta import bayes
    from alliance_meta.bayes import priors

    effects, _ = _effects(case, data)
    given = {"mu_prior": priors.Normal(0.0, MU_SD), "tau_prior": priors.HalfNormal(TAU_SCALE)}

    def run() -> Answer:
        started = time.process_time()
        compiled = bayes.compile(bayes.pymc.normal_normal(effects, **given))
        ready = time.process_time()
        drawn = bayes.sample(compiled, seed=1, cores=1)
        facts.update(compile=ready - started, sample=time.process_time() - ready)
        mu, tau = drawn.draws("mu"), drawn.draws("tau")
        return float("nan"), float(mu.mean()), float(mu.std()), float(tau.mean())

    version = f"{pymc.__version__}, nutpie {nutpie.__version__}"
    return Task(run, method="draws", facts=facts, version=version)


def _effects(case: Case, data: Data):
    from alliance_meta import EffectSizes

    names = [f"x{j}" for j in range(1, case.moderators + 1)]
    mods = dict(zip(names, data.X[:, 1:].T, strict=True)) or None
    study = None if data.study is None else [f"S{s}" for s in data.study]
    return EffectSizes.from_arrays(data.y, data.v, mods=mods, study_id=study, measure="ZCOR"), names


def _moments(exact) -> Answer:
    """Return mean and standard deviation of mu and the mean of tau."""
    weight, mean = exact.weight, exact.mean[:, 0]
    centre = weight @ mean
    spread = weight @ (exact.root[:, 0, 0] ** 2 + (mean - centre) ** 2)
    return float(centre), float(np.sqrt(spread)), float(weight @ exact.tau)


def expected(case: Case, data: Data, method: str) -> Answer:
    """Return the numbers that a contender must give: on a plain grid of tau, where that can be done."""
    if case.kind in ("posterior", "everything"):
        return _on_grid(data.y, data.v, TAU_SCALE)
    if case.kind == "priors":
        return (float(np.mean([_on_grid(data.y, data.v, scale)[0] for scale in SCALES])),)
    if case.kind == "loo":
        whole, others = _on_grid(data.y, data.v, TAU_SCALE)[0], ~np.eye(case.k, dtype=bool)
        return (sum(whole - _on_grid(data.y[kept], data.v[kept], TAU_SCALE)[0] for kept in others),)
    task = model(case, data)
    assert task is not None
    return task.run()


def _on_grid(y: np.ndarray, v: np.ndarray, scale: float) -> Answer:
    tau = (np.arange(4000) + 0.5) * (9.0 * scale / 4000)
    total = v + tau[:, None] ** 2
    precision = (1.0 / total).sum(axis=1) + MU_SD**-2
    mean = (y / total).sum(axis=1) / precision
    logs = -0.5 * (y**2 / total + np.log(2.0 * np.pi * total)).sum(axis=1)
    logs += 0.5 * (precision * mean**2 - np.log(precision * MU_SD**2))
    logs += 0.5 * np.log(2.0 / np.pi) - np.log(scale) - 0.5 * (tau / scale) ** 2 + np.log(tau[1] - tau[0])
    weight = special.softmax(logs)
    centre = weight @ mean
    spread = np.sqrt(weight @ (1.0 / precision + (mean - centre) ** 2))
    return float(special.logsumexp(logs)), float(centre), float(spread), float(weight @ tau)


OURS = {"model": model, "arrays": arrays}
PEERS = {"PyMC": pymc}
MODULES = {"PyMC": "nutpie"}
IN_R = {"bayesmeta": "bayesmeta", "RoBMA": "RoBMA"}
