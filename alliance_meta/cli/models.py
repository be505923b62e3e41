"""Which model `alliance-meta fit` fits, chosen by the data unless it is said, and the fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import InputError
from alliance_meta.tables.format import brief

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

CHE, MULTILEVEL, RVE, RANDOM, BAYES = "che", "multilevel", "rve", "random", "bayes"
MODELS = (CHE, MULTILEVEL, RVE, RANDOM)
# The settings that each model has, beside the moderators and the level.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    CHE: ("method", "rho", "cluster", "robust"),
    MULTILEVEL: ("method", "test", "rho", "cluster", "random", "robust"),
    RVE: ("rho", "cluster"),
    RANDOM: ("method", "test", "cluster", "robust"),
    BAYES: ("mu_prior", "tau_prior", "random"),
}
STUDY = "study_id"


@dataclass(frozen=True)
class Choice:
    """A model, and why it is this one."""

    model: str
    why: str

    def sentence(self, settings: Mapping[str, Any]) -> str:
        """Say in one line what is fitted and why."""
        rho = f", rho = {brief(settings.get('rho') or DEFAULT_RHO[self.model])}" if self.model in DEFAULT_RHO else ""
        robust = settings.get("robust") or ("CR2" if self.model == CHE else None)
        kind = f", {robust} standard errors" if robust else ""
        return f"Model: {WORDS[self.model]}{rho}{kind} ({self.why})"

    def document(self, settings: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """Return the results as a plain dictionary that says first which model they are of."""
        chosen = {"model": self.model, "why": self.why, "sentence": self.sentence(settings)}
        return {"model_choice": chosen, **result.to_dict()}


WORDS = {
    CHE: "correlated and hierarchical effects (che)",
    MULTILEVEL: "multilevel",
    RVE: "robust variance estimation (rve)",
    RANDOM: "random effects (random)",
    BAYES: "Bayesian",
}
DEFAULT_RHO = {CHE: 0.6, RVE: 0.8}


def choose(effects: EffectSizes, model: str | None, cluster: str | None, *, bayes: bool) -> Choice:
    """Return the model that was asked for, else the one for these data: CHE where effects are dependent."""
    if bayes:
        return Choice(BAYES, "--bayes")
    if model is not None:
        return Choice(model, "--model")
    k, studies = effects.k, effects.n_studies
    if cluster is not None or k > studies:
        groups = f"--cluster {cluster}" if cluster is not None else f"{k} effects from {studies} studies"
        return Choice(CHE, f"{groups}; --model chooses another")
    return Choice(RANDOM, f"{k} effects, one a study; --model chooses another")


def check_settings(choice: Choice, given: Mapping[str, Any]) -> None:
    """Refuse settings that this model does not have, and name those that do."""
    for name in given:
        if name in SETTINGS[choice.model]:
            continue
        having = [f"--model {model}" for model in MODELS if name in SETTINGS[model]]
        having += ["--bayes"] if name in SETTINGS[BAYES] else []
        raise InputError(
            f"--{name.replace('_', '-')} does nothing with {WORDS[choice.model]} ({choice.why}); it is of "
            f"{' and '.join(having)}"
        )


def fit_model(effects: EffectSizes, choice: Choice, *, mods: str, level: float, settings: Mapping[str, Any]) -> Any:
    """Fit the chosen model with the settings that were given, its own defaults for the others."""
    return FITTERS[choice.model](effects, {"mods": mods, "level": level}, dict(settings))


def _random(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.random_effects import RandomEffectsModel

    cluster, robust = given.pop("cluster", None), given.pop("robust", None)
    if cluster is not None and robust is None:
        raise InputError("--cluster does nothing with --model random alone; add --robust CR2, or take --model che")
    fit = RandomEffectsModel(effects, **common, **given).fit()
    return fit if robust is None else fit.robust(cluster=cluster or STUDY, type=robust)


def _multilevel(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.effects.dependent.covariance import impute_V
    from alliance_meta.models.multilevel import MultilevelModel

    cluster, robust, rho = given.pop("cluster", None), given.pop("robust", None), given.pop("rho", None)
    if cluster is not None and robust is None and rho is None:
        raise InputError("--cluster does nothing with --model multilevel alone; add --robust CR2 or --rho, or --random")
    if rho is not None:
        given["V"] = impute_V(effects, cluster=cluster or STUDY, rho=rho)
    fit = MultilevelModel(effects, **common, **given).fit()
    return fit if robust is None else fit.robust(cluster=cluster or STUDY, type=robust)


def _che(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.recipes import che

    if "robust" in given:
        given["type"] = given.pop("robust")
    return che(effects, **common, **given)


def _rve(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.models.rve import RVEModel

    return RVEModel(effects, **common, **given).fit()


def _bayes(effects: EffectSizes, common: dict[str, Any], given: dict[str, Any]) -> Any:
    from alliance_meta.bayes.exact.model import BayesianModel

    return BayesianModel(effects, **common, **given).fit()


FITTERS: Mapping[str, Callable[[EffectSizes, dict[str, Any], dict[str, Any]], Any]] = {
    CHE: _che,
    MULTILEVEL: _multilevel,
    RVE: _rve,
    RANDOM: _random,
    BAYES: _bayes,
}
