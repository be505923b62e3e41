"""The flow of records through a review, by the keys of PRISMA 2020's template, and whether its numbers add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from alliance_meta.effects.provenance import Provenance
from alliance_meta.errors import Problem, Severity
from alliance_meta.notes import Note
from alliance_meta.tables.format import format_count

Parts = tuple[tuple[str, int], ...]

# The keys of the template (Haddaway et al. 2022, doi:10.1002/cl2.1230) and the label each has in the diagram.
# `additional_results` is ours: PRISMA 2009 screened "additional records" together with those of the databases.
LABELS = {
    "previous_studies": "Studies included in previous version of review",
    "previous_reports": "Reports of studies included in previous version of review",
    "database_results": "Databases",
    "register_results": "Registers",
    "additional_results": "Additional records",
    "website_results": "Websites",
    "organisation_results": "Organisations",
    "citations_results": "Citation searching",
    "duplicates": "Duplicate records",
    "excluded_automatic": "Records marked as ineligible by automation tools",
    "excluded_other": "Records removed for other reasons",
    "records_screened": "Records screened",
    "records_excluded": "Records excluded",
    "dbr_sought_reports": "Reports sought for retrieval",
    "dbr_notretrieved_reports": "Reports not retrieved",
    "other_sought_reports": "Reports sought for retrieval",
    "other_notretrieved_reports": "Reports not retrieved",
    "dbr_assessed": "Reports assessed for eligibility",
    "other_assessed": "Reports assessed for eligibility",
    "new_studies": "New studies included in review",
    "new_reports": "Reports of new included studies",
    "total_studies": "Total studies included in review",
    "total_reports": "Reports of total included studies",
    "total_studies_ma": "Total studies included in meta-analysis",
    "total_reports_ma": "Reports of total included studies in meta-analysis",
}
# Keys that hold "Reason, n; reason, n".
LISTS = {
    "database_specific_results": "Databases",
    "register_specific_results": "Registers",
    "dbr_excluded": "Reports excluded",
    "other_excluded": "Reports excluded",
}
OTHER = ("website_results", "organisation_results", "citations_results", "other_sought_reports",
         "other_notretrieved_reports", "other_assessed", "other_excluded")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Step:
    """What goes in and what is taken out leave what comes next; all of `needs` must be known for that."""

    start: tuple[str, ...]
    out: tuple[str, ...]
    end: str
    needs: tuple[str, ...]
    # Studies may be more than their reports where one report tells of several; such a step only raises a suspicion.
    of_studies: bool = False


STEPS = (
    _Step(("database_results", "register_results", "additional_results"),
          ("duplicates", "excluded_automatic", "excluded_other"), "records_screened",
          ("database_results", "duplicates")),
    _Step(("records_screened",), ("records_excluded",), "dbr_sought_reports", ("records_excluded",)),
    _Step(("dbr_sought_reports",), ("dbr_notretrieved_reports",), "dbr_assessed", ("dbr_notretrieved_reports",)),
    _Step(("records_screened",), ("records_excluded", "dbr_notretrieved_reports"), "dbr_assessed",
          ("records_excluded", "dbr_notretrieved_reports")),
    # Duplicates among records of other methods have no box, so that fewer reports may be sought than were found.
    _Step(("website_results", "organisation_results", "citations_results"), (), "other_sought_reports", ("never",)),
    _Step(("other_sought_reports",), ("other_notretrieved_reports",), "other_assessed",
          ("other_notretrieved_reports",)),
    _Step(("dbr_assessed", "other_assessed"), ("dbr_excluded", "other_excluded"), "new_reports", ("dbr_excluded",)),
    _Step(("dbr_assessed", "other_assessed"), ("dbr_excluded", "other_excluded"), "new_studies", ("never",), True),
    _Step(("new_reports",), (), "new_studies", ("never",), True),
    _Step(("total_reports",), (), "total_studies", ("never",), True),
    _Step(("previous_studies", "new_studies"), (), "total_studies", ("previous_studies", "new_studies")),
    _Step(("previous_reports", "new_reports"), (), "total_reports", ("previous_reports", "new_reports")),
    _Step(("database_specific_results",), (), "database_results", ()),
    _Step(("register_specific_results",), (), "register_results", ()),
    _Step(("total_studies",), (), "total_studies_ma", ("never",)),
    _Step(("total_reports",), (), "total_reports_ma", ("never",)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Flow:
    """How many records a search found, and what became of them; made by `read_flow`.

    Attributes
    ----------
    counts : mapping of str to int
        Key of PRISMA 2020's template -> number; what was not reported is not in it.
    parts : mapping of str to tuple
        Key of a list, such as ``dbr_excluded`` -> pairs of reason and number.
    labels : mapping of str to str
        Key -> its label, where the file words it otherwise (the template's column ``boxtext``).
    provenance : Provenance
        Where the numbers came from.
    notes : tuple of Note
        What was derived, what is not reported, and contradictions that were let pass.
    """

    counts: Mapping[str, int]
    parts: Mapping[str, Parts] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=lambda: Provenance("flow"))
    notes: tuple[Note, ...] = ()

    def number(self, key: str) -> int | None:
        """Return the number of a key, of a list its sum; None where it was not reported."""
        listed = self.parts.get(key)
        return self.counts.get(key) if listed is None else sum(n for _, n in listed)

    def label(self, key: str) -> str:
        """Return what a box or line of the diagram says."""
        return self.labels.get(key) or {**LABELS, **LISTS}[key]

    @property
    def has_other(self) -> bool:
        """Whether anything was found by other methods than databases and registers."""
        return any(self.number(key) for key in OTHER)

    @property
    def has_previous(self) -> bool:
        """Whether the review brings an earlier version up to date."""
        return bool(self.number("previous_studies") or self.number("previous_reports"))

    @property
    def included(self) -> tuple[str, int] | None:
        """Key and number of the studies in the meta-analysis, else in the review; None where neither is known."""
        keys = ("total_studies_ma", "total_studies", "new_studies")
        return next(((key, n) for key in keys if (n := self.number(key)) is not None), None)


def contradictions(flow: Flow) -> Iterator[Problem]:
    """Yield every place at which the numbers of a flow do not add up, with the number and what may mend it."""
    for step in STEPS:
        start, out = _known(flow, step.start), _known(flow, step.out)
        end = flow.number(step.end)
        if end is None or not start:
            continue
        left = sum(start.values()) - sum(out.values())
        exact = all(flow.number(key) is not None for key in step.needs) and not _unknown_half(flow, step)
        if (left == end) if exact else (left >= end):
            continue
        words = " + ".join(f"{key} {format_count(n)}" for key, n in start.items())
        words += "".join(f" − {key} {format_count(n)}" for key, n in out.items())
        makes = "=" if exact else "allows at most"
        said = f"{format_count(end)} contradicts the rest: {words} {makes} {format_count(left)}"
        mend = f"correct {step.end} or {' or '.join((*start, *out))}"
        kind: Severity = "error"
        if step.of_studies:
            kind, said = "suspicion", f"{format_count(end)} studies of {format_count(left)} reports ({words})"
            mend = f"unless one report tells of several studies, {mend}"
        yield Problem(None, step.end, str(end), f"{said}; {mend}", kind, f"flow-{step.end}-{step.start[0]}")


def _unknown_half(flow: Flow, step: _Step) -> bool:
    """Return whether reports of other methods were assessed without saying how many were excluded."""
    return "other_assessed" in step.start and bool(flow.number("other_assessed")) and "other_excluded" not in flow.parts


def _known(flow: Flow, keys: tuple[str, ...]) -> dict[str, int]:
    return {key: n for key in keys if (n := flow.number(key)) is not None}
