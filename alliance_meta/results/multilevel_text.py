"""A multilevel fit in words: its document, the methods sentence and the R code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alliance_meta.effects.dependent.groups import ROWS, sides
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.r_code import (
    call,
    comment,
    covariance,
    data,
    formula,
    level_argument,
    mods_argument,
    path,
    quoted,
    vector,
)
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import fixed, plain_df

if TYPE_CHECKING:
    from alliance_meta.results.components import RandomTerm
    from alliance_meta.results.multilevel import MultilevelResults


def r_code(fit: MultilevelResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma.mv`` of a multilevel model."""
    used = [part.strip() for term in fit.random for side in (term.within, term.outer) for part in side.split("/")]
    slopes = {v for term in fit.random if term.slopes is not None for v in term.slopes.variables}
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    wanted = [u for u in (*used, *slopes, *obs, *uses) if u]
    lines = ["library(metafor)", *data(fit, uses=wanted)]
    if fit.V is not None:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
    # metafor reads a/b as a and b within a: the deepest path says it all.
    paths = [term.name for term in fit.random if not term.within]
    shown = [term for term in fit.random if not any(path.startswith(f"{term.name}/") for path in paths)]
    structs = [quoted(str(term.struct)) for term in fit.random if term.within]
    arguments = {
        "mods": mods_argument(fit),
        "random": f"list({', '.join(map(_r_term, shown))})",
        "struct": f"c({', '.join(structs)})" if structs else None,
        **_fixed(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if fit.inference == "z" else quoted("t"),
        "dfs": None if fit.inference == "z" else quoted(fit.degrees),
        "level": level_argument(fit.level),
        "sparse": "TRUE",
    }
    return "\n".join([*lines, f"fit <- {call('rma.mv', 'yi', 'vi' if fit.V is None else 'V', **arguments)}"])


def _r_term(term: RandomTerm) -> str:
    inner, outer = sides(term.name)
    return f"~ {formula(inner)} | {path(outer)}"


def _fixed(fit: MultilevelResults) -> dict[str, str]:
    """Return the arguments that hold parameters at given values, NA for those that are searched for."""
    if not fit.fitted.fixed.any():
        return {}
    rows = fit.components
    held = {key: vector(rows["estimate"].where(rows["fixed"].astype(bool), None)[rows.index.str.startswith(f"{key}[")])
            for key in ("sigma2", "tau2", "rho")}  # fmt: skip
    return {key: code for key, code in held.items() if re.search(r"[0-9]", code)}


def document(fit: MultilevelResults) -> Document:
    """Return what the fit says."""
    rule = "normal" if fit.inference == "z" else f"t({plain_df(fit.ddf[0])})"
    return wording.document(
        fit,
        f"Multilevel model (k = {fit.k}; method: {fit.method})",
        [
            fit.effects.heading,
            "Inference: " + ("Wald (normal)" if fit.inference == "z" else f"t, degrees of freedom by {_counting(fit)}"),
            "Sampling errors: " + ("independent" if fit.V is None else fit.V.assumption),
            *wording.moderated(fit),
        ],
        _components(fit),
        _heterogeneity(fit),
        wording.moderator_test(fit),
        wording.coefficients(fit),
        [
            *wording.as_r(fit, mean=not isinstance(fit.tau2, NotApplicable)),
            *wording.prediction(fit, "a new effect in a new study", rule),
        ],
    )


def methods(fit: MultilevelResults) -> str:
    """Return the sentences for a methods section."""
    random = "; ".join(_term_words(term) for term in fit.random)
    moderators = wording.with_moderators(fit)
    V = (
        "Sampling errors were taken as independent."
        if fit.V is None
        else f"Sampling errors of effects from the same people were taken to be correlated ({fit.V.assumption})."
    )
    reference = {
        "z": "the normal distribution",
        "t": "t distributions with "
        + ("containment degrees of freedom" if fit.degrees == "contain" else "k - p degrees of freedom"),
    }[fit.inference]
    return (
        f"A multilevel model{moderators} was fitted to {fit.effects.counted} by {wording.ESTIMATORS[fit.method]}, "
        f"with random effects for {random}. {V} Coefficients were tested against {reference}."
    )


def _term_words(term: RandomTerm) -> str:
    if not term.within:
        given = ", with given correlations between them" if term.struct == "R" else ""
        return f"{term.name} ({term.n} groups{given})"
    if term.struct == "GEN":
        return f"{term.within} by {term.outer} ({term.n} groups)"
    return f"{term.within} within {term.outer} ({term.n} groups, {term.struct} structure)"


def _counting(fit: MultilevelResults) -> str:
    return "containment" if fit.degrees == "contain" else "k - p"


def _components(fit: MultilevelResults) -> Table:
    rows = []
    for name, row in fit.components.iterrows():
        value, error = float(row["estimate"]), row["se"]
        se = ("given" if row["fixed"] else "edge") if isinstance(error, NotApplicable) else fixed(error)
        sd = "" if str(name).startswith("rho") else fixed(value**0.5 if value >= 0 else float("nan"))
        rows.append((str(name), fixed(value), se, sd, str(row["groups"])))
    return Table(("", "estimate", "se", "sd", "groups"), tuple(rows), "Random terms")


def _heterogeneity(fit: MultilevelResults) -> list[str]:
    lines = [wording.q_test(fit)]
    if not isinstance(fit.tau2, NotApplicable) and not isinstance(fit.vt, NotApplicable):
        shares = ", ".join(f"{name} {fixed(value, 1)}" for name, value in fit.I2_levels.items() if name != "total")
        lines.append(f"I2 = {fixed(fit.I2, 2)} % of the total variance: {shares}")
    return lines
