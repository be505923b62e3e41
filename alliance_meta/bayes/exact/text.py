"""A Bayesian result in words: summary, HTML, the methods sentences and the R code."""

from __future__ import annotations

import html as _html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alliance_meta.bayes.exact.export import COLUMNS
from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.effects.table import EffectSizes
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.results.r_code import comment, data, formula
from alliance_meta.results.wording import WIDTH, number, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults, ExactResults
    from alliance_meta.bayes.sampled.results import SampledPosterior


def summary(fit: ExactResults) -> str:
    """Return the plain-text summary, at most 80 columns wide."""
    table = parameter_table(_rows(fit), COLUMNS)
    lines = [*heading(opening(fit)), "", *table, *on_r(fit), "", *_evidence(fit)]
    return printed(lines, remarks(fit.effects, fit.notes))


def printed(lines: list[str], said: list[str]) -> str:
    """Return lines, and remarks after an empty one."""
    return "\n".join([*lines, *(["", *heading(said)] if said else [])])


def remarks(effects: EffectSizes | None, notes: Iterable[Note]) -> list[str]:
    """Return what must be said: that data are made up, notes, cautions."""
    noted = [f"Note: {note.message}" for note in notes]
    if effects is None:
        return noted
    label = "SYNTHETIC DATA: made up for teaching; no finding about therapy."
    cautions = [f"Caution: {caution}" for caution in effects.provenance.cautions]
    return [*([label] if effects.provenance.synthetic else []), *noted, *cautions]


def heading(lines: Sequence[str]) -> list[str]:
    """Return lines of at most 80 columns."""
    return [part for line in lines for part in wrapped(line)]


def intervals_line(fit: Any) -> str:
    """Return what intervals are."""
    return f"Intervals: {KINDS[fit.interval]}, {100 * fit.level:g} % of the posterior"


def opening(fit: ExactResults) -> list[str]:
    """Return the lines above the table: model, data, priors, intervals."""
    first, *more = fit._model_words
    return [first, *about(fit, str(fit.priors), *more)]


def about(fit: Any, priors: str, *more: str) -> list[str]:
    """Return what a heading says below its first line."""
    centred = fit.p > 1 and fit.design.has_intercept
    return [
        fit.effects.heading,
        *more,
        *([f"Moderators: {fit.design.formula}"] if fit.design.formula != "1" else []),
        f"Priors: {priors}",
        *(["mu: the mean effect at the average of the moderators"] if centred else []),
        intervals_line(fit),
    ]


def _rows(fit: ExactResults) -> dict[str, list[str]]:
    table = fit.tidy().iloc[: -fit.k]
    return {
        str(name): [number(float(cell)) for cell in row] for name, row in zip(table.index, table.values, strict=True)
    }


def parameter_table(rows: Mapping[str, Sequence[str]], heads: Sequence[str], widths: Sequence[int] = ()) -> list[str]:
    """Return rows of cells by name, under their heads; long names are cut."""
    widths = widths or [8] * len(heads)
    room = WIDTH - sum(widths) - len(widths) - 1
    width = min(max(9, *map(len, rows)), room)

    def line(name: str, cells: Sequence[str]) -> str:
        short = name if len(name) <= width else name[: width - 1] + "…"
        return f"{short:{width}} " + " ".join(f"{cell:>{n}}" for cell, n in zip(cells, widths, strict=True))

    return [line("", heads), *(line(name, cells) for name, cells in rows.items())]


def on_r(fit: ExactResults | SampledPosterior) -> list[str]:
    """Return mean and prediction as correlations, after an empty line; nothing with moderators."""
    if fit.design.formula != "1" or fit.effects.measure != "ZCOR":
        return []
    row, mean = fit.predict(scale="r").iloc[0], fit.predict(scale="r_mean").iloc[0]
    new = "group" if fit._nested else "study"
    return [
        "",
        f"As r: {row.pred:.3f} [{row.ci_lb:.3f}, {row.ci_ub:.3f}] (median true correlation, tanh)",
        f"      {mean.pred:.3f} [{mean.ci_lb:.3f}, {mean.ci_ub:.3f}] (mean true correlation)",
        f"      true correlation in a new {new}: [{row.pi_lb:.3f}, {row.pi_ub:.3f}]",
    ]


