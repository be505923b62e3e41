"""What priors say before any data, in words of correlations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import EFFECT, Quantities
from alliance_meta.bayes.exact.setup import check_kind, coordinates, tau_density
from alliance_meta.bayes.marginals import TANH, Marginal, MixtureMarginal, TransformedMarginal
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.predictive import few_nodes, spread_mixture, t_parts, tau_nodes
from alliance_meta.core.bayes.quadrature import mixture
from alliance_meta.core.bayes.scale import TPrior
from alliance_meta.encoding import plain
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, check_level, check_option
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import fixed, format_level

# Weight, mean and standard deviation of normals, (n,) each.
Parts = tuple[Array, Array, Array]
OUT_OF_REACH = "infinite or out of reach: the tail of the prior is too heavy"
# A moment that the nodes have to fewer digits is not given.
CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class TauPriorMarginal(Marginal):
    """What a proper prior says of tau."""

    name: str
    prior: TauPrior

    _lowest = 0.0

    def _has(self, order: int) -> bool:
        return self.prior.tail - order > 1.0

    def _expect(self, order: int) -> float:
        found = self.prior.mean_sd()[order - 1]
        return found if self._has(order) and np.isfinite(found) else NotApplicable(OUT_OF_REACH)

    @property
    def has_square(self) -> bool:
        """Whether the nodes have the mean of tau^2; the tail may hold most of it, and lie beyond them."""
        tau, weight = self.nodes
        mean, sd = self.prior.mean_sd()
        # Beside the mean, which may be too large to be squared.
        exact = 1.0 + (sd / mean) ** 2
        return bool(abs(weight @ (tau / mean) ** 2 - exact) <= CLOSE * exact < np.inf)

    @cached_property
    def nodes(self) -> tuple[Array, Array]:
        """Values of tau that stand for all, and their weights."""
        return tau_nodes(tau_density(self.prior))

    def _cdf(self, x: Array) -> Array:
        return self.prior.cdf(x)

    def _sf(self, x: Array) -> Array:
        return 1.0 - self.prior.cdf(x)

    def _pdf(self, x: Array) -> Array:
        return np.where(x >= 0, self.prior.pdf(np.maximum(x, 0.0)), 0.0)

    def _quantile(self, p: Array) -> Array:
        return self.prior.quantile(p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the mean of a slowly growing function of tau."""
        tau, weight = self.nodes
        return float(weight @ function(tau))


def effect_parts(priors: Sequence[EffectPrior], c: Array) -> Parts | None:
    """Return the prior of a sum of coefficients times `c` as normals; None where one that counts is flat."""
    used = [(prior, float(weight)) for prior, weight in zip(priors, c, strict=True) if weight]
    if not all(prior.proper for prior, _ in used):
        return None
    mean, variance = 0.0, 0.0
    for prior, weight in used:
        if prior.gaussian is not None:
            centre, precision = prior.gaussian
            mean, variance = mean + weight * centre, variance + weight**2 / precision
    heavy = [(prior.student, weight) for prior, weight in used if prior.student is not None]
    if not heavy:
        return np.ones(1), np.array([mean]), np.array([np.sqrt(variance)])
    parameters, weight = heavy[0]
    share, middle, sd = t_parts(TPrior(0, *parameters))
    return share, mean + weight * middle, np.sqrt(variance + (weight * sd) ** 2)


def lightest_tail(priors: Sequence[EffectPrior], c: Array) -> float:
    """Return how many moments the prior of such a sum has: fewer than its degrees of freedom."""
    return min((prior.moments for prior, weight in zip(priors, c, strict=True) if weight), default=np.inf)


def mean_prior(name: str, priors: Sequence[EffectPrior], c: Array) -> MixtureMarginal | None:
    """Return the prior of a mean effect or coefficient, c'b."""
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    weight, mean, sd = parts
    moments = lightest_tail(priors, c)
    return MixtureMarginal(name, mixture(weight, mean[None], sd[None]), moments > 1, moments > 2)


def new_prior(
    name: str,
    priors: Sequence[EffectPrior],
    c: Array,
    nodes: tuple[Array, Array],
    *,
    taus: Sequence[TauPriorMarginal],
    variance: float = 0.0,
) -> MixtureMarginal | None:
    """Return the prior of the true effect of a study, or of its result with a sampling error of some variance.

    `nodes` are values of tau, or of the total of several, with their weights.
    """
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    if len(parts[0]) > 1:
        nodes = few_nodes(*nodes)
    tail = lightest_tail(priors, c)
    has_mean, has_sd = all(one._has(1) for one in taus), all(one.has_square for one in taus)
    made = spread_mixture(parts, *nodes, variance=variance)
    return MixtureMarginal(name, made, tail > 1 and has_mean, tail > 2 and has_sd)


