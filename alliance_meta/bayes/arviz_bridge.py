"""The one module that knows ArviZ: containers of draws, their summary and the sampler's diagnostics.

ArviZ 0.23 (Python 3.11) keeps draws in an `InferenceData`, ArviZ 1 (Python 3.12 and later) in an xarray
`DataTree`. Both are called a container here; no other module looks inside one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, check_level

# ArviZ splits every chain in two halves and needs two draws in each.
FEWEST_DRAWS = 4
# What differs between two runs with the same seed.
CLOCK_ATTRIBUTES = ("created_at", "sampling_time")
CLOCK_VARIABLES = ("perf_counter_diff", "perf_counter_start", "process_time_diff")
# How names of parameters end that PyMC has transformed, beside the parameters themselves.
INTERNAL = "__"
MIXING = ("mcse", "ess_bulk", "ess_tail", "rhat")
COLUMNS = ("mean", "sd", "median", "ci_lb", "ci_ub", *MIXING)
# Tail ESS is that of these two quantiles, the smaller of the two.
TAILS = (0.05, 0.95)


def load(name: str) -> Any:
    """Import ``arviz`` or a package that imports it, without ArviZ 0.23's daily announcement of ArviZ 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def from_draws(
    draws: Mapping[str, Any],
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    sample_stats: Mapping[str, Any] | None = None,
    log_likelihood: Mapping[str, Any] | None = None,
    observed_data: Mapping[str, Any] | None = None,
) -> Any:
    """Put draws into the container of the installed ArviZ.

    Parameters
    ----------
    draws : mapping of str to array-like of shape (chain, draw, ...)
        Parameter -> draws; all with equally many chains and draws, all finite.
    dims : mapping of str to sequence of str, optional
        Parameter -> names of the axes after chain and draw.
    coords : mapping of str to sequence, optional
        Axis -> its labels, e.g. study labels.
    sample_stats : mapping of str to array-like of shape (chain, draw), optional
        What the sampler recorded, such as ``diverging`` and ``energy``.
    log_likelihood : mapping of str to array-like of shape (chain, draw, ...), optional
        Pointwise, for leave-one-out.
    observed_data : mapping of str to array-like, optional
        The data themselves.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        Without a time stamp: equal draws give equal containers.

    Raises
    ------
    InputError
        No draws, arrays without chain and draw axes or of unequal size, draws that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from alliance_meta.bayes import arviz_bridge
    >>> container = arviz_bridge.from_draws({"mu": np.arange(12.0).reshape(2, 6)})
    >>> arviz_bridge.draws(container)["mu"].shape
    (2, 6)
    """
    posterior = {name: np.asarray(values) for name, values in draws.items()}
    stats = {name: np.asarray(values) for name, values in (sample_stats or {}).items()}
    pointwise = {name: np.asarray(values) for name, values in (log_likelihood or {}).items()}
    _check_draws(posterior, stats | pointwise)
    az = load("arviz")
    data = {name: np.asarray(values) for name, values in (observed_data or {}).items()}
    others = {"sample_stats": stats, "log_likelihood": pointwise, "observed_data": data}
    groups = {"posterior": posterior} | {name: group for name, group in others.items() if group}
    named = {
        "coords": {axis: list(labels) for axis, labels in (coords or {}).items()},
        "dims": {name: list(axes) for name, axes in (dims or {}).items()},
    }
    with warnings.catch_warnings():
        # More chains than draws are no mistake here.
        warnings.simplefilter("ignore")
        made = az.from_dict(**groups, **named) if _is_legacy(az) else az.from_dict(groups, **named)
    return without_clock(made)


def without_clock(container: Any) -> Any:
    """Return the container without time stamps, timings and internal variables, the others in alphabetical order.

    Internal is what PyMC makes of a parameter for the sampler (``tau_log__``). What is left is a function of the model,
    the data and the seed.
    """
    groups = {name: _tidy_group(_dataset(container[name])) for name in group_names(container)}
    return _container(type(container), groups)


def with_groups(container: Any, other: Any) -> Any:
    """Return the container with the groups of another one added, or put in place of its own; neither is changed."""
    groups = {name: _dataset(one[name]) for one in (container, other) for name in group_names(one)}
    return without_clock(_container(type(container), groups))


def _container(kind: Any, groups: dict[str, Any]) -> Any:
    return kind.from_dict(groups) if hasattr(kind, "from_dict") else kind(**groups)


def group_names(container: Any) -> tuple[str, ...]:
    """Return the names of the groups: ``posterior``, ``sample_stats``, ``observed_data``, ..."""
    return tuple(container.children) if hasattr(container, "children") else tuple(container.groups())


def draws(container: Any, *, group: str = "posterior") -> dict[str, Array]:
    """Return every variable of a group as an array, for the posterior (chain, draw, ...)."""
    return {str(name): np.asarray(values) for name, values in _group(container, group).data_vars.items()}


