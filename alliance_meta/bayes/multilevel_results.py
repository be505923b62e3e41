"""`BayesianMultilevelResults`: the posterior of a three-level model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import multilevel_text
from alliance_meta.bayes.averaged import GridMarginal
from alliance_meta.bayes.effect_priors import Normal
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import KINDS, IntervalKind, Marginal, MixtureMarginal
from alliance_meta.bayes.prior import EffectPrior, TauPrior
from alliance_meta.bayes.quantities import Quantities
from alliance_meta.bayes.results_export import column
from alliance_meta.bayes.results_predict import predict
from alliance_meta.bayes.setup import coordinates
from alliance_meta.core.bayes_exact import TauDensity
from alliance_meta.core.bayes_mixture import NormalMixture
from alliance_meta.core.bayes_multilevel import MultilevelPosterior, solve_multilevel, without_coefficient
from alliance_meta.core.bayes_multilevel_effects import row_effects, thinned
from alliance_meta.core.clusters import IntArray, stacks
from alliance_meta.core.sampling_covariance import SamplingCovariance
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import Scale, check_level, check_option, did_you_mean
from alliance_meta.results.export import plain


@dataclass(frozen=True, eq=False)
class MultilevelPriors:
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

    def __str__(self) -> str:
        parts = [f"{name} ~ {prior}" for name, prior in zip(self.names, self.coefficients, strict=True)]
        parts += [f"tau[{term}] ~ {prior}" for term, prior in zip(self.terms, self.taus, strict=True)]
        return "; ".join(parts)

    @property
    def improper(self) -> list[str]:
        """Which parameters have an improper prior."""
        found = [name for name, prior in zip(self.names, self.coefficients, strict=True) if not prior.proper]
        return found + [f"tau[{term}]" for term, one in zip(self.terms, self.taus, strict=True) if not one.proper]


@dataclass(frozen=True, eq=False)
class BayesianMultilevelResults(Quantities):
    """The posterior of a Bayesian three-level model: effects within studies.

    Made by `bayes.multilevel.fit_multilevel`. Every number comes from quadrature over the two
    standard deviations, none from random draws.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    priors : MultilevelPriors
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
    exact : MultilevelPosterior
        The raw arrays.
    group : ndarray of int, shape (k,)
        Group of each effect, by code.
    V : SamplingCovariance or None
    notes : tuple of Note
    """

    effects: EffectSizes
    design: Design
    priors: MultilevelPriors
    level: float
    interval: IntervalKind
    exact: MultilevelPosterior  # type: ignore[assignment]
    group: IntArray
    V: SamplingCovariance | None
    notes: tuple[Note, ...] = ()

    @property
    def taus(self) -> dict[str, float]:
        """Posterior median of the standard deviation of each term."""
        return {term: self.posterior(f"tau[{term}]").median for term in self.priors.terms}

    @property
    def sigma2(self) -> Array:
        """Posterior medians of the variances, between groups and within, (2,)."""
        return np.array(list(self.taus.values())) ** 2

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    @property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data under model and priors; not applicable with an improper prior."""
        if self.priors.improper:
            return NotApplicable(f"the prior of {' and '.join(self.priors.improper)} is improper")
        return self.exact.log_marginal

    @property
    def error_bound(self) -> float:
        """Estimate of the numerical error of the log marginal likelihood."""
        return self.exact.error

    def tidy(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return one row per quantity, unrounded, on the analysis scale.

        Returns
        -------
        DataFrame
            Indexed by ``mu`` (with moderators, the coefficients), ``tau[<term>]`` for both terms, ``theta_new`` (the
            true effect of a row in a new group) and ``theta[<label>]`` (that of each row), with columns
            ``mean sd median ci_lb ci_ub``.
        """
        used, kind = self._interval(level, interval)
        rows: dict[str, tuple[float, ...]] = {}
        names = [*self.names, *(f"tau[{term}]" for term in self.priors.terms), "theta_new"]
        for name in names:
            one = self.posterior(name)
            limits = one.interval(level=used, kind=kind)
            rows[name] = (one.mean, one.sd, limits.estimate, limits.lb, limits.ub)
        theta = self._true_effects
        mean, sd = theta.moments()
        q = theta.quantile(np.array([0.5 * (1.0 - used), 0.5, 0.5 * (1.0 + used)]))
        low, high = theta.shortest(used) if kind == "hdi" else (q[:, 0], q[:, 2])
        for i, label in enumerate(self.effects.slab):
            rows[f"theta[{label}]"] = tuple(float(one) for one in (mean[i], sd[i], q[i, 1], low[i], high[i]))
        cells = zip(("mean", "sd", "median", "ci_lb", "ci_ub"), zip(*rows.values(), strict=True), strict=True)
        index = pd.Index(list(rows), name="parameter")
        out = pd.DataFrame({name: column(list(part)) for name, part in cells}, index=index)
        out.attrs.update(
            scale=self.effects.scale_label, level=used, interval=kind, interval_label=f"{100 * used:g} % {KINDS[kind]}"
        )
        return out

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
        interval: IntervalKind | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the true effect of a row in a new group; as `BayesianResults.predict`."""
        used, kind = self._interval(level, interval)
        return predict(self, newdata, scale=scale, level=used, kind=kind)  # type: ignore[arg-type]

    def blup(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return the posterior of each row's true effect: ``mean sd median ci_lb ci_ub``."""
        table = self.tidy(level=level, interval=interval).iloc[-self.k :]
        return table.set_axis(pd.Index(self.effects.slab), axis=0)

    def posterior(self, what: str, *, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity.

        Parameters
        ----------
        what : str
            ``"mu"`` (with moderators, the mean effect at their average), a coefficient, ``"tau[<term>]"``,
            ``"theta_new"`` or ``"theta[<label>]"``.
        scale : {"z", "r"}, optional
            ``"r"`` for correlations: tanh of a mean or true effect.
        """
        return self._marginal(what, scale)

    def prob(self, statement: str, *, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau[study_id] < 0.2"``."""
        stated = read_hypothesis(statement)
        if stated.is_point:
            raise InputError(f"{statement!r}: a single value has probability 0; state a range")
        return self.posterior(stated.name, scale=scale).prob(stated.lower, stated.upper)

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return the Bayes factor of ``"mu = 0"``, a coefficient ``= 0`` or ``"tau[<term>] = 0"`` against not so."""
        stated = read_hypothesis(hypothesis)
        if not (stated.is_point and stated.lower == 0):
            raise InputError(f"{hypothesis!r}: the three-level model compares points at 0, such as 'tau[study_id] = 0'")
        densities: list[TauDensity | None] = [
            TauDensity(one.logpdf, one.upper, one.tail, (), one.proper) for one in self.priors.taus
        ]
        data = self.exact.data
        taus = [f"tau[{term}]" for term in self.priors.terms]
        if stated.name in taus:
            i = taus.index(stated.name)
            prior_is_proper, densities[i] = self.priors.taus[i].proper, None
        else:
            j = self._coefficient(stated.name)
            prior_is_proper = isinstance(self.priors.coefficients[j], Normal)
            data = without_coefficient(data, j)
        none = NotApplicable("there is no other route")
        if not prior_is_proper:
            gone = NotApplicable(f"the prior of {stated.name} is improper")
            return BayesFactor(stated.text, stated.opposite, gone, gone, gone, gone, none)
        other = solve_multilevel(data, *densities)
        log = other.log_marginal - self.exact.log_marginal
        with np.errstate(over="ignore"):
            bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
        return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, other.error + self.exact.error, none)

    def glance(self) -> pd.DataFrame:
        """Return one row with the model's statistics, unrounded."""
        return pd.DataFrame({name: pd.Series([value]) for name, value in self._statistics().items()})

    def to_dict(self) -> dict[str, Any]:
        """Return every number and setting as JSON-ready values."""
        table = self.tidy()
        chosen = zip(self.priors.names, self.priors.coefficients, strict=True)
        priors = {name: one.to_dict() for name, one in chosen}
        priors |= {f"tau[{term}]": one.to_dict() for term, one in zip(self.priors.terms, self.priors.taus, strict=True)}
        return plain(
            {
                "model": {"formula": self.design.formula, "random": list(self.priors.terms), "priors": priors,
                          "V": "independent" if self.V is None else self.V.assumption,
                          "method": "exact, by quadrature over both standard deviations"},
                "statistics": self._statistics(),
                "posterior": {"parameter": list(table.index), **table.to_dict(orient="list")},
                "notes": [note.to_dict() for note in self.notes],
                "provenance": self.effects.provenance.to_dict(),
            }
        )  # fmt: skip

    def summary(self) -> str:
        """Return the plain-text summary, at most 80 columns wide."""
        return multilevel_text.summary(self)

    def methods_text(self) -> str:
        """Return the sentences for a methods section."""
        return multilevel_text.methods(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return multilevel_text.html(self)

    def _statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = {"k": self.k, "p": self.p, "groups": self.n_groups, "level": self.level}
        found |= {f"tau[{term}]": value for term, value in self.taus.items()}
        return found | {"log_marginal_likelihood": self.log_marginal_likelihood, "error_bound": self.error_bound}

    def _interval(self, level: float | None, interval: IntervalKind | None) -> tuple[float, IntervalKind]:
        used = self.level if level is None else level
        kind = self.interval if interval is None else interval
        check_level(used)
        check_option("interval", kind, IntervalKind)
        return used, kind

    def _named(self, name: str) -> Marginal:
        for i, term in enumerate(self.priors.terms):
            if name == f"tau[{term}]":
                return GridMarginal(name, self.exact.deviation(i), self.exact.moments(i))
        if name in ("tau", "tau2", "I2"):
            raise InputError(f"{name!r}: there are two, {' and '.join(f'tau[{term}]' for term in self.priors.terms)}")
        if name.startswith("theta[") and name.endswith("]"):
            return MixtureMarginal(name, self._true_effects.row(self._study(name[6:-1])))
        return super()._named(name)

    def _coefficient(self, name: str) -> int:
        known = ["mu" if one == INTERCEPT else one for one in self.design.names]
        if name not in known:
            taus = [f"tau[{term}]" for term in self.priors.terms]
            raise InputError(f"no parameter {name!r}{did_you_mean(name, [*known, *taus])}")
        return known.index(name)

    @cached_property
    def _thinned(self) -> MultilevelPosterior:  # type: ignore[override]
        return thinned(self.exact)

    @cached_property
    def _true_effects(self) -> NormalMixture:
        clusters = []
        for rows in stacks(self.group):
            if self.V is None:
                covariance = self.effects.vi[rows][:, :, None] * np.eye(rows.shape[1])
            else:
                covariance = np.stack([self.V.block(one) for one in rows])
            clusters.append((rows, covariance))
        return row_effects(self.exact, self.effects.yi, self.design.X @ coordinates(self.design), clusters)
