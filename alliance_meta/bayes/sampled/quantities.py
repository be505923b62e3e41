"""The posterior of one quantity from draws, and which draws, or plain numbers, are meant by a name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import IntervalKind, Marginal, Posterior
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.bayes.pymc.recipe import Recipe
from alliance_meta.bayes.sampled.compiled import CompiledModel
from alliance_meta.bayes.sampled.gate import FAILED, Diagnostics
from alliance_meta.core.univariate.fit import heterogeneity
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.notes import NotApplicable, Note, Scale, did_you_mean
from alliance_meta.results.fit import Noun
from alliance_meta.tables.format import fixed

# Probability between the mean and one standard deviation above and below a normal.
_ONE_SD = (0.15865525393145707, 0.8413447460685429)
_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class SampledMarginal(Marginal):
    """The posterior distribution of one quantity from draws.

    As `Marginal`, and each number has a Monte-Carlo standard error: how much it would vary between runs with
    other seeds.

    Attributes
    ----------
    chains : ndarray of shape (chain, draw)
    lowest : float
        Where the quantity begins: 0 for a standard deviation.
    problems : tuple of str
        Codes of the checks of convergence that the fit fails.

    Notes
    -----
    Effective numbers of draws as in Vehtari et al. (2021, doi:10.1214/20-BA1221). The density is that of a Gaussian
    kernel, mirrored at `lowest`; it is for drawing, and smooths what it shows.
    """

    name: str
    chains: Array
    lowest: float = -np.inf
    problems: tuple[str, ...] = ()

    def as_r(self) -> SampledMarginal:
        """Return a Fisher z as a correlation."""
        return SampledMarginal(f"{self.name} as r", np.tanh(self.chains), -np.inf, self.problems)

    @cached_property
    def mcse_mean(self) -> float:
        """Monte-Carlo standard error of the mean."""
        return self._spread / np.sqrt(arviz_bridge.ess(self.chains, "mean"))

    @cached_property
    def mcse_sd(self) -> float:
        """Monte-Carlo standard error of the standard deviation."""
        square = (self.chains - self.chains.mean()) ** 2
        size = arviz_bridge.ess(square, "mean")
        if size != size:
            return size
        return float(square.std() / np.sqrt(size) / (2.0 * np.sqrt(square.mean())))

    @property
    def mcse_median(self) -> float:
        """Monte-Carlo standard error of the median."""
        return self.mcse_quantile(0.5)

    def mcse_quantile(self, probability: float) -> float:
        """Return the Monte-Carlo standard error of a quantile."""
        if not 0 < probability < 1:
            raise InputError(f"probability={probability!r} must lie strictly between 0 and 1")
        size = arviz_bridge.ess(self.chains, "quantile", prob=probability)
        if size != size:
            return size
        beta = stats.beta(size * probability + 1.0, size * (1.0 - probability) + 1.0)
        share = [float(beta.ppf(one)) for one in _ONE_SD]
        n = len(self._sorted)
        low, high = max(int(np.floor(share[0] * n)), 1), min(int(np.ceil(share[1] * n)), n)
        return float(self._sorted[high - 1] - self._sorted[low - 1]) / 2.0

    def mcse_prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the Monte-Carlo standard error of a probability; where no draw or every draw is inside, a bound."""
        share = self.prob(lower, upper)
        inside = (self.chains > lower) & (self.chains <= upper)
        if inside.all() or not inside.any():
            size = arviz_bridge.ess(self.chains, "bulk")
            return size if size != size else 1.0 / (size + 2.0)
        size = arviz_bridge.ess(inside.astype(float), "mean")
        return size if size != size else float(np.sqrt(share * (1.0 - share) / size))

    def mcse_cdf(self, x: float) -> float:
        """Return the Monte-Carlo standard error of `cdf` at `x`."""
        return self.mcse_prob(upper=x)

    def __str__(self) -> str:
        failed = f"; FAILS ITS CHECKS: {', '.join(self.problems)}" if self.problems else ""
        error = self.mcse_median
        shown = "" if error != error else f"; Monte-Carlo error of the median {fixed(error)}"
        return f"{super().__str__()}{shown}{failed}"

    @property
    def _lowest(self) -> float:
        return self.lowest

    @cached_property
    def _sorted(self) -> Array:
        return np.sort(self.chains, axis=None)

    @property
    def _spread(self) -> float:
        if self.chains.size < 2:
            return NotApplicable("needs at least 2 draws")
        return float(self.chains.std(ddof=1))

    def _expect(self, order: int) -> float:
        return float(self.chains.mean()) if order == 1 else self._spread

    def _shortest(self, level: float) -> tuple[float, float]:
        return arviz_bridge.shortest_interval(self.chains, level)

    def _cdf(self, x: Array) -> Array:
        return np.searchsorted(self._sorted, x, side="right") / len(self._sorted)

    def _pdf(self, x: Array) -> Array:
        values = self._sorted
        quarter, three = np.quantile(values, [0.25, 0.75])
        spread = min(float(values.std()), float(three - quarter) / 1.349) or float(values.std())
        if spread == 0:
            raise InputError(f"{self.name}: the draws never change, so that they have no density")
        width = 0.9 * spread * len(values) ** -0.2
        density = _kernel(values, x, width)
        if np.isfinite(self.lowest):
            density = np.where(x >= self.lowest, density + _kernel(values, 2.0 * self.lowest - x, width), 0.0)
        return density

    def _quantile(self, p: Array) -> Array:
        return np.quantile(self._sorted, p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(np.mean(function(self.chains)))


def _kernel(values: Array, x: Array, width: float) -> Array:
    step = max(1, _BLOCK // len(values))
    parts = [
        np.exp(-0.5 * ((x[i : i + step, None] - values) / width) ** 2).mean(axis=1) for i in range(0, len(x), step)
    ]
    return np.concatenate([np.empty(0), *parts]) / (width * np.sqrt(2.0 * np.pi))


NO_I2 = "I2 needs a model with one normal distribution of true effects, whose standard deviation is tau"
# Streams of random numbers that one seed is split into.
NEW_EFFECT, TRUE_EFFECTS = 1, 4
# Draws that only serve the sampler: normals that a non-centred model scales, shares of a prior.
_SERVING = re.compile(r"z|z_.*|.*_z|.*_share")


@dataclass(frozen=True)
class SamplerSettings:
    """How draws were made."""

    program: str
    tune: int  # draws of each chain that only tuned the sampler
    target_accept: float

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return asdict(self)


class SampledQuantities(Posterior):
    """The quantities of a sampled posterior by name; the base of `SampledPosterior`."""

    model_label = "Bayesian, sampled"

    container: Any
    diagnostics: Diagnostics
    problems: tuple[Note, ...]
    seed: int
    recipe: Recipe | None
    level: float
    interval: IntervalKind
    sampler: SamplerSettings | None
    _model: CompiledModel | None

    @property
    def converged(self) -> bool:
        """Whether the draws pass every check."""
        return not self.problems

    def _caution(self) -> None:
        """Warn, wherever numbers are given, that the draws fail their checks."""
        if self.problems:
            codes = ", ".join(note.code for note in self.problems)
            warnings.warn(f"{FAILED} Failed: {codes}; see .problems.", ConvergenceWarning, stacklevel=3)

    @property
    def made(self) -> Recipe:
        """How the model was made; refused for a model that is not from `bayes.pymc`."""
        if self.recipe is None:
            raise InputError(
                "this model is not from bayes.pymc, so that the meaning of its draws is unknown; use tidy(), draws() "
                "or posterior() of a parameter, or ArviZ with .container"
            )
        return self.recipe

    effects = Noun[EffectSizes]("made.effects", "The effects that took part.")

    design = Noun[Design]("made.design", "The design of the moderators.")

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients, (p,): ``mu`` without moderators."""
        return ("mu",) if self.design.formula == "1" else self.design.names

    @property
    def beta(self) -> Array:
        """Posterior means of the coefficients, (p,)."""
        self._caution()
        return self._printed.mean(axis=0)

    @property
    def se(self) -> Array:
        """Posterior standard deviations of the coefficients, (p,)."""
        self._caution()
        return self._printed.std(axis=0, ddof=1)

    @property
    def vb(self) -> Array:
        """Posterior covariance of the coefficients, (p, p)."""
        self._caution()
        return np.atleast_2d(np.cov(self._printed, rowvar=False))

    @property
    def ci_lb(self) -> Array:
        """Lower limits of the credible intervals of the coefficients, (p,)."""
        self._caution()
        return self._limits[0]

    @property
    def ci_ub(self) -> Array:
        """Upper limits of the credible intervals of the coefficients, (p,)."""
        self._caution()
        return self._limits[1]

    @property
    def tau(self) -> float:
        """Posterior median of tau; `NotApplicable` for a model with several."""
        return self._if_single("tau")

    @property
    def tau2(self) -> float:
        """Posterior median of tau2; `NotApplicable` for a model with several."""
        return self._if_single("tau2")

    @property
    def I2(self) -> float:
        """Posterior median of I2, the share of variance between studies in percent; with a single tau."""
        if self.recipe is not None and self.k <= self.p:
            return NotApplicable("no effects to spare beyond the coefficients")
        return self._if_single("I2") if self._tau_is_the_spread else NotApplicable(NO_I2)

    @property
    def _tau_is_the_spread(self) -> bool:
        """Whether tau is the standard deviation of every true effect, and not a scale or one of several parts."""
        return self.recipe is not None and getattr(self.recipe.scatter, "names", None) == ("tau",)

    @cached_property
    def _scalars(self) -> dict[str, Array]:
        return arviz_bridge.scalars(self.container)

    @cached_property
    def _flat(self) -> dict[str, Array]:
        """All chains in a row, (S, ...), as recipes want them."""
        found = arviz_bridge.draws(self.container)
        return {name: values.reshape(-1, *values.shape[2:]) for name, values in found.items()}

    @cached_property
    def _printed(self) -> Array:
        """The coefficients as they are printed, (S, p)."""
        return self.made.coefficients(self._flat)

    @property
    def _shape(self) -> tuple[int, int]:
        chains, draws = next(iter(self._scalars.values())).shape
        return int(chains), int(draws)

    @cached_property
    def _new_effect(self) -> Array:
        """The true effect of a new study at the average of the moderators, (chain, draw)."""
        if "theta_new" in self._scalars:
            return self._scalars["theta_new"]
        rng = np.random.default_rng([self.seed, NEW_EFFECT])
        away = self.made.scatter(self._flat, None, rng)[:, 0]
        return self._mean_effect + away.reshape(self._shape)

    @property
    def _mean_effect(self) -> Array:
        """The mean effect at the average of the moderators, (chain, draw)."""
        if "mu" in self._scalars:
            return self._scalars["mu"]
        return self.made.fitted(self._flat).mean(axis=1).reshape(self._shape)

    @cached_property
    def _rows(self) -> dict[str, Array]:
        """Every quantity of `tidy` in its order: coefficients, taus, others, theta."""
        if self.recipe is None:
            return self._scalars
        rows = {"mu": self._scalars["mu"]} if "mu" in self._scalars else {}
        rows |= {
            name: values.reshape(self._shape)
            for name, values in zip(self.names, self._printed.T, strict=True)
            if name not in rows
        }
        own = {"mu", "beta", INTERCEPT, "theta", "theta_new"}
        others = {
            label: chains
            for label, chains in self._scalars.items()
            if (name := label.partition("[")[0]) not in own and not _SERVING.fullmatch(name)
        }
        rows |= {label: chains for label, chains in others.items() if label.startswith("tau")}
        rows |= {label: chains for label, chains in others.items() if label not in rows}
        rows |= {"theta_new": self._new_effect}
        return rows | self._true_effects

    @cached_property
    def _mixing(self) -> pd.DataFrame:
        """R-hat and effective draws of every row of `tidy`, which no interval changes."""
        checked = self.diagnostics.table
        same = [label for label, chains in self._rows.items() if chains is self._scalars.get(label)]
        return arviz_bridge.summarise(self._rows, known=checked.loc[checked.index.isin(same)])

    @cached_property
    def _true_effects(self) -> dict[str, Array]:
        """The true effect of each study, drawn by the sampler or given its draws."""
        found = {label: chains for label, chains in self._scalars.items() if label.startswith("theta[")}
        if found or self.made.true_effects is None:
            return found
        rng = np.random.default_rng([self.seed, TRUE_EFFECTS])
        drawn = self.made.true_effects(self._flat, rng)
        labels = [f"theta[{label}]" for label in self.effects.slab]
        return {name: one.reshape(self._shape) for name, one in zip(labels, drawn.T, strict=True)}

    def _marginal(self, what: str | Mapping[str, float], scale: Scale | None = None) -> SampledMarginal:
        codes, no_effect = tuple(note.code for note in self.problems), ""
        if isinstance(what, Mapping):
            words = " + ".join(f"{weight:g} {name}" for name, weight in what.items() if weight).replace("+ -", "- ")
            found = SampledMarginal(words, self._combination(what), problems=codes)
        else:
            name = str(what).strip()
            lowest = 0.0 if name in ("tau", "tau2", "I2") or self._is_deviation(name) else -np.inf
            found = SampledMarginal(name, self._named(name), lowest, codes)
            no_effect = "" if self._is_effect(name) else name
        shown = self._on_scale(found, scale, no_effect)
        assert isinstance(shown, SampledMarginal)
        return shown

    def _named(self, name: str) -> Array:
        rows = self._rows
        if name in rows:
            return rows[name]
        if name in self._scalars:
            return self._scalars[name]
        if name == "mu" and self.recipe is not None:
            return self._mean_effect
        if name == "I2" and "tau" in self._scalars and not self._tau_is_the_spread:
            raise InputError(NO_I2)
        if name in ("tau2", "I2") and "tau" in self._scalars:
            square = self._scalars["tau"] ** 2
            return square if name == "tau2" else self._share(square)
        known = [one for one in rows if not one.startswith("theta[")]
        known += [one for one in ("tau2", "I2") if "tau" in rows]
        raise InputError(f"no quantity {name!r}{did_you_mean(name, list(rows))} Known: {', '.join(known)}")

    def _share(self, tau2: Array) -> Array:
        if self.k <= self.p:
            raise InputError(f"I2 needs more effects than coefficients; these are {self.k} and {self.p}")
        batch = make_batch(self.effects.yi, self.effects.vi, self.made.design.X)
        return 100.0 * tau2 / (tau2 + heterogeneity(batch, tau2=0.0, equal_effects=False).vt)

    def _combination(self, weights: Mapping[str, float]) -> Array:
        total = np.zeros(self._shape)
        for name, weight in weights.items():
            if not np.isfinite(weight):
                raise InputError(f"the weight of {name} is {weight!r}; give a finite number")
            total = total + weight * self._named(name)
        if not any(weights.values()):
            raise InputError("every weight of the combination is 0")
        return total

    def _is_deviation(self, name: str) -> bool:
        if self.recipe is None:
            return name == "tau"
        prior = self.recipe.priors.get(name) or self.recipe.priors.get(name.partition("[")[0])
        return isinstance(prior, TauPrior)

    def _is_effect(self, name: str) -> bool:
        """Whether a quantity is a mean or a true effect, so that it can be a correlation."""
        if name in ("mu", INTERCEPT, "theta_new") or name.startswith("theta["):
            return True
        return self.recipe is not None and not self.recipe.design.has_intercept and name in self.names

    def _if_single(self, name: str) -> float:
        if "tau" not in self._scalars:
            return NotApplicable("this model has no single tau")
        self._caution()
        return self._marginal(name).median
