"""How each Python contender fits a case.

A contender is a function of a case and its data. It returns what is to be timed, how many times more work the
whole case is, and the name of the estimator. What is timed returns two numbers that all contenders must share:
the first coefficient and tau^2, both averaged over the first `SAMPLE` data sets where there are many. A
contender that has no way to do a case returns None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata

import numpy as np
from cases import Case, Data

# Peers without batches refit so many of the data sets; their time is scaled up and marked.
SAMPLE = 100


@dataclass(frozen=True)
class Task:
    run: Callable[[], tuple[float, ...]]
    scale: float = 1.0
    method: str = "REML"
    facts: dict[str, float] = field(default_factory=dict)
    """What else running it has told, by name."""
    version: str = ""


def selection(case: Case, data: Data) -> Task:
    """A selection model, from a fit to a result with its tests."""
    from alliance_meta import EffectSizes, RandomEffectsModel, bias

    fitted = RandomEffectsModel(EffectSizes.from_arrays(data.y, data.v)).fit()

    def fit() -> tuple[float, float]:
        found = bias.selmodel(fitted, "beta" if case.kind == "beta" else "stepfun", alternative="greater")
        return found.estimate, found.tau2

    return Task(fit, method="ML")


def selection_arrays(case: Case, data: Data) -> Task:
    """The same in the numerical core."""
    from alliance_meta.core.selection.search import fit_selection
    from alliance_meta.core.selection.weights import selection_problem

    def fit() -> tuple[float, float]:
        weights = {"family": "beta"} if case.kind == "beta" else {"steps": np.array([0.025])}
        found = fit_selection(selection_problem(data.y, data.v, data.X, **weights))
        _ = found.covariance
        return float(found.theta[0]), 0.0 if found.vanished else float(np.exp(found.theta[1]))

    return Task(fit, method="ML")


def subsets(case: Case, data: Data) -> Task:
    """Every subset of the effects, from a fit to the table of what each effect makes; the shared numbers are of all."""
    from alliance_meta import EffectSizes, RandomEffectsModel, sensitivity

    method = case.kind.removeprefix("gosh-")
    fitted = RandomEffectsModel(EffectSizes.from_arrays(data.y, data.v), method=method).fit()

    def run() -> tuple[float, float]:
        sensitivity.gosh(fitted).tidy()
        return float(fitted.beta[0]), fitted.tau2

    return Task(run, method=method)


def subset_arrays(case: Case, data: Data) -> Task:
    """The same in the numerical core."""
    from alliance_meta.core.univariate.gosh import fit_subsets, gosh

    method = case.kind.removeprefix("gosh-")

    def run() -> tuple[float, float]:
        gosh(data.y, data.v, method=method, subsets=None, seed=0)
        whole = fit_subsets(data.y, data.v, np.ones((case.k, 1)), method=method)
        return float(whole.mu[0]), float(whole.tau2[0])

    return Task(run, method=method)


def multiverse(case: Case, data: Data) -> Task:
    """Every estimator and inference with and without outliers, of all effects, without each, and of the later ones."""
    from alliance_meta import EffectSizes, sensitivity

    effects = EffectSizes.from_arrays(data.y, data.v, mods={"row": np.arange(case.k)})
    choices = {
        "effects": [None, *(f"row != {i}" for i in range(case.k)), *(f"row > {i}" for i in range(79))],
        "outliers": [None, "intervals"],
        "estimator": ["REML", "ML", "PM", "DL", "HE", "SJ", "EE"],
        "inference": ["z", "t", "knha", "adhoc"],
    }

    def follow() -> tuple[float, float]:
        found = sensitivity.multiverse(effects, choices=choices)
        assert len(found.tidy()) == case.B
        return float(found.headline["estimate"]), float(found.headline["tau2"])

    return Task(follow)


def deletion(case: Case, data: Data) -> Task:
    """Every number without each effect or study, from a fit to the tables: influence and leave-one-out."""
    from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, sensitivity

    study = None if data.study is None else [f"S{s}" for s in data.study]
    effects = EffectSizes.from_arrays(data.y, data.v, study_id=study)
    fitted = RandomEffectsModel(effects, test="z").fit() if study is None else MultilevelModel(effects).fit()

    def run() -> tuple[float, float]:
        sensitivity.influence(fitted).tidy()
        found = sensitivity.leave_one_out(fitted).tidy()
        return float(found["estimate"].astype(float).mean()), float(found["tau2"].astype(float).mean())

    return Task(run)


def deletion_arrays(case: Case, data: Data) -> Task | None:
    """The deletions alone in the numerical core, of independent effects."""
    from alliance_meta.core.resampling import Recipe
    from alliance_meta.core.univariate.deletion import delete_each

    if data.study is not None:
        return None
    how = Recipe(data.X, "REML", "z", None, 0.0, (0,))

    def run() -> tuple[float, float]:
        found = delete_each(data.y, data.v, how, np.arange(case.k), case.k, tau2=0.03)
        return float(found.beta.mean()), float(found.tau2.mean())

    return Task(run)


def deletion_by_refits(case: Case, data: Data) -> tuple[float, float]:
    """What every contender must give: the means of estimate and tau2 of one fit after the other."""
    from alliance_meta import EffectSizes, MultilevelModel
    from alliance_meta.core.univariate.fit import fit_univariate

    if data.study is None:
        rows = [np.arange(case.k) != i for i in range(case.k)]
        found = [fit_univariate(data.y[r], data.v[r], data.X[r], method="REML", test="z", level=0.95) for r in rows]
        return float(np.mean([f.beta[0] for f in found])), float(np.mean([f.tau2.tau2[0] for f in found]))
    fits = []
    for study in range(case.studies):
        r = data.study != study
        effects = EffectSizes.from_arrays(data.y[r], data.v[r], study_id=[f"S{s}" for s in data.study[r]])
        fits.append(MultilevelModel(effects).fit())
    return float(np.mean([f.beta[0] for f in fits])), float(np.mean([f.tau2 for f in fits]))


DELETION = {"model": deletion, "arrays": deletion_arrays}


def model(case: Case, data: Data) -> Task | None:
    """The public interface, from effect sizes to a result with its tests."""
    import pandas as pd

    from alliance_meta import EffectSizes, RandomEffectsModel, sensitivity

    if case.kind == "replicates":
        return None
    single = data.y[0] if case.kind == "bootstrap" else data.y
    names = [f"x{j}" for j in range(1, case.moderators + 1)]
    mods = pd.DataFrame(data.X[:, 1:], columns=names) if names else None
    effects = EffectSizes.from_arrays(single, data.v[0] if case.kind == "bootstrap" else data.v, mods=mods)
    formula = " + ".join(names) or "1"

    def fit() -> tuple[float, float]:
        found = RandomEffectsModel(effects, mods=formula, test="z").fit()
        _ = found.se, found.pval, found.ci_lb, found.QE, found.I2
        return float(found.beta[0]), found.tau2

    if case.kind == "fit":
        return Task(fit)
    if case.kind == "multiverse":
        return multiverse(case, data)
    fitted = RandomEffectsModel(effects, mods=formula, test="z").fit()
    if case.kind == "permutation":

        def permute() -> tuple[float, float]:
            sensitivity.permutation_test(fitted, iterations=case.B, seed=1)
            return float(fitted.beta[0]), fitted.tau2

        return Task(permute)

    def boot() -> tuple[float, float]:
        # Draws data sets of its own, so there is no common number: `arrays` is what is compared.
        sensitivity.bootstrap(fitted, iterations=case.B, seed=1)
        return float("nan"), float("nan")

    return Task(boot)


def arrays(case: Case, data: Data) -> Task | None:
    """The numerical core, from arrays to arrays."""
    from alliance_meta.core.resampling import Recipe, Refits, in_blocks, refit
    from alliance_meta.core.univariate.fit import fit_univariate
    from alliance_meta.core.univariate.wls import make_batch

    how = Recipe(data.X, "REML", "z", None, 0.0, (0,))

    def fit() -> tuple[float, float]:
        found = fit_univariate(data.y, data.v, data.X, method="REML", test="z", level=0.95)
        _ = found.coefficients, found.heterogeneity, found.tau2.se
        return float(found.beta[0]), float(found.tau2.tau2[0])

    def fit_all() -> tuple[float, float]:
        batch = make_batch(data.y, data.v, data.X)

        def block(number: int, start: int, stop: int) -> Refits:
            beta, vb, tau2 = refit(how, batch.part(slice(start, stop)))
            return {"beta": beta, "vb": vb, "tau2": tau2}

        found = in_blocks(block, B=case.B, k=case.k)
        return float(found["beta"][:SAMPLE, 0].mean()), float(found["tau2"][:SAMPLE].mean())

    if case.kind == "permutation":
        return None
    return Task(fit if case.kind == "fit" else fit_all)


def one_by_one(case: Case, data: Data, fit: Callable[[np.ndarray, np.ndarray], tuple[float, float]]) -> Task:
    """A peer without batches, on the first data sets."""

    def run() -> tuple[float, float]:
        found = [fit(data.y[b], data.v[b]) for b in range(SAMPLE)]
        return float(np.mean([f[0] for f in found])), float(np.mean([f[1] for f in found]))

    return Task(run, scale=case.B / SAMPLE)


def pymare(case: Case, data: Data) -> Task | None:
    from pymare import Dataset
    from pymare.estimators import VarianceBasedLikelihoodEstimator

    many = data.y.ndim == 2
    y, v = (data.y.T, np.ascontiguousarray(data.v.T)) if many else (data.y[:, None], data.v[:, None])

    def fit() -> tuple[float, float]:
        found = VarianceBasedLikelihoodEstimator(method="REML").fit(y, v, data.X).summary()
        stats = found.get_fe_stats()
        return float(stats["est"][0, :SAMPLE].mean()), float(np.ravel(found.tau2)[:SAMPLE].mean())

    if case.kind != "permutation":
        return Task(fit)
    table = Dataset(y, v, data.X, add_intercept=False)
    fitted = VarianceBasedLikelihoodEstimator(method="REML").fit_dataset(table).summary()

    def permute() -> tuple[float, float]:
        fitted.permutation_test(case.B)
        return float(fitted.get_fe_stats()["est"][0, 0]), float(np.ravel(fitted.tau2)[0])

    return Task(permute)


def statsmodels(case: Case, data: Data) -> Task | None:
    """It has no REML and no moderators: Paule and Mandel's estimator, whose cost is the same."""
    from statsmodels.stats.meta_analysis import combine_effects

    if case.moderators:
        return None

    def fit(y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
        found = combine_effects(y, v, method_re="iterated")
        return float(found.mean_effect_re), float(found.tau2)

    if case.kind == "fit":
        return Task(lambda: fit(data.y, data.v), method="PM")
    task = one_by_one(case, data, fit)
    return Task(task.run, task.scale, method="PM")


def metapipe_kit(case: Case, data: Data) -> Task | None:
    from metapipe.models import random_effects

    if case.moderators:  # its meta-regression has no REML
        return None

    def fit(y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
        found = random_effects(y, v, tau_method="reml")
        return found.pooled_effect, found.tau_squared

    return Task(lambda: fit(data.y, data.v)) if case.kind == "fit" else one_by_one(case, data, fit)


def pymetaanalysis(case: Case, data: Data) -> Task | None:
    import pandas as pd
    from meta_analyze import meta_analysis, meta_regression

    if case.kind == "permutation":
        return None

    def fit(y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
        found = meta_analysis(effect=y, variance=v, tau2_method="reml")
        return float(found.estimate), float(found.tau2)

    if case.kind != "fit":
        return one_by_one(case, data, fit)
    if not case.moderators:
        return Task(lambda: fit(data.y, data.v))
    names = [f"x{j}" for j in range(1, case.moderators + 1)]
    table = pd.DataFrame(data.X[:, 1:], columns=names).assign(y=data.y, v=data.v)

    def regress() -> tuple[float, float]:
        found = meta_regression(table, effect="y", variance="v", moderators=names, tau2_method="reml")
        return float(np.asarray(found.coefficients["estimate"])[0]), float(found.tau2)

    return Task(regress)


def pimeta(case: Case, data: Data) -> Task | None:
    import pimeta

    def fit(y: np.ndarray, v: np.ndarray) -> tuple[float, float]:
        found = pimeta.rma(y, v, mods=data.X[:, 1:] if case.moderators else None)
        return float(np.ravel(found.b)[0]), float(found.tau2)

    if case.kind == "fit":
        return Task(lambda: fit(data.y, data.v))
    if case.kind != "permutation":
        return one_by_one(case, data, fit)
    fitted = pimeta.rma(data.y, data.v, mods=data.X[:, 1:])

    def permute() -> tuple[float, float]:
        pimeta.permutest(fitted, iter=SAMPLE)
        return float(np.ravel(fitted.b)[0]), float(fitted.tau2)

    return Task(permute, scale=case.B / SAMPLE)


SELECTION: dict[str, Callable[[Case, Data], Task | None]] = {"model": selection, "arrays": selection_arrays}
SUBSETS: dict[str, Callable[[Case, Data], Task | None]] = {"model": subsets, "arrays": subset_arrays}
OURS: dict[str, Callable[[Case, Data], Task | None]] = {
    "model": model,
    "arrays": arrays,
}
PEERS: dict[str, Callable[[Case, Data], Task | None]] = {
    "PyMARE": pymare,
    "statsmodels": statsmodels,
    "metapipe-kit": metapipe_kit,
    "pymetaanalysis": pymetaanalysis,
    "pimeta": pimeta,
}
MODULES = {
    "PyMARE": "pymare",
    "statsmodels": "statsmodels",
    "metapipe-kit": "metapipe",
    "pymetaanalysis": "meta_analyze",
    "pimeta": "pimeta",
}


def version(contender: str) -> str:
    return metadata.version("alliance-meta" if contender in OURS else contender)
