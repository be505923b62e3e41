"""Random effects of correlations with the exact density of each r and with priors, solved by quadrature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.model import BayesianModel
from alliance_meta.bayes.exact.prediction import intervals_line, posterior_table
from alliance_meta.bayes.exact.setup import check_kind, tau_density
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis, shown, undefined
from alliance_meta.bayes.marginals import KINDS, LACKS, GridMarginal, IntervalKind, Marginal, Posterior, as_table, row
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.tabulated import TabulatedPosterior, TabulatedProblem, evidence_without, solve_tabulated
from alliance_meta.core.correlations.likelihood import tabulated_correlations
from alliance_meta.effects.sizes import as_fisher_z, pearson
from alliance_meta.effects.studies import dependence_notes, refuse_dependent
from alliance_meta.effects.table import EffectSizes
from alliance_meta.encoding import plain
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import (
    NotApplicable,
    Note,
    Scale,
    check_level,
    check_option,
    did_you_mean,
    merge_notes,
    warn_note,
)
from alliance_meta.results import wording
from alliance_meta.results.fit import Noun, columns_of, one_row
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed, fixed_interval, format_level

NAMES = ("mu", "tau", "theta_new")


@dataclass(frozen=True, eq=False, repr=False)
class BayesianCorrelationResults(Posterior):
    """The posterior of a Bayesian random-effects model with the exact sampling density of each correlation.

    Made by `bayes.exact_correlation`. Everything is on Fisher's z of the *true* correlation, and every number comes
    from quadrature.

    Attributes
    ----------
    effects : EffectSizes
        The effects that took part, as Fisher's z.
    mu_prior : EffectPrior
    tau_prior : TauPrior
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
    exact : TabulatedPosterior
        The raw arrays.
    """

    _of_a_point = "a single value has probability 0; state a range"
    called = "a Bayesian model with the exact density of r"
    lacks: ClassVar[Mapping[str, str]] = {**LACKS, "r_code": "no R package fits it"}

    effects: EffectSizes
    mu_prior: EffectPrior
    tau_prior: TauPrior
    level: float
    interval: IntervalKind
    exact: TabulatedPosterior
    notes: tuple[Note, ...] = ()

    @property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, as Fisher's z, under model and priors; not applicable with a flat prior."""
        if not self.mu_prior.proper:
            return NotApplicable("the prior of mu is improper")
        return self.exact.log_marginal

    error_bound = Noun[float](
        "exact.error",
        "Estimate of the numerical error of the log marginal likelihood; probabilities are right to its root.",
    )

    def posterior(self, what: str, *, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity.

        Parameters
        ----------
        what : {"mu", "tau", "theta_new"}
            ``theta_new``: the true effect of a new study.
        scale : {"z", "r"}, optional
            ``"r"``: tanh of the mean or of the true effect.
        """
        name = str(what).strip()
        if name not in NAMES:
            raise InputError(f"no quantity {name!r}{did_you_mean(name, list(NAMES)) or '.'} Known: {', '.join(NAMES)}")
        return self._on_scale(self._marginals[name], scale, "tau" if name == "tau" else "")

    @cached_property
    def _marginals(self) -> dict[str, Marginal]:
        exact, (of_mu, of_tau) = self.exact, self.exact.problem.tails
        mu = GridMarginal("mu", exact.mu, exact.mu.moments(of_mu))
        tau = GridMarginal("tau", exact.tau, exact.tau.moments(of_tau))
        finite = min(mu.moments, tau.moments)
        return {
            "mu": mu,
            "tau": tau,
            "theta_new": GridMarginal("theta_new", exact.theta_new, finite, exact.new_moments),
        }

    def bayes_factor(self, hypothesis: str, *, dependent: Literal["ignore"] | None = None) -> BayesFactor:
        """Return the Bayes factor of ``"mu = 0"`` or ``"tau = 0"`` against not so."""
        refuse_dependent(self.effects, dependent, "a Bayes factor")
        stated = read_hypothesis(hypothesis)
        if stated.name not in ("mu", "tau") or not (stated.is_point and stated.lower == 0):
            raise InputError(f"{hypothesis!r}: this model compares 'mu = 0' and 'tau = 0'")
        prior = self.mu_prior if stated.name == "mu" else self.tau_prior
        if not prior.proper:
            return undefined(stated, f"the prior of {stated.name} is improper")
        other, error = evidence_without(self.exact.problem, stated.name)
        log = other - self.exact.log_marginal
        with np.errstate(over="ignore"):
            bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
        check: float = NotApplicable("the density at the edge of the support is not worked out")
        if stated.name == "mu":
            check = float(self.posterior("mu").pdf(0.0) / prior.pdf(0.0))
        return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, error + self.exact.error, check)

    def compare(self) -> pd.DataFrame:
        """Set the model beside the usual normal one with the same priors.

        Returns
        -------
        DataFrame
            ``exact normal difference`` of the posterior medians of ``mu``, ``tau`` and ``theta_new``, and of the log
            marginal likelihood: both models give the density of the same Fisher z.
        """
        usual = BayesianModel(self.effects, mu_prior=self.mu_prior, tau_prior=self.tau_prior).fit()
        pairs = {name: (self.posterior(name).median, usual.posterior(name).median) for name in NAMES}
        if self.mu_prior.proper:
            pairs["log_marginal_likelihood"] = self.log_marginal_likelihood, usual.log_marginal_likelihood
        frame = pd.DataFrame.from_dict(pairs, orient="index", columns=["exact", "normal"])
        return frame.assign(difference=frame["exact"] - frame["normal"])

    def tidy(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return one row each for ``mu``, ``tau`` and ``theta_new``: ``mean sd median ci_lb ci_ub``, on Fisher's z."""
        used, kind = self._interval(level, interval)
        rows = {name: row(self.posterior(name), used, kind) for name in NAMES}
        return as_table(rows, self.effects.scale_label, used, kind)

    def predict(
        self, *, scale: Scale | None = None, level: float | None = None, interval: IntervalKind | None = None
    ) -> pd.DataFrame:
        """Return the mean effect with its credible interval and the prediction interval of a new study.

        Parameters
        ----------
        scale : {"z", "r"}, optional
            ``"r"``: tanh, the median true correlation.
        level : float, optional
        interval : {"eti", "hdi"}, optional

        Returns
        -------
        DataFrame
            ``pred`` (the posterior median), ``se``, ``ci_lb``, ``ci_ub``, ``pi_lb``, ``pi_ub``; scale, level and kind
            of interval are in ``.attrs``.
        """
        used, kind = self._interval(level, interval)
        mean, new = self.posterior("mu", scale=scale), self.posterior("theta_new", scale=scale)
        ci, pi = mean.interval(level=used, kind=kind), new.interval(level=used, kind=kind)
        row = {"pred": ci.estimate, "se": mean.sd, "ci_lb": ci.lb, "ci_ub": ci.ub, "pi_lb": pi.lb, "pi_ub": pi.ub}
        frame = one_row(row).set_axis(pd.Index(["mean effect"]), axis=0)
        frame.attrs.update(scale=scale or "z", level=used, interval=kind, pred="posterior median")
        return frame

    def glance(self) -> pd.DataFrame:
        """Return one row with the model's statistics, unrounded."""
        return one_row(self._statistics())

    def to_dict(self) -> dict[str, Any]:
        """Return every number and setting as JSON-ready values; `NotApplicable` becomes its reason."""
        table = self.tidy()
        return plain(
            {
                "model": {
                    "likelihood": "exact density of r (Hotelling 1953)",
                    "priors": {"mu": self.mu_prior.to_dict(), "tau": self.tau_prior.to_dict()},
                    "method": "quadrature over mu and tau",
                    "interval": self.interval,
                },
                "statistics": self._statistics(),
                "posterior": {"parameter": list(table.index), **columns_of(table)},
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.effects.provenance.to_dict(),
            }
        )

    def _content(self) -> Document:
        table = self.compare()
        normal, moved = float(table["normal"]["mu"]), -float(table["difference"]["mu"])
        r = self.predict(scale="r").iloc[0]
        return wording.document(
            self,
            f"Bayesian random-effects model with the exact density of each r (k = {self.k}; error about "
            f"{brief(self.error_bound, 1)})",
            [
                self.effects.heading,
                f"Priors: mu ~ {self.mu_prior}; tau ~ {self.tau_prior}",
                intervals_line(self),
            ],
            posterior_table(self, self.tidy()),
            [
                f"As r: {wording.estimate(r)} (median true correlation, tanh)",
                f"      true correlation in a new study: {fixed_interval(r.pi_lb, r.pi_ub, 3)}",
            ],
            [
                *(str(shown(self, one)) for one in ("mu = 0", "tau = 0")),
                f"The normal approximation to Fisher's z would put the median of mu at {fixed(normal)}, "
                f"{fixed(abs(moved))} {'higher' if moved > 0 else 'lower'}.",
            ],
        )

    def methods_text(self) -> str:
        """Return the sentences for a methods section, made from the settings of this fit."""
        return (
            f"A Bayesian random-effects model was fitted to {self.k} correlations with the exact sampling density of "
            "each r under bivariate normality (Hotelling, 1953) in place of the normal approximation to Fisher's z; "
            "true effects were taken as normal on Fisher's z. "
            f"Priors were {self.mu_prior} for the mean effect and {self.tau_prior} for tau, both on Fisher's z. The "
            "posterior was computed by numerical quadrature (alliance_meta). Intervals are "
            f"{KINDS[self.interval]} and hold {format_level(self.level)} of the posterior."
        )

    def _statistics(self) -> dict[str, Any]:
        return {
            "k": self.k,
            **self.effects.counts,
            "level": self.level,
            "mu": self.posterior("mu").median,
            "tau": self.posterior("tau").median,
            "log_marginal_likelihood": self.log_marginal_likelihood,
            "error_bound": self.error_bound,
        }


# Above this error not every printed digit can be trusted.
WORST_ERROR = 1e-8
FEW_FOR_TAU = 5


def exact_correlation(
    effects: EffectSizes,
    *,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    level: float = 0.95,
    interval: IntervalKind = "eti",
) -> BayesianCorrelationResults:
    r"""Solve the Bayesian random-effects model of correlations without the normal approximation to Fisher's z.

    The usual analysis treats Fisher's z of each observed correlation as normal with variance 1 / (n - 3) and without
    bias. In small samples neither is quite true. Here each study enters through the exact probability density of its
    r, given its true correlation and its n; the true correlations vary between studies as in the usual model.

    Parameters
    ----------
    effects : EffectSizes
        Fisher z (``ZCOR``) or raw correlations (``COR``) with their sample sizes, from `escalc`; n >= 4.
    mu_prior : EffectPrior
        Of the mean effect, on Fisher's z.
    tau_prior : TauPrior
        Of tau, the standard deviation of true effects between studies, on Fisher's z; proper.
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        ``eti``: equal-tailed intervals; ``hdi``: the shortest ones.

    Returns
    -------
    BayesianCorrelationResults

    Raises
    ------
    InputError
        `effects` are not plain Pearson correlations, or their sample sizes are missing or below 4; a prior is of the
        wrong kind; the prior of tau is improper.

    Warns
    -----
    ConvergenceWarning
        The integrals are not accurate; also in ``.notes`` of the result.

    See Also
    --------
    BayesianModel : The usual normal model, with moderators.
    ExactCorrelationModel : The same likelihood, maximised, without priors, with moderators.
    pymc.exact_correlation : The same model, sampled, with moderators.

    Notes
    -----
    .. math:: r_i \sim f(\cdot \mid \rho_i, n_i), \quad \operatorname{artanh} \rho_i \sim N(\mu, \tau^2)

    with f from Hotelling (1953, J. Royal Statistical Society B 15, 193-232), for bivariate normal data. The density
    of each r is tabulated; for each tau the true effects are integrated out for all mu at once, and mu and tau by the
    trapezoid rule, in a fraction of a second for 24 studies and about one for 300. The mean moves by about minus the
    mean of r / (2 (n - 1)), the known bias of Fisher's z. For zero-order correlations only: not for partial or
    corrected ones, nor for pooled correlations. The model assumes independent effects.

    Examples
    --------
    >>> import alliance_meta as am
    >>> fit = am.bayes.exact_correlation(am.escalc(am.load_dataset("molloy2014")))
    >>> fit.tidy().loc[["mu", "tau"], ["median", "ci_lb", "ci_ub"]].round(3).values.tolist()
    [[0.148, 0.082, 0.22], [0.096, 0.04, 0.184]]
    >>> fit.compare().loc["mu"].round(4).to_dict()
    {'exact': 0.1475, 'normal': 0.1481, 'difference': -0.0005}
    """
    if not isinstance(effects, EffectSizes):
        raise InputError(f"exact_correlation needs EffectSizes, not {type(effects).__name__}; make them with escalc")
    effects = as_fisher_z(effects)
    check_kind(mu_prior, EffectPrior, "mu_prior")
    check_kind(tau_prior, TauPrior, "tau_prior")
    check_level(level)
    check_option("interval", interval, IntervalKind)
    tau_prior = tau_prior.given(effects.vi)
    if not tau_prior.proper:
        raise InputError(
            f"the prior {tau_prior} of tau is improper, which this model does not take; give a proper one, such as "
            "HalfNormal(0.3), or use BayesianModel"
        )
    r, n = pearson(effects)
    tau = tau_density(tau_prior)
    problem = TabulatedProblem(tabulated_correlations(r, n), mu_prior.logpdf, tau, _tails(mu_prior, tau_prior, len(r)))
    exact = solve_tabulated(problem)
    return BayesianCorrelationResults(
        effects=effects,
        mu_prior=mu_prior,
        tau_prior=tau_prior,
        level=level,
        interval=interval,
        exact=exact,
        notes=merge_notes(effects.notes, _notes(effects.k, exact), dependence_notes(effects, stacklevel=4)),
    )


def _tails(mu_prior: EffectPrior, tau_prior: TauPrior, k: int) -> tuple[float, float]:
    """Return the a of the tails mu^-a and tau^-a; the likelihood of one true effect far away falls like 1 / tau."""
    of_tau = tau_prior.tail + k - (0 if mu_prior.proper else 1)
    return of_tau + (mu_prior.moments if mu_prior.proper else 0.0), of_tau


def _notes(k: int, exact: TabulatedPosterior) -> list[Note]:
    notes = []
    if k < FEW_FOR_TAU:
        message = (
            f"k = {k}: {'one effect says nothing' if k == 1 else 'so few effects say little'} about tau, whose "
            "posterior rests on its prior."
        )
        notes.append(Note("prior-bound", message))
    if exact.error > WORST_ERROR:
        message = (
            f"The integrals are only accurate to about {brief(exact.error, 1)}; do not rely on more digits than that."
        )
        notes.append(warn_note("not-converged", message, ConvergenceWarning))
    return notes
