"""Which quantity is meant by a name, and the plain numbers of a posterior under metafor's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.marginals import (
    SQUARE,
    TANH,
    IntervalKind,
    Marginal,
    MixtureMarginal,
    StatedIntervals,
    TauMarginal,
    TransformedMarginal,
    share_of,
)
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.core.bayes.two_level import ExactPosterior, thinned
from alliance_meta.core.univariate.fit import heterogeneity
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale, did_you_mean


class Quantities(StatedIntervals):
    """The quantities of a posterior by name; the base of `BayesianResults`."""

    effects: EffectSizes
    design: Design
    level: float
    interval: IntervalKind
    exact: ExactPosterior

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
        """Posterior median of tau."""
        return self._marginal("tau").median

    @property
    def tau2(self) -> float:
        """Posterior median of tau2."""
        return self._marginal("tau2").median

    @property
    def I2(self) -> float:
        """Posterior median of I2, the share of variance between studies in percent."""
        if self.k <= self.p:
            return NotApplicable("no effects to spare beyond the coefficients")
        return self._marginal("I2").median

    @property
    def _mean_row(self) -> Array:
        """The mean effect at the average of the moderators, in the coordinates of the quadrature."""
        return self.design.X.mean(axis=0) @ coordinates(self.design)

    @cached_property
    def _thinned(self) -> ExactPosterior:
        """The posterior with few components."""
        return thinned(self.exact, self._mean_row)

    @property
    def model_label(self) -> str:
        """A short name of the model, for labels."""
        return "Bayesian"

    @property
    def _scale(self) -> str:
        measure = self.effects.measure
        return "z" if measure == "ZCOR" else "r" if measure in ("COR", "UCOR") else "analysis"

    @cached_property
    def _limits(self) -> tuple[Array, Array]:
        found = [self._marginal(name).interval(level=self.level, kind=self.interval) for name in self.names]
        return np.array([one.lb for one in found]), np.array([one.ub for one in found])

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
        kind = f"the coefficient {what}" if slope and self.design.has_intercept else ""
        kind = str(what) if what in ("tau", "tau2", "I2") else kind
        return self._on_scale(found, scale, kind)

    def _named(self, name: str) -> Marginal:
        if name in ("tau", "tau2", "I2"):
            return self._of_tau(name)
        if name == "theta_new":
            mixture = self.exact.new_effects(self._mean_row[None])
            return self._mixture(name, mixture, of="new")
        study = re.fullmatch(r"theta\[(.*)\]", name, re.DOTALL)
        if study:
            d = np.zeros(self.k)
            d[self._study(study[1])] = 1.0
            return self._mixture(name, self.exact.combination(np.zeros(self.p), d), of="study")
        return self._mixture(name, self.exact.coefficients(self._row(name)[None]), of="coefficients")

    def _row(self, name: str) -> Array:
        """Return the weights of a coefficient, or of the mean effect, in the coordinates of the quadrature."""
        if name in self.names:
            return coordinates(self.design)[self.names.index(name)]
        if name == "mu":
            return self._mean_row
        known = list(dict.fromkeys([*self.names, "mu", "tau", "tau2", "I2", "theta_new"]))
        raise InputError(
            f"no quantity {name!r}{did_you_mean(name, known)} Known: {', '.join(known)}, theta[<label of a study>]"
        )

    def _study(self, label: str) -> int:
        slab = list(self.effects.slab)
        if label not in slab:
            raise InputError(f"theta[{label}]: no study has this label{did_you_mean(label, slab) or '.'}")
        return slab.index(label)

    def _combination(self, weights: Mapping[str, float]) -> Marginal:
        c, d = np.zeros(self.p), np.zeros(self.k)
        for name, weight in weights.items():
            if not np.isfinite(weight):
                raise InputError(f"the weight of {name} is {weight!r}; give a finite number")
            study = re.fullmatch(r"theta\[(.*)\]", name, re.DOTALL)
            if study:
                d[self._study(study[1])] += weight
            else:
                c = c + weight * self._row(name)
        if not (c.any() or d.any()):
            raise InputError("every weight of the combination is 0")
        words = " + ".join(f"{weight:g} {name}" for name, weight in weights.items() if weight)
        of = "coefficients" if c.any() else "study"
        return self._mixture(words.replace("+ -", "- "), self.exact.combination(c, d), of=of)

    def _mixture(self, name: str, mixture: NormalMixture, *, of: str) -> Marginal:
        return MixtureMarginal(name, mixture, self.exact.finite(1, of=of), self.exact.finite(2, of=of))

    def _of_tau(self, name: str) -> Marginal:
        tau = TauMarginal(self.exact)
        if name == "tau":
            return tau
        if name == "tau2":
            return TransformedMarginal("tau2", tau, SQUARE)
        if self.k <= self.p:
            raise InputError(f"I2 needs more effects than coefficients; these are {self.k} and {self.p}")
        batch = make_batch(self.effects.yi, self.effects.vi, self.design.X)
        return TransformedMarginal("I2", tau, share_of(heterogeneity(batch, tau2=0.0, equal_effects=False).vt))

    def _on_scale(self, marginal: Marginal, scale: Scale | None, what: str) -> Marginal:
        """Return the quantity as r where that is asked for; `what` names one that cannot be a correlation."""
        if scale is None or scale == self._scale:
            return marginal
        if self._scale != "z" or scale != "r":
            raise InputError(f"scale={scale!r}: effects on the scale {self.effects.scale_label!r} cannot be shown so")
        if what:
            raise InputError(f"scale='r': {what} is no effect, so that it cannot be shown as a correlation")
        return TransformedMarginal(f"{marginal.name} as r", marginal, TANH)
