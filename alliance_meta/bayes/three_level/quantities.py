"""The quantities of a three-level posterior by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.averaged.quantity import GridMarginal
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.bayes.marginals import (
    INFINITE,
    SHARE,
    SQUARE,
    Marginal,
    MixtureMarginal,
    TransformedMarginal,
    share_of,
)
from alliance_meta.bayes.three_level.priors import MultilevelPriors
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.core.bayes.trapezoid import Grid
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray, stacks
from alliance_meta.core.three_level.effects import combination, row_effects, thinned
from alliance_meta.core.three_level.grid import total_and_share
from alliance_meta.core.three_level.posterior import MultilevelPosterior
from alliance_meta.core.three_level.rows import GroupedRows, grouped_rows
from alliance_meta.core.univariate.fit import heterogeneity
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale, did_you_mean

# Two integrations of one posterior, by both deviations and by their total and share, have to agree.
AGREE = 1e-7
NO_TOTAL = (
    "the total of {} and {} cannot be worked out to enough digits: the posterior of their share is too narrow. Ask for "
    "each by itself"
)
EFFECT = re.compile(r"theta\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, eq=False)
class SquaredMarginal(TransformedMarginal):
    """The square of a standard deviation."""

    # The highest moment that is finite.
    moments: int = 2

    def _expect(self, order: int) -> float:
        if order > self.moments:
            return NotApplicable(INFINITE)
        mean = self.inner.average(np.square)
        return mean if order == 1 else float(np.sqrt(self.inner.average(lambda x: (x**2 - mean) ** 2)))


class MultilevelQuantities(Quantities):
    """The quantities of a three-level posterior by name; the base of `BayesianMultilevelResults`."""

    priors: MultilevelPriors
    exact: MultilevelPosterior  # type: ignore[assignment]
    group: IntArray
    V: SamplingCovariance | None

    @property
    def taus(self) -> dict[str, float]:
        """Posterior median of the standard deviation of each term."""
        names = zip(self.priors.terms, self.priors.tau_names, strict=True)
        return {term: self._marginal(name).median for term, name in names}

    @property
    def sigma2(self) -> Array:
        """Posterior medians of the variances, between groups and within, (2,)."""
        return np.array(list(self.taus.values())) ** 2

    @property
    def icc(self) -> float:
        """Posterior median of the share of the true variance that lies between groups."""
        return self._median("icc")

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    def _named(self, name: str) -> Marginal:
        which = self.priors.which(name)
        if which is not None:
            known = self.priors.tau_names[which]
            return GridMarginal(known, self.exact.deviation(which), self.exact.moments(which))
        effect = EFFECT.fullmatch(name)
        if effect:
            return MixtureMarginal(name, self._true_effects.row(self._study(effect[1])))
        if name == "icc":
            return TransformedMarginal(name, GridMarginal("logit", self._total.marginal(1)), SHARE)
        if name.startswith("tau[") or (name not in self._known and name not in self.names):
            known_names = [*self._known, *self.names]
            raise InputError(
                f"no quantity {name!r}{did_you_mean(name, known_names)} Known: {', '.join(known_names)}, "
                "theta[<label of an effect>]"
            )
        return super()._named(name)

    @property
    def _known(self) -> list[str]:
        return ["mu", *self.priors.tau_names, "tau", "tau2", "I2", "icc", "theta_new"]

    def _marginal(self, what: str | Mapping[str, float], scale: Scale | None = None) -> Marginal:
        if isinstance(what, str) and (what.strip() == "icc" or self.priors.which(what.strip()) is not None):
            return self._on_scale(self._named(what.strip()), scale, what.strip())
        return super()._marginal(what, scale)

    def _of_tau(self, name: str) -> Marginal:
        moments = sum(self.exact.finite(order, of="new") for order in (1, 2))
        tau = GridMarginal("tau", self._total.marginal(0), moments)
        if name == "tau":
            return tau
        if name == "tau2":
            finite = sum(self.exact.finite(order, of="new") for order in (2, 4))
            return SquaredMarginal("tau2", tau, SQUARE, finite)
        if self.k <= self.p:
            raise InputError(f"I2 needs more effects than coefficients; these are {self.k} and {self.p}")
        return TransformedMarginal("I2", tau, share_of(self._typical_variance))

    @property
    def _typical_variance(self) -> float:
        """(k - p) / trace(P) with P of the model with sampling error only, as of `MultilevelResults`."""
        if self.V is None:
            batch = make_batch(self.effects.yi, self.effects.vi, self.design.X)
            return heterogeneity(batch, tau2=0.0, equal_effects=False).vt
        rows = self._rows
        trace, XWX, XWWX = 0.0, np.zeros((self.p, self.p)), np.zeros((self.p, self.p))
        for where, V in rows.clusters:
            X = rows.X[where].reshape(len(V), V.shape[1], -1)
            inverse = np.linalg.inv(V)
            WX = inverse @ X
            trace += float(np.einsum("nii->", inverse))
            XWX += np.einsum("nmi,nmj->ij", X, WX)
            XWWX += np.einsum("nmi,nmj->ij", WX, WX)
        return (self.k - self.p) / (trace - float(np.trace(np.linalg.solve(XWX, XWWX))))

    def _combination(self, weights: Mapping[str, float]) -> Marginal:
        c, d = np.zeros(self.p), np.zeros(self.k)
        for name, weight in weights.items():
            if not np.isfinite(weight):
                raise InputError(f"the weight of {name} is {weight!r}; give a finite number")
            effect = EFFECT.fullmatch(name)
            if effect:
                d[self._study(effect[1])] += weight
            else:
                c = c + weight * self._row(name)
        if not (c.any() or d.any()):
            raise InputError("every weight of the combination is 0")
        words = " + ".join(f"{weight:g} {name}" for name, weight in weights.items() if weight)
        of = "coefficients" if c.any() else "study"
        return self._mixture(words.replace("+ -", "- "), combination(self.exact, self._rows, c, d), of=of)

    @cached_property
    def _total(self) -> Grid:
        """The posterior of the total standard deviation and of the logit of the share between groups."""
        found = total_and_share(self.exact.data, self.priors.densities)
        if not abs(found.log_integral - self.exact.log_marginal) <= AGREE:
            raise InputError(NO_TOTAL.format(*self.priors.tau_names))
        return found

    def _median(self, name: str) -> float:
        try:
            return self._marginal(name).median
        except InputError as refused:
            return NotApplicable(str(refused))

    @property
    def tau(self) -> float:
        """Posterior median of the standard deviation of all true effects, between groups and within together."""
        return self._median("tau")

    @property
    def tau2(self) -> float:
        """Posterior median of the variance of all true effects."""
        return self._median("tau2")

    @property
    def I2(self) -> float:
        """Posterior median of I2, the share of the variance of true effects in that of all, in percent."""
        return self._median("I2")

    @cached_property
    def _thinned(self) -> MultilevelPosterior:  # type: ignore[override]
        return thinned(self.exact)

    @cached_property
    def _rows(self) -> GroupedRows:
        """Effects, design and sampling covariance, group by group."""
        clusters = []
        for rows in stacks(self.group):
            if self.V is None:
                covariance = self.effects.vi[rows][:, :, None] * np.eye(rows.shape[1])
            else:
                covariance = np.stack([self.V.block(one) for one in rows])
            clusters.append((rows, covariance))
        return grouped_rows(self.effects.yi, self.design.X @ coordinates(self.design), self.group, clusters)

    @cached_property
    def _true_effects(self) -> NormalMixture:
        return row_effects(self.exact, self._rows)