def need_proper(prior: EffectPrior | TauPrior) -> None:
    """Raise an `InputError` where a prior is improper."""
    if not prior.proper:
        raise InputError(
            f"{prior} is improper: its density does not integrate to 1, so that it predicts nothing before data"
        )


def prior_of(fit: Quantities, what: str) -> Marginal | None:
    """Return the prior of a quantity of a fit; None where it is improper.

    Raises `InputError`: a quantity other than the mean effect, coefficients, tau and true effects.
    """
    priors, which = fit.priors, fit.priors.which(what)
    if which is not None:
        tau = priors.taus[which]
        return TauPriorMarginal(priors.tau_names[which], tau) if tau.proper else None
    study = EFFECT.fullmatch(what)
    if study is None and what != "theta_new":
        return mean_prior(what, priors.coefficients, fit._row(what))
    c = fit._mean_row if study is None else fit.design.X[fit._study(study[1])] @ coordinates(fit.design)
    if not all(prior.proper for prior in priors.taus):
        return None
    parts = [TauPriorMarginal(name, prior) for name, prior in zip(priors.tau_names, priors.taus, strict=True)]
    if len(parts) == 1:
        return new_prior(what, priors.coefficients, c, parts[0].nodes, taus=parts)
    (first, own), (second, other) = (few_nodes(*one.nodes) for one in parts)
    nodes = np.hypot(first[:, None], second).ravel(), (own[:, None] * other).ravel()
    return new_prior(what, priors.coefficients, c, nodes, taus=parts)


PriorScale = Literal["r", "z"]
FEWEST_PEOPLE = 4
ROWS = {
    "r": {"mu": "mean correlation", "theta_new": "true correlation in a new study", "yi": "observed correlation"},
    "z": {"mu": "mean effect", "theta_new": "true effect in a new study", "yi": "observed effect"},
}
_SMALL, _LARGE = 0.1, 0.5


