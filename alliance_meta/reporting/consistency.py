"""The consistency check in a report: what was held against what, and the printed numbers that disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.provenance import Provenance
from alliance_meta.errors import InputError
from alliance_meta.reporting.columns import Table, column
from alliance_meta.reporting.evidence import citations
from alliance_meta.reporting.numbers import Quantity, note_quantities, quantity
from alliance_meta.reporting.spec import Consistency, Item
from alliance_meta.tables.format import MINUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from alliance_meta.evidence.checking import Check
    from alliance_meta.evidence.consistency import ConsistencyReport

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
class Checked:
    """The printed numbers of the registry, held against one another."""

    report: ConsistencyReport
    labels: Mapping[str, str]
    origins: tuple[Provenance, ...]
    quantities: dict[str, Quantity]
    citations: tuple[str, ...]

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
    from alliance_meta.evidence.claims import entry_labels
    from alliance_meta.evidence.consistency import consistency
    from alliance_meta.evidence.published import published

    report = consistency(alpha=spec.alpha)
    wrong = list(dict.fromkeys(check.label for check in report.problems))
    return Checked(
        report=report,
        labels=entry_labels(),
        origins=(load_dataset("published").provenance,),
        quantities=_quantities(report),
        citations=(NUIJTEN, *citations(published().set_index("id").loc[wrong].to_dict("records"))),
    )


def _quantities(report: ConsistencyReport) -> dict[str, Quantity]:
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
