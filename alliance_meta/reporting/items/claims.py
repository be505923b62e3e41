"""The claims audit and the consistency check as pieces of a report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.reporting.items.evidence import Piece, citations
from alliance_meta.reporting.spec import Claims, Consistency, Item
from alliance_meta.reporting.tables import Table, column
from alliance_meta.reporting.writing import Quantity, note_quantities, quantity
from alliance_meta.tables.format import MINUS, fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from alliance_meta.evidence.checking import Check
    from alliance_meta.evidence.claim_tests import Finding
    from alliance_meta.evidence.claims_audit import ClaimVerdict
    from alliance_meta.evidence.consistency_check import ConsistencyReport

# The claim about a share of outcome.
SHARE = "thirty_percent"
COUNTS = {
    "supported": "supported",
    "contradicted": "contradicted",
    "depends on": "depends_on",
    "not checkable with what is here": "not_checkable",
}
ANSWERS: dict[bool | None, tuple[str, str]] = {True: ("yes", "Yes"), False: ("no", "No"), None: ("untold", "Not told")}
BESIDE = "*In brackets*: told beside; the verdict does not rest on it."
_RELATION = re.compile(r" ([<>=]) ")
_HYPHEN = re.compile(r"(?<!\w)-(?=[\s.\d])")
UNTOLD = "*Not told*: the registry cannot answer; the calculation says what is lacking."


@dataclass(frozen=True, eq=False)
class Audit(Piece):
    """Claims, their verdicts, and the printed correlations that bear on a claimed share of outcome."""

    verdicts: tuple[ClaimVerdict, ...]
    shared: pd.DataFrame
    claimed: float

    def table(self, item: Item) -> Table:
        """Return all claims with their verdicts, or the steps that lead to those of some."""
        chosen = self._chosen(item.of)
        return _overview(item, chosen) if item.table == "claims" else _steps(item, chosen)

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of the shares that the printed correlations give, with the claimed one as a line."""
        from alliance_meta.plots.sheet.chart_frame import make_chart

        rows: list[dict[str, Any]] = [
            {"kind": "mean", **{str(name): value for name, value in row.items()}}
            for row in self.shared.to_dict("records")
        ]
        claimed = 100 * self.claimed
        rows.append({"kind": "mean", "label": "What is claimed", "yi": claimed})
        words = "; ".join(f"{row['label']} {fixed(row['yi'], 1)}%" for row in rows)
        meta = {
            "plot": "means",
            "title": "Share of outcome that the printed correlations explain",
            "description": f"The square of each printed correlation, in percent, beside the share claimed: {words}.",
            "axis_label": "Printed in",
            "x_label": "Share of the variance of outcome, r², in percent",
            "value_label": "r² in % [from the CI]",
            "key": [["thick", "r², with the squared limits of the printed 95% CI"]],
            "bottom": ["A result without a line prints no interval. Nothing is pooled"],
            "reference": [claimed, claimed, claimed],
        }
        return make_chart(rows, meta), "The squares of the printed correlations, and the share claimed."

    def _chosen(self, wanted: tuple[str, ...]) -> list[ClaimVerdict]:
        known = {one.claim_id: one for one in self.verdicts}
        unknown = [f"{name!r}{did_you_mean(name, list(known))}" for name in wanted if name not in known]
        if unknown:
            raise InputError(f"of={', '.join(unknown)} is no claim here (known: {', '.join(known)})")
        return [known[name] for name in wanted] if wanted else list(self.verdicts)


def read_claims(spec: Claims) -> Audit:
    """Hold the listed claims against the registry."""
    from alliance_meta.evidence.claims_audit import CLAIMED_SHARE, claims
    from alliance_meta.evidence.published_results import published
    from alliance_meta.evidence.umbrellas import named

    audit = claims()
    verdicts = tuple(audit[name] for name in spec.only) if spec.only else audit.verdicts
    registry = published(align_signs=True).set_index("id")
    shared = _shared(audit[SHARE], registry)
    used = list(dict.fromkeys(entry for one in verdicts for entry in one.ids))
    return Audit(
        verdicts=verdicts,
        shared=shared,
        claimed=CLAIMED_SHARE,
        origins=_origins(),
        quantities=_quantities(verdicts, shared, CLAIMED_SHARE) | note_quantities(audit.notes),
        citations=citations(
            row for row in registry.loc[used].to_dict("records") if named(row["authors"]) and named(row["title"])
        ),
    )


def _shared(verdict: ClaimVerdict, registry: pd.DataFrame) -> pd.DataFrame:
    """Return the square of each correlation that a claimed share is held against, in percent, with its limits'."""
    import pandas as pd

    rows = []
    for finding in verdict.findings:
        row: Any = registry.loc[finding.ids[0]]
        squares = {
            name: 100 * float(row[source]) ** 2
            for name, source in (("yi", "estimate"), ("ci_lb", "ci_low"), ("ci_ub", "ci_high"))
        }
        rows.append({"label": finding.subject, "k": row["k"], **squares})
    return pd.DataFrame(rows)


