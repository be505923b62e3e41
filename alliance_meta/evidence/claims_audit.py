"""`claims`: what people say about the alliance, held against the registry of published results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.errors import InputError
from alliance_meta.evidence.claim_tests import (
    MARGIN,
    Evidence,
    Finding,
    Question,
    beside,
    compatible,
    counted,
    higher,
    levels_above,
    missing,
    no_difference,
    odds,
    outweighs,
    poorer,
    positive,
    sessions_needed,
    shares,
    smallest,
    strong,
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
MEASURE = r"alliance measure|-specific measure|alliance construct"
COMPONENTS = (("the bond", "bond"), ("agreement on tasks", "task"))
ORIENTATIONS = (("interpersonal therapy", "interpersonal"), ("cognitive-behavioural therapy", "cogniti|CBT"))

# The share of outcome in the claim "thirty_percent".
CLAIMED_SHARE = 0.30

LEVEL = "no difference in the level of the alliance"
BY_VIDEO = ("seuling2023_client", "seuling2023_therapist", "norwood2018")
INTERNET = ("fluckiger2026_internet", "internet2019_verhaltenstherapie")
SUBSCALE = r"alliance subscale"

# Claim -> the questions that decide it. A claim without any cannot be checked.
QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "robust_2018": (
        positive(F2F),
        compatible("fluckiger2018_internet", F2F),
        counted(F2F, "k", 295, what="studies"),
        counted(F2F, "n_total", 30_000, what="clients", at_least=True),
    ),
    "thirty_percent": (shares("horvath2011", "horvath_symonds1991", "martin2000", F2F, claimed=CLAIMED_SHARE),),
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
        compatible("fluckiger2026_internet", F2F),
        compatible("aafjes2024_tele", F2F),
        no_difference(*BY_VIDEO, what=LEVEL),
    ),
    "video_level": (no_difference(*BY_VIDEO, what=LEVEL), beside(no_difference("shaker2023", what=LEVEL))),
    "dropout": (odds("sharf2010_dropout", 2, 3),),
    "telehealth_12rct": (
        no_difference("greenwood2022", what=LEVEL),
        counted("greenwood2022", "k", 12, what="trials"),
        counted("greenwood2022", "n_total", 931, what="patients"),
    ),
    "smallest_sud_eating": (smallest("fluckiger2013", "graves2017_ed", population="adult"),),
    "type_of_therapy": (outweighs(F2F, "wampold1997_treatments"),),
    "four_sessions": (sessions_needed("critschristoph2011_dependability", 4),),
    "youth": (positive("mcleod2011", "shirk2011", "karver2018", "murphy_hutton2018", "roest2023_child_child"),),
    "family": (
        positive("friedlander2018_cft", "welmers2018_level", "friedlander2011_cft"),
        beside(poorer("friedlander2018_split", "welmers2018_split", what="a split alliance")),
    ),
    "any_measure": (unmoderated(F2F, "alliance measure", MEASURE), counted(F2F, "measures", 39, what="measures")),
    "irrespective": (
        unmoderated(F2F, "approach", TREATMENT + "|therapeutic approach"),
        unmoderated(F2F, "patients", r"patient characteristics|problem type|diagnosis|minorit"),
        unmoderated(F2F, "country", r"country"),
    ),
    "feedback": (strong("dejong2021_feedback", "ostergard2018_feedback"),),
    "parents": (positive("roest2023_parent_child", "roest2023_parent_parent"),),
    "repair": (
        positive("eubanks2018_rupture_repair", "safran2011_rupture_repair", relation="rupture repair-outcome"),
        positive("eubanks2018_training", "safran2011_training", relation="rupture training-outcome"),
    ),
    "cohesion": (
        compatible("alldredge2021", "burlingame2011_cohesion"),
        compatible("lococo2022_uncond", "burlingame2011_cohesion"),
        positive("group_alliance_cohesion_sem"),
    ),
    "empathy": (
        positive("elliott2018_empathy", "elliott2011_empathy", relation="empathy-outcome"),
        positive("farber2018_positive_regard", "farber2011_positive_regard", relation="positive regard-outcome"),
        positive("tryon2018_goal_consensus", "tryon2011_goal_consensus", relation="goal consensus-outcome"),
    ),
    "engagement": (
        positive("bourke2021_eng_client", "bourke2021_eng_ther", relation="alliance-engagement"),
        positive("psychopharm2018", relation="alliance-adherence"),
        missing(
            "correlation of the alliance with adherence", r"adherence", "what holds of outcome need not hold of it"
        ),
    ),
    "components": (
        levels_above(INTERNET[0], SUBSCALE, "task", "goal", "bond"),
        levels_above(INTERNET[1], SUBSCALE, "task", "bond"),
    ),
    "bond_most": tuple(higher(entry, "component", SUBSCALE, COMPONENTS) for entry in INTERNET),
    "every_diagnosis": (
        positive("cbt_depression2018", "howard2022_ptsd", "bourke2021_global_client", "graves2017_ed", "ocd_cbt2022"),
    ),
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
    speaker : str
        What kind of page says it.
    """

    claim_id: str
    claim: str
    kind: str
    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    remark: str = ""
    speaker: str = ""

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
        names = ("claim_id", "claim", "kind", "speaker", "verdict", "reason", "remark")
        return {**{name: getattr(self, name) for name in names}, "ids": list(self.ids), "findings": findings}


