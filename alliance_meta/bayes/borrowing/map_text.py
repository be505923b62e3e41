"""A MAP prior and its update in words, and in R."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results.wording import level_text, p_value, remarks, wrapped

if TYPE_CHECKING:
    from alliance_meta.bayes.borrowing.map_results import MapPrior
    from alliance_meta.bayes.borrowing.map_update import MapUpdate

# The precision that the printed example of clients needed is for.
HALF_WIDTH = 0.1


def prior_text(prior: MapPrior) -> str:
    """Return the prior in words, at most 80 columns wide."""
    fit = prior.fit
    lines = wrapped(f"MAP prior for the true effect of {prior.label} (k = {fit.k}; exact)")
    lines += wrapped(fit.effects.heading)
    lines += wrapped(f"Priors of the synthesis: {fit.priors}")
    if prior.robust:
        lines += wrapped(
            f"Robust: with probability {prior.robust:g} the study is not like the earlier ones; then {prior.vague}"
        )
    lines += ["", *_range(prior), *worth(prior), "", *_normals(prior)]
    return "\n".join([*lines, *remarks(prior.notes)])


def _range(prior: MapPrior) -> list[str]:
    z = prior.fit._scale == "z"
    one = prior.marginal(scale="r" if z else None).interval(level=prior.fit.level)
    digits = 3 if z else 4
    name = "r" if z else "effect"
    found = f"{one.estimate:.{digits}f} [{one.lb:.{digits}f}, {one.ub:.{digits}f}]"
    return wrapped(f"True {name} in that study: {found} (median, {level_text(prior.fit.level)} equal-tailed)")


def worth(prior: MapPrior) -> list[str]:
    """Say how many clients the prior is worth."""
    ess = prior.ess()
    if isinstance(ess, NotApplicable):
        return wrapped(f"Effective sample size: n/a ({ess.reason})")
    moment = prior.ess("moment")
    by_variance = "infinite variance" if moment != moment else f"{moment:.1f} by its variance"
    lines = wrapped(
        f"Effective sample size: {ess:.1f} clients (ELIR; {by_variance}, {prior.ess('morita'):.1f} at its peak); "
        f"endlessly many studies with the same tau, {prior.fit.tau:.3f}, would be worth {prior.ess_limit:.0f}"
    )
    if prior.fit._scale != "z":
        return lines
    centre = abs(prior.marginal(scale="r").median)
    lines += wrapped(
        f"About its own correlation a study of n clients that uses this prior says as much as one of n + {ess:.0f} "
        f"without; the prior by itself says as much as a study of {ess + 3:.0f} clients."
    )
    if centre + HALF_WIDTH < 1:
        need = prior.clients_needed(HALF_WIDTH).iloc[0]
        enough = (
            f"about {need['with_prior']:.0f} with this prior"
            if need["with_prior"]
            else "none with this prior, which is as precise already"
        )
        lines += wrapped(
            f"To know it within {HALF_WIDTH:g} either way ({level_text(need['level'])}) takes {need['alone']:.0f} "
            f"clients without and {enough}."
        )
    return lines


def _normals(prior: MapPrior) -> list[str]:
    count = prior.normals.mixture.mean.shape[1]
    error = (1.0 - prior.robust) * prior.normals.error
    names = "normal" if count == 1 else f"mixture of {count} normals"
    lines = wrapped(f"Nearly the same as a {names} (probabilities off by {error:.1g} at most)")
    lines += [f"{'':9} {'weight':>8} {'mean':>8} {'sd':>8}"]
    for row in prior.components.itertuples():
        lines.append(f"{row.Index!s:9} {row.weight:8.4f} {row.mean:8.4f} {row.sd:8.4f}")
    return lines


def update_text(after: MapUpdate) -> str:
    """Return the update in words, at most 80 columns wide."""
    prior = after.prior
    z = prior.fit._scale == "z"
    table = after.tidy(scale="r" if z else None)
    digits = 3 if z else 4
    lines = wrapped(f"{prior.label[0].upper()}{prior.label[1:]}: its result and its MAP prior (k = {prior.fit.k})")
    lines += [
        f"{'True r' if z else 'True effect'}: median, {level_text(prior.fit.level)} equal-tailed interval",
        f"{'':12} {'median':>8} {'ci_lb':>8} {'ci_ub':>8}",
    ]
    names = {"study": "result alone", "prior": "prior alone", "posterior": "together"}
    for key, name in names.items():
        row = table.loc[key]
        lines.append(f"{name:12} " + " ".join(f"{row[c]:8.{digits}f}" for c in ("median", "ci_lb", "ci_ub")))
    lines += [
        "",
        *wrapped(f"A result at least as far out had the probability p {p_value(after.p)} before it was known"),
    ]
    if prior.robust:
        lines += wrapped(
            f"Probability that it is not like the earlier studies: {prior.robust:.3f} before, {after.robust:.3f} now"
        )
    if after.ess == after.ess:
        own = prior.unit_sd**2 / after.vi
        lines += wrapped(
            f"Effective sample size: {after.ess:.1f} clients ({own:.1f} of the result, {prior.ess():.1f} of the prior "
            "before; on average these add up)"
        )
    return "\n".join([*lines, *remarks(after.notes)])


def r_code(prior: MapPrior) -> str:
    """Return the few normals in R."""
    rows = [
        f"  {'robust' if name == 'vague' else f'n{name}'}=c({row['weight']:.10g}, {row['mean']:.10g}, {row['sd']:.10g})"
        for name, row in prior.components.iterrows()
    ]
    known = prior.unit_sd == prior.unit_sd
    sigma = f",\n  sigma={prior.unit_sd:g}" if known else ""
    lines = ["library(RBesT)", "map <- mixnorm(", ",\n".join(rows) + sigma + ")"]
    lines += ['ess(map, method="elir")', 'ess(map, method="moment")', 'ess(map, method="morita")'] if known else []
    return "\n".join(lines)
