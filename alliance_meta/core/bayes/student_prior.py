"""A coefficient with a Student t prior, given tau: normal given the scale of its prior as well.

The coefficient is flat in the model; each scale of `scale` turns it into one with a normal prior, by the
usual update of one coefficient. What results is a mixture over tau and over the scale, which is then thinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.mixture import NormalMixture, counting, mixture
from alliance_meta.core.bayes.normal import LOG_2PI, NormalModel, conditional
from alliance_meta.core.bayes.scale import HeavyPrior, gauss_rules, scale_nodes

# Sizes of Gauss's rules that may stand for all values of tau, and for all scales of a t prior.
TAU_RULES = (24, 40, 64)
SCALE_RULES = (6, 10, 16, 24)
# They do if they give the same probabilities at these quantiles.
PROBES = np.array([1e-6, 1e-3, 0.025, 0.2, 0.5, 0.8, 0.975, 1.0 - 1e-3, 1.0 - 1e-6])
ALIKE = 5e-14
# ... and the same standard deviation.
ALIKE_SPREAD = 1e-12
TINY = 1e-300

# Weight, tau, mean and root of the components that count.
Nodes = tuple[Array, Array, Array, Array]


def alike(few: NormalMixture, many: NormalMixture, *, variance: bool) -> bool:
    """Return whether both mixtures are the same distribution, to rounding; with `variance` they have one."""
    x = few.quantile(PROBES)
    if not np.abs(few.cdf(x) - many.cdf(x)).max() < ALIKE:
        return False
    return not variance or bool(np.abs(few.moments()[1] / many.moments()[1] - 1.0).max() < ALIKE_SPREAD)


def scale_weights(model: NormalModel, prior: HeavyPrior, mean: Array, root: Array) -> tuple[Array, Array]:
    """Return the logs of the weights of each scale of a t prior given tau, and the share of the data, (B, L) each.

    The coefficient is flat in `mean` and in the aligned `root`, with variance V; a normal prior of variance W
    leaves the data the share W / (V + W) in its posterior mean.
    """
    j = prior.index
    g, log_g = scale_nodes(prior, float(model.centre[j]) - prior.mean)
    wide = prior.scale**2 / g
    total = root[:, 0, j, None] ** 2 + wide
    gap = mean[:, j, None] - prior.mean
    return log_g - 0.5 * (LOG_2PI + np.log(total) + gap**2 / total), wide / total


def shrink(prior: HeavyPrior, mean: Array, root: Array, share: Array) -> tuple[Array, Array]:
    """Return mean (B, L, p) and root (B, L, p, p) once the data have the given share (B, L) in the coefficient."""
    j = prior.index
    # What one unit of the coefficient moves in all of them.
    along = root[:, 0, :] / root[:, 0, j, None]
    gap = prior.mean - mean[:, j, None]
    moved = mean[:, None, :] + along[:, None, :] * (gap * (1.0 - share))[:, :, None]
    new = np.repeat(root[:, None], share.shape[1], axis=1)
    new[:, :, 0, :] *= np.sqrt(share)[:, :, None]
    return moved, new


def align(root: Array, j: int) -> Array:
    """Turn each root so that only its first row concerns coefficient j."""
    column = root[:, :, j].copy()
    length = np.sqrt((column**2).sum(axis=1))
    column[:, 0] += np.where(column[:, 0] < 0, -length, length)
    scaled = column / np.sqrt((column**2).sum(axis=1))[:, None]
    turned = root - 2.0 * scaled[:, :, None] * np.einsum("bi,bij->bj", scaled, root)[:, None, :]
    turned[:, 1:, j] = 0.0
    return turned


def heavy_nodes(
    model: NormalModel, prior: HeavyPrior, weight: Array, t: Array, to_tau: Callable[[Array], Array], *, variance: bool
) -> Nodes:
    """Return the components over tau and the scale, as few as will do; `t` is tau on the scale of the quadrature.

    With `variance` the quantities have one, which few components have to match too.
    """
    base = full = _sheet(model, prior, to_tau(t), weight)
    for n in TAU_RULES:
        points, rule = gauss_rules(weight[None], t[None], n)
        few = _sheet(model, prior, to_tau(np.clip(points[0], t.min(), t.max())), rule[0])
        if few.agrees(full, variance=variance):
            base = few
            break
    for n in SCALE_RULES:
        few = base.thinned(n)
        if few.agrees(base, variance=variance):
            return few.nodes()
    return base.nodes()


def _sheet(model: NormalModel, prior: HeavyPrior, tau: Array, weight: Array) -> _Sheet:
    given = conditional(model, tau)
    root = align(given.root, prior.index)
    logs, share = scale_weights(model, prior, given.mean, root)
    return _Sheet(prior, tau, weight, given.mean, root, special.softmax(logs, axis=1), share)


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """Components over tau (B) and over the scale of a t prior (L): weights given tau, and the share of the data."""

    prior: HeavyPrior
    tau: Array
    weight: Array
    mean: Array
    root: Array
    given: Array
    share: Array

    def thinned(self, n: int) -> _Sheet:
        """Return the same with n scales."""
        points, rule = gauss_rules(self.given, self.share, n)
        return _Sheet(self.prior, self.tau, self.weight, self.mean, self.root, rule, np.clip(points, TINY, 1.0))

    def nodes(self) -> Nodes:
        """Return the components that count, strung together."""
        weight = self.weight[:, None] * self.given
        tau = np.broadcast_to(self.tau[:, None], weight.shape)
        kept = counting(weight, tau)
        mean, root = shrink(self.prior, self.mean, self.root, self.share)
        tau = tau[kept]
        return weight[kept] / weight[kept].sum(), tau, mean[kept], root[kept]

    def agrees(self, other: _Sheet, *, variance: bool) -> bool:
        """Return whether both give the coefficient, and it with tau on top, the same distribution."""
        pairs = zip(self._mixtures(), other._mixtures(), strict=True)
        return all(alike(a, b, variance=variance) for a, b in pairs)

    def _mixtures(self) -> tuple[NormalMixture, NormalMixture]:
        j = self.prior.index
        gap = self.prior.mean - self.mean[:, j, None]
        mean = (self.mean[:, j, None] + gap * (1.0 - self.share)).reshape(1, -1)
        variance = self.root[:, 0, j, None] ** 2 * self.share
        weight = (self.weight[:, None] * self.given).ravel()
        new = variance + self.tau[:, None] ** 2
        return (
            mixture(weight, mean, np.sqrt(variance).reshape(1, -1)),
            mixture(weight, mean, np.sqrt(new).reshape(1, -1)),
        )