@dataclass(frozen=True, eq=False, repr=False)
class ClaimsAudit(Result):
    """Claims and their verdicts.

    Attributes
    ----------
    verdicts : tuple of ClaimVerdict
        In the order of the list of claims.
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
        """Return one row per claim: ``claim_id claim kind speaker verdict reason calculation entries remark``."""
        import pandas as pd

        columns = ("claim_id", "claim", "kind", "speaker", "verdict", "reason", "calculation")
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

    def _content(self) -> Document:
        blocks = [
            [f"{one.claim_id}: {one.verdict.upper()}", f"  {one.claim}", f"  {one.reason}"] for one in self.verdicts
        ]
        return self._document(f"{len(blocks)} claims", *blocks)


def claims(
    *, registry: pd.DataFrame | None = None, moderators: pd.DataFrame | None = None, margin: float = MARGIN
) -> ClaimsAudit:
    """Hold popular claims about the alliance against the published results, with the calculation.

    Clinics' and magazines' pages say that the alliance explains 30% of outcome, that it does so regardless of
    rater, that it halves dropout. Each claim is put to a few questions that rows of the registry can answer; the
    verdict follows from the answers alone.

    Parameters
    ----------
    registry : DataFrame, optional
        Results as ``published(align_signs=True)`` gives them, the default; give a changed copy to see what would
        follow from other numbers.
    moderators : DataFrame, optional
        As ``published(moderators=True)`` gives them, the default.
    margin : float
        Standardised mean difference below which two formats are taken for equal. A printed difference is equivalent
        if its whole interval lies within the margin, a difference if the interval excludes 0 and is not within, and
        otherwise nobody can say.

    Returns
    -------
    ClaimsAudit
        ``supported`` if every essential question is answered with yes, ``contradicted`` if every one with no,
        ``depends on`` if some are and some are not, and ``not checkable with what is here`` if one cannot be
        answered and the others agree. An entry that is not independent of those who make such claims (column
        ``independent``) decides nothing; what it says is told beside.

    Raises
    ------
    InputError
        A registry without the columns of the shipped one, or with an entry twice, or a margin that is not above 0.

    Examples
    --------
    >>> import alliance_meta as am
    >>> verdict = am.claims()["thirty_percent"]
    >>> verdict.verdict
    'contradicted'
    >>> print(verdict.findings[0].calculation)
    Horvath et al. 2011 .275² = 7.6%, at the upper limit .30² = 9.0% < 30%, which needs r = .548
    """
    from alliance_meta.effects.datasets import data_root, read_resource_text
    from alliance_meta.evidence.published_results import published

    if not margin > 0:
        raise InputError(f"margin={margin} must be above 0: it is the difference that would still count as none")
    results = published(align_signs=True) if registry is None else registry
    rows = published(moderators=True) if moderators is None else moderators
    _check_columns(
        results,
        (
            "id",
            "year",
            "population",
            "relation",
            "metric",
            "k",
            "n_total",
            "estimate",
            "ci_low",
            "ci_high",
            "independent",
        ),
    )
    _check_columns(rows, ("id", "moderator", "level", "estimate", "test_statistic", "p"))
    if not results["id"].is_unique:
        raise InputError("the registry has an entry twice; give each an id of its own")
    evidence = Evidence(results.set_index("id"), rows, entry_labels(), margin)
    listed = read_resource_text(data_root() / "claims", 0).to_dict("records")
    verdicts = tuple(_verdict(row, evidence) for row in listed)
    return ClaimsAudit(verdicts, (Note("caution", CAUTION), Note("not-pooled", NOT_POOLED)))


def _check_columns(frame: pd.DataFrame, needed: tuple[str, ...]) -> None:
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise InputError(f"the registry lacks {', '.join(lacking)}; start from a copy of published(align_signs=True)")


def _verdict(row: Mapping[Any, str], evidence: Evidence) -> ClaimVerdict:
    questions = QUESTIONS.get(row["claim_id"], ())
    findings = tuple(_independent(finding, evidence) for question in questions for finding in question(evidence))
    verdict, reason = judge(findings)
    return ClaimVerdict(
        row["claim_id"], row["claim"], row["kind"], verdict, reason, findings, row["check"], row["speaker"]
    )


def _independent(finding: Finding, evidence: Evidence) -> Finding:
    """Take the vote from an answer that rests on an entry read on a page of the kind that makes such claims."""
    bound = [entry for entry in finding.ids if not evidence.independent(entry)]
    if not bound:
        return finding
    remark = f"{evidence.names(bound)} was read on a page of the kind that makes such claims: it cannot decide"
    return replace(finding, essential=False, calculation=f"{finding.calculation}; {remark}")


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
        why = "What bears on this claim cannot decide it." if findings else "No question is declared for this claim."
        return "not checkable with what is here", why
    answers = {one.holds for one in essential}
    reason = " ".join(
        _answered(statement, essential) for statement in dict.fromkeys(one.statement for one in essential)
    )
    if None in answers:
        untold = "; ".join(dict.fromkeys(one.calculation for one in essential if one.holds is None))
        untold = f"{untold[0].upper()}{untold[1:]}."
        reason = untold if answers == {None} else f"{reason} {untold}"
    if {True, False} <= answers:
        return "depends on", reason
    if None in answers:
        return "not checkable with what is here", reason
    return ("supported" if answers == {True} else "contradicted"), reason


def _answered(statement: str, findings: list[Finding]) -> str:
    """Say for whom a statement holds, for whom not, and for whom it cannot be told."""
    parts = []
    for answer, word in ((True, "yes"), (False, "no"), (None, "not told")):
        names = dict.fromkeys(one.subject for one in findings if one.statement == statement and one.holds is answer)
        parts += [f"{word} for {', '.join(names)}"] if names else []
    return f"{statement[0].upper()}{statement[1:]}: {'; '.join(parts)}."
