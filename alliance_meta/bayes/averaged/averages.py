"""What averages over models answer alike, and posteriors averaged over models, with a value that some of them fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.marginals import (
    COLUMNS,
    LACKS,
    TANH,
    GridMarginal,
    IntervalKind,
    Marginal,
    MixtureMarginal,
    OnIntervals,
    Posterior,
    TransformedMarginal,
    column,
    invert,
    row,
)
from alliance_meta.core.bayes.quadrature import PiecewiseDensity
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Scale, did_you_mean
from alliance_meta.results import fit

# How far from its mean, in standard deviations, a normal part is looked at.
FAR = 9.0


@dataclass(frozen=True, eq=False)
class PiecewiseMarginal(OnIntervals):
    """A standard deviation of whose posterior nothing but the density is known."""

    name: str
    piecewise: PiecewiseDensity
    # The highest moment that is finite.
    moments: int = 2

    def _has(self, order: int) -> bool:
        return order <= self.moments

    def _pdf(self, x: Array) -> Array:
        return np.where(x >= 0, self.piecewise.pdf(np.maximum(x, 0.0)), 0.0)


@dataclass(frozen=True, eq=False)
class BinnedMarginal(Marginal):
    """A probability whose distribution is known in equal cells between 0 and 1, with its exact moments."""

    name: str
    mass: Array
    first: float
    second: float

    _lowest = 0.0

    def _expect(self, order: int) -> float:
        return self.first if order == 1 else float(np.sqrt(max(self.second - self.first**2, 0.0)))

    def _cdf(self, x: Array) -> Array:
        return np.interp(x, np.linspace(0.0, 1.0, len(self.mass) + 1), self._below)

    @cached_property
    def _below(self) -> Array:
        return np.append(0.0, np.cumsum(self.mass))

    def _pdf(self, x: Array) -> Array:
        n = len(self.mass)
        inside = (x >= 0) & (x <= 1)
        return np.where(inside, n * self.mass[np.clip((x * n).astype(int), 0, n - 1)], 0.0)

    def _quantile(self, p: Array) -> Array:
        return np.interp(p, self._below, np.linspace(0.0, 1.0, len(self.mass) + 1))

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(self.mass @ function((np.arange(len(self.mass)) + 0.5) / len(self.mass)))


@dataclass(frozen=True, eq=False)
class AveragedMarginal(Marginal):
    """The posterior of a quantity averaged over models, some of which may say that it has one value exactly.

    Notes
    -----
    ``pdf`` and ``density`` describe what is not in the spike: they integrate to ``1 - spike``.
    """

    name: str
    weights: Array  # (m,): posterior probability of the models that leave the quantity free, part by part
    parts: tuple[Marginal, ...]  # its posterior under these
    spike: float = 0.0  # posterior probability that it is exactly `at`; together with the weights 1
    at: float = 0.0

    def as_r(self) -> Marginal:
        """Return a Fisher z as a correlation."""
        return AveragedAsR(f"{self.name} as r", self, TANH)

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        free = sum(w * part.prob(lower, upper) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + (self.spike if lower < self.at < upper else 0.0))

    def _expect(self, order: int) -> float:
        for part in self.parts:
            one = part.mean if order == 1 else part.sd
            if isinstance(one, NotApplicable):
                return one
        mean = self._sum(lambda part: part.mean) + self.spike * self.at
        if order == 1:
            return mean
        square = self._sum(lambda part: part.sd**2 + (part.mean - mean) ** 2)
        return float(np.sqrt(square + self.spike * (self.at - mean) ** 2))

    def _cdf(self, x: Array) -> Array:
        return self._total(lambda part: part.cdf(x), x) + self.spike * (x >= self.at)

    def _sf(self, x: Array) -> Array:
        return self._total(lambda part: part.sf(x), x) + self.spike * (x < self.at)

    def _pdf(self, x: Array) -> Array:
        return self._total(lambda part: part.pdf(x), x)

    def _quantile(self, p: Array) -> Array:
        if not self.parts:
            return np.full(p.shape, self.at)
        free = 1.0 - self.spike
        below = float(self._total(lambda part: part.cdf(np.array([self.at])), np.zeros(1))[0])
        on = (p >= below) & (p <= below + self.spike) if self.spike else np.zeros(p.shape, dtype=bool)
        inner = np.where(p < below, p, p - self.spike) / max(free, 1e-300)
        inner = np.where(on, 0.5, np.clip(inner, 1e-12, 1.0 - 1e-12))
        if len(self.parts) == 1:
            found = self.parts[0].quantile(inner)
        else:
            found = invert(lambda x: self._total(lambda part: part.cdf(x), x) / free, inner, *_reach(self))
        return np.where(on, self.at, found)

    def _shortest(self, level: float) -> tuple[float, float]:
        if self.spike:
            raise InputError("a quantity with a spike has no highest-density interval; use kind='eti'")
        return super()._shortest(level)

    @property
    def _lowest(self) -> float:
        return min((part._lowest for part in self.parts), default=-np.inf)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        free = sum(w * part.average(function) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + self.spike * float(function(np.array([self.at]))[0]))

    def _sum(self, number: Callable[[Marginal], float]) -> float:
        return float(sum(w * number(part) for w, part in zip(self.weights, self.parts, strict=True)))

    def _total(self, values: Callable[[Marginal], Array], x: Array) -> Array:
        out = np.zeros(x.shape)
        for w, part in zip(self.weights, self.parts, strict=True):
            out += w * values(part)
        return out


@dataclass(frozen=True, eq=False)
class AveragedAsR(TransformedMarginal):
    """The same on the scale of r."""

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        ends = self._back(np.array([lower, upper], dtype=float))
        return self.inner.prob(float(ends[0]), float(ends[1]))

    def _shortest(self, level: float) -> tuple[float, float]:
        if isinstance(self.inner, AveragedMarginal) and self.inner.spike:
            return self.inner._shortest(level)
        return super()._shortest(level)


def _reach(part: Marginal) -> tuple[float, float]:
    """Return values between which practically all of a part lies."""
    if isinstance(part, MixtureMarginal):
        mean, sd = part.mixture.mean[0], part.mixture.sd[0]
        return float((mean - FAR * sd).min()), float((mean + FAR * sd).max())
    if isinstance(part, PiecewiseMarginal):
        return 0.0, float(part.piecewise.quantile(np.array([1.0 - 1e-13]))[0])
    if isinstance(part, GridMarginal):
        return float(part.grid.value[0]), float(part.grid.value[-1])
    if isinstance(part, AveragedMarginal):
        ends = [_reach(one) for one in part.parts] + ([(part.at, part.at)] if part.spike else [])
        return min(low for low, _ in ends), max(high for _, high in ends)
    return 0.0, 1.0


# Quantities that are effects, and so can be correlations.
EFFECTS = ("mu", "theta_new")


class Averaged(Posterior):
    """An average over models, some of which fix a quantity at one value."""

    lacks: ClassVar[Mapping[str, str]] = LACKS
    _of_a_point = "state a range; for a point see .inclusion"
    # What `inclusion` says of a component beside its probabilities.
    _evidence: ClassVar[tuple[str, ...]] = ("bf10", "log_bf10")
    interval: IntervalKind = "eti"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `tidy` has."""
        raise NotImplementedError

    @property
    def inclusion(self) -> pd.DataFrame:
        """The evidence, one row for each thing that only some models have.

        ``prior`` and ``posterior`` probability, ``bf10`` (above 1 the data speak for it), ``log_bf10`` and, of `robma`,
        ``error``, the numerical error of the latter. Of `average`: candidates, ``effect``, ``heterogeneity`` and, where
        there are several, each prior of tau. Of `robma`: ``effect``, ``heterogeneity``, ``bias``, and each kind of bias
        there is, ``weight functions`` and ``PET-PEESE``.
        """
        rows = self._inclusion
        columns = {name: column([one[name] for one in rows.values()]) for name in next(iter(rows.values()))}
        return pd.DataFrame(columns, index=pd.Index(list(rows), name="component"))

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, averaged over the models."""
        return float(special.logsumexp(self._logs))

    def tidy(self, *, conditional: bool = False, level: float | None = None) -> pd.DataFrame:
        """Return one row per parameter, unrounded, on the analysis scale.

        Parameters
        ----------
        conditional : bool
            Average only over the models that have the parameter. Otherwise it is 0 in the others, and their
            probability counts.
        level : float, optional

        Returns
        -------
        DataFrame
            Indexed by the coefficients, ``tau``, ``theta_new`` (the true effect of a new study, with moderators at
            their average) and, of `robma`, ``PET`` and ``PEESE``; ``p_incl`` (posterior probability of the models with
            it) and ``mean sd median ci_lb ci_ub``, equal-tailed.
        """
        used = self._level(level)
        rows: dict[str, tuple[float, ...]] = {}
        for name in self.parameters:
            included = 1.0 - self._quantity(name, False).spike
            if conditional and not included:
                rows[name] = (included, *[NotApplicable("no model has it")] * len(COLUMNS))
            else:
                rows[name] = (included, *row(self.posterior(name, conditional=conditional), used, "eti"))
        names = ("p_incl", *COLUMNS)
        cells = {name: column(list(part)) for name, part in zip(names, zip(*rows.values(), strict=True), strict=True)}
        out = pd.DataFrame(cells, index=pd.Index(list(rows), name="parameter"))
        out.attrs.update(scale=self.effects.scale_label, level=used, interval="eti", conditional=conditional)
        return out

    def posterior(self, what: str, *, conditional: bool = False, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity, averaged over the models.

        Parameters
        ----------
        what : str
            A coefficient (``"mu"`` is the mean effect, with moderators at their average), ``"tau"`` or
            ``"theta_new"``; of `robma` also ``"PET"`` or ``"PEESE"`` (their coefficients), or ``"omega[0.03]"``, the
            relative probability that a result with this one-sided p-value is published.
        conditional : bool
            Average only over the models that have it. Otherwise it is 0 in the others (``omega`` is 1), and the
            posterior has a spike there.
        scale : {"z", "r"}, optional
            ``"r"``: ``mu`` and ``theta_new`` as correlations.
        """
        return self._on_scale(self._quantity(what, conditional), scale, "" if what in EFFECTS else what)

    def prob(self, statement: str, *, conditional: bool = False, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau < 0.2"``."""
        stated = self._range(statement)
        marginal = self.posterior(stated.name, conditional=conditional, scale=scale)
        return marginal.prob(stated.lower, stated.upper)

    def _quantity(self, what: str, conditional: bool) -> AveragedMarginal:
        if what not in self.parameters and not (what.startswith("omega[") and "omega[<p>]" in self._known):
            raise InputError(f"no quantity {what!r}{did_you_mean(what, self._known)} Known: {', '.join(self._known)}")
        return self._averaged(what, conditional)

    @property
    def _known(self) -> list[str]:
        return list(self.parameters)

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        raise NotImplementedError

    def _predictions(
        self, pairs: Iterable[tuple[AveragedMarginal, AveragedMarginal]], scale: Scale | None, level: float
    ) -> pd.DataFrame:
        """Return one row for each mean effect and effect of a new study."""
        rows = []
        for one in pairs:
            mean, new = (self._on_scale(marginal, scale, "") for marginal in one)
            inside, around = mean.interval(level=level), new.interval(level=level)
            rows.append((inside.estimate, mean.sd, inside.lb, inside.ub, around.lb, around.ub))
        out = pd.DataFrame(rows, columns=list(fit.COLUMNS))
        shown = scale or self._scale
        out.attrs.update(scale=shown, scale_label=fit.SCALE_LABELS[shown], level=level, interval="eti")
        return out

    @property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        raise NotImplementedError

    @property
    def _logs(self) -> Array:
        """Log of prior probability times marginal likelihood of each model."""
        raise NotImplementedError

    @property
    def _chances(self) -> tuple[Array, Array]:
        """Prior and posterior probability of each model."""
        raise NotImplementedError

    def _compare(self, mask: Mask) -> dict[str, float]:
        """Return prior and posterior probability of some models, and their Bayes factor against the others."""
        (prior, posterior), logs = self._chances, self._logs
        there = prior > 0
        p, q = float(prior[mask].sum()), float(posterior[mask].sum())
        inside, outside = mask & there, ~mask & there
        if not inside.any() or not outside.any():
            none = NotApplicable("all models agree about that")
            return {"prior": p, "posterior": q} | dict.fromkeys(self._evidence, none)
        log = float(special.logsumexp(logs[inside]) - special.logsumexp(logs[outside]))
        log += float(np.log(prior[outside].sum()) - np.log(p))
        with np.errstate(over="ignore"):
            found = (float(np.exp(log)), log, self._error_of(inside, outside))
        return {"prior": p, "posterior": q} | dict(zip(self._evidence, found, strict=False))

    def _error_of(self, inside: Mask, outside: Mask) -> float:
        """Return the numerical error of a log Bayes factor, where it is worked out."""
        return np.nan
