"""What every report says at its end without being asked: methods, notes, statistics, R code, sources, checklists.

The checklists of PRISMA 2020 and of APA's MARS: where a report answers an item, and what its author must write.

Items are named in our own short words, by the numbers and headings of Page et al. (2021, doi:10.1136/bmj.n71) and of
the Meta-Analysis Reporting Standards (Appelbaum et al., 2018, doi:10.1037/amp0000191).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from alliance_meta import __version__
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.html import number_blocks
from alliance_meta.reporting.made import named_by
from alliance_meta.reporting.spec import Declaration, Item
from alliance_meta.reporting.tables import MAKERS, Table, column
from alliance_meta.reporting.text.abstract import results_prose
from alliance_meta.reporting.text.references import linked, linked_doi, method_keys, reference_list
from alliance_meta.reporting.words import is_english, marked, tr
from alliance_meta.reporting.words.remarks import remark
from alliance_meta.reporting.words.sentences import in_language
from alliance_meta.reporting.writing import escape, fill
from alliance_meta.results.r_code import SHEET, comment
from alliance_meta.tables.format import format_r

if TYPE_CHECKING:
    from alliance_meta.reporting.items.evidence import Pieces

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


MOST_COLUMNS = 4
NUMERIC = ("numpy", "scipy", "pandas")
OWN_ENGLISH = marked(
    "In English are words that come with the data and with the fits: some of their notes, R code, the words of claims "
    "and of checks of printed numbers, some of what methods and figures say, and methods that nobody translated."
)
# Lines that stand once above all models of one sheet.
ONCE = ("library(", f"{SHEET} <- ", f"names({SHEET})")
SYNTHETIC = marked("Synthetic data: the rows are made up for teaching and say nothing about psychotherapy.")


def completed(
    before: list[dict[str, Any]], declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces, builder: Any
) -> list[dict[str, Any]]:
    """Return the declared sections with the methods and the supplement behind them."""
    found = [*before, *_closing(declaration, fits, pieces, builder)]
    if fits:
        found.append(builder.headed(tr("Checklists"), _checklists(found, declaration, fits, builder), supplement=True))
    listed = {
        tr("Included studies"): list(dict.fromkeys(_included(fits.values()))),
        tr("References"): references(fits, pieces, builder.sources),
    }
    for heading, items in listed.items():
        if items:
            found.append(builder.headed(heading, [{"type": "references", "items": items}], supplement=True))
    return found


def _checklists(
    found: list[dict[str, Any]], declaration: Declaration, fits: Mapping[str, Fitted], builder: Any
) -> list[dict[str, Any]]:
    """Return the checklists; what they refer to has its number, as they stand behind it."""
    numbers = number_blocks({"sections": found})
    shown = Shown(declaration, fits, builder.kinds)
    blocks = []
    for standard, table in checklists(shown).items():
        for row in table["rows"]:
            row["where"] = fill(row["where"], lambda name: numbers[name.partition(".")[2]])
        blocks.append(builder.table(named_by(standard), table))
    return blocks


def _included(fits: Iterable[Fitted]) -> Iterator[str]:
    """Yield the source of each study that took part, where the sheet tells it in a column citation or doi."""
    for fitted in fits:
        frame = fitted.table.frame
        column = next((name for name in ("citation", "doi") if name in frame), None)
        if column is None or "study" not in frame:
            continue
        told = frame[["study", column]].dropna().astype(str).drop_duplicates().sort_values("study")
        for study, source in told.itertuples(index=False, name=None):
            yield f"{study}: {linked(source) if column == 'citation' else linked_doi(source)}"


def _closing(
    declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces, builder: Any
) -> list[dict[str, Any]]:
    """Return the methods, and the sections of the supplement that every report has."""
    words = [methods_prose(fits.values()), *([] if is_english() else [tr(OWN_ENGLISH)])]
    said = [builder.headed(tr("Methods"), [_text("\n\n".join(words))])] if fits else []
    later = {
        **({tr("Results to paste, in APA style"): [builder.text(results_prose(fits.values()))]} if fits else {}),
        **({tr("Notes of the fits"): [_text(_notes(fits.values()))]} if fits else {}),
        **({tr("Every fit in full"): _full(declaration, fits, builder)} if fits else {}),
        **({tr("The same fits in R"): _r_code(fits.values())} if fits else {}),
        tr("Data, software and how to rebuild this report"): _sources(declaration, fits, pieces),
    }
    rest = [builder.headed(heading, blocks, supplement=True) for heading, blocks in later.items() if blocks]
    return [*said, *builder.supplement(), *rest]


def methods_prose(fits: Iterable[Fitted]) -> str:
    """Return the methods paragraph of each distinct set of settings, with the fits it was used for."""
    texts: dict[str, list[Fitted]] = {}
    alike: dict[str, str] = {}
    for fitted in fits:
        text = fitted.methods()
        text = alike.setdefault(fitted.varying.sub("#", text), text)
        texts.setdefault(text, []).append(fitted)
    return escape("\n\n".join(_paragraph(text, members) for text, members in texts.items()))


def _paragraph(text: str, members: Sequence[Fitted]) -> str:
    """Return one paragraph; fits whose text differs in sizes alone are named at its end."""
    first, *rest = members
    text = in_language(text)
    others = "; ".join(f"{fitted.spec.label} (k = {fitted.fit.k})" for fitted in rest)
    return f"**{first.spec.label}.** {text}" + (f" *{tr('In the same way: {fits}.', fits=others)}*" if others else "")


def cited(fits: Mapping[str, Fitted]) -> list[str]:
    """Return the keys of the methods used."""
    return method_keys(fitted.cited() for fitted in fits.values())


def references(fits: Mapping[str, Fitted], pieces: Pieces, more: Iterable[str] = ()) -> list[str]:
    """Return the reference list: methods used, sources of the data, and what `more` was cited."""
    found = [*more, *(fitted.effects.provenance.citation for fitted in fits.values())]
    for piece in pieces.values():
        found += piece.citations
    return reference_list(cited(fits), [text for text in found if text])


def cautions(fits: Mapping[str, Fitted], pieces: Pieces) -> list[dict[str, Any]]:
    """Return the cautions of the data, each once, under the data they concern."""
    concerned: dict[str, list[str]] = {}
    for origin in _origins(fits, pieces):
        texts = [tr(SYNTHETIC)] if origin.synthetic else []
        for text in (*texts, *origin.cautions):
            concerned.setdefault(text, []).append(origin.title or origin.source)
    groups: dict[tuple[str, ...], list[str]] = {}
    for text, names in concerned.items():
        groups.setdefault(tuple(dict.fromkeys(names)), []).append(text)
    found = [{"concerns": list(names), "texts": texts} for names, texts in groups.items()]
    return [*_chosen_models(fits.values()), *found]


def _chosen_models(fits: Iterable[Fitted]) -> list[dict[str, Any]]:
    """Say first of all which model was chosen where the declaration names none and effects depend on each other."""
    found: dict[str, list[str]] = {}
    for fitted in fits:
        if fitted.chosen:
            text = tr(
                "Studies gave several effects ({k} effects of {studies} studies), which depend on each other. No kind "
                "was declared, so the model is a correlated and hierarchical effects model with CR2 inference, with an "
                "assumed correlation of {rho} between the sampling errors of one study.",
                k=fitted.fit.k,
                studies=fitted.effects.n_studies,
                rho=format_r(fitted.spec.rho),
            )
            found.setdefault(text, []).append(fitted.spec.label)
    return [{"concerns": names, "texts": [text]} for text, names in found.items()]


def data(fits: Mapping[str, Fitted], pieces: Pieces) -> list[dict[str, Any]]:
    """Return the origin of every table of data, each once."""
    return [origin.to_dict() for origin in _origins(fits, pieces)]


def software(fits: Mapping[str, Fitted]) -> dict[str, str]:
    """Return the versions of this package and of those that affect its numbers."""
    found = {"alliance_meta": __version__}
    for name in (*NUMERIC, *(["formulaic"] if any(fitted.spec.mods for fitted in fits.values()) else [])):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def rebuild_command(declaration: Declaration) -> str:
    """Return the command that makes this report again."""
    folder = "reports/" if declaration.path.resolve().parent.name == "reports" else ""
    return f"alliance-meta report {shlex.quote(folder + declaration.path.name)}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _notes(fits: Iterable[Fitted]) -> str:
    found: dict[str, list[str]] = {}
    for fitted in fits:
        for note in fitted.fit.notes:
            found.setdefault(remark(note.message), []).append(fitted.spec.label)
    if not found:
        return tr("No fit had anything to remark: no row was dropped, no estimate truncated, every search converged.")
    return escape("\n".join(f"- {message} *({'; '.join(labels)})*" for message, labels in found.items()))


def _full(declaration: Declaration, fits: Mapping[str, Fitted], builder: Any) -> list[dict[str, Any]]:
    shown, given = _shown_as("statistics", declaration), _shown_as("coefficients", declaration)
    rest: dict[tuple[str, bool, str], list[str]] = {}
    for name, fitted in fits.items():
        if name not in shown:
            rest.setdefault((fitted.spec.data, fitted.fit.p > 1, fitted.table_kind), []).append(name)
    blocks = []
    if shown:
        ids = [
            f"{{ref.{identifier}}}" for identifier, table in builder.tables.items() if table.get("kind") == "statistics"
        ]
        blocks.append(builder.text(tr("Statistics shown above: {tables}.", tables=", ".join(ids))))
    for names in rest.values():
        for chosen in _balanced(names):
            table = MAKERS["statistics"](Item(table="statistics", of=chosen), fits)
            blocks.append(builder.table(named_by("statistics", *chosen), table))
    for name, fitted in fits.items():
        if fitted.fit.p > 1 and name not in given:
            kind = fitted.table_kind
            blocks.append(builder.table(f"{kind}_{name}", MAKERS[kind](Item(table=kind, of=(name,)), fits)))
    return blocks


def _balanced(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Split names into as few groups as fit a page's width, of nearly one size."""
    count = -(-len(names) // MOST_COLUMNS)
    size = -(-len(names) // count)
    for start in range(0, len(names), size):
        yield tuple(names[start : start + size])


def _shown_as(table: str, declaration: Declaration) -> set[str]:
    return {name for section in declaration.section for item in section.item if item.table == table for name in item.of}


def _r_code(fits: Iterable[Fitted]) -> list[dict[str, Any]]:
    fits = list(fits)
    packages = f" {tr('and')} ".join(sorted({fitted.package for fitted in fits}, reverse=True))
    blocks: list[dict[str, Any]] = [
        _text(
            tr(
                "The same models in R, with {packages}, from the data files that the next section names.",
                packages=packages,
            )
        )
    ]
    grouped: dict[str, list[Fitted]] = {}
    for fitted in fits:
        grouped.setdefault(fitted.whole.provenance.source, []).append(fitted)
    for source, members in grouped.items():
        codes = [fitted.r_code().splitlines() for fitted in members]
        first = list(dict.fromkeys(line for lines in codes for line in lines if line.startswith(ONCE)))
        calls = ["\n".join(first)]
        for fitted, lines in zip(members, codes, strict=True):
            rest = [line for line in lines if line not in first]
            calls.append("\n".join([comment(fitted.spec.label), *rest]))
        blocks.append({"type": "code", "label": tr("R code for {source}", source=source), "text": "\n\n".join(calls)})
    return blocks


def _sources(declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces) -> list[dict[str, Any]]:
    lines = []
    for origin in _origins(fits, pieces):
        parts = [tr("**{title}**, file `{source}`.", title=origin.title or origin.source, source=origin.source)]
        if origin.citation:
            parts.append(tr("Source: {source}.", source=linked(origin.citation.rstrip("."))))
        if origin.licence:
            parts.append(tr("Licence: {licence}.", licence=origin.licence))
        if origin.sha256:
            parts.append(f"SHA-256: `{origin.sha256}`.")
        lines.append("- " + " ".join(parts))
    used = ", ".join(f"{name} {number}" for name, number in software(fits).items())
    rebuild = tr(
        "Software that affects the numbers: {software}. The same data and the same versions give the same numbers to "
        "the last digit; rebuild with",
        software=used,
    )
    return [
        _text(escape("\n".join([*lines, "", rebuild]))),
        {"type": "code", "label": tr("Command that rebuilds this report"), "text": rebuild_command(declaration)},
    ]


def _origins(fits: Mapping[str, Fitted], pieces: Pieces) -> list[Provenance]:
    found = {
        (fitted.table.provenance.source, fitted.table.provenance.sha256): fitted.whole.provenance
        for fitted in fits.values()
    }
    published = {origin.source: origin for piece in pieces.values() for origin in piece.origins}
    return [*found.values(), *published.values()]
