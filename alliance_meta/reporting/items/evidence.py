"""The published evidence in a report: the umbrella, printed numbers and what reproduces, claims, consistency."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.kinds import located
from alliance_meta.reporting.spec import Claims, Consistency, Item, Umbrella
from alliance_meta.reporting.tables import Table, column, plain_value
from alliance_meta.reporting.writing import Quantity, escape, note_quantities, quantity
from alliance_meta.tables.format import MINUS, fixed

if TYPE_CHECKING:
    from alliance_meta.evidence.checking import Check
    from alliance_meta.evidence.claim_tests import Finding
    from alliance_meta.evidence.claims_audit import ClaimVerdict
    from alliance_meta.evidence.consistency_check import ConsistencyReport
    from alliance_meta.evidence.umbrellas import Umbrella as Published

EVIDENCE_SHORT = {
    "author abstract": "abstract",
    "author table or page": "table or page",
    "secondary citation": "secondary",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece(ABC):
    """One view of the published results: the files it comes from, its numbers for prose, the articles it rests on."""

    origins: tuple[Provenance, ...]
    quantities: dict[str, Quantity]
    citations: tuple[str, ...]

    @abstractmethod
    def table(self, item: Item) -> Table:
        """Return a table that the item asks for."""

    @abstractmethod
    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of a figure and its caption."""


Pieces = Mapping[str, Piece]


@dataclass(frozen=True, eq=False)
class Registry(Piece):
    """The published results that an umbrella report shows, and those it leaves out."""

    shown: Published

    def figure(self, item: Item) -> tuple[pd.DataFrame, str]:
        """Return the frame of the umbrella's forest plot, which has no diamond, and its caption."""
        from alliance_meta.plots import published_forest_data

        own = self.shown.frame
        printed = pd.Series(_as_printed(own), index=own.index)
        as_printed = ~(own["sign_flipped"].astype(bool) | own["converted"].astype(bool))
        frame = pd.DataFrame(
            {
                "label": own["label"] + [_superscript(codes) for codes in own["codes"]],
                "group": own["heading"],
                "r": own["estimate"],
                "ci_lb": own["ci_lb"],
                "ci_ub": own["ci_ub"],
                "k": own["k"],
                "n": own["n_total"],
                "evidence": [EVIDENCE_SHORT.get(level, level) for level in own["evidence_level"]],
                "text": printed.where(as_printed, None),
            }
        )
        # Not the caption, whose references to tables are for the page and not for a title.
        title = "Published alliance-outcome correlations"
        return published_forest_data(frame, title=title), "Published results side by side; nothing is pooled."

    def table(self, item: Item) -> Table:
        """Return the results shown, or the entries left out with the reason."""
        return self._shown(item) if item.table == "umbrella" else self._left_out(item)

    def _shown(self, item: Item) -> Table:
        rows: list[dict[str, Any]] = []
        for heading, group in self.shown.frame.groupby("heading", sort=False):
            rows.append({"group": heading})
            texts = _as_printed(group)
            rows += [
                {
                    **{name: plain_value(record[name]) for name in _SHOWN},
                    "printed": text,
                    "evidence": EVIDENCE_SHORT.get(record["evidence_level"], record["evidence_level"]),
                }
                for record, text in zip(group.to_dict("records"), texts, strict=True)
            ]
        columns = [
            column("label", "Meta-analysis"),
            column("k", "k", "count", blank="–"),
            column("n_total", "N", "count", blank="–"),
            column("estimate", "r", "r"),
            column(["ci_lb", "ci_ub"], "CI", "r_interval", blank="–"),
            column("printed", "As printed"),
            column("evidence", "Read in"),
            column("codes", "Marks"),
        ]
        notes = [f"{code}: {text}." for code, text in self.shown.codes.items()]
        return {
            "caption": item.caption or "Published correlations of alliance and outcome, positive = better outcome.",
            "columns": columns,
            "rows": rows,
            "notes": ["Marks. " + " ".join(notes), "k and N as printed. A dash: not printed where it was read."],
        }

    def _left_out(self, item: Item) -> Table:
        names = ("label", "relation", "metric", "reason")
        rows = [
            {
                **{name: plain_value(record[name]) for name in names},
                "estimate_printed": str(plain_value(record["estimate_printed"]) or "").replace("-", MINUS) or None,
            }
            for record in self.shown.excluded.to_dict("records")
        ]
        columns = [
            column("label", "Entry"),
            column("metric", "Metric", blank="–"),
            column("estimate_printed", "Printed", blank="–"),
            column("reason", "Why it is not shown"),
        ]
        return {"caption": item.caption or "Entries of the registry left out.", "columns": columns, "rows": rows}