def _origins() -> tuple[Provenance, ...]:
    """Return where claims, results and moderators were read."""
    from alliance_meta.effects.datasets import data_root, load_dataset
    from alliance_meta.files import sha256

    results = load_dataset("published").provenance
    moderators = data_root() / "published" / "moderators.csv"
    return (
        load_dataset("claims").provenance,
        results,
        replace(results, source=moderators.name, sha256=sha256(moderators.read_bytes())),
    )


def _quantities(verdicts: Iterable[ClaimVerdict], shared: pd.DataFrame, claimed: float) -> dict[str, Quantity]:
    """Return what prose may say of the claims: counts, verdicts with their reasons, and the shares."""
    listed = list(verdicts)
    out = {"count": quantity(len(listed), "count", "Claims")}
    for verdict, name in COUNTS.items():
        out[name] = quantity(sum(one.verdict == verdict for one in listed), "count", f"Claims: {verdict}")
    for one in listed:
        out[one.claim_id] = quantity(one.verdict, "text", f"{one.claim}: verdict")
        out[f"{one.claim_id}_claim"] = quantity(one.claim, "text", "Claim")
        out[f"{one.claim_id}_reason"] = quantity(one.reason, "text", f"{one.claim}: reason")
        out[f"{one.claim_id}_calculation"] = quantity(f"{one.calculation}.", "text", f"{one.claim}: calculation")
    highest = max(shared["yi"].max(), shared["ci_ub"].max())
    reliability = float(shared["yi"].max()) / (100 * claimed)
    return out | {
        "share_reliability": quantity(reliability, "r", "Product of reliabilities that would make up for the rest"),
        "share_reliability_each": quantity(math.sqrt(reliability), "r", "The same, each of two equal ones"),
        "share_claimed": quantity(100 * claimed, "fixed0", "Share claimed, %"),
        "share_r_needed": quantity(math.sqrt(claimed), "r3", "Correlation that this share needs"),
        "share_results": quantity(len(shared), "count", "Results held against the share"),
        "share_lowest": quantity(float(shared["yi"].min()), "fixed1", "Lowest r², %"),
        "share_highest": quantity(float(shared["yi"].max()), "fixed1", "Highest r², %"),
        "share_highest_limit": quantity(float(highest), "fixed1", "Highest r² within a printed interval, %"),
    }


def _overview(item: Item, chosen: Iterable[ClaimVerdict]) -> Table:
    rows: list[dict[str, Any]] = []
    for one in chosen:
        essential = [finding for finding in one.findings if finding.essential]
        counts = {name: sum(found.holds is answer for found in essential) for answer, (name, _) in ANSWERS.items()}
        rows.append({"claim_id": one.claim_id, "claim": one.claim, "verdict": one.verdict, **counts})
    return {
        "caption": item.caption or "Popular claims, and how many of the deciding questions are answered yes and no.",
        "columns": [
            column("claim", "Claim"),
            column("verdict", "Verdict"),
            *(column(name, word, "count") for name, word in ANSWERS.values()),
        ],
        "rows": rows,
    }


def _steps(item: Item, chosen: Iterable[ClaimVerdict]) -> Table:
    rows: list[dict[str, Any]] = []
    for one in chosen:
        rows.append({"group": f"{one.claim}: {one.verdict}"})
        rows += [_step(one.claim_id, finding) for finding in one.findings]
    columns = [
        column("question", "Question"),
        column("answer", "Answer"),
        column("calculation", "Calculation"),
    ]
    findings = [finding for one in chosen for finding in one.findings]
    notes = [BESIDE] if not all(finding.essential for finding in findings) else []
    notes += [UNTOLD] if any(finding.holds is None for finding in findings) else []
    caption = item.caption or "The questions that each claim was put to, and the answers."
    return {"caption": caption, "columns": columns, "rows": rows, "notes": [" ".join(notes)] if notes else []}


def _step(claim_id: str, finding: Finding) -> dict[str, Any]:
    answer = ANSWERS[finding.holds][1].lower()
    calculation = _RELATION.sub("\u00a0\\1\u00a0", _HYPHEN.sub(MINUS, finding.calculation))
    return {
        "claim_id": claim_id,
        "question": f"{finding.statement[:1].upper()}{finding.statement[1:]}?",
        "answer": answer if finding.essential else f"({answer})",
        "calculation": f"{calculation[:1].upper()}{calculation[1:]}",
    }


