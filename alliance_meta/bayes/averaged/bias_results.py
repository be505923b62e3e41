"""`RobmaResults`: models of publication bias, the evidence for them, and estimates averaged over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.averaged.results import (
    Averaged,
    AveragedMarginal,
    BinnedMarginal,
    averages,
    averages_dict,
    inclusion_table,
)
from alliance_meta.bayes.exact.prediction import intervals_line
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import COLUMNS, GridMarginal, Marginal, MixtureMarginal, row
from alliance_meta.bayes.priors.prior import Normal, TauPrior
from alliance_meta.bayes.priors.tau import InverseGamma
from alliance_meta.core.bayes.quadrature import NormalMixture, SincDensity, mixture
from alliance_meta.core.selection.robma import BiasKind, BiasPosterior, OmegaPosterior, omega_posterior
from alliance_meta.core.selection.steps import MOST_STEPS, Sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, Scale, check_option, merge_notes
from alliance_meta.results import wording
from alliance_meta.results.r_code import data
from alliance_meta.tables.document import Document, Table, table_of
from alliance_meta.tables.format import brief, fixed, fixed_interval, format_level


@dataclass(frozen=True)
class WeightFunction:
    """Selection by p-value: significant results are more likely to be published.

    Results are published with a probability that falls in steps of the p-value. That of the most significant
    ones counts as 1; the others are smaller or equal, in order, and otherwise unknown (uniform a priori).

    Parameters
    ----------
    steps : tuple of float
        p-values at which the probability falls, increasing, at most three.
    sides : {"one", "two"}
        ``one``: p-values of a one-sided test, so that only results in the favoured direction are significant;
        .025 is then the usual two-sided .05. ``two``: of a two-sided test; the direction does not matter.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.WeightFunction((0.025, 0.05)))
    weight function, one-sided p < .025, .05
    """

    steps: tuple[float, ...]
    sides: Sides = "one"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_option("sides", self.sides, Sides)
        steps = tuple(float(p) for p in np.atleast_1d(self.steps))
        object.__setattr__(self, "steps", steps)
        if not 1 <= len(steps) <= MOST_STEPS:
            raise InputError(f"WeightFunction: steps={steps!r} must hold 1 to {MOST_STEPS} p-values")
        if not all(0 < p < 1 for p in steps) or any(a >= b for a, b in pairwise(steps)):
            raise InputError(f"WeightFunction: steps={steps!r} must lie between 0 and 1 and increase")
        _check_weight(self)

    def __str__(self) -> str:
        return f"weight function, {self.sides}-sided p < {', '.join(f'{p:g}'.lstrip('0') for p in self.steps)}"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("weights", self.steps, self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": "weight function", "steps": list(self.steps), "sides": self.sides, "weight": self.weight}


class _Regression:
    """Bias that grows with the standard error, or with its square; the coefficient has a half-Cauchy prior."""

    scale: float
    weight: float

    def __post_init__(self) -> None:
        if not (isinstance(self.scale, int | float) and np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"{type(self).__name__}: scale={self.scale!r} must be positive")
        _check_weight(self)

    def __str__(self) -> str:
        return f"{type(self).__name__}, coefficient ~ half-Cauchy({self.scale:g})"

    @property
    def kind(self) -> BiasKind:
        """The same as the integration wants it."""
        return BiasKind("PET" if isinstance(self, PET) else "PEESE", scale=float(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return {"model": type(self).__name__, "scale": self.scale, "weight": self.weight}


@dataclass(frozen=True)
class PET(_Regression):
    """Bias that grows with the standard error: the precision-effect test.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the standard error.
    weight : float
        Prior weight relative to the other models of bias.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PET())
    PET, coefficient ~ half-Cauchy(1)
    """

    scale: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class PEESE(_Regression):
    """Bias that grows with the sampling variance: the precision-effect estimate with standard errors.

    Parameters
    ----------
    scale : float
        Of the half-Cauchy prior of the coefficient of the sampling variance.
    weight : float
        As of `PET`.

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.PEESE())
    PEESE, coefficient ~ half-Cauchy(5)
    """

    scale: float = 5.0
    weight: float = 1.0


def _check_weight(model: WeightFunction | _Regression) -> None:
    if not (isinstance(model.weight, int | float) and np.isfinite(model.weight) and model.weight > 0):
        raise InputError(f"{type(model).__name__}: weight={model.weight!r} must be positive")


BiasModel = WeightFunction | PET | PEESE

# Those of RoBMA-PSMA (Bartoš et al. 2023, doi:10.1002/jrsm.1594): half of the weight on selection by p-value, half
# on the two regressions.
PSMA: tuple[BiasModel, ...] = (
    WeightFunction((0.05,), "two", 1 / 12),
    WeightFunction((0.05, 0.1), "two", 1 / 12),
    WeightFunction((0.05,), "one", 1 / 12),
    WeightFunction((0.025, 0.05), "one", 1 / 12),
    WeightFunction((0.05, 0.5), "one", 1 / 12),
    WeightFunction((0.025, 0.05, 0.5), "one", 1 / 12),
    PET(1.0, 1 / 4),
    PEESE(5.0, 1 / 4),
)

# Weight functions so much less probable than the best change no printed digit of a publication probability.
UNLIKELY = 1e-6
# Other quantities.
LIGHTEST = 1e-12


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """One model of the ensemble."""

    bias: BiasModel | None
    effect: bool
    heterogeneity: bool
    prior: float  # its prior probability
    solved: BiasPosterior


def averaged(
    ensemble: Sequence[EnsembleModel], logs: Array, what: str, *, conditional: bool, omega: dict[int, OmegaPosterior]
) -> AveragedMarginal:
    """Return the posterior of a quantity; with a spike for the models that do not have it, or without these.

    `logs` are the logs of prior times marginal likelihood of each model; `omega` keeps posteriors of publication
    probabilities, by model, for the next time.
    """
    if what.startswith("omega["):
        at, parts = 1.0, _omega_parts(ensemble, logs, what, omega)
    else:
        at, parts = 0.0, [_part(what, one) for one in ensemble]
    there = np.array([part is not None for part in parts])
    chances = special.softmax(logs)
    weights = special.softmax(logs[there]) if conditional else chances[there]
    spike = 0.0 if conditional else float(chances[~there].sum())
    free = [part for part in parts if part is not None]
    heavy = weights > LIGHTEST
    kept = tuple(part for part, counts in zip(free, heavy, strict=True) if counts)
    return AveragedMarginal(what, weights[heavy] / weights[heavy].sum() * weights.sum(), kept, spike, at)


def _part(what: str, model: EnsembleModel) -> Marginal | None:
    """Return the posterior of a quantity under one model, None where the model fixes it at 0."""
    solved = model.solved
    if what == "mu":
        return None if solved.mu is None else _marginal(what, solved.mu)
    if what == "tau":
        return None if solved.tau is None else _marginal(what, solved.tau)
    if what == "theta_new":
        return _new(model, solved)
    own = model.bias is not None and model.bias.kind.kind == what
    return _marginal(what, solved.slope) if own and solved.slope is not None else None


def _marginal(name: str, found: NormalMixture | SincDensity) -> Marginal:
    return GridMarginal(name, found) if isinstance(found, SincDensity) else MixtureMarginal(name, found)


def _new(model: EnsembleModel, solved: BiasPosterior) -> Marginal | None:
    """Return the posterior of the true effect of a new study; that of the mean without heterogeneity."""
    if not model.heterogeneity:
        return None if solved.mu is None else _marginal("theta_new", solved.mu)
    mean, sd, tau, weight = solved.points
    return MixtureMarginal("theta_new", mixture(weight, mean[None], np.hypot(sd, tau)[None]))


def p_intervals(bias: Iterable[BiasModel]) -> list[tuple[float, float]]:
    """Return the intervals of the one-sided p-value within which every weight function is constant."""
    cuts = {0.0, 1.0}
    for one in bias:
        if isinstance(one, WeightFunction):
            cuts |= set(one.steps) if one.sides == "one" else {q for p in one.steps for q in (p / 2, 1 - p / 2)}
    ordered = sorted(cuts)
    return list(pairwise(ordered))


def _omega_parts(
    ensemble: Sequence[EnsembleModel], logs: Array, what: str, omega: dict[int, OmegaPosterior]
) -> list[Marginal | None]:
    found = re.fullmatch(r"omega\[\s*([0-9.eE+-]+)\s*\]", what)
    p = float(found[1]) if found else np.nan
    if not 0 <= p <= 1:
        raise InputError(f"{what!r}: write the one-sided p-value, such as 'omega[0.03]'")
    is_one = np.array([isinstance(one.bias, WeightFunction) for one in ensemble])
    if not is_one.any():
        raise InputError("none of the models is a weight function")
    least = np.log(UNLIKELY) + logs[is_one].max()
    parts: list[Marginal | None] = []
    for i, one in enumerate(ensemble):
        j = _step(one.bias, p)
        if not is_one[i] or logs[i] < least:
            parts.append(None)
        elif j == 0:
            parts.append(AveragedMarginal(what, np.empty(0), (), 1.0, 1.0))
        else:
            if i not in omega:
                omega[i] = _omega_of(one.solved)
            posterior = omega[i]
            first, second = float(posterior.mean[j - 1]), float(posterior.square[j - 1])
            parts.append(BinnedMarginal(what, posterior.mass[j - 1], first, second))
    return parts


def _step(bias: BiasModel | None, p: float) -> int:
    """Return which probability of a weight function applies to a one-sided p-value; 0 for those that are 1."""
    if not isinstance(bias, WeightFunction):
        return 0
    value = p if bias.sides == "one" else 2.0 * min(p, 1.0 - p)
    return int(np.searchsorted(bias.steps, value, side="left"))


def _omega_of(solved: BiasPosterior) -> OmegaPosterior:
    assert solved.data is not None
    mu, _, tau, weight = solved.points
    return omega_posterior(solved.data, mu, tau, weight, level=solved.level)


BASIC = ("effect", "heterogeneity", "bias")


def models(fit: RobmaResults) -> pd.DataFrame:
    """Return one row per model, the most probable first."""
    logs, prior = fit._logs, np.array([one.prior for one in fit.ensemble])
    frame = pd.DataFrame(
        {
            "effect": [one.effect for one in fit.ensemble],
            "heterogeneity": [one.heterogeneity for one in fit.ensemble],
            "bias": ["none" if one.bias is None else str(one.bias) for one in fit.ensemble],
            "prior": prior,
            "posterior": fit.posterior_probabilities,
            "log_marginal_likelihood": logs - np.log(prior),
            "error": fit.errors,
            "bf": [fit._compare(np.arange(len(prior)) == i)["bf10"] for i in range(len(prior))],
        }
    )
    order = np.argsort(-frame["posterior"].to_numpy(), kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def statistics(fit: RobmaResults) -> dict[str, Any]:
    """Return the statistics by name."""
    mu, tau = (fit.posterior(name) if name in fit.parameters else None for name in ("mu", "tau"))
    found: dict[str, Any] = {"k": fit.k, **fit.effects.counts, "models": len(fit.ensemble), "level": fit.level}
    found |= {f"bf10_{name}": fit.inclusion["bf10"][name] for name in BASIC}
    found |= {"mu": 0.0 if mu is None else mu.mean, "tau": 0.0 if tau is None else tau.mean}
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error": float(fit.errors.max())}


def to_dict(fit: RobmaResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    model = {
        "priors": {"mu": fit.mu_prior.to_dict(), "tau": fit.tau_prior.to_dict()},
        "bias": [one.to_dict() for one in fit.bias],
        "direction": fit.direction,
        "method": "quadrature",
    }
    weighed = any(isinstance(one, WeightFunction) for one in fit.bias)
    more = {"models": fit.models} | ({"weight_function": fit.weight_function()} if weighed else {})
    return averages_dict(fit, model, statistics(fit), more)


DEFAULT_PRIORS = (Normal(0.0, 1.0), InverseGamma(1.0, 0.15))


def document(fit: RobmaResults) -> Document:
    """Return what the ensemble says."""
    counts = [int(fit._components[str(name)].sum()) for name in fit.inclusion.index]
    accuracy = f"quadrature, log likelihoods to {brief(float(fit.errors.max()), 1)}"
    return wording.document(
        fit,
        f"Robust Bayesian meta-analysis: {len(fit.ensemble)} models (k = {fit.k}; {accuracy})",
        [
            fit.effects.heading,
            f"Priors: mu ~ {fit.mu_prior}; tau ~ {fit.tau_prior}",
            f"Bias: {'; '.join(map(str, fit.bias)) or 'none'}; favoured direction: {fit.direction}",
            intervals_line(fit),
        ],
        inclusion_table(fit.inclusion.assign(models=counts), models=0),
        *averages(fit),
        _on_r(fit),
        *_omega(fit),
    )


def _on_r(fit: RobmaResults) -> list[str]:
    if fit.effects.measure != "ZCOR" or "mu" not in fit.parameters:
        return []
    row = fit.predict(scale="r").iloc[0]
    there = fit.posterior("mu", scale="r", conditional=True).interval(level=fit.level)
    return [
        f"As r: {wording.estimate(row)} averaged over all models",
        f"      {fixed(there.estimate, 3)} {fixed_interval(there.lb, there.ub, 3)} if there is an effect",
        f"      true correlation in a new study: {fixed_interval(row.pi_lb, row.pi_ub, 3)}",
    ]


def _omega(fit: RobmaResults) -> list[Table]:
    if not any(isinstance(one, WeightFunction) for one in fit.bias):
        return []
    frame = fit.weight_function()
    steps = [f"{brief(low)} to {brief(high)}" for low, high in zip(frame["p_from"], frame["p_to"], strict=True)]
    caption = "Relative probability of publication by one-sided p (averaged over all models)"
    return [table_of(frame.set_axis(steps), {"mean": 2, "ci_lb": 2, "ci_ub": 2}, caption)]


def methods(fit: RobmaResults) -> str:
    """Return the sentences for a methods section."""
    chosen = "; ".join(str(one) for one in fit.bias)
    bias = f"publication bias ({chosen}; results in the {fit.direction} direction favoured)" if fit.bias else ""
    present = ["an effect", "heterogeneity", *([bias] if bias else [])]
    listed = f"{', '.join(present[:-1])} and {present[-1]}"
    worst = float((fit.posterior_probabilities * fit.errors).sum())
    return (
        f"{wording.scale_sentence(fit)}Robust Bayesian meta-analysis (Bartoš et al., 2023) was applied to "
        f"{fit.effects.counted}: "
        f"{len(fit.ensemble)} models with and without {listed} were averaged by their posterior probabilities. Priors "
        f"were, for the mean effect, {fit.mu_prior}; for the standard deviation between studies, {fit.tau_prior}. "
        "Marginal likelihoods were computed by quadrature "
        f"(error of the log, averaged over the models, about {brief(worst, 1)}). Inclusion Bayes factors compare the "
        "models "
        f"with a component to those without it; estimates are posterior medians with equal-tailed "
        f"{format_level(fit.level)} credible intervals."
    )


def r_code(fit: RobmaResults) -> str:
    """Return the R code (RoBMA) that fits the same ensemble."""
    lines = ["library(RoBMA)", "library(metafor)", *data(fit)]
    options = ["y=dat$yi", "se=sqrt(dat$vi)"]
    if fit.direction != "positive":
        options.append('effect_direction="negative"')
    if (fit.mu_prior, fit.tau_prior) != DEFAULT_PRIORS:
        options.append(f'priors_effect=prior("normal", list(mean={fit.mu_prior.mean:.15g}, sd={fit.mu_prior.sd:.15g}))')
        options.append(f"priors_heterogeneity={fit.tau_prior.spelled('RoBMA')}")
    if not fit.bias:
        options.append("priors_bias=NULL")
    elif fit.bias != PSMA:
        options.append("priors_bias=list(" + ", ".join(_r_bias(one) for one in fit.bias) + ")")
    lines.append(f"fit <- RoBMA({', '.join([*options, 'seed=1'])})")
    return "\n".join(lines)


def _r_bias(one: BiasModel) -> str:
    weight = f"prior_weights={one.weight:.15g}"
    if isinstance(one, WeightFunction):
        alpha, steps = ", ".join(["1"] * (len(one.steps) + 1)), ", ".join(f"{p:g}" for p in one.steps)
        return f'prior_weightfunction("{one.sides}.sided", list(alpha=c({alpha}), steps=c({steps})), {weight})'
    name = "PET" if isinstance(one, PET) else "PEESE"
    return f'prior_{name}("Cauchy", list(0, {one.scale:g}), truncation=list(0, Inf), {weight})'


@dataclass(frozen=True, eq=False, repr=False)
class RobmaResults(Averaged):
    """Models of effect, heterogeneity and publication bias, averaged.

    Made by `robma`. Every number comes from quadrature, none from random draws.

    Attributes
    ----------
    effects : EffectSizes
    mu_prior : Normal
    tau_prior : TauPrior
    bias : tuple of WeightFunction, PET or PEESE
    direction : {"positive", "negative"}
    ensemble : tuple of EnsembleModel
        Each model with its posterior.
    level : float
        Probability inside every interval, a fraction.
    """

    called = "an average of models of publication bias"
    _evidence = ("bf10", "log_bf10", "error")

    effects: EffectSizes
    mu_prior: Normal
    tau_prior: TauPrior
    bias: tuple[BiasModel, ...]
    direction: str
    ensemble: tuple[EnsembleModel, ...]
    level: float
    notes: tuple[Note, ...] = ()

    @cached_property
    def posterior_probabilities(self) -> Array:
        """Posterior probability of each model, (m,)."""
        return special.softmax(self._logs)

    @cached_property
    def errors(self) -> Array:
        """Error estimate of each log marginal likelihood, (m,)."""
        return np.array([one.solved.error for one in self.ensemble])

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``effect``, ``heterogeneity``, ``bias``, ``prior`` and ``posterior`` probability,
        ``log_marginal_likelihood`` with its ``error``, and ``bf``, the Bayes factor of this model against all others
        together.
        """
        return models(self)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `posterior` knows, but for the publication probabilities."""
        there = {"mu": "effect", "tau": "heterogeneity"}
        found = [name for name, flag in there.items() if any(getattr(one, flag) for one in self.ensemble)]
        found += ["theta_new"] if found else []
        kinds = [one.bias.kind.kind for one in self.ensemble if one.bias is not None]
        return (*found, *(name for name in ("PET", "PEESE") if name in kinds))

    @property
    def _known(self) -> list[str]:
        return [*self.parameters, "omega[<p>]"]

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return the Bayes factor of ``"mu = 0"``, ``"tau = 0"`` or ``"bias = 0"``, averaged over the other models."""
        stated = read_hypothesis(hypothesis)
        known = {"mu": "effect", "tau": "heterogeneity", "bias": "bias"}
        if stated.name not in known or not (stated.is_point and stated.lower == 0):
            raise InputError(f"{hypothesis!r}: the models compare 'mu = 0', 'tau = 0' and 'bias = 0' with the contrary")
        row = self._inclusion[known[stated.name]]
        none = NotApplicable("there is no other route")
        bf10, log = row["bf10"], row["log_bf10"]
        if isinstance(bf10, NotApplicable):
            return BayesFactor(stated.text, stated.opposite, bf10, bf10, bf10, bf10, none)
        return BayesFactor(stated.text, stated.opposite, 1.0 / bf10, bf10, -log, row["error"], none)

    def predict(self, *, scale: Scale | None = None, level: float | None = None) -> pd.DataFrame:
        """Return the averaged effect and the true effect to expect in a new study, one row.

        Parameters
        ----------
        scale : {"z", "r"}, optional
        level : float, optional

        Returns
        -------
        DataFrame
            ``pred`` (the posterior median), ``se`` (the posterior standard deviation), ``ci_lb``, ``ci_ub``,
            ``pi_lb``, ``pi_ub``.
        """
        pair = (self._quantity("mu", False), self._quantity("theta_new", False))
        return self._predictions([pair], scale, self._level(level))

    def weight_function(self, *, conditional: bool = False, level: float | None = None) -> pd.DataFrame:
        """Return how likely results were published by their one-sided p-value, beside the most likely ones.

        Parameters
        ----------
        conditional : bool
            Average only over the weight functions; otherwise the other models count with 1.
        level : float, optional

        Returns
        -------
        DataFrame
            One row per interval from ``p_from`` to ``p_to``, with ``mean sd median ci_lb ci_ub``. p is one-sided, in
            the favoured direction; two-sided selection also favours p near 1.
        """
        used = self._level(level)
        if not any(isinstance(one, WeightFunction) for one in self.bias):
            raise InputError("none of the models is a weight function")
        rows = []
        for a, b in p_intervals(self.bias):
            one = self.posterior(f"omega[{0.5 * (a + b)!r}]", conditional=conditional)
            rows.append((a, b, *row(one, used, "eti")))
        return pd.DataFrame(rows, columns=["p_from", "p_to", *COLUMNS])

    def with_notes(self, notes: list[Note]) -> RobmaResults:
        """Return the same with further notes."""
        return replace(self, notes=merge_notes(self.notes, notes)) if notes else self

    @cached_property
    def _components(self) -> dict[str, Mask]:
        """Which models have each component."""
        kinds = [one.bias for one in self.ensemble]
        weighed = np.array([isinstance(one, WeightFunction) for one in kinds])
        biased = np.array([one is not None for one in kinds])
        return {
            "effect": np.array([one.effect for one in self.ensemble]),
            "heterogeneity": np.array([one.heterogeneity for one in self.ensemble]),
            "bias": biased,
            "weight functions": weighed,
            "PET-PEESE": biased & ~weighed,
        }

    @cached_property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        shown = {name: mask for name, mask in self._components.items() if mask.any() or name in BASIC}
        return {name: self._compare(mask) for name, mask in shown.items()}

    @cached_property
    def _logs(self) -> Array:
        return np.array([np.log(one.prior) + one.solved.log_marginal for one in self.ensemble])

    @cached_property
    def _chances(self) -> tuple[Array, Array]:
        return np.array([one.prior for one in self.ensemble]), self.posterior_probabilities

    def _error_of(self, inside: Mask, outside: Mask) -> float:
        return float(sum(special.softmax(self._logs[part]) @ self.errors[part] for part in (inside, outside)))

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        if (what, conditional) not in self._kept:
            self._kept[what, conditional] = averaged(
                self.ensemble, self._logs, what, conditional=conditional, omega=self._omega
            )
        return self._kept[what, conditional]

    @cached_property
    def _kept(self) -> dict[tuple[str, bool], AveragedMarginal]:
        """Posteriors that were asked for before."""
        return {}

    @cached_property
    def _omega(self) -> dict[int, OmegaPosterior]:
        """Posteriors of publication probabilities that were asked for before, by model."""
        return {}