@dataclass(frozen=True, repr=False)
class PriorPredictive(Result):
    """What priors of mean effect and tau say before any data.

    Made by `prior_predictive`.

    Attributes
    ----------
    mu_prior : EffectPrior
    tau_prior : TauPrior
    n : int or None
        People in a study.
    level : float
        Probability inside the wider intervals, a fraction.
    scale : {"r", "z"}
        Of everything but tau, which is always on the analysis scale.
    """

    mu_prior: EffectPrior
    tau_prior: TauPrior
    n: int | None = None
    level: float = 0.95
    scale: PriorScale = "r"

    def prior(self, what: str) -> Marginal:
        """Return the distribution of one quantity before any data.

        Parameters
        ----------
        what : {"mu", "theta_new", "yi", "tau"}
            The mean effect, the true effect in a new study, its observed effect (needs `n`), or tau.
        """
        if what not in self._marginals:
            hint = "; the observed effect yi needs n" if what == "yi" else ""
            raise InputError(f"no quantity {what!r}{hint}. Known: {', '.join(self._marginals)}")
        return self._marginals[what]

    def tidy(self) -> pd.DataFrame:
        """Return one row per quantity, unrounded.

        Returns
        -------
        DataFrame
            Indexed by ``mu``, ``theta_new``, ``yi`` (with `n`) and ``tau``; half of the prior lies between ``q25`` and
            ``q75``, `level` of it between ``ci_lb`` and ``ci_ub``.
        """
        p = [0.5 * (1.0 - self.level), 0.25, 0.5, 0.75, 0.5 * (1.0 + self.level)]
        rows = {name: one.quantile(p) for name, one in self._marginals.items()}
        columns = ["ci_lb", "q25", "median", "q75", "ci_ub"]
        out = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")
        out.attrs.update(level=self.level, scale=self.scale)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return priors and numbers as JSON-ready values."""
        table = self.tidy()
        return plain(
            {
                "mu_prior": self.mu_prior.to_dict(), "tau_prior": self.tau_prior.to_dict(), "n": self.n,
                "level": self.level, "scale": self.scale,
                "prior": {"parameter": list(table.index), **columns_of(table)},
            }
        )  # fmt: skip

    def _content(self) -> Document:
        table, tau = self.tidy(), self.tau_prior
        share = format_level(self.level)
        title, lines = f"Before any data (mean effect: {self.mu_prior}; tau: {tau}):", []
        for name, row in table.iloc[:-1].iterrows():
            of = f", n = {self.n}" if name == "yi" else ""
            lines.append(
                f"- {ROWS[self.scale][str(name)].capitalize()}{of}: half between {_number(row.q25)} and "
                f"{_number(row.q75)}, {share} between {_number(row.ci_lb)} and {_number(row.ci_ub)}."
            )
        high = float(tau.quantile(0.95))
        lines.append(f"- tau: median {_number(float(tau.quantile(0.5)))}, 95% below {_number(high)}.")
        if self.scale == "r":
            middle, wide = np.tanh(float(ndtri(0.975)) * tau.quantile([0.5, 0.95])).tolist()
            lines.append(
                f"- Around a mean correlation of 0, 95% of studies' true correlations lie within ±{_number(middle)} "
                f"at the median of tau, and within ±{_number(wide)} at its 95% point."
            )
            lines.append(f"- {self._shares()}")
        return Document(title, lines)

    def _shares(self) -> str:
        mu = self.prior("mu")
        small, large = mu.prob(-_SMALL, _SMALL), 1.0 - mu.prob(-_LARGE, _LARGE)
        return (
            f"Probability of a mean correlation within ±{_number(_SMALL)}: {_number(small)}; beyond "
            f"±{_number(_LARGE)}: {_number(large)}."
        )

    @cached_property
    def _marginals(self) -> dict[str, Marginal]:
        tau = TauPriorMarginal("tau", self.tau_prior)
        priors, c = (self.mu_prior,), np.ones(1)
        found: dict[str, Marginal | None] = {
            "mu": mean_prior("mu", priors, c),
            "theta_new": new_prior("theta_new", priors, c, tau.nodes, taus=[tau]),
        }
        if self.n is not None:
            error = 1.0 / (self.n - 3.0)
            found["yi"] = new_prior("yi", priors, c, tau.nodes, taus=[tau], variance=error)
        made: dict[str, Marginal] = {}
        for name, one in found.items():
            assert one is not None
            made[name] = TransformedMarginal(f"{name} as r", one, TANH) if self.scale == "r" else one
        return made | {"tau": tau}


def prior_predictive(
    *,
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    n: int | None = None,
    level: float = 0.95,
    scale: PriorScale = "r",
) -> PriorPredictive:
    r"""Say what priors mean before any data: which correlations they hold to be plausible.

    A prior on Fisher's z is hard to judge. What it says of mean correlations, of the true correlation in a new study
    and of the correlation that a study of n people would observe can be held against experience.

    Parameters
    ----------
    mu_prior : EffectPrior
        Of the mean effect.
    tau_prior : TauPrior
        Of the standard deviation between studies. One that depends on the sampling variances must hold them:
        ``priors.DuMouchel(vi)``.
    n : int, optional
        Number of people, at least 4, for the observed correlation.
    level : float
        Probability inside the wider intervals, a fraction.
    scale : {"r", "z"}
        Correlations; or the analysis scale, for effects that are none.

    Returns
    -------
    PriorPredictive
        ``print`` says it in words, ``tidy()`` in numbers, `plots.prior_predictive` draws it.

    Raises
    ------
    InputError
        An improper prior, or an `n` that is too small.

    Notes
    -----
    .. math:: \theta_{new} \mid \mu, \tau \sim N(\mu, \tau^2), \quad y \mid \theta_{new} \sim N(\theta_{new}, 1/(n-3))

    on Fisher's z. All quantiles are exact or by quadrature over tau (and over the scale of a Student t prior).

    Examples
    --------
    >>> from alliance_meta import bayes
    >>> print(bayes.prior_predictive(n=50))
    Before any data (mean effect: normal(0, 0.5); tau: half-normal(0.3)):
    - Mean correlation: half between -.33 and .33, 95% between -.75 and .75.
    - True correlation in a new study: half between -.36 and .36, 95% between -.82
      and .82.
    - Observed correlation, n = 50: half between -.38 and .38, 95% between -.83 and
      .83.
    - tau: median .20, 95% below .59.
    - Around a mean correlation of 0, 95% of studies' true correlations lie within
      ±.38 at the median of tau, and within ±.82 at its 95% point.
    - Probability of a mean correlation within ±.10: .16; beyond ±.50: .27.
    """
    check_kind(mu_prior, EffectPrior, "mu_prior")
    check_kind(tau_prior, TauPrior, "tau_prior")
    need_proper(mu_prior)
    need_proper(tau_prior)
    check_level(level)
    check_option("scale", scale, PriorScale)
    if n is not None and not (isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= FEWEST_PEOPLE):
        raise InputError(f"n={n!r}: Fisher's z needs a whole number of at least {FEWEST_PEOPLE} people")
    tau_prior.quantile(0.5)
    return PriorPredictive(mu_prior, tau_prior, None if n is None else int(n), level, scale)


def _number(value: float) -> str:
    """Return ``.33``, as correlations are written."""
    text = fixed(value, 2)
    if text == "0.00":
        return "0"
    return text.replace("0.", ".", 1) if abs(value) < 1 and not text.endswith("1.00") else text