VERDICTS = {
    "consistent": ("consistent", "Consistent"),
    "inconsistent": ("inconsistent", "Inconsistent"),
    "inconsistent in the decision": ("inconsistent_in_the_decision", "Inconsistent in the decision"),
    "depends on the definition": ("depends_on_the_definition", "Depends on the definition"),
}
NOT_PRINTED = "not printed"
SYMBOLS = frozenset({"d", "df", "p", "r", "r²", "t", "z"})
NUIJTEN = (
    "Nuijten, M. B., Hartgerink, C. H. J., van Assen, M. A. L. M., Epskamp, S., & Wicherts, J. M. (2016). The "
    "prevalence of statistical reporting errors in psychology (1985–2013). *Behavior Research Methods*, 48(4), "
    "1205–1226. doi:10.3758/s13428-015-0664-2"
)


@dataclass(frozen=True, eq=False)
class Checked(Piece):
    """The printed numbers of the registry, held against one another."""

    report: ConsistencyReport
    labels: Mapping[str, str]

    def table(self, item: Item) -> Table:
        """Return the numbers that disagree, or how many checks of each kind there are."""
        return self._counts(item) if item.table == "consistency_counts" else self._problems(item)

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Refuse: there is nothing to draw."""
        raise InputError(f"figure={item.drawn!r}: the consistency check has no figure")

    def _problems(self, item: Item) -> Table:
        rows = [
            {
                "id": check.label,
                "label": self.labels.get(check.label, check.label),
                "rule": _capital(check.rule),
                "given": _minus(check.given),
                "printed": _minus(check.printed),
                "follows": _minus(check.follows),
                "verdict": check.verdict,
                "reading": _capital(check.reading) or "Nothing that was tried",
            }
            for check in self.report.problems
        ]
        return {
            "caption": item.caption or "Printed numbers of the registry that disagree with each other.",
            "columns": [
                column("label", "Entry"),
                column("rule", "Check"),
                column("given", "From"),
                column("follows", "Follows"),
                column("printed", "Printed"),
                column("verdict", "Verdict"),
                column("reading", "What would make them agree"),
            ],
            "rows": rows,
            "notes": [] if rows else ["No printed numbers disagree."],
        }

    def _counts(self, item: Item) -> Table:
        done = [check for check in self.report.checks if check.verdict != NOT_PRINTED]
        shown = {verdict: names for verdict, names in VERDICTS.items() if verdict in {one.verdict for one in done}}
        rows: list[dict[str, Any]] = []
        for rule in dict.fromkeys(check.rule for check in done):
            found = [check.verdict for check in done if check.rule == rule]
            counts = {name: found.count(verdict) for verdict, (name, _) in shown.items()}
            rows.append({"rule": _capital(rule), "checks": len(found), **counts})
        rows.sort(key=lambda row: -row["checks"])
        return {
            "caption": item.caption or "What was held against what, and how often the numbers agree.",
            "columns": [
                column("rule", "Check"),
                column("checks", "Checks", "count"),
                *(column(name, label, "count") for name, label in shown.values()),
            ],
            "rows": rows,
        }


def read_consistency(spec: Consistency) -> Checked:
    """Hold the printed numbers of the registry against one another."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.evidence.claims_audit import entry_labels
    from alliance_meta.evidence.consistency_check import consistency
    from alliance_meta.evidence.published_results import published

    report = consistency(alpha=spec.alpha)
    wrong = list(dict.fromkeys(check.label for check in report.problems))
    return Checked(
        report=report,
        labels=entry_labels(),
        origins=(load_dataset("published").provenance,),
        quantities=_counts(report),
        citations=(NUIJTEN, *citations(published().set_index("id").loc[wrong].to_dict("records"))),
    )


def _counts(report: ConsistencyReport) -> dict[str, Quantity]:
    """Return what prose may say of the check: how many entries and checks, and how many of each verdict."""
    done = [check for check in report.checks if check.verdict != NOT_PRINTED]
    verdicts: list[str] = [check.verdict for check in done]
    out = {
        "entries": quantity(len(report.results), "count", "Entries of the registry"),
        "entries_checked": quantity(_entries(done), "count", "Entries of which something could be checked"),
        "entries_wrong": quantity(_entries(report.problems), "count", "Entries whose numbers disagree"),
        "checks": quantity(len(done), "count", "Checks"),
        "wrong": quantity(len(report.problems), "count", "Checks whose numbers disagree"),
    }
    for verdict, (name, label) in VERDICTS.items():
        out[name] = quantity(verdicts.count(verdict), "count", label)
    return out | note_quantities(report.notes)


def _entries(checks: list[Check] | tuple[Check, ...]) -> int:
    return len({check.label for check in checks})


def _capital(text: str) -> str:
    """Return the text with a capital, unless it begins with a symbol."""
    return text if text.partition(" ")[0] in SYMBOLS else text[:1].upper() + text[1:]


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
