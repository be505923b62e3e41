"""Which quantity is meant by a name, and the plain numbers of a posterior under metafor's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.setup import Priors, coordinates
from alliance_meta.bayes.hypotheses import BayesFactor, shown
from alliance_meta.bayes.marginals import (
    INFINITE,
    LACKS,
    SQUARE,
    IntervalKind,
    Marginal,
    MixtureMarginal,
    Posterior,
    TauMarginal,
    TransformedMarginal,
    as_table,
    row,
    share_of,
)
from alliance_meta.core.bayes.quadrature import NormalMixture
from alliance_meta.core.bayes.two_level import ExactPosterior, thinned
from alliance_meta.core.univariate.fit import heterogeneity
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, Scale, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.fit import Noun

# Studies whose true effects are worked on at once.
AT_ONCE = 5000
# Spreads of true effects, by names that every model has.
SPREADS = ("tau", "tau2", "I2")
EFFECT = re.compile(r"theta\[(.*)\]", re.DOTALL)

# Standard deviations (n,) or (n, 2), coefficients in the coordinates of the quadrature (n, p), the spread of a new
# effect (n,), true effects (n, k).
Drawn = tuple[Array, Array, Array, Array]


class Quantities(Posterior):
    """The quantities of an exact posterior by name, and what tables, words and further questions need of a fit."""

    lacks: ClassVar[Mapping[str, str]] = LACKS
    model_label = "Bayesian"
    # What a row is, for messages.
    _row_is: ClassVar[str] = "study"

    effects: EffectSizes
    design: Design
    exact: Any
    notes: tuple[Note, ...]
    if TYPE_CHECKING:

        @property
        def priors(self) -> Priors:
            """Those of the coefficients and of the standard deviations."""

    @property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data under model and priors; not applicable with an improper prior."""
        return self.priors.evidence(self.exact.log_marginal)

    error_bound = Noun[float](
        "exact.error",
        "What the quadrature may have lost: relative of the marginal likelihood, absolute of any probability.",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients, (p,): ``mu`` without moderators."""
        return ("mu",) if self.design.formula == "1" else self.design.names

    @cached_property
    def beta(self) -> Array:
        """Posterior means of the coefficients, (p,)."""
        return self._of_coefficients("mean")

    @cached_property
    def se(self) -> Array:
        """Posterior standard deviations of the coefficients, (p,)."""
        return self._of_coefficients("sd")

    @cached_property
    def ci_lb(self) -> Array:
        """Lower limits of the credible intervals of the coefficients, (p,)."""
        return self._limits[0]

    @cached_property
    def ci_ub(self) -> Array:
        """Upper limits of the credible intervals of the coefficients, (p,)."""
        return self._limits[1]

    @cached_property
    def vb(self) -> Array:
        """Posterior covariance of the coefficients, (p, p); NaN where infinite."""
        if not self.exact.finite(2, of="coefficients"):
            return np.full((self.p, self.p), np.nan)
        weight, mean = self.exact.weight, self.exact.mean
        away = mean - weight @ mean
        inner = np.einsum("b,bij,bik->jk", weight, self.exact.root, self.exact.root)
        T = coordinates(self.design)
        return T @ (inner + (away * weight[:, None]).T @ away) @ T.T

    @property
    def tau(self) -> float:
        """Posterior median of tau, the standard deviation of all true effects."""
        return self._median("tau")

    @property
    def tau2(self) -> float:
        """Posterior median of tau2, the variance of all true effects."""
        return self._median("tau2")

    @property
    def I2(self) -> float:
        """Posterior median of I2, the share of the variance of true effects in that of all, in percent."""
        return self._median("I2")

    @property
    def _mean_row(self) -> Array:
        """The mean effect at the average of the moderators, in the coordinates of the quadrature."""
        return self.design.X.mean(axis=0) @ coordinates(self.design)

    @cached_property
    def _thinned(self) -> ExactPosterior:
        """The posterior with few components."""
        return thinned(self.exact, self._mean_row)

    def tidy(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return one row per quantity, unrounded, on the analysis scale.

        Parameters
        ----------
        level : float, optional
        interval : {"eti", "hdi"}, optional

        Returns
        -------
        DataFrame
            Indexed by ``mu`` (with moderators, the coefficients), ``tau`` (of a three-level model ``tau[<term>]`` for
            both terms), ``theta_new`` (the true effect of a new study, or of a row in a new group; with moderators, at
            their average) and ``theta[<label>]`` (that of each row), with columns ``mean sd median ci_lb ci_ub``. Kind
            and probability of the interval are in ``.attrs``.
        """
        used, kind = self._interval(level, interval)
        rows: dict[str, Sequence[float]] = {}
        for labels, mixture, of in self._mixtures():
            rows |= zip(labels, self._mixture_rows(mixture, used, kind, of), strict=True)
            if of == "coefficients":
                rows |= {name: row(self.posterior(name), used, kind) for name in self.priors.tau_names}
        return as_table(rows, self.effects.scale_label, used, kind)

    def posterior(self, what: str | Mapping[str, float], *, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity.

        Parameters
        ----------
        what : str or mapping of str to float
            ``"mu"`` (with moderators, the mean effect at their average), a coefficient, ``"tau"``, ``"tau2"``,
            ``"I2"``, ``"theta_new"``, ``"theta[<label>]"``; or weights of a linear combination of coefficients
            and true effects, ``{"theta[Smith]": 1, "theta[Jones]": -1}``. Of a three-level model ``"tau"`` is the
            standard deviation of all true effects together, and there are ``"tau[<term>]"`` and ``"icc"``, the share
            of tau2 that lies between groups.
        scale : {"z", "r"}, optional
            ``"r"`` for correlations: tanh of a mean or true effect.

        Returns
        -------
        Marginal
            With ``mean``, ``sd``, ``median``, ``interval()``, ``cdf(x)``, ``pdf(x)``, ``quantile(p)``, ``prob()``
            and ``density()``, a table to draw.

        Examples
        --------
        >>> import alliance_meta as am
        >>> fit = am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()
        >>> print(fit.posterior("theta_new", scale="r"))
        theta_new as r: median 0.1460 [-0.0768, 0.3646] (95% equal-tailed)
        """
        return self._marginal(what, scale)

    def _mixtures(self) -> Iterator[tuple[Sequence[str], NormalMixture, str]]:
        """Yield labels and mixtures of coefficients, of a new effect, and of the studies, some at a time."""
        yield self.names, self._coefficients(np.eye(len(self.names))), "coefficients"
        yield ("theta_new",), self.exact.new_effects(self._mean_row[None]), "new"
        for start in range(0, len(self.effects.slab), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            yield [f"theta[{label}]" for label in self.effects.slab[some]], self._true_effects(some), "study"

    def _mixture_rows(
        self, mixture: NormalMixture, level: float, kind: IntervalKind, of: str
    ) -> Iterator[tuple[float, ...]]:
        q = mixture.quantile(np.array([0.5 * (1.0 - level), 0.5, 0.5 * (1.0 + level)]))
        lower, upper = mixture.shortest(level) if kind == "hdi" else (q[:, 0], q[:, 2])
        moments = [
            one if self.exact.finite(order, of=of) else np.array([NotApplicable(INFINITE)] * mixture.m, dtype=object)
            for order, one in enumerate(mixture.moments(), start=1)
        ]
        return zip(*(one.tolist() for one in (*moments, q[:, 1], lower, upper)), strict=True)

    def _of_coefficients(self, number: str) -> Array:
        return np.array([getattr(self._marginal(name), number) for name in self.names], dtype=float)

    def _coefficients(self, X: Array) -> NormalMixture:
        """Return the posterior of the rows X (m, p) times the coefficients as they are printed."""
        return self.exact.coefficients(X @ coordinates(self.design))

    def _new_effects(self, X: Array) -> NormalMixture:
        return self.exact.new_effects(X @ coordinates(self.design))

    def _marginal(self, what: str | Mapping[str, float], scale: Scale | None = None) -> Marginal:
        if isinstance(what, Mapping):
            return self._on_scale(self._combination(what), scale, "")
        found = self._named(str(what).strip())
        slope = what in self.names and what not in ("mu", INTERCEPT)
        no_effect = f"the coefficient {what}" if slope and self.design.has_intercept else ""
        return self._on_scale(found, scale, str(what).strip() if self._is_spread(str(what).strip()) else no_effect)

    def _is_spread(self, name: str) -> bool:
        """Whether a name is that of a standard deviation or of what is made of it."""
        return name in SPREADS or self.priors.which(name) is not None

    def _median(self, name: str) -> float:
        try:
            return self._marginal(name).median
        except InputError as refused:
            return NotApplicable(str(refused))

    @property
    def _known(self) -> list[str]:
        return list(dict.fromkeys([*self.names, "mu", *self.priors.tau_names, "tau", "tau2", "I2", "theta_new"]))

    def _named(self, name: str) -> Marginal:
        if name in SPREADS:
            return self._of_tau(name)
        which = self.priors.which(name)
        if which is not None:
            return self._deviation(self.exact, which)
        if name == "theta_new":
            mixture = self.exact.new_effects(self._mean_row[None])
            return self._mixture(name, mixture, of="new")
        study = EFFECT.fullmatch(name)
        if study:
            return self._mixture(name, self._true_effect(self._study(study[1])), of="study")
        return self._mixture(name, self.exact.coefficients(self._row(name)[None]), of="coefficients")

    def _row(self, name: str) -> Array:
        """Return the weights of a coefficient, or of the mean effect, in the coordinates of the quadrature."""
        if name in self.names:
            return coordinates(self.design)[self.names.index(name)]
        if name == "mu":
            return self._mean_row
        raise InputError(
            f"no quantity {name!r}{did_you_mean(name, self._known)} Known: {', '.join(self._known)}, theta[<label>]"
        )

    def _study(self, label: str) -> int:
        slab = list(self.effects.slab)
        if label not in slab:
            raise InputError(f"theta[{label}]: no {self._row_is} has this label{did_you_mean(label, slab) or '.'}")
        return slab.index(label)

    def _combination(self, weights: Mapping[str, float]) -> Marginal:
        c, d = np.zeros(self.p), np.zeros(self.k)
        for name, weight in weights.items():
            if not np.isfinite(weight):
                raise InputError(f"the weight of {name} is {weight!r}; give a finite number")
            study = EFFECT.fullmatch(name)
            if study:
                d[self._study(study[1])] += weight
            else:
                c = c + weight * self._row(name)
        if not (c.any() or d.any()):
            raise InputError("every weight of the combination is 0")
        words = " + ".join(f"{weight:g} {name}" for name, weight in weights.items() if weight)
        of = "coefficients" if c.any() else "study"
        return self._mixture(words.replace("+ -", "- "), self._combined(c, d), of=of)

    def _combined(self, c: Array, d: Array) -> NormalMixture:
        """Return the posterior of c (p,) times the coefficients plus d (k,) times the true effects."""
        return self.exact.combination(c, d)

    def _true_effect(self, i: int) -> NormalMixture:
        d = np.zeros(self.k)
        d[i] = 1.0
        return self._combined(np.zeros(self.p), d)

    def _true_effects(self, some: slice) -> NormalMixture:
        return self.exact.study_effects(some)

    def _deviation(self, exact: ExactPosterior, which: int) -> Marginal:
        """Return the posterior of one of the standard deviations, also of a posterior with other priors."""
        return TauMarginal(exact)

    def _mixture(self, name: str, mixture: NormalMixture, *, of: str) -> Marginal:
        return MixtureMarginal(name, mixture, self.exact.finite(1, of=of), self.exact.finite(2, of=of))

    def _of_tau(self, name: str) -> Marginal:
        tau = self._all_spread
        if name == "tau":
            return tau
        if name == "tau2":
            return TransformedMarginal("tau2", tau, SQUARE)
        if self.k <= self.p:
            raise InputError(f"I2 needs more effects than coefficients; these are {self.k} and {self.p}")
        return TransformedMarginal("I2", tau, share_of(self._typical_variance))

    @property
    def _all_spread(self) -> Marginal:
        """The standard deviation of all true effects."""
        return TauMarginal(self.exact)

    @property
    def _typical_variance(self) -> float:
        batch = make_batch(self.effects.yi, self.effects.vi, self.design.X)
        return heterogeneity(batch, tau2=0.0, equal_effects=False).vt

    def _drawn(self, rng: np.random.Generator, draws: int) -> Drawn:
        """Draw standard deviations, coefficients, the spread of a new effect, and true effects."""
        raise NotImplementedError

    def _solver(self, priors: Priors) -> Callable[[Any], Any]:
        """Return what solves the model with these priors and others of the standard deviations; `prior_grid` asks."""
        raise NotImplementedError

    def loo(self) -> Result:
        """Leave out each row in turn, exactly."""
        raise NotImplementedError

    @property
    def _model_words(self) -> list[str]:
        """The first line of a summary, and what else it says of the model."""
        raise NotImplementedError

    @property
    def _method_words(self) -> tuple[str, str]:
        """What was fitted, and how it was integrated, for a methods section."""
        raise NotImplementedError

    @property
    def _nesting(self) -> dict[str, dict[str, Any]]:
        """What a model of effects within studies adds to each part of `to_dict`."""
        return {"model": {}, "statistics": {}, "studies": {}}

    @cached_property
    def _bayes_factors(self) -> dict[str, BayesFactor]:
        """The Bayes factors of every summary."""
        names = [name for name in dict.fromkeys(("mu", *self.names)) if name != INTERCEPT]
        return {f"{one} = 0": shown(self, f"{one} = 0") for one in (*names, *self.priors.tau_names)}
