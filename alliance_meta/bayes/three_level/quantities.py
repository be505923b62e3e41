"""The priors and the quantities of a three-level posterior by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.averaged.quantity import GridMarginal
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.exact.setup import Priors, coordinates
from alliance_meta.bayes.marginals import SHARE, Marginal, TransformedMarginal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.integration import NormalMixture, TauDensity
from alliance_meta.core.bayes.trapezoid import Grid
from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance
from alliance_meta.core.robust.clusters import IntArray, stacks
from alliance_meta.core.three_level.grid import total_and_share
from alliance_meta.core.three_level.posterior import MultilevelPosterior
from alliance_meta.core.three_level.rows import GroupedRows, combination, grouped_rows, row_effects, thinned
from alliance_meta.errors import InputError


@dataclass(frozen=True, eq=False)
class MultilevelPriors(Priors):
    """The priors of a three-level model.

    Attributes
    ----------
    terms : tuple of str
        The grouping and the rows within it.
    names : tuple of str
        Coefficients; the intercept stands for ``mu``.
    coefficients : tuple of EffectPrior
    taus : tuple of TauPrior
        Of the standard deviation of each term.
    """

    terms: tuple[str, str]
    names: tuple[str, ...]
    coefficients: tuple[EffectPrior, ...]
    taus: tuple[TauPrior, TauPrior]

    @property
    def tau_names(self) -> tuple[str, str]:
        """``tau[<term>]`` for both terms."""
        return f"tau[{self.terms[0]}]", f"tau[{self.terms[1]}]"

    def with_taus(self, *taus: TauPrior) -> MultilevelPriors:
        """Return the same with other priors of both standard deviations."""
        return replace(self, taus=(taus[0], taus[1]))

    @cached_property
    def densities(self) -> tuple[TauDensity, TauDensity]:
        """The priors of both standard deviations as the quadrature needs them."""
        return density(self.taus[0]), density(self.taus[1])


def density(prior: TauPrior) -> TauDensity:
    """Return the prior of one standard deviation as the quadrature needs it."""
    return TauDensity(prior.logpdf, prior.upper, prior.tail, (), prior.proper)


# Two integrations of one posterior, by both deviations and by their total and share, have to agree.
AGREE = 1e-7
NO_TOTAL = (
    "the total of {} and {} cannot be worked out to enough digits: the posterior of their share is too narrow. Ask for "
    "each by itself"
)


class MultilevelQuantities(Quantities):
    """The quantities of a three-level posterior by name; the base of `BayesianMultilevelResults`."""

    _row_is = "effect"

    priors: MultilevelPriors
    exact: MultilevelPosterior
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
        if name == "icc":
            return TransformedMarginal(name, GridMarginal("logit", self._total.marginal(1)), SHARE)
        return super()._named(name)

    @property
    def _known(self) -> list[str]:
        return [*super()._known, "icc"]

    def _is_spread(self, name: str) -> bool:
        return name == "icc" or super()._is_spread(name)

    def _deviation(self, exact: MultilevelPosterior, which: int) -> Marginal:  # type: ignore[override]
        return GridMarginal(self.priors.tau_names[which], exact.deviation(which), exact.moments(which))

    @property
    def _all_spread(self) -> Marginal:
        finite = sum(self.exact.finite(order, of="new") for order in (1, 2, 3, 4))
        return GridMarginal("tau", self._total.marginal(0), finite)

    @property
    def _typical_variance(self) -> float:
        """(k - p) / trace(P) with P of the model with sampling error only, as of `MultilevelResults`."""
        if self.V is None:
            return super()._typical_variance
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

    def _combined(self, c: Array, d: Array) -> NormalMixture:
        return combination(self.exact, self._rows, c, d)

    def _true_effect(self, i: int) -> NormalMixture:
        return self._theta.row(i)

    def _true_effects(self, some: slice) -> NormalMixture:
        all_rows = self._theta
        return NormalMixture(all_rows.weight, all_rows.mean[some], all_rows.sd[some])

    @cached_property
    def _total(self) -> Grid:
        """The posterior of the total standard deviation and of the logit of the share between groups."""
        found = total_and_share(self.exact.data, self.priors.densities)
        if not abs(found.log_integral - self.exact.log_marginal) <= AGREE:
            raise InputError(NO_TOTAL.format(*self.priors.tau_names))
        return found

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
    def _theta(self) -> NormalMixture:
        return row_effects(self.exact, self._rows)
