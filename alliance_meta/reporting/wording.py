"""The choices of an analysis in words: what model it is and how its coefficients are tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.reporting.spec import BAYES, MULTILEVEL, RVE, Analysis
from alliance_meta.results.r_code import call, data, quoted, value
from alliance_meta.tables.format import format_r

if TYPE_CHECKING:
    from alliance_meta.reporting.fitting import Fitted

INFERENCE = {"knha": "Hartung-Knapp, t", "adhoc": "Hartung-Knapp, factor at least 1, t", "z": "Wald, normal", "t": "t"}
NAMES = {"study_id": "studies", "es_id": "effects", "study_id/es_id": "effects"}
HARD = "\N{NO-BREAK SPACE}"
AGGREGATED = "aggregated"
COUNTED = {"contain": "t, df contained", "residual": "t, df k − p"}


def model_words(spec: Analysis) -> str:
    """Return what sort of model an analysis of dependent effects is."""
    if spec.kind == MULTILEVEL:
        return "multilevel"
    if spec.kind == RVE:
        return f"RVE, {spec.working}"
    return "random effects"


def inference_words(fitted: Fitted) -> str:
    """Return how coefficients of a model of dependent effects are tested."""
    spec = fitted.spec
    if spec.robust is not None:
        return f"{spec.robust}, Satterthwaite t"
    if spec.kind == RVE:
        return "CR2, Satterthwaite t"
    if spec.kind == MULTILEVEL and fitted.fit.inference == "t":
        return COUNTED[str(spec.dfs)]
    return INFERENCE[fitted.fit.inference]


def short_label(fitted: Fitted) -> str:
    """Return the model of one row of a table in a few words."""
    spec = fitted.spec
    if spec.kind == BAYES:
        priors = fitted.fit.priors
        of_tau = dict.fromkeys(str(one) for one in getattr(priors, "taus", None) or (priors.tau,))
        return f"Bayesian, {'studies + effects, ' if spec.random else ''}τ: {', '.join(of_tau)}"
    if not spec.dependent:
        return str(fitted.fit.model_label)
    parts = [f"RVE {spec.working}" if spec.kind == RVE else str(fitted.model.method)]
    if spec.aggregate is not None:
        parts = [f"{spec.aggregate} of each {_plain_cluster(spec.cluster)}", *parts]
    if spec.kind == MULTILEVEL:
        parts = [" + ".join(NAMES.get(term.name, term.name) for term in fitted.model.random), *parts]
    if spec.rho is not None:
        parts.append(f"ρ{HARD}={HARD}{format_r(spec.rho)}")
    parts.append(spec.robust or {RVE: "CR2", MULTILEVEL: fitted.fit.inference}.get(spec.kind) or _tested(fitted))
    return ", ".join(parts)


def _tested(fitted: Fitted) -> str:
    return str(fitted.fit.model_label).rpartition(", ")[2]


def _plain_cluster(name: str | None) -> str:
    return "study" if name == "study_id" else str(name)


def methods(fitted: Fitted) -> str:
    """Return the sentences for a methods section: what was averaged first, then the model."""
    text: str = fitted.fit.methods_text()
    if fitted.spec.aggregate is None:
        return text
    averaged = next(note.message for note in fitted.effects.notes if note.code == AGGREGATED)
    return f"{averaged} {text}"


def r_code(fitted: Fitted) -> str:
    """Return the R code of the model, with the averaging before it that effects of one study need."""
    spec = fitted.spec
    code: str = fitted.fit.r_code()
    # metafor has the two ways that work on the analysis scale; after any other the averages are written out.
    if spec.aggregate not in ("mean", "CS"):
        return code
    made = data(fitted.model, uses=(str(spec.cluster),), effects=fitted.coded)
    # Only a table with metafor's own class can be averaged by it.
    if not any(line.startswith("dat <- escalc(") for line in made):
        return code
    equal = "FALSE" if spec.aggregate == "mean" else None
    named = {"cluster": str(spec.cluster), "struct": quoted("CS"), "rho": value(spec.rho), "weighted": equal}
    lines = code.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("dat <- "))
    return "\n".join([*lines[:at], *made, f"dat <- {call('aggregate', 'dat', **named)}", *lines[at + 1 :]])
