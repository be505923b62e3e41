"""Draws: a model compiled once, the checks that draws can be used, and the posterior of each quantity."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import IntervalKind, Marginal, Posterior
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.bayes.pymc.parts import Recipe
from alliance_meta.core.univariate.fit import heterogeneity
from alliance_meta.core.univariate.wls import make_batch
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import CannotRunError, ConvergenceWarning, InputError
from alliance_meta.notes import NotApplicable, Note, Scale, did_you_mean
from alliance_meta.results.fit import Noun
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """A PyMC model compiled for `bayes.sample`.

    Attributes
    ----------
    model : pymc.Model
    recipe : Recipe or None
        How the model was made; None for a model that is not from `bayes.pymc`.
    data : mapping of str to ndarray, optional
        What `with_data` put in place of the data that the model was made with.
    """

    model: pm.Model
    _compiled: Any
    recipe: Recipe | None = None
    data: Mapping[str, Array] | None = None

    def with_data(self, effects: EffectSizes) -> CompiledModel:
        """Return the same model for other effects, without compiling again.

        There may be more or fewer of them, unless the model has a parameter for each study. The moderators must have
        the levels of the first data; ``mu`` stays the mean effect at the averages that the moderators had in the
        first data, and priors stay as they were.

        Raises
        ------
        InputError
            Another number of effects where the model has a parameter for each; the model is none of `bayes.pymc`, or
            cannot take other data; a moderator is missing or has a new level.
        """
        recipe = self.recipe
        if recipe is None or recipe.rebuilt is None:
            name = "this model" if recipe is None else recipe.model
            raise InputError(f"{name} cannot take other data once compiled; make the model anew from these effects")
        rebuilt, data = recipe.rebuilt(effects)
        changed = self._compiled.with_data(**data)
        # nutpie keeps the labels of the first data.
        changed = replace(changed, _coords={**(changed.coords or {}), "study": pd.Index(effects.slab)})
        return replace(self, _compiled=changed, recipe=rebuilt, data=data)

    def draw(
        self, *, draws: int, tune: int, chains: int, cores: int | None, seed: int, target_accept: float, progress: bool
    ) -> Any:
        """Return raw draws in the container of the installed ArviZ; `bayes.sample` also checks them."""
        nutpie = arviz_bridge.load("nutpie")
        return nutpie.sample(
            self._compiled,
            draws=draws,
            tune=tune,
            chains=chains,
            cores=cores,
            seed=seed,
            target_accept=target_accept,
            save_warmup=False,
            progress_bar=progress,
        )


def compile(model: pm.Model) -> CompiledModel:
    """Compile a PyMC model, so that fits to many data sets pay for it once.

    Parameters
    ----------
    model : pymc.Model
        From `bayes.pymc`, or any other with continuous parameters.

    Returns
    -------
    CompiledModel
        For `bayes.sample`; its ``with_data(effects)`` takes other effects.

    Raises
    ------
    CannotRunError
        nutpie cannot be imported; `bayes.sample` then draws with PyMC's own sampler, from the model itself.

    Notes
    -----
    This takes 10 seconds to a minute of computing time; drawing from a compiled model takes a fraction of a second.

    Examples
    --------
    >>> import alliance_meta as am
    >>> kolden, molloy = (am.escalc(am.load_dataset(name)) for name in ("kolden2011", "molloy2014"))
    >>> compiled = am.bayes.compile(am.bayes.pymc.normal_normal(kolden))
    >>> posterior = am.bayes.sample(compiled.with_data(molloy), seed=1, cores=1)
    >>> bool(0.1 < posterior.draws("mu").mean() < 0.2)
    True
    """
    arviz_bridge.load("pymc")
    try:
        nutpie = arviz_bridge.load("nutpie")
    except ImportError as error:
        raise CannotRunError(
            f"compile needs nutpie, which cannot be imported ({error}): pip install nutpie, or give bayes.sample the "
            "model itself"
        ) from error
    with unlinked_blas_is_no_news():
        return CompiledModel(model, nutpie.compile_pymc_model(model), getattr(model, "recipe", None))


@contextmanager
def unlinked_blas_is_no_news() -> Iterator[None]:
    """Silence PyTensor's search for a BLAS for its C code, which is not used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        yield