def _evidence(fit: ExactResults) -> list[str]:
    lines = probabilities(fit) if fit.design.has_intercept else []
    for one in fit._bayes_factors.values():
        lines.append(str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}")
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else f"{likelihood:.4f}"
    return heading([*lines, f"Log marginal likelihood: {shown}"])


def probabilities(fit: Any) -> list[str]:
    """Return how probable it is that the mean effect, and one of a new study, is positive."""
    return ["   ".join(f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0"))]


def probability(value: float) -> str:
    """Return ``= 0.9412``, or ``> .9999`` where rounding would claim certainty."""
    if 0.00005 <= value < 0.99995:
        return f"= {value:.4f}"
    return "< .0001" if value < 0.5 else "> .9999"


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def html(fit: ExactResults) -> str:
    """Return the summary as HTML for a notebook."""
    return page(fit, [*heading(opening(fit)), *on_r(fit), *_evidence(fit)], _rows(fit), remarks(fit.effects, fit.notes))


def page(
    fit: Any, lines: list[str], rows: Mapping[str, Sequence[str]], said: list[str], more: Sequence[str] = ()
) -> str:
    """Return lines, a table of the posterior, with `more` columns, and remarks as HTML."""
    first, *rest = [_html.escape(line.strip()) for line in lines if line]
    body = "".join(
        f'<tr><th scope="row">{_html.escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    columns = ("mean", "sd", "median", "CI lower", "CI upper", *more)
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    scale = "" if getattr(fit, "recipe", fit) is None else f"{_html.escape(fit.effects.scale_label)}, "
    caption = f"Posterior ({scale}{100 * fit.level:g} % {KINDS[fit.interval]} intervals)"
    listed = "".join(f"<li>{_html.escape(line)}</li>" for line in said)
    return (
        f"<div><p><strong>{first}</strong><br>{'<br>'.join(rest)}</p><table><caption>{caption}</caption>"
        f'<thead><tr><th scope="col">parameter</th>{header}</tr></thead><tbody>{body}</tbody></table>'
        + (f"<ul>{listed}</ul>" if listed else "")
        + "</div>"
    )


def scale_words(fit: Any) -> str:
    """Return the sentence of a methods section on the scale of the analysis, if there is one."""
    return {
        "ZCOR": "Correlations were transformed to Fisher's z with sampling variance 1/(n - 3) for the analysis "
        "and back-transformed for presentation. ",
        "COR": "Raw correlations were analysed. ",
        "UCOR": "Correlations corrected for small-sample bias were analysed. ",
    }.get(fit.effects.measure, "")


def moderators_words(fit: Any) -> str:
    """Return `` with the moderators ...``, or nothing."""
    return f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""


def interval_words(fit: Any) -> str:
    """Return the sentence of a methods section on estimates and intervals."""
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    return f"Posterior medians are reported with {kind} {100 * fit.level:g} % credible intervals."


def prior_words(fit: Any, priors: Mapping[str, Prior]) -> str:
    """Return the priors in a sentence: of the mean effect, of the coefficients, of tau."""
    centred = fit.p > 1 and fit.design.has_intercept
    names = {
        "mu": "the mean effect at the average of the moderators" if centred else "the mean effect",
        "tau": "the standard deviation of true effects between studies, tau",
    }
    return "; ".join(f"{names.get(name, name)}: {prior}" for name, prior in priors.items())


def methods(fit: ExactResults) -> str:
    """Return the sentences for a methods section."""
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    what, how = fit._method_words
    return (
        f"{scale_words(fit)}{what}. Priors were {prior_words(fit, fit.priors.named)}. {how}, with a numerical error "
        f"{bound(fit.error_bound)}. {interval_words(fit)}{factors}"
    )


def bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {error:.0e}"


def r_code(fit: BayesianResults) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    coefficients = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    heavy = [f"{name} ~ {prior}" for name, prior in coefficients if prior.heavy]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={fit.priors.tau.spelled("bayesmeta")}, interval.type="{interval}"'
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


def _r_normal(fit: BayesianResults, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")
