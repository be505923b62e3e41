"""How each Python contender does a case of dependent effects, and the numbers that all must give.

As in `contenders`; the numbers shared are the variances of a three-level model, and for robust tests the standard
error of the first moderator with its degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cases import RHO, SIGMA2, TAU2, Case, Data
from contenders import Task

Answer = tuple[float, ...]
NAMES = ("x1", "x2", "x3")
KNOWN = {"sigma2[study_id]": SIGMA2[0], "sigma2[study_id/es_id]": SIGMA2[1]}


def model(case: Case, data: Data) -> Task | None:
    """The public interface, from effect sizes to a result with its tests."""
    from alliance_meta import EffectSizes, MultilevelModel, RVEModel, impute_V, sensitivity

    names = NAMES[: case.moderators]
    mods = dict(zip(names, data.X[:, 1:].T, strict=True)) or None
    effects = EffectSizes.from_arrays(data.y, data.v, mods=mods, study_id=[f"S{s}" for s in data.study])
    formula = " + ".join(names) or "1"

    def three_level() -> Answer:
        fit = MultilevelModel(effects).fit()
        _ = fit.se, fit.pval, fit.ci_lb
        return (float(fit.beta[0]), *map(float, fit.sigma2))

    def che() -> Answer:
        V = impute_V(effects, rho=RHO)
        fit = MultilevelModel(effects, V=V, mods=formula).fit().robust()
        _ = fit.pval, fit.ci_lb
        return float(fit.beta[1]), float(fit.se[1]), float(fit.ddf[1])

    def rve() -> Answer:
        fit = RVEModel(effects, mods=formula, rho=RHO).fit()
        return float(fit.beta[1]), float(fit.se[1]), float(fit.ddf[1])

    def impute() -> Answer:
        return _total(block for _, block in impute_V(effects, rho=RHO).blocks)

    ways: dict[str, Callable[[], Answer]] = {"three-level": three_level, "che": che, "rve": rve, "impute": impute}
    if case.kind in ways:
        return Task(ways[case.kind])
    if case.kind in ("selection", "selection bootstrap"):
        return _selection(case, effects)
    fitted = MultilevelModel(effects, mods=formula, fixed=KNOWN).fit()

    def cr2() -> Answer:
        robust = fitted.robust()
        _ = robust.pval, robust.ci_lb
        return float(robust.se[1]), float(robust.ddf[1])

    def wild() -> Answer:
        return (float(sensitivity.wild_bootstrap(fitted, "x1", iterations=case.B, seed=1).stat),)

    return Task(cr2 if case.kind == "cr2" else wild)


def _selection(case: Case, effects) -> Task:
    from alliance_meta import RandomEffectsModel, bias

    fit = RandomEffectsModel(effects).fit()
    more = {"vcov": "bootstrap", "iterations": case.B, "seed": 1} if case.B > 1 else {}

    def run() -> Answer:
        found = bias.selmodel(fit, **more)
        _ = found.ci_lb
        return found.estimate, found.tau2, found.delta[1]

    return Task(run)


def arrays(case: Case, data: Data) -> Task | None:
    """The numerical core, from arrays to arrays."""
    from alliance_meta.core.resampling import Refits, in_blocks, stream
    from alliance_meta.core.robust.rve import fit_rve
    from alliance_meta.core.robust.sandwich import draw, impose, statistics

    y, v, X = data.y, data.v, data.X
    assert data.study is not None
    L = np.eye(X.shape[1])[1:2]

    def three_level() -> Answer:
        point = _fit(data)
        return (float(point.beta[0]), *map(float, point.theta))

    def cr2() -> Answer:
        point = _fit(data, known=True)
        return _robust(point, data)[1:]

    def che() -> Answer:
        from alliance_meta.core.dependent import SamplingCovariance

        labels = tuple(map(str, range(case.studies)))
        V = SamplingCovariance(v, data.study, labels, None, "", rho=RHO)
        return _robust(_fit(data, V.blocks), data, V.blocks)

    def rve() -> Answer:
        assert data.study is not None
        fit = fit_rve(y, v, X, data.study, working="CORR", rho=RHO, weights=None, small=True, level=0.95)
        return float(fit.tests.beta[1]), float(fit.tests.se[1]), float(fit.tests.df[1])

    def wild() -> Answer:
        point = _fit(data, known=True)
        regression, resid = _regression(point, data)
        imposed = impose(regression, y, L, type="CR2", adjust="CR0")

        def block(number: int, start: int, stop: int) -> Refits:
            signs = draw(stream(1, number), stop - start, case.studies, "rademacher")
            return {"F": statistics(imposed, signs)}

        in_blocks(block, B=case.B, k=case.studies)
        return (float(point.beta[1]) ** 2 / float(regression.sandwich(resid, "CR2").vb[1, 1]),)

    def selection() -> Answer:
        from alliance_meta.core.selection.dependent import Refitting, equations
        from alliance_meta.core.selection.search import fit_selection
        from alliance_meta.core.selection.weights import selection_problem

        assert data.study is not None
        found = fit_selection(selection_problem(y, v, X, steps=np.array([0.025])))
        theta, held = found.theta, found.held
        if case.B == 1:
            at = equations(found.problem, theta[None], np.ones((1, case.k)))
            at.sandwich(data.study, ~held[None])
        else:
            Refitting(found.full, data.study, theta, "CML", held).bootstrap("two-stage", B=case.B, seed=1)
        return float(theta[0]), float(np.exp(theta[1])), float(np.exp(theta[2]))

    ways = {"three-level": three_level, "cr2": cr2, "che": che, "rve": rve, "wild": wild}
    ways |= {"selection": selection, "selection bootstrap": selection}
    return Task(ways[case.kind]) if case.kind in ways else None


def _fit(data: Data, blocks=None, *, known: bool = False):
    """Return the three-level model at its maximum, or at the variances that the data were drawn with."""
    from alliance_meta.core.mixed.covariance import Scaled, Term
    from alliance_meta.core.mixed.likelihood import Component, mixed_problem
    from alliance_meta.core.mixed.search import maximise_mixed

    one = Scaled(np.ones((1, 1)))
    terms = [Term(data.study), Term(np.arange(len(data.y)))]
    components = [Component(one, (0,)), Component(one, (1,))]
    problem = mixed_problem(data.y, data.X, data.v, terms=terms, components=components, blocks=blocks)
    return problem.at(np.array(SIGMA2)) if known else maximise_mixed(problem).point


def _regression(point, data: Data, blocks=None):
    """Return the regression of a three-level model in its clusters, and the residuals."""
    from alliance_meta.core.dependent import stacks
    from alliance_meta.core.robust.sandwich import Regression

    between, within = point.theta
    working = []
    for i, rows in enumerate(stacks(data.study)):
        diagonal = np.eye(rows.shape[1]) * (within if blocks is not None else (data.v + within)[rows][:, :, None])
        working.append((rows, diagonal + between + (0.0 if blocks is None else blocks[i][1])))
    weighted = point.problem.plan.restore(point.weighted_X)
    return Regression(data.X, weighted, point.vb, working, balanced=True), data.y - data.X @ point.beta


def _robust(point, data: Data, blocks=None) -> Answer:
    from alliance_meta.core.robust.sandwich import satterthwaite

    regression, resid = _regression(point, data, blocks)
    sandwich = regression.sandwich(resid, "CR2")
    df = satterthwaite(sandwich, np.eye(len(point.beta)))
    return float(point.beta[1]), float(np.sqrt(sandwich.vb[1, 1])), float(df[1])


def _total(blocks) -> Answer:
    return (float(sum(block.sum() for block in blocks)),)


def pymare(case: Case, data: Data) -> Task | None:
    """Its robust tests know independent working models only: "cr2" has the weights of one."""
    from pymare.estimators import DerSimonianLaird, WeightedLeastSquares

    y, v = data.y[:, None], data.v[:, None]

    def cr2() -> Answer:
        found = WeightedLeastSquares(tau2=TAU2).fit(y, data.X, v, g=data.study).summary()
        return float(found.get_fe_stats()["se"][1, 0]), float(np.ravel(found.fe_dof)[1])

    def rve() -> Answer:
        found = DerSimonianLaird(weight_scheme="rescale", rho=RHO).fit(y, v, data.X, g=data.study).summary()
        stats = found.get_fe_stats()
        return float(stats["est"][1, 0]), float(stats["se"][1, 0]), float(np.ravel(found.fe_dof)[1])

    if case.kind == "cr2":
        return Task(cr2, method="independent")
    return Task(rve) if case.kind == "rve" else None


def pimeta(case: Case, data: Data) -> Task | None:
    import pimeta
    from pimeta.extras import vcalc

    groups = {"study": data.study, "effect": np.arange(case.k)}
    mods = data.X[:, 1:] if case.moderators else None

    def fit(**more):
        return pimeta.rma_mv(data.y, mods=mods, data=groups, random="~ 1 | study/effect", **more)

    def three_level() -> Answer:
        found = fit(vi=data.v)
        return (float(np.ravel(found.beta)[0]), *map(float, np.ravel(found.sigma2)))

    def tested(found) -> Answer:
        robust = pimeta.robust(found, cluster=data.study, clubSandwich=True)
        return robust["beta"][1], robust["se"][1], robust["dfs"][1]

    if case.kind == "three-level":
        return Task(three_level)
    if case.kind == "che":
        return Task(lambda: tested(fit(V=vcalc(data.v, cluster=data.study, obs=groups["effect"], rho=RHO))))
    if case.kind == "cr2":
        fitted = fit(vi=data.v, sigma2=list(SIGMA2))
        return Task(lambda: tested(fitted)[1:])
    return None


def expected(case: Case, data: Data, method: str) -> Answer:
    """Return the numbers that a contender must give."""
    from alliance_meta.core.robust.rve import blocks
    from alliance_meta.core.robust.sandwich import DiagonalWorking, sandwich, satterthwaite

    if case.kind == "impute":
        s = np.sqrt(data.v)
        return (float((1.0 - RHO) * data.v.sum() + RHO * (np.bincount(data.study, s) ** 2).sum()),)
    if method == "independent":
        variance = data.v + TAU2
        weighted = DiagonalWorking(variance).solve(data.X)
        bread = np.linalg.inv(data.X.T @ weighted)
        resid = data.y - data.X @ (bread @ (weighted.T @ data.y))
        found = sandwich(data.X, resid, weighted, bread, blocks(variance, data.study), type="CR2")
        return float(np.sqrt(found.vb[1, 1])), float(satterthwaite(found, np.eye(len(bread)))[1])
    task = arrays(case, data)
    assert task is not None
    return task.run()


OURS = {"model": model, "arrays": arrays}
PEERS = {"PyMARE": pymare, "pimeta": pimeta}
