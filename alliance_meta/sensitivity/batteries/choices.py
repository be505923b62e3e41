"""The analyses of a battery, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alliance_meta.bayes.exact.model import BayesianModel
from alliance_meta.bias.panels import MEANS, means
from alliance_meta.effects.converting.artifacts import correct_artifacts
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.covariance import impute_V
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.effects.dependent.hierarchy import select_effects
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.exact_correlation import ExactCorrelationModel
from alliance_meta.sensitivity.assumed_rho import RHO
from alliance_meta.sensitivity.batteries.scenarios import (
    Case,
    Kind,
    Scenario,
    extreme,
    influential,
    only,
    outlying,
    without,
)
from alliance_meta.sensitivity.dependence import UNDECLARED
from alliance_meta.tables.format import brief

CORRELATIONS = ("ZCOR", "COR")
RELIABILITIES = ("rel_alliance", "rel_outcome")
# Reliabilities that are assumed of both measures in every study.
ASSUMED = (0.9, 0.8, 0.7)


def dependent(run: Callable[[Case], Any]) -> Callable[[Case], Any]:
    """Return a `run` that is only for effects of which a study has several."""

    def checked(case: Case) -> Any:
        """Refuse effects of which every study has one."""
        if not case.depends():
            raise InputError(f"each {case.cluster} has one effect, so that nothing depends: this is the headline")
        return run(case)

    return checked


def averaged(case: Case) -> EffectSizes:
    """Return the mean effect of each study."""
    return aggregate(case.effects, cluster=case.cluster, rho=case.rho) if case.depends() else case.effects


def chosen(case: Case) -> EffectSizes:
    """Return the effect of each study that the declared rule puts first; all where each has one."""
    if not case.depends():
        return case.effects
    if case.select is None:
        raise InputError(UNDECLARED)
    return select_effects(case.effects, cluster=case.cluster, **case.select)


def exact(case: Case) -> Any:
    """Fit the exact density of r to one effect per study."""
    return ExactCorrelationModel(chosen(case), level=case.level).fit()


def bayes(case: Case) -> Any:
    """Fit the Bayesian model of dependent effects, with its default priors, which are for correlations."""
    if case.effects.measure not in CORRELATIONS:
        raise InputError("its default priors are for correlations; add a scenario with priors for these effects")
    if not case.depends():
        return BayesianModel(case.effects, level=case.level).fit()
    V = impute_V(case.effects, cluster=case.cluster, rho=case.rho)
    return BayesianModel(case.effects, random=f"{case.cluster}/{ROWS}", V=V, level=case.level).fit()


def t_effects(case: Case) -> Any:
    """Draw from the posterior of true effects with a t distribution, of the mean effect of each study."""
    if case.seed is None:
        raise InputError("its posterior is drawn at random, which takes a minute: give seed=1 or any whole number")
    if case.effects.measure not in CORRELATIONS:
        raise InputError("its default priors are for correlations; add a scenario with priors for these effects")
    from alliance_meta import bayes

    return bayes.sample(bayes.pymc.t_effects(averaged(case)), seed=case.seed, level=case.level, progress=False)


def corrected(case: Case) -> Any:
    """Fit the headline to effects corrected by the reliabilities of the sheet."""
    there: dict[str, Any] = {name: name for name in RELIABILITIES if name in case.effects.moderators}
    there = {name: one for name, one in there.items() if case.effects.moderators[name].notna().any()}
    if not there:
        raise InputError(f"the sheet has no reliabilities ({', '.join(RELIABILITIES)})")
    return case.headline(correct_artifacts(case.effects, **there))


def _biased(key: str) -> Callable[[Case], Any]:
    def run(case: Case) -> Any:
        """Ask a method for a biased literature."""
        method = means(case.source)[key]
        return method.run(case.fit, **method.options(case.source))

    return run


def _assumed_rho(rho: float) -> Scenario:
    def refitted(case: Case) -> Any:
        """Fit the headline under this correlation."""
        if rho == case.rho:
            raise InputError(f"rho = {brief(rho)} is the headline's")
        return case.headline(rho=rho)

    return Scenario(
        f"rho_{brief(rho)}", f"CHE, rho = {brief(rho)}", dependent(refitted), "model", f"rho = {brief(rho)}"
    )


def _assumed_reliability(value: float) -> Scenario:
    def run(case: Case) -> Any:
        """Fit the headline to effects corrected by one reliability of every measure."""
        return case.headline(correct_artifacts(case.effects, rel_alliance=value, rel_outcome=value))

    text = f"Both reliabilities {brief(value)}"
    return Scenario(f"reliability_{brief(value)}", text, run, "attenuation", "assumed in every study")


def _part(key: str, label: str, name: str, value: str, *, but: bool = False) -> Scenario:
    says = f"{name}: {'not ' if but else ''}{value}"
    return Scenario(key, label, only(name, value, without=but), "part", says)


def _outliers(case: Case) -> Any:
    return without(case, outlying(case.effects, case.fit), "interval misses that of the headline")


def _influence(case: Case) -> Any:
    return without(case, influential(case), "study is flagged as influential")


HEADLINE = Scenario("che", "All effects, CHE + CR2", lambda case: case.fit, "headline", "the headline")
INDEPENDENT_HEADLINE = replace(HEADLINE, label="All effects, random effects")


def _model(key: str, label: str, run: Callable[[Case], Any], says: str, kind: Kind = "model") -> Scenario:
    return Scenario(key, label, run, kind, says)


SCENARIOS: tuple[Scenario, ...] = (
    HEADLINE,
    _model("three_level", "Three-level + CR2", dependent(Case.levels), "sampling errors independent"),
    _model("aggregated", "Mean of each study", dependent(lambda case: case.independent(averaged(case))), "averaged"),
    _model("one", "One effect per study by rule", dependent(lambda case: case.independent(chosen(case))), "declared"),
    _model("exact", "Exact density of r", exact, "no normal approximation; one effect per study"),
    _model("bayes", "Bayes, default priors", bayes, "posterior median and its interval"),
    _model("t_effects", "Bayes, t-distributed effects", t_effects, "studies far off pull less; mean of each study"),
    *(_assumed_rho(rho) for rho in RHO),
    _part("client", "Alliance rated by client", "alliance_rater", "client"),
    _part("therapist", "Alliance rated by therapist", "alliance_rater", "therapist"),
    _part("observer", "Alliance rated by observer", "alliance_rater", "observer"),
    _part("early", "Alliance early in therapy", "alliance_time", "early"),
    _part("mid", "Alliance mid-therapy", "alliance_time", "mid"),
    _part("late", "Alliance late in therapy", "alliance_time", "late"),
    _part("zero_order", "Zero-order correlations only", "r_type", "zero-order"),
    _part("published", "Published only", "published", "yes"),
    _part("low_risk", "Low risk of bias only", "rob_overall", "low"),
    _part("without_ns", "Without imputed n.s.", "es_calc", "imputed_ns", but=True),
    Scenario("without_outliers", "Without outliers", _outliers, "part", "intervals that miss the headline's left out"),
    Scenario("without_influential", "Without influential studies", _influence, "part", "flagged studies left out"),
    *(
        Scenario(f"bias_{key}", method.label, _biased(key), "bias", method.source)
        for key, method in MEANS.items()
    ),
    Scenario("reliability", "Reliabilities of the sheet", corrected, "attenuation", "the mean where none is given"),
    *map(_assumed_reliability, ASSUMED),
    _model("lowest", "Lowest effect of each study", dependent(lambda case: extreme(case, 1.0)), "lowest", "bound"),
    _model("highest", "Highest effect of each study", dependent(lambda case: extreme(case, -1.0)), "highest", "bound"),
    _model(
        "independent", "All effects as independent", dependent(Case.independent), "counts studies twice", "warning"
    ),
)  # fmt: skip