# Vehtari et al. (2021, doi:10.1214/20-BA1221) for R-hat and ESS; for E-BFMI the limit of CmdStan's diagnose.
MOST_RHAT = 1.01
FEWEST_ESS = 400
LEAST_BFMI = 0.3
FAILED = "DO NOT RELY ON THESE NUMBERS: the draws fail their checks of convergence."


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """How well the chains of a fit did, over all parameters that were drawn."""

    table: pd.DataFrame  # `arviz_bridge.summarise` of every scalar
    divergences: float  # `NotApplicable` when the sampler did not record it
    bfmi: tuple[float, ...]  # E-BFMI of each chain

    @cached_property
    def rhat(self) -> float:
        """Largest R-hat."""
        return self._extreme("rhat", "max")

    @cached_property
    def ess_bulk(self) -> float:
        """Smallest effective number of draws for the middle."""
        return self._extreme("ess_bulk", "min")

    @cached_property
    def ess_tail(self) -> float:
        """Smallest effective number of draws for the tails."""
        return self._extreme("ess_tail", "min")

    def _extreme(self, column: str, end: str) -> float:
        cells = self.table[column]
        known = cells[cells == cells].astype(float)
        return float(getattr(known, end)()) if len(known) else cells.iloc[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        names = ("rhat", "ess_bulk", "ess_tail", "divergences")
        return {name: getattr(self, name) for name in names} | {"bfmi": list(self.bfmi)}


def diagnose(container: Any) -> Diagnostics:
    """Look at every scalar.

    Left out are constant elements of a vector whose others move, such as the 1s of correlations.
    """
    chains = arviz_bridge.scalars(container)
    still = {label for label, draws in chains.items() if draws.min() == draws.max()}
    moving = {label.partition("[")[0] for label in chains if label not in still}
    looked = {
        label: draws
        for label, draws in chains.items()
        if label not in still or "[" not in label or label.partition("[")[0] not in moving
    }
    sampler = arviz_bridge.sampler_diagnostics(container)
    return Diagnostics(arviz_bridge.summarise(looked), sampler.divergences, sampler.bfmi)


def convergence_problems(container: Any) -> list[tuple[str, str]]:
    """Return a code and a sentence for each check that the draws fail."""
    return problems_of(diagnose(container))


def problems_of(found: Diagnostics) -> list[tuple[str, str]]:
    """Return a code and a sentence for each check that is failed."""
    table = found.table
    problems = []
    unchecked = [str(name) for name, rhat in table["rhat"].items() if rhat != rhat]
    if unchecked:
        message = f"R-hat could not be computed ({_some(unchecked)}): whether the chains agree is unknown."
        problems.append(("unchecked", message))
    apart = [f"{name} {fixed(rhat, 3)}" for name, rhat in table["rhat"].items() if rhat > MOST_RHAT]
    if apart:
        message = f"The chains disagree: R-hat is above {MOST_RHAT} ({_some(apart)}). Do not use these draws."
        problems.append(("rhat", message))
    least = table[["ess_bulk", "ess_tail"]].astype(float).min(axis=1)
    few = [f"{name} {fixed(ess, 0)}" for name, ess in least.items() if ess < FEWEST_ESS]
    if few:
        message = f"Too few effective draws, below {FEWEST_ESS} ({_some(few)}): take more draws or chains."
        problems.append(("few-effective-draws", message))
    if found.divergences > 0:
        count = f"{fixed(found.divergences, 0)} divergence{'s' if found.divergences > 1 else ''}"
        message = f"{count}: part of the posterior may be missed. Raise target_accept or simplify the model."
        problems.append(("divergences", message))
    low = [f"chain {i} {fixed(bfmi, 2)}" for i, bfmi in enumerate(found.bfmi) if bfmi < LEAST_BFMI]
    if low:
        message = f"E-BFMI is below {LEAST_BFMI} ({_some(low)}): the tails are explored slowly."
        problems.append(("low-bfmi", message))
    return problems


def _some(items: list[str], *, most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


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
