"""A Bayesian result as tables and JSON-ready values, never rounded, and in words and R code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.hypotheses import shown
from alliance_meta.bayes.marginals import INFINITE, KINDS, IntervalKind, Marginal
from alliance_meta.bayes.priors.prior import Normal, Prior
from alliance_meta.core.bayes.integration import NormalMixture
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.export import columns_of, plain
from alliance_meta.results.r_code import comment, data, formula
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, level_text, probability

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


CENTRED = "the mean effect at the average of the moderators"


def document(fit: Quantities) -> Document:
    """Return what the fit says."""
    title, *more = fit._model_words
    return wording.document(
        fit,
        title,
        about(fit, str(fit.priors), *more),
        posterior_table(fit, fit.tidy().iloc[: -fit.k]),
        wording.as_r(fit, new="a new group" if fit._nested else "a new study"),
        _evidence(fit),
    )


def intervals_line(fit: Any) -> str:
    """Return what intervals are."""
    return f"Intervals: {KINDS[fit.interval]}, {level_text(fit.level)} of the posterior"


def about(fit: Any, priors: str, *more: str) -> list[str]:
    """Return what a heading says below its first line."""
    centred = fit.p > 1 and fit.design.has_intercept
    return [
        fit.effects.heading,
        *more,
        *wording.moderated(fit),
        f"Priors: {priors}",
        *([f"mu: {CENTRED}"] if centred else []),
        intervals_line(fit),
    ]


def posterior_table(fit: Any, frame: pd.DataFrame, scale: str | None = None, **more: Kind) -> Table:
    """Return rows of `tidy`, with more columns where there are some."""
    caption = (
        f"Posterior ({fit.effects.scale_label if scale is None else scale}, {level_text(fit.level)} "
        f"{KINDS[fit.interval]} intervals)"
    )
    return table_of(frame, {**dict.fromkeys(COLUMNS, 4), **more}, caption)


def _evidence(fit: Quantities) -> list[str]:
    lines = probabilities(fit) if fit.design.has_intercept else []
    for one in fit._bayes_factors.values():
        lines.append(str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}")
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else fixed(likelihood)
    return [*lines, f"Log marginal likelihood: {shown}"]


def probabilities(fit: Any) -> list[str]:
    """Return how probable it is that the mean effect, and one of a new study, is positive."""
    return ["   ".join(f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0"))]


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def interval_words(fit: Any) -> str:
    """Return the sentence of a methods section on estimates and intervals."""
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    return f"Posterior medians are reported with {kind} {level_text(fit.level)} credible intervals."


def prior_words(fit: Any, priors: Mapping[str, Prior]) -> str:
    """Return the priors in a sentence: of the mean effect, of the coefficients, of tau."""
    centred = fit.p > 1 and fit.design.has_intercept
    names = {
        "mu": CENTRED if centred else "the mean effect",
        "tau": "the standard deviation of true effects between studies, tau",
    }
    return "; ".join(f"{names.get(name, name)}: {prior}" for name, prior in priors.items())


def methods(fit: Quantities) -> str:
    """Return the sentences for a methods section."""
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    what, how = fit._method_words
    return (
        f"{wording.scale_sentence(fit)}{what}. Priors were {prior_words(fit, fit.priors.named)}. {how}, with a "
        "numerical error "
        f"{bound(fit.error_bound)}. {interval_words(fit)}{factors}"
    )


def bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {brief(error, 1)}"


def r_code(fit: Quantities) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    coefficients = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    heavy = [f"{name} ~ {prior}" for name, prior in coefficients if prior.student]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={fit.priors.taus[0].spelled("bayesmeta")}, interval.type="{interval}"'
    if fit.design.formula == "1":
        mean, sd = _r_normal(fit, 0)
        prior = "" if sd == "NA" else f"mu.prior=c({mean}, {sd}), "
        lines.append(f"fit <- bayesmeta(y=dat$yi, sigma=sqrt(dat$vi), {prior}{tau})")
        return "\n".join(lines)
    lines.append(f"X <- model.matrix(~ {formula(fit.design.formula)}, data=dat)")
    if fit.design.has_intercept:
        lines.append("X[, -1] <- scale(X[, -1], scale=FALSE)  # the intercept is then the effect at the average")
    pairs = [_r_normal(fit, j) for j in range(fit.p)]
    means, sds = ", ".join(mean for mean, _ in pairs), ", ".join(sd for _, sd in pairs)
    beta = f"beta.prior.mean=c({means}), beta.prior.sd=c({sds})"
    lines.append(f"fit <- bmr(y=dat$yi, sigma=sqrt(dat$vi), X=X, {beta}, {tau})")
    return "\n".join(lines)


def _r_normal(fit: Quantities, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")
