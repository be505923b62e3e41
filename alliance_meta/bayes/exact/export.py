"""A Bayesian result as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.hypotheses import shown
from alliance_meta.bayes.marginals import INFINITE, KINDS, IntervalKind, Marginal
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.export import columns_of, plain

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.quantities import Quantities

# Studies whose true effects are worked on at once.
AT_ONCE = 5000
COLUMNS = ("mean", "sd", "median", "ci_lb", "ci_ub")


def tidy(fit: Quantities, *, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return one row per quantity."""
    exact = fit.exact
    rows: dict[str, tuple[float, ...]] = {}
    for labels, mixture, of in _parts(fit):
        found = _mixture_rows(mixture, level, kind, exact.finite(1, of=of), exact.finite(2, of=of))
        rows |= dict(zip(labels, found, strict=True))
        if of == "coefficients":
            rows |= {name: row(fit.posterior(name), level, kind) for name in fit.priors.tau_names}
    return as_table(rows, fit.effects.scale_label, level, kind)


def as_table(rows: Mapping[str, Sequence[float]], scale: str, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return rows of mean, sd, median and limits by parameter."""
    columns = zip(COLUMNS, zip(*rows.values(), strict=True), strict=True)
    out = pd.DataFrame({name: column(cells) for name, cells in columns}, index=pd.Index(list(rows), name="parameter"))
    out.attrs.update(scale=scale, level=level, interval=kind, interval_label=f"{100 * level:g} % {KINDS[kind]}")
    return out


def _parts(fit: Quantities) -> Iterator[tuple[Sequence[str], NormalMixture, str]]:
    """Yield labels and mixtures of coefficients, of a new effect, and of the studies, some at a time."""
    yield fit.names, fit._coefficients(np.eye(fit.p)), "coefficients"
    yield ("theta_new",), fit.exact.new_effects(fit._mean_row[None]), "new"
    for start in range(0, fit.k, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        yield [f"theta[{label}]" for label in fit.effects.slab[some]], fit._true_effects(some), "study"


def _mixture_rows(
    mixture: NormalMixture, level: float, kind: IntervalKind, has_mean: bool, has_sd: bool
) -> list[tuple[float, ...]]:
    mean, sd = mixture.moments()
    q = mixture.quantile(np.array([0.5 * (1.0 - level), 0.5, 0.5 * (1.0 + level)]))
    lower, upper = mixture.shortest(level) if kind == "hdi" else (q[:, 0], q[:, 2])
    none = NotApplicable(INFINITE)
    return [
        (
            float(mean[i]) if has_mean else none,
            float(sd[i]) if has_sd else none,
            *map(float, (q[i, 1], lower[i], upper[i])),
        )
        for i in range(mixture.m)
    ]


def row(marginal: Marginal, level: float, kind: IntervalKind) -> tuple[float, ...]:
    """Return mean, sd, median and limits of one quantity."""
    one = marginal.interval(level=level, kind=kind)
    return marginal.mean, marginal.sd, one.estimate, one.lb, one.ub


def column(cells: Sequence[Any]) -> Any:
    """Return an array, of objects where a cell has to keep its reason."""
    return np.array(cells, dtype=object if any(isinstance(x, NotApplicable) for x in cells) else None)


def statistics(fit: Quantities) -> dict[str, Any]:
    """Return the model's statistics by name."""
    nesting = fit._nesting
    found: dict[str, Any] = {"k": fit.k, **fit.effects.counts, **nesting["statistics"], "p": fit.p}
    found |= {"level": fit.level, "interval": fit.interval}
    for name in fit.priors.tau_names:
        tau = fit.posterior(name).interval(level=fit.level, kind=fit.interval)
        found |= {name: tau.estimate, f"{name}_ci_lb": tau.lb, f"{name}_ci_ub": tau.ub}
    found |= {name: getattr(fit, name) for name in fit._known if fit._is_spread(name) and name not in found}
    found |= {f"bf01_{name}": shown(fit, f"{name} = 0").bf01 for name in fit.priors.tau_names}
    if fit.design.has_intercept:
        found["bf01_mu"] = shown(fit, "mu = 0").bf01
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error_bound": fit.error_bound}


def to_dict(fit: Quantities) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    table, effects, nesting = fit.tidy(), fit.effects, fit._nesting
    priors = {name: prior.to_dict() for name, prior in fit.priors.named.items()}
    over = "both standard deviations" if fit._nested else "tau"
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                **nesting["model"],
                "priors": priors,
                "method": f"exact, by quadrature over {over}",
            },
            "statistics": statistics(fit),
            "posterior": {"parameter": list(table.index), **columns_of(table)},
            "vb": _square(fit.vb),
            "bayes_factors": [one.to_dict() for one in fit._bayes_factors.values()],
            "studies": {
                "slab": list(effects.slab),
                **nesting["studies"],
                "yi": effects.yi,
                "vi": effects.vi,
            },
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )


def _square(vb: Array) -> Any:
    return vb if np.isfinite(vb).all() else NotApplicable(INFINITE)