def _as_printed(frame: pd.DataFrame) -> list[str]:
    """Return estimate and interval as the paper prints them, sign and all."""
    pairs = zip(frame["estimate_printed"], frame["ci_printed"], strict=True)
    return [f"{estimate} {interval}".strip().replace("-", MINUS) for estimate, interval in pairs]


_SHOWN = ("id", "label", "k", "n_total", "estimate", "ci_lb", "ci_ub", "evidence_level", "codes")


def read_umbrella(spec: Umbrella) -> Registry:
    """Read the registry of published results."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.evidence.published_results import published
    from alliance_meta.evidence.umbrellas import umbrella

    shown = umbrella(psychotherapy_only=spec.psychotherapy_only)
    whole = published().set_index("id").loc[list(shown.frame["id"])]
    return Registry(
        shown=shown,
        origins=(load_dataset("published").provenance,),
        quantities=_quantities(shown),
        citations=citations(whole.to_dict("records")),
    )


def _quantities(shown: Published) -> dict[str, Quantity]:
    """Return what prose may say about the umbrella: counts, the range, and every result by its id."""
    frame = shown.frame
    main = frame[frame["psychotherapy"].astype(bool)]
    out = {
        "shown": quantity(len(frame), "count", "Results shown"),
        "left_out": quantity(len(shown.excluded), "count", "Entries left out"),
        "with_interval": quantity(int(frame["ci_lb"].notna().sum()), "count", "Results with an interval"),
        "repeats": quantity(int((frame["role"] != "main").sum()), "count", "Results on studies shown twice"),
        "turned": quantity(int(frame["sign_flipped"].sum()), "count", "Signs turned"),
        "lowest": quantity(float(main["estimate"].min()), "r", "Lowest correlation in psychotherapy"),
        "highest": quantity(float(main["estimate"].max()), "r", "Highest correlation in psychotherapy"),
    }
    out |= note_quantities(note for note in shown.notes if note.code != "caution")
    for record in frame.to_dict("records"):
        name = str(record["id"])
        out[name] = quantity(record["estimate"], "r", record["label"])
        out[f"{name}_ci"] = quantity([record["ci_lb"], record["ci_ub"]], "r_interval", f"{record['label']}, CI")
        out[f"{name}_k"] = quantity(record["k"], "count", f"{record['label']}, k")
    return out


def citations(records: Iterable[Mapping[Any, Any]]) -> tuple[str, ...]:
    """Return one reference per article, with what was read of its authors, year, title and DOI."""
    found: dict[tuple[str, str, str], str] = {}
    for record in records:
        authors, year = str(plain_value(record["authors"]) or "("), plain_value(record["year"])
        name = "[Authors not named where it was read]" if authors.startswith("(") else authors
        when = f"({int(year)})" if year is not None else "(no year read)"
        title, doi = str(plain_value(record["title"]) or "[Title not read]"), plain_value(record["doi"])
        key = (name, when, str(doi or title))
        text = " ".join(
            part for part in (f"{name} {when}.", f"{title.rstrip('. ')}.", f"doi:{doi}" if doi else "") if part
        )
        found[key] = max(found.get(key, ""), text, key=len)
    return tuple(found.values())


def printed(fits: Iterable[Fitted]) -> dict[str, Quantity]:
    """Return the printed results of the data sets in use, by name, as text: never rounded, never computed."""
    out = {}
    for fitted in fits:
        for result in fitted.table.card.published if fitted.table.card else ():
            name = result.id.replace("-", "_")
            for key, text in result.printed.items():
                out[f"{name}_{key}"] = quantity(text, "text", f"{result.label}: {key}, as printed")
            if "estimate" in result.printed:
                out[name] = quantity(result.printed["estimate"], "text", f"{result.label}, as printed")
            if "ci_lb" in result.printed:
                ends = f"[{result.printed['ci_lb']}, {result.printed['ci_ub']}]"
                out[f"{name}_ci"] = quantity(ends, "text", f"{result.label}: interval, as printed")
    return out


def reproduce_table(item: Item, folder: Path) -> tuple[Table, dict[str, Quantity]]:
    """Return printed against ours for one data set, and the numbers prose may quote from it."""
    from alliance_meta.evidence.reproduction import reproduce

    frame = reproduce(located(item.of[0], folder=folder))
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    quantities: dict[str, Quantity] = {}
    for number, (name, group) in enumerate(frame.groupby("result", sort=False), 1):
        records = group.to_dict("records")
        first = records[0]
        source = "; ".join(dict.fromkeys(str(first["source"]).split("; ")))
        rows.append({"group": f"{number}. {_KINDS.get(first['kind'], first['kind'])}: {source}"})
        rows += [_compared(record) for record in records]
        notes.append(escape(f"{number}. Route: {first['route']}. {first['note']}".strip()))
        key = str(name).replace("-", "_")
        quantities[f"{key}_route"] = quantity(first["route"], "text", f"{name}: route")
        for record in records:
            kind = "count" if record["quantity"] in ("k", "N") else "r3"
            quantities[f"{key}_{record['quantity']}"] = quantity(record["ours"], kind, f"{name}: {record['quantity']}")
    columns = [
        column("quantity", "Quantity"),
        column("printed", "Printed", align="right"),
        column("ours", "Ours", "r3"),
        column("agrees", "Same to the printed digits?"),
    ]
    caption = item.caption or f"Printed against ours: {item.of[0]}."
    return {"caption": caption, "columns": columns, "rows": rows, "notes": notes}, quantities


_KINDS = {"published": "As the article prints it", "recalculated": "Later paper", "documentation": "Documentation"}
_QUANTITIES = {"estimate": "r", "ci_lb": "CI, lower limit", "ci_ub": "CI, upper limit", "tau2": "τ²"}
EXTRA_DECIMALS = 2


def _compared(record: Mapping[Any, Any]) -> dict[str, Any]:
    """Return one printed number beside ours, ours with two decimals more where few were printed."""
    printed = str(record["printed"])
    decimals = len(printed.partition(".")[2])
    kind = "count"
    if decimals:
        shown = decimals + (EXTRA_DECIMALS if decimals <= EXTRA_DECIMALS else 0)
        kind = f"{'r' if printed.lstrip('-')[0] == '.' else 'fixed'}{shown}"
    verdict = {True: "yes", False: "no"}.get(record["agrees"], "not run")
    return {
        "result": record["result"],
        "quantity": _QUANTITIES.get(record["quantity"], record["quantity"]),
        "printed": printed,
        "ours": {"value": record["ours"], "format": kind},
        "agrees": verdict,
    }


def _superscript(codes: str) -> str:
    kept = [code for code in codes.split() if code in ("sub", "same", "sign", "np")]
    return f" ({', '.join(kept)})" if kept else ""


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
        quantities=_claim_quantities(verdicts, shared, CLAIMED_SHARE) | note_quantities(audit.notes),
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


def _claim_quantities(verdicts: Iterable[ClaimVerdict], shared: pd.DataFrame, claimed: float) -> dict[str, Quantity]:
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
