"""A Bayesian result in words: its document, the methods sentences and the R code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.bayes.exact.export import COLUMNS
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.r_code import comment, data, formula
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, level_text, probability

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.exact.quantities import Quantities

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
    heavy = [f"{name} ~ {prior}" for name, prior in coefficients if prior.heavy]
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