def scalars(container: Any) -> dict[str, Array]:
    """Return the draws (chain, draw) of every scalar of the posterior by its label, such as ``"theta[Smith 2001]"``."""
    posterior = _group(container, "posterior")
    return {label: chains for name in _own(posterior) for label, chains in _parts(str(name), posterior[name])}


def summarise(
    chains: Mapping[str, Array],
    *,
    level: float = 0.95,
    shortest: bool = False,
    known: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Summarise draws (chain, draw) by label, unrounded.

    `chains` (chain, draw).
    `level`: probability inside the interval, a fraction.
    `shortest`: shortest intervals instead of equal-tailed ones.
    `known`: an earlier summary; what does not depend on the interval is taken from it where it has the label.
    Returns a frame by ``parameter``, with columns ``mean``, ``sd``, ``median``, ``ci_lb`` and ``ci_ub``, the
      Monte-Carlo standard error of the mean (``mcse``), the effective number of draws for the middle (``ess_bulk``) and
      for the tails (``ess_tail``), and ``rhat``, which is near 1 when the chains agree. Where the last four do not
      exist (one chain, fewer than 4 draws, draws that never change) the cell is a `NotApplicable`.

    Notes
    -----
    ESS and R-hat are the rank-normalised split versions of Vehtari et al. (2021, doi:10.1214/20-BA1221).
    """
    check_level(level)
    done: dict[Any, dict[str, Any]] = {}
    if known is not None:
        # Not by `to_dict`, which would make bare NaN of a NotApplicable.
        cells = zip(*(known[name].array for name in MIXING), strict=True)
        done = {label: dict(zip(MIXING, row, strict=True)) for label, row in zip(known.index, cells, strict=True)}
    rows = [
        _moments(one, level, shortest) | (done[label] if label in done else _mixing(one))
        for label, one in chains.items()
    ]
    columns = {name: _column([row[name] for row in rows]) for name in COLUMNS}
    return pd.DataFrame(columns, index=pd.Index(list(chains), name="parameter"))


def shortest_interval(values: Array, level: float) -> tuple[float, float]:
    """Return the ends of the shortest interval that holds `level` of the draws."""
    ordered = np.sort(values, axis=None)
    inside = min(int(np.floor(level * len(ordered))), len(ordered) - 1)
    i = int(np.argmin(ordered[inside:] - ordered[: len(ordered) - inside]))
    return float(ordered[i]), float(ordered[i + inside])


Method = Literal["mean", "bulk", "tail", "quantile"]


def ess(chains: Array, method: Method, *, prob: Any = None) -> float:
    """Return the effective number of draws (chain, draw) for a mean, the tails or a quantile."""
    reason = _no_mixing(chains)
    if reason:
        return NotApplicable(reason)
    az = load("arviz")
    if method == "tail":
        return float(az.ess(chains, method=method, prob=TAILS if prob is None else prob))
    return float(az.ess(chains, method=method, **({} if prob is None else {"prob": prob})))


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Leave-one-out by importance sampling with Pareto-smoothed weights."""

    elpd: Array  # (n,): log predictive density of each unit from the others
    k: Array  # (n,): shape of the Pareto distribution of the largest weights
    good_k: float  # above it the estimate cannot be trusted; it depends on the number of draws
    weight: Array  # (S, n): of the draws without each unit; each column sums to 1


def psis(draws: Mapping[str, Any], log_likelihood: Array, observed: Array) -> Smoothed:
    """Leave each unit out by ArviZ's PSIS-LOO; log likelihood (chain, draw, n)."""
    az = load("arviz")
    pointwise = np.asarray(log_likelihood, dtype=float)
    size = pointwise.shape[0] * pointwise.shape[1]
    found = [ess(np.asarray(one, dtype=float), "mean") for one in draws.values()]
    usable = [one for one in found if one == one]
    reff = float(np.mean(usable)) / size if len(pointwise) > 1 and usable else 1.0
    made = from_draws(draws, log_likelihood={"y": pointwise}, observed_data={"y": observed})
    flat = pointwise.reshape(size, -1)
    with warnings.catch_warnings():
        # Its warning about large k is given by the caller, with the units named.
        warnings.simplefilter("ignore")
        result = az.loo(made, pointwise=True, reff=reff)
        if _is_legacy(az):
            log_weight = np.asarray(az.psislw(-flat.T, reff)[0]).T
            elpd = np.asarray(result.loo_i)
        else:
            log_weight = np.asarray(result.log_weights.transpose("chain", "draw", ...)).reshape(size, -1)
            elpd = np.asarray(result.elpd_i)
    weight = np.exp(log_weight - log_weight.max(axis=0))
    return Smoothed(elpd, np.asarray(result.pareto_k), float(result.good_k), weight / weight.sum(axis=0))


@dataclass(frozen=True)
class SamplerDiagnostics:
    """What a Hamiltonian sampler says about its own run."""

    divergences: float  # number of draws whose trajectory diverged; `NotApplicable` when the sampler did not record it
    # Energy Bayesian fraction of missing information of each chain (Betancourt 2016, arXiv:1604.00695); empty when the
    # sampler did not record its energy.
    bfmi: tuple[float, ...]


def sampler_diagnostics(container: Any) -> SamplerDiagnostics:
    """Read divergences and E-BFMI where the container has them."""
    recorded = draws(container, group="sample_stats") if "sample_stats" in group_names(container) else {}
    diverging, energy = recorded.get("diverging"), recorded.get("energy")
    return SamplerDiagnostics(
        divergences=NotApplicable("not recorded") if diverging is None else int(diverging.sum()),
        bfmi=() if energy is None else tuple(_bfmi(chain) for chain in np.asarray(energy, dtype=float)),
    )


def _is_legacy(az: Any) -> bool:
    return int(az.__version__.split(".")[0]) < 1


def _dataset(group: Any) -> Any:
    return group.to_dataset() if hasattr(group, "to_dataset") else group


def _group(container: Any, group: str) -> Any:
    if group not in group_names(container):
        known = ", ".join(group_names(container)) or "none"
        raise InputError(f"these draws have no group {group!r}; groups: {known}")
    return _dataset(container[group])


def _own(dataset: Any) -> list[Any]:
    """Return the names of all variables but internal ones, unless there are no others."""
    names = list(dataset.data_vars)
    return [name for name in names if not str(name).endswith(INTERNAL)] or names


def _tidy_group(dataset: Any) -> Any:
    kept = dataset[sorted(set(_own(dataset)) - set(CLOCK_VARIABLES))]
    kept.attrs = {name: value for name, value in dataset.attrs.items() if name not in CLOCK_ATTRIBUTES}
    return kept


def _check_draws(posterior: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
    if not posterior:
        raise InputError("no draws: give at least one parameter")
    shapes = {name: values.shape for name, values in [*posterior.items(), *stats.items()]}
    flat = [f"{name} has shape {shape}" for name, shape in shapes.items() if len(shape) < 2 or 0 in shape]
    if flat:
        raise InputError(f"draws need the shape (chain, draw, ...), none of it 0: {'; '.join(flat)}")
    if len({shape[:2] for shape in shapes.values()}) > 1:
        listed = "; ".join(f"{name}: {shape[0]} x {shape[1]}" for name, shape in shapes.items())
        raise InputError(f"every parameter needs equally many chains and draws: {listed}")
    infinite = [name for name, values in posterior.items() if not np.isfinite(values).all()]
    if infinite:
        raise InputError(f"draws of {', '.join(infinite)} hold missing or infinite values")


def _parts(name: str, values: Any) -> list[tuple[str, Array]]:
    """Return a label and the (chain, draw) array of each element of a variable."""
    axes = [dim for dim in values.dims if dim not in ("chain", "draw")]
    array = np.asarray(values.transpose("chain", "draw", *axes), dtype=float)
    if not axes:
        return [(name, array)]
    labels = [[str(label) for label in values[axis].values] for axis in axes]
    flat = array.reshape(*array.shape[:2], -1)
    return [(f"{name}[{', '.join(key)}]", flat[..., i]) for i, key in enumerate(product(*labels))]


def _column(cells: list[float]) -> Any:
    """Return a float array, or an object array where a cell has to keep its reason."""
    return np.array(cells, dtype=object if any(isinstance(x, NotApplicable) for x in cells) else float)


def _moments(chains: Array, level: float, shortest: bool) -> dict[str, float]:
    lower, median, upper = (float(one) for one in np.quantile(chains, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    if shortest:
        lower, upper = shortest_interval(chains, level)
    sd = float(chains.std(ddof=1)) if chains.size > 1 else NotApplicable("needs at least 2 draws")
    return {"mean": float(chains.mean()), "sd": sd, "median": median, "ci_lb": lower, "ci_ub": upper}


def _no_mixing(chains: Array) -> str:
    """Return why chains cannot be compared, empty where they can."""
    if chains.shape[1] < FEWEST_DRAWS:
        return f"needs at least {FEWEST_DRAWS} draws per chain"
    return "the draws never change" if np.ptp(chains) == 0 else ""


def _mixing(chains: Array) -> dict[str, float]:
    reason = _no_mixing(chains)
    if reason:
        return {name: NotApplicable(reason) for name in MIXING}
    alone = len(chains) == 1
    return {
        "mcse": float(chains.std(ddof=1)) / np.sqrt(ess(chains, "mean")),
        "ess_bulk": ess(chains, "bulk"),
        "ess_tail": ess(chains, "tail"),
        "rhat": NotApplicable("needs at least 2 chains") if alone else float(load("arviz").rhat(chains)),
    }


def _bfmi(energy: Array) -> float:
    if energy.size < 2 or np.ptp(energy) == 0:
        return NotApplicable("the energy never changes")
    return float(np.square(np.diff(energy)).mean() / energy.var(ddof=1))
