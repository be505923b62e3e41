"""The checklists of PRISMA 2020 and of APA's MARS: where a report answers an item, and what its author must write.

Items are named in our own short words, by the numbers and headings of Page et al. (2021, doi:10.1136/bmj.n71) and of
the Meta-Analysis Reporting Standards (Appelbaum et al., 2018, doi:10.1037/amp0000191).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Declaration
from alliance_meta.reporting.tables import Table, column
from alliance_meta.reporting.words import marked, tr

AUTHOR: Final = marked("The author must write this.")
PRISMA: Final = "PRISMA 2020"
MARS: Final = "APA MARS"


@dataclass(frozen=True)
class Shown:
    """What a report shows, for the answers to a checklist: its declaration, fits, and items by kind."""

    declaration: Declaration
    fits: Mapping[str, Fitted]
    items: Mapping[str, str]

    def item(self, *kinds: str) -> str:
        """Return a reference to the first item of one of these kinds; empty where there is none."""
        name = next((self.items[kind] for kind in kinds if kind in self.items), "")
        return f"{{ref.{name}}}" if name else ""

    def own(self, part: str) -> str:
        """Return where the author's own words of a part of the abstract stand; empty where there are none."""
        return tr("Abstract") if getattr(self.declaration.abstract, part) else ""

    @property
    def subsets(self) -> str:
        """Which analyses leave rows out; empty where none does."""
        names = [fitted.spec.label for fitted in self.fits.values() if fitted.spec.subset is not None]
        if len(names) > 2:
            return tr("{n} of {of} analyses leave rows out; see Data, software", n=len(names), of=len(self.fits))
        return tr("Rows left out of: {names}; see Data, software", names="; ".join(names)) if names else ""


Answer = Callable[[Shown], str]


def _always(words: str) -> Answer:
    return lambda shown: tr(words)


def _item(*kinds: str) -> Answer:
    return lambda shown: shown.item(*kinds)


def _nobody(shown: Shown) -> str:
    return ""


METHODS, DATA = _always("Methods"), _always("Data, software and how to rebuild this report")
EVERY, RESULTS = _item("forest", "caterpillar", "studies"), _item("results", "posterior", "comparison")
MODERATORS = _item("moderators", "levels", "coefficients", "bubble", "means")
BIAS, BATTERY = _item("bias", "funnel"), _item("sensitivity", "comparison", "dependence", "rho")

# Item -> its topic, and who answers.
ITEMS: Final[Mapping[str, Mapping[str, tuple[str, Answer]]]] = {
    PRISMA: {
        "1": ("Title that names the kind of review", _always("Title")),
        "2": ("Abstract", _always("Abstract")),
        "3": ("Rationale", _nobody),
        "4": ("Objectives or questions", lambda shown: shown.own("question")),
        "5": ("Criteria of eligibility, and groups of studies", _nobody),
        "6": ("Sources of information, with dates", _nobody),
        "7": ("Full search strategies", _nobody),
        "8": ("How studies were selected", _nobody),
        "9": ("How data were collected", _nobody),
        "10a": ("Outcomes sought, and which results of each", _nobody),
        "10b": ("Other variables sought, and assumptions", _nobody),
        "11": ("How risk of bias was assessed", _nobody),
        "12": ("Effect measures", METHODS),
        "13a": ("Which studies entered which synthesis", lambda shown: shown.subsets),
        "13b": ("How data were prepared", DATA),
        "13c": ("How results are tabulated and shown", EVERY),
        "13d": ("How results were synthesised", METHODS),
        "13e": ("How causes of heterogeneity were explored", MODERATORS),
        "13f": ("Sensitivity analyses", BATTERY),
        "14": ("How missing results were assessed", BIAS),
        "15": ("How certainty was assessed", _item("certainty")),
        "16a": ("Results of the search, with a flow diagram", _item("prisma")),
        "16b": ("Studies that seemed eligible and were left out", _item("left_out")),
        "17": ("Characteristics of each study", _item("studies")),
        "18": ("Risk of bias in each study", _item("rob")),
        "19": ("Results of each study", EVERY),
        "20a": ("Characteristics of the studies in each synthesis", _nobody),
        "20b": ("Results of each synthesis", RESULTS),
        "20c": ("Results on causes of heterogeneity", MODERATORS),
        "20d": ("Results of sensitivity analyses", BATTERY),
        "21": ("Results on missing results", BIAS),
        "22": ("Certainty of the evidence", _item("certainty")),
        "23a": ("Interpretation beside other evidence", _nobody),
        "23b": ("Limits of the evidence", lambda shown: shown.own("limits")),
        "23c": ("Limits of the review", _nobody),
        "23d": ("Implications", _nobody),
        "24a": ("Registration", _nobody),
        "24b": ("Protocol", _nobody),
        "24c": ("Amendments", _nobody),
        "25": ("Support", _nobody),
        "26": ("Competing interests", _nobody),
        "27": ("Availability of data, code and materials", DATA),
    },
    MARS: {
        "Title": ("The question and that it is a meta-analysis", _always("Title")),
        "Abstract": ("Problem, eligibility, methods, results, conclusions", _always("Abstract")),
        "Author note": ("Funding, interests, registration", _nobody),
        "Problem": ("Question, history, theory, populations", _nobody),
        "Inclusion": ("Criteria, with the operational definitions", _nobody),
        "Search": ("Sources, terms, unpublished work, results of the search", _item("prisma")),
        "Coding": ("Number and agreement of coders, study quality, missing data", _nobody),
        "Effect size": ("Metric, formulas, conversions", METHODS),
        "Averaging": ("Model, weights, intervals", METHODS),
        "Dependence": ("How several effects of one study were handled", METHODS),
        "Heterogeneity": ("How it was assessed", METHODS),
        "Missing": ("How missing results were assessed", BIAS),
        "Power": ("Statistical power", _item("sunset")),
        "Studies": ("Table of every study with its effect and moderators", _item("studies", "forest")),
        "Results": ("Aggregated effects with intervals and heterogeneity", RESULTS),
        "Moderators": ("Results of each moderator", MODERATORS),
        "Bias": ("Results on missing and selected results", BIAS),
        "Discussion": ("Findings, alternatives, generality, limits, implications", _nobody),
        "Data": ("Where data and code are", DATA),
    },
}


def checklists(shown: Shown) -> dict[str, Table]:
    """Return one table for each standard: item, topic, and where the report answers it or that its author must."""
    own = shown.declaration.checklist
    return {standard: _table(standard, shown, own) for standard in ITEMS}


def _table(standard: str, shown: Shown, own: Mapping[str, str]) -> Table:
    rows: list[dict[str, Any]] = [
        {"item": tr(item), "topic": tr(topic), "where": own.get(item) or answer(shown) or tr(AUTHOR)}
        for item, (topic, answer) in ITEMS[standard].items()
    ]
    columns = [column("item", "Item"), column("topic", "Topic"), column("where", "Where")]
    return {"caption": tr("Checklist of {standard}.", standard=standard), "columns": columns, "rows": rows}
