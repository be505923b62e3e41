"""`claims`: what people say about the alliance, held against the registry of published results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.errors import InputError
from alliance_meta.evidence.claim_tests import (
    Evidence,
    Finding,
    Question,
    beside,
    compatible,
    counted,
    higher,
    missing,
    no_difference,
    odds,
    positive,
    shares,
    smallest,
    unmoderated,
)
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Document

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["supported", "contradicted", "depends on", "not checkable with what is here"]
VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "depends on", "not checkable with what is here")

F2F = "fluckiger2018_f2f"
TREATMENT = r"type of treatment|treatment (?:type|approach|orientation|model)|theoretical orientation|type of therapy"
OUTCOME = r"outcome (?:measure|type|domain|technology|characteristics)|type of outcome"
RATER = r"rater|perspective|source of (?:alliance|outcome)|outcome source"
RATERS = (("members' own ratings", r"member|client|patient|self"), ("therapists' ratings", r"therapist|leader"))
ORIENTATIONS = (("interpersonal therapy", "interpersonal"), ("cognitive-behavioural therapy", "cogniti|CBT"))

# The share of outcome in the claim "thirty_percent".
CLAIMED_SHARE = 0.30

# Claim -> the questions that decide it. A claim without any cannot be checked.
QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "robust_2018": (
        positive(F2F),
        compatible("fluckiger2018_internet", F2F),
        counted(F2F, "k", 295, what="studies"),
        counted(F2F, "n_total", 30_000, what="clients", at_least=True),
    ),
    "thirty_percent": (
        shares("horvath2011", "horvath_symonds1991", "martin2000", "horvath_bedi2002", F2F, claimed=CLAIMED_SHARE),
    ),
    "martin_regardless": (
        unmoderated("martin2000", "type of therapy", TREATMENT),
        unmoderated("martin2000", "outcome measure", OUTCOME),
        unmoderated("martin2000", "rater", RATER),
        counted("martin2000", "k", 79, what="studies"),
    ),
    "rater_group": tuple(
        higher(entry, topic, pattern, levels)
        for topic, pattern, levels in (("rater", RATER, RATERS), ("orientation", TREATMENT, ORIENTATIONS))
        for entry in ("alldredge2021", "lococo2022_3level")
    ),
    "group_effect": (
        positive("alldredge2021", "lococo2022_uncond", "lococo2022_3level"),
        beside(compatible("lococo2022_3level", "lococo2022_uncond")),
    ),
    "internet_equal": (
        compatible("fluckiger2018_internet", F2F),
        compatible("internet2019_verhaltenstherapie", F2F),
        compatible("aafjes2024_tele", F2F),
        beside(no_difference("norwood2018", "no difference in the level of the alliance")),
    ),
    "dropout": (odds("sharf2010_dropout", 2, 3),),
    "telehealth_12rct": (
        no_difference("greenwood2022", "no difference in the level of the alliance"),
        counted("greenwood2022", "k", 12, what="trials"),
        counted("greenwood2022", "n_total", 931, what="patients"),
    ),
    "smallest_sud_eating": (smallest("fluckiger2013", "graves2017_ed", population="adult"),),
    "type_of_therapy": (
        missing(
            "estimate of differences between treatments",
            r"treatment.difference",
            "without one nothing can be compared with the alliance",
        ),
    ),
    "four_sessions": (
        missing(
            "dependability of the measure of one session",
            r"dependab|generali[sz]ab",
            "by Spearman and Brown the mean of m = 4 sessions has mφ/(1 + (m - 1)φ), .80 if one session has φ = .50",
        ),
    ),
    "youth": (positive("mcleod2011", "shirk2011", "karver2018", "murphy_hutton2018", "roest2023_child_child"),),
    "family": (positive("friedlander2018_cft", "welmers2018_level", "welmers2018_split"),),
}

CAUTION = (
    "A verdict says what the registry's rows give, nothing more: a correlation supports no claim about causes, and a "
    "claim that is contradicted here may rest on studies that the registry does not hold."
)
# What a finding says, as tables and JSON have it.
ANSWER = ("subject", "statement", "holds", "calculation", "essential")
NOT_POOLED = "Several entries for one claim are looked at one by one and never pooled: the same studies stand in many."


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One claim and what the registry says to it.

    Attributes
    ----------
    claim_id, claim, kind : str
        As in the list of claims.
    verdict : str
        ``"supported"``, ``"contradicted"``, ``"depends on"`` or ``"not checkable with what is here"``.
    reason : str
        Why, in one sentence.
    findings : tuple of Finding
        Every question with its answer and the calculation.
    remark : str
        What to look at, from the list of claims.
    """

    claim_id: str
    claim: str
    kind: str
    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    remark: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Entries of the registry that the verdict rests on."""
        return tuple(dict.fromkeys(entry for one in self.findings for entry in one.ids))

    @property
    def calculation(self) -> str:
        """Every calculation, one after the other."""
        return "; ".join(one.calculation for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        findings = [{name: getattr(one, name) for name in ANSWER} for one in self.findings]
        names = ("claim_id", "claim", "kind", "verdict", "reason", "remark")
        return {**{name: getattr(self, name) for name in names}, "ids": list(self.ids), "findings": findings}


@dataclass(frozen=True, eq=False, repr=False)
class ClaimsAudit(Result):
    """Claims and their verdicts.

    Attributes
    ----------
    verdicts : tuple of ClaimVerdict
        In the order of the list of claims.
    notes : tuple of Note
    """

    verdicts: tuple[ClaimVerdict, ...]
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.verdicts)

    def __getitem__(self, claim_id: str) -> ClaimVerdict:
        """Return the verdict on one claim."""
        for one in self.verdicts:
            if one.claim_id == claim_id:
                return one
        raise InputError(
            f"there is no claim {claim_id!r}; there are {', '.join(one.claim_id for one in self.verdicts)}"
        )

    def counts(self) -> dict[str, int]:
        """Return how many claims have each verdict."""
        return {verdict: sum(one.verdict == verdict for one in self.verdicts) for verdict in VERDICTS}

    def tidy(self) -> pd.DataFrame:
        """Return one row per claim: ``claim_id claim kind verdict reason calculation entries remark``."""
        import pandas as pd

        columns = ("claim_id", "claim", "kind", "verdict", "reason", "calculation")
        rows = [[*(getattr(one, name) for name in columns), "; ".join(one.ids), one.remark] for one in self.verdicts]
        return pd.DataFrame(rows, columns=[*columns, "entries", "remark"])

    def steps(self) -> pd.DataFrame:
        """Return one row per question: ``claim_id subject statement holds calculation essential entries``."""
        import pandas as pd

        rows = [
            [one.claim_id, *(getattr(step, name) for name in ANSWER), "; ".join(step.ids)]
            for one in self.verdicts
            for step in one.findings
        ]
        return pd.DataFrame(rows, columns=["claim_id", *ANSWER, "entries"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "claims": [one.to_dict() for one in self.verdicts],
            "counts": self.counts(),
            "notes": [note.to_dict() for note in self.notes],
        }

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        blocks = [
            [f"{one.claim_id}: {one.verdict.upper()}", f"  {one.claim}", f"  {one.reason}"] for one in self.verdicts
        ]
        return self._document(f"{len(blocks)} claims", *blocks)


def claims(*, registry: pd.DataFrame | None = None, moderators: pd.DataFrame | None = None) -> ClaimsAudit:
    """Hold popular claims about the alliance against the published results, with the calculation.

    Clinics' and magazines' pages say that the alliance explains 30 % of outcome, that it does so regardless of
    rater, that it halves dropout. Each claim is put to a few questions that rows of the registry can answer; the
    verdict follows from the answers alone.

    Parameters
    ----------
    registry : DataFrame, optional
        Results as ``published(align_signs=True)`` gives them, the default; give a changed copy to see what would
        follow from other numbers.
    moderators : DataFrame, optional
        As ``published(moderators=True)`` gives them, the default.

    Returns
    -------
    ClaimsAudit
        ``supported`` if every essential question is answered with yes, ``contradicted`` if every one with no,
        ``depends on`` if some are and some are not, and ``not checkable with what is here`` if one cannot be
        answered.

    Raises
    ------
    InputError
        A registry without the columns of the shipped one.

    Examples
    --------
    >>> import alliance_meta as am
    >>> verdict = am.claims()["thirty_percent"]
    >>> verdict.verdict
    'contradicted'
    >>> print(verdict.findings[0].calculation)
    Horvath et al. 2011 .275² = 7.6 %, at the upper limit .30² = 9.0 % < 30 %, which needs r = .548
    """
    from alliance_meta.effects.datasets import data_root, read_resource_text
    from alliance_meta.evidence.published_results import published

    results = published(align_signs=True) if registry is None else registry
    rows = published(moderators=True) if moderators is None else moderators
    _check_columns(
        results, ("id", "year", "population", "relation", "metric", "k", "n_total", "estimate", "ci_low", "ci_high")
    )
    _check_columns(rows, ("id", "moderator", "level", "estimate", "test_statistic", "p"))
    evidence = Evidence(results.set_index("id"), rows, entry_labels())
    listed = read_resource_text(data_root() / "claims", 0).to_dict("records")
    verdicts = tuple(_verdict(row, evidence) for row in listed)
    return ClaimsAudit(verdicts, (Note("caution", CAUTION), Note("not-pooled", NOT_POOLED)))


def _check_columns(frame: pd.DataFrame, needed: tuple[str, ...]) -> None:
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise InputError(f"the registry lacks {', '.join(lacking)}; start from a copy of published(align_signs=True)")


def _verdict(row: Mapping[Any, str], evidence: Evidence) -> ClaimVerdict:
    questions = QUESTIONS.get(row["claim_id"], ())
    findings = tuple(finding for question in questions for finding in question(evidence))
    verdict, reason = judge(findings)
    return ClaimVerdict(row["claim_id"], row["claim"], row["kind"], verdict, reason, findings, row["check"])


def entry_labels() -> dict[str, str]:
    """Return what readers call each entry: authors and year, and which part of the article."""
    from alliance_meta.evidence.published_results import groups

    table = groups()
    return {
        str(entry): f"{label} ({detail})" if isinstance(detail, str) else str(label)
        for entry, label, detail in zip(table.index, table["label"], table["detail"], strict=True)
    }


def judge(findings: tuple[Finding, ...]) -> tuple[Verdict, str]:
    """Return the verdict that follows from the essential answers, and why."""
    essential = [one for one in findings if one.essential]
    if not essential:
        return "not checkable with what is here", "No question is declared for this claim."
    answers = {one.holds for one in essential}
    if None in answers:
        said = "; ".join(dict.fromkeys(one.calculation for one in essential if one.holds is None))
        return "not checkable with what is here", f"{said[0].upper()}{said[1:]}."
    reason = " ".join(
        _answered(statement, essential) for statement in dict.fromkeys(one.statement for one in essential)
    )
    if answers == {True}:
        return "supported", reason
    return ("contradicted" if answers == {False} else "depends on"), reason


def _answered(statement: str, findings: list[Finding]) -> str:
    """Say for whom a statement holds and for whom not."""
    parts = []
    for answer, word in ((True, "yes"), (False, "no")):
        names = dict.fromkeys(one.subject for one in findings if one.statement == statement and one.holds is answer)
        parts += [f"{word} for {', '.join(names)}"] if names else []
    return f"{statement[0].upper()}{statement[1:]}: {'; '.join(parts)}."
