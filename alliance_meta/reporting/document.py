"""From a declaration to the document that `results.json` holds: every number and every word a report needs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.encoding import plain
from alliance_meta.errors import AllianceMetaWarning, CodingError, InputError
from alliance_meta.files import sha256
from alliance_meta.notes import did_you_mean
from alliance_meta.reporting import writing
from alliance_meta.reporting.declaration import refuse
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.html import is_large
from alliance_meta.reporting.items import checks, evidence, figures, moderators, review
from alliance_meta.reporting.items.evidence import Pieces
from alliance_meta.reporting.items.figures import selections
from alliance_meta.reporting.kinds import run_analysis
from alliance_meta.reporting.made import named_by
from alliance_meta.reporting.spec import CLAIMS, CONSISTENCY, FLOW, PIECE_TABLES, UMBRELLA, Declaration, Item
from alliance_meta.reporting.tables import MAKERS, Table, caption, column, effect_columns, ends
from alliance_meta.reporting.text import abstract, appendix
from alliance_meta.reporting.text.references import REFERENCES
from alliance_meta.reporting.words import marked, speaking, tr
from alliance_meta.reporting.words.remarks import drawn, remark
from alliance_meta.reporting.writing import FORMATS, Quantity

if TYPE_CHECKING:
    import pandas as pd

FOREST = "forest"
# A report declares no rule by which one effect of a study is chosen.
UNDECLARED = "one per study"


def figure(item: Item, fits: Mapping[str, Fitted], pieces: Pieces) -> dict[str, Any]:
    """Return one figure of the document: its frame, its words, its notes."""
    kind = str(item.drawn)
    if item.piece is not None:
        frame, caption = pieces[item.piece].figure(item)
    else:
        fitted = fits[item.shown[0]]
        words, make = _MAKERS[kind]
        frame = make(item, fitted)
        caption = tr(words, label=fitted.spec.label, model=fitted.short_label(), by=item.by)
        if kind == FOREST and is_large(len(frame)):
            kind, (words, make), forest = "caterpillar", _MAKERS["caterpillar"], frame
            caption = tr(words, label=fitted.spec.label, model=fitted.short_label())
            return _with_supplement(forest, _figure(kind, make(item, fitted), item.caption or caption))
        if kind == FOREST:
            return _figure(kind, frame, item.caption or caption) | {"selections": selections(item, fitted, frame)}
    return _figure(kind, frame, item.caption or caption)


def _figure(kind: str, frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    from alliance_meta.plots import frame_to_dict

    frame = drawn(frame)
    return {
        "kind": kind,
        "caption": caption,
        "title": frame.attrs["title"],
        "description": frame.attrs["description"],
        "notes": [remark(str(note["message"])) for note in frame.attrs["notes"]],
        "frame": frame_to_dict(frame),
    }


def _with_supplement(forest: pd.DataFrame, figure: dict[str, Any]) -> dict[str, Any]:
    """Return the caterpillar that stands for a forest of very many effects, with the forest for a page of its own."""
    from alliance_meta.plots import frame_to_dict

    note = tr(
        "A forest of {n} rows has no room on a page: the plot shows all effects, smallest first, and the forest is the "
        "supplement, in the folder figures/ under this figure's name, ending in .html.",
        n=f"{len(forest):,}",
    )
    return figure | {"notes": [note, *figure["notes"]], "supplement": frame_to_dict(forest)}


def _forest(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import forest_data

    return forest_data(
        fitted.fit,
        order=list(item.order) or "given",
        by=item.by,
        columns=item.columns,
        label=item.label,
        title=f"Forest plot: {fitted.spec.label}",
    )


def _caterpillar(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import caterpillar_data

    return caterpillar_data(fitted.fit, title=f"Caterpillar plot: {fitted.spec.label}")


def _bubble(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import bubble_data

    return bubble_data(fitted.fit, str(item.by), title=f"Bubble plot: {fitted.spec.label}")


def _profile(item: Item, fitted: Fitted) -> pd.DataFrame:
    return fitted.profile(f"Profile of the likelihood: {fitted.spec.label}")


def _means(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.moderators.marginal import marginal_means
    from alliance_meta.plots import means_data

    means = marginal_means(fitted.fit, by=str(item.by))
    return means_data(means, title=f"Means by {item.by}: {fitted.spec.label}")


def _dependence(item: Item, fitted: Fitted) -> pd.DataFrame:
    """Return the frame of every usual method for the analysis's effects, with its own rho, clusters and moderators."""
    from alliance_meta.plots import dependence_data
    from alliance_meta.sensitivity.dependence import METHODS, compare_dependence

    spec = fitted.spec
    options: dict[str, Any] = {"cluster": spec.cluster or "study_id", "mods": spec.mods or "1", "level": spec.level}
    if spec.rho is not None:
        options["rho"] = spec.rho
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        found = compare_dependence(fitted.coded, methods=[name for name in METHODS if name != UNDECLARED], **options)
    return dependence_data(found, term=item.by, title=f"Methods for dependent effects: {fitted.spec.label}")


def _posterior(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import posterior_data

    scale: Literal["r"] | None = "r" if fitted.effects.measure == "ZCOR" else None
    return posterior_data(fitted.fit, what="mu", scale=scale, title=f"Prior and posterior: {fitted.spec.label}")


def _prior_sensitivity(item: Item, fitted: Fitted) -> pd.DataFrame:
    from alliance_meta.plots import prior_sensitivity_data

    return prior_sensitivity_data(fitted.fit, title=f"Other priors: {fitted.spec.label}")


def _without_item(make: Callable[[Fitted], pd.DataFrame]) -> Callable[[Item, Fitted], pd.DataFrame]:
    return lambda item, fitted: make(fitted)


# Kind -> its caption and what makes its frame.
_MAKERS: dict[str, tuple[str, Callable[[Item, Fitted], pd.DataFrame]]] = {
    "forest": (marked("{label}: every study and the pooled effect ({model})."), _forest),
    "caterpillar": (marked("{label}: every effect, smallest first, and the pooled effect ({model})."), _caterpillar),
    "bubble": (marked("{label}: every effect against {by}, and what the model says of it ({model})."), _bubble),
    "profile": (marked("{label}: how likely each value of τ² makes the data ({model})."), _profile),
    "means": (marked("{label}: mean effect at each level of {by} ({model})."), _means),
    "posterior": (marked("{label}: the mean effect before and after the data ({model})."), _posterior),
    "prior_sensitivity": (marked("{label}: what other priors of τ would have given."), _prior_sensitivity),
    "moderators": (marked("{label}: the mean effect by moderator."), moderators.moderators_figure),
    "dependence": (marked("{label}: the same effects by every usual method."), _dependence),
    **review.FIGURES,
    **{kind: (one.caption, one.frame) for kind, one in figures.FIGURES.items()},
    **{kind: (words, _without_item(make)) for kind, (words, make) in checks.FIGURES.items()},
}


RHOS = (0.3, 0.5, 0.7)
PLAIN = ("ddf", "tau2", "sigma2_study_id", "sigma2_es_id")


SIGMAS = marked({"sigma2_study_id": "σ² between studies", "sigma2_es_id": "σ² within studies"})


def rho_table(item: Item, fits: Mapping[str, Fitted]) -> tuple[Table, dict[str, Quantity]]:
    """Return analyses under three values of rho, everything else as declared, and the numbers prose may quote.

    Raises
    ------
    InputError
        For an analysis that assumes no correlation.
    """
    rows: list[dict[str, Any]] = []
    quantities: dict[str, Quantity] = {}
    for name in item.of:
        fitted = fits[name]
        if fitted.spec.rho is None:
            raise InputError(f"table='rho' of {name!r}: that analysis assumes no correlation; give it rho =")
        rows.append({"group": fitted.spec.label})
        for rho in RHOS:
            block = _under(fitted, rho)
            interval = "r_ci" if fitted.on_r else "ci"
            lb, ub = ends(block[interval]["value"])
            there = {key: block[key]["value"] for key in ("r" if fitted.on_r else "estimate", *PLAIN) if key in block}
            rows.append({"rho": rho, **there, "ci_lb": lb, "ci_ub": ub})
            for key in (*there, interval):
                quantities[f"{name}_{round(100 * rho)}_{key}"] = block[key]
    known = {key for row in rows for key in row}
    columns = [
        column("rho", "ρ", "r2", align="left"),
        *effect_columns([fits[name] for name in item.of], tr("CI")),
        column("ddf", "df", "df"),
        column("tau2", "τ²", "variance"),
    ]
    columns += [column(key, head, "variance", blank="–") for key, head in SIGMAS.items() if key in known]
    words = caption("Under other assumed correlations of sampling errors", (fits[name] for name in item.of))
    return {"caption": item.caption or words, "columns": columns, "rows": rows}, quantities


def _under(fitted: Fitted, rho: float) -> Mapping[str, Quantity]:
    if fitted.spec.rho == rho:
        return fitted.statistics
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        return fitted.under(fitted.spec.but(rho=rho)).statistics


SCHEMA = "alliance_meta/report/1"


def silent(step: str) -> None:
    """Tell nobody which step is done."""


def make_document(declaration: Declaration, say: Callable[[str], None] = silent) -> dict[str, Any]:
    """Run what the declaration asks for and return plain JSON values.

    Raises
    ------
    InputError
        With everything that the analyses, the tables and the placeholders object to, at once.
    """
    with speaking(declaration.lang):
        return _made(declaration, say)


def _made(declaration: Declaration, say: Callable[[str], None]) -> dict[str, Any]:
    fits = _run(declaration, say)
    pieces = _read_pieces(declaration, fits)
    say("making tables and figures")
    builder = _Builder(declaration, fits, pieces)
    chosen = abstract.main_analyses(declaration, fits) if fits else []
    sections = [*builder.results(chosen), *map(builder.section, declaration.section), *builder.certainty()]
    opening = abstract.abstract(declaration, chosen, builder.numbered)
    builder.keep(part["text"] for part in opening)
    quantities: dict[str, Any] = {name: fitted.statistics | fitted.slopes() for name, fitted in fits.items()}
    quantities |= {name: piece.quantities for name, piece in pieces.items()}
    quantities["printed"] = evidence.printed(fits.values())
    quantities["reproduce"] = builder.reproduced
    quantities |= {kind: builder.numbered[kind] for kind in NUMBERED if kind in builder.numbered}
    sections = [section for section in sections if section["blocks"]]
    if not builder.problems:
        sections = appendix.completed(sections, declaration, fits, pieces, builder)
    unknown = _unknown_placeholders(builder.texts(), quantities, builder.names)
    # Numbers that prose quotes may be lacking because their table could not be made: then the reason comes first.
    builder.problems += [*builder.failed, *unknown] if unknown else []
    refuse(declaration.path, builder.problems)
    document = {
        "schema": SCHEMA,
        "report": _head(declaration),
        "versions": appendix.software(fits),
        "abstract": opening,
        "cited": sorted([*appendix.cited(fits), *([review.GRADE] if declaration.certainty else [])]),
        "failed": builder.failed,
        "cautions": appendix.cautions(fits, pieces),
        "data": appendix.data(fits, pieces),
        "analyses": {name: _analysis(fitted) for name, fitted in fits.items()},
        "quantities": quantities,
        "sections": sections,
        "figures": builder.figures,
        "tables": builder.tables,
    }
    encoded: dict[str, Any] = plain(document)
    return encoded


def _head(declaration: Declaration) -> dict[str, Any]:
    return {
        "name": declaration.name,
        "title": declaration.title,
        "subtitle": declaration.subtitle,
        "lang": declaration.lang,
        "declaration_sha256": sha256(declaration.path.read_bytes()),
        "rebuild": appendix.rebuild_command(declaration),
    }


# Tables whose numbers prose may quote under the name of the table; some also name sources.
NUMBERED: dict[str, Callable[[Item, Mapping[str, Fitted]], Any]] = {
    "rho": rho_table,
    "bias": checks.bias_table,
    "moderators": moderators.moderator_table_of,
    "sensitivity": checks.sensitivity_table,
}


class _Builder:
    """Collect figures, tables and problems while sections are put together."""

    def __init__(self, declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces) -> None:
        self.declaration = declaration
        self.fits = fits
        self.pieces = pieces
        self.figures: dict[str, Any] = {}
        self.tables: dict[str, Any] = {}
        self.reproduced: dict[str, Any] = {}
        self.numbered: dict[str, dict[str, Any]] = {}
        self.sources: list[str] = []
        # Kind of figure or table -> the first of it.
        self.kinds: dict[str, str] = {}
        self.later: list[tuple[str, list[dict[str, Any]]]] = []
        self.problems: list[str] = []
        self.failed: list[str] = []
        self._texts: list[str] = [declaration.subtitle]
        self._slugs: set[str] = set()

    @property
    def names(self) -> list[str]:
        """Names of figures and tables, for ``{ref.name}``."""
        return [*self.figures, *self.tables]

    def texts(self) -> Iterable[str]:
        """Return every text that may hold placeholders."""
        captions = [entry["caption"] for entry in (*self.figures.values(), *self.tables.values())]
        notes = [note for table in self.tables.values() for note in table.get("notes", ())]
        return [*self._texts, *captions, *notes]

    def results(self, chosen: list[Fitted]) -> list[dict[str, Any]]:
        """Return the section with the one table of the main results; none where they are no means."""
        table = abstract.results_table(chosen, self.fits)
        if table is None:
            return []
        blocks = [self.table(abstract.RESULTS, table)]
        self.kinds[abstract.RESULTS] = abstract.RESULTS
        words = abstract.in_plain_words(chosen)
        return [self.headed(tr("Results"), [*blocks, *([self.text(words)] if words else [])])]

    def certainty(self) -> list[dict[str, Any]]:
        """Return the section with the author's judgement of the evidence; none where there is no such judgement."""
        judged = self.declaration.certainty
        if not judged:
            return []
        block = self.table(review.CERTAINTY, review.certainty_table(judged, self.fits))
        self.kinds[review.CERTAINTY] = block["id"]
        self.sources.append(REFERENCES[review.GRADE])
        return [self.headed(tr("Certainty of the evidence"), [block])]

    def section(self, section: Any) -> dict[str, Any]:
        """Return one declared section as blocks; what belongs to the supplement waits for `supplement`."""
        blocks = [self.text(section.text)] if section.text.strip() else []
        later: list[dict[str, Any]] = []
        for item in section.item:
            (later if item.aside or section.supplement else blocks).append(self._tried(item, section.heading))
        if section.supplement:
            blocks, later = [], [*blocks, *later]
        if later:
            self.later.append((section.heading, later))
        return self.headed(section.heading, blocks)

    def _tried(self, item: Item, heading: str) -> dict[str, Any]:
        """Return an item as a block; one that cannot be made is a table that says why, so that the rest is built."""
        try:
            return self.item(item)
        except InputError as error:
            self.failed.append(f"[[section]] {heading!r}: {error}")
            kind = str(item.drawn or item.table)
            words = item.caption or tr("{kind} of {analyses}", kind=kind.capitalize(), analyses=", ".join(item.shown))
            table = {
                "caption": tr("Not shown: {words}", words=words.strip()),
                "columns": [column("why", "Why")],
                "rows": [{"why": str(error)}],
            }
            return self.table(item.id or named_by(kind, *item.shown), table)

    def supplement(self) -> list[dict[str, Any]]:
        """Return the sections of the supplement that hold what was declared."""
        return [self.headed(heading, blocks, supplement=True) for heading, blocks in self.later]

    def headed(self, heading: str, blocks: list[dict[str, Any]], *, supplement: bool = False) -> dict[str, Any]:
        """Return a section with an id of its own."""
        part = {"supplement": True} if supplement else {}
        return {"id": self.unique(slug(heading)), "heading": heading, **part, "blocks": blocks}

    def unique(self, name: str) -> str:
        """Return `name`, or with a number behind it where it is taken."""
        candidate, turn = name, 1
        while candidate in self._slugs:
            turn += 1
            candidate = f"{name}-{turn}"
        self._slugs.add(candidate)
        return candidate

    def keep(self, texts: Iterable[str]) -> None:
        """Keep texts whose placeholders are to be checked."""
        self._texts += texts

    def text(self, text: str) -> dict[str, Any]:
        """Return a block of prose."""
        self._texts.append(text)
        return {"type": "text", "text": text}

    def item(self, item: Item) -> dict[str, Any]:
        """Return one declared item as a block, keeping its figure or table."""
        if item.text is not None:
            return self.text(item.text)
        if item.drawn is not None:
            drawn = figure(item, self.fits, self.pieces)
            identifier = self.unique(item.id or named_by(item.drawn, *item.shown))
            self.kinds.setdefault(item.drawn, identifier)
            self.figures[identifier] = drawn
            return {"type": "figure", "id": identifier}
        block = self.table(item.id or named_by(str(item.table), *item.of), self._table(item))
        self.kinds.setdefault(str(item.table), block["id"])
        return block

    def table(self, identifier: str, table: dict[str, Any]) -> dict[str, Any]:
        """Keep a table and return the block that shows it."""
        name = self.unique(identifier)
        self.tables[name] = table
        return {"type": "table", "id": name}

    def _table(self, item: Item) -> dict[str, Any]:
        kind = str(item.table)
        if kind in MAKERS:
            return MAKERS[kind](item, self.fits)
        if kind in NUMBERED:
            table, quantities, *sources = NUMBERED[kind](item, self.fits)
            self.numbered.setdefault(kind, {}).update(quantities)
            self.sources += [one for part in sources for one in part]
            return table
        if kind == "reproduce":
            table, quantities = evidence.reproduce_table(item, self.declaration.path.parent)
            self.reproduced |= quantities
            return table
        return self.pieces[PIECE_TABLES[kind]].table(item)


def _read_pieces(declaration: Declaration, fits: Mapping[str, Fitted]) -> Pieces:
    """Return the views that a declaration names, computed from the registry, and the flow of the review."""
    from alliance_meta.reporting.items.evidence import read_claims, read_consistency

    folder = declaration.path.parent
    readers: dict[str, Any] = {
        UMBRELLA: evidence.read_umbrella,
        CLAIMS: read_claims,
        CONSISTENCY: read_consistency,
        FLOW: lambda spec: review.read_flowed(spec, folder, list(fits.values())),
    }
    try:
        return {name: readers[name](spec) for name, spec in declaration.pieces.items()}
    except CodingError as error:
        refuse(declaration.path, [f"[{FLOW}]: {problem}" for problem in error.problems])
        raise


def slug(heading: str) -> str:
    """Return a heading as an id.

    >>> slug("What τ² says, & why")
    'what-says-why'
    """
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"


def _run(declaration: Declaration, say: Callable[[str], None]) -> dict[str, Fitted]:
    fits: dict[str, Fitted] = {}
    problems = []
    for number, spec in enumerate(declaration.analysis, 1):
        say(f"fitting {number} of {len(declaration.analysis)}: {spec.id}")
        try:
            fits[spec.id] = run_analysis(spec, folder=declaration.path.parent)
        except InputError as error:
            problems.append(str(error))
    refuse(declaration.path, problems)
    return fits


def _analysis(fitted: Fitted) -> dict[str, Any]:
    fit = fitted.fit
    return {
        "label": fitted.spec.label,
        "model_label": fitted.short_label(),
        "result": fit.to_dict(),
        "coefficients": (fit.tidy().reset_index() if fit.tidy().index.name else fit.tidy()).to_dict("records"),
        "notes": [note.to_dict() for note in fit.notes],
        "methods": fitted.methods(),
        "r_code": fitted.r_code(),
        "provenance": fitted.effects.provenance.to_dict(),
    }


def _unknown_placeholders(
    texts: Iterable[str], quantities: Mapping[str, Mapping[str, Any]], references: list[str]
) -> list[str]:
    problems: dict[str, None] = {}
    for text in texts:
        for placeholder in writing.placeholders(text):
            problem = _check_placeholder(placeholder, quantities, references)
            if problem:
                problems[problem] = None
    return list(problems)


def _check_placeholder(
    placeholder: str, quantities: Mapping[str, Mapping[str, Any]], references: list[str]
) -> str | None:
    name, _, kind = placeholder.partition(":")
    group, _, key = name.partition(".")
    known = references if group == "ref" else list(quantities.get(group, ()))
    where = f"placeholder {{{placeholder}}}"
    if group != "ref" and group not in quantities:
        groups = ["ref", *quantities]
        return f"{where}: no {group!r}{did_you_mean(group, groups)} (known: {', '.join(groups)})"
    if key not in known:
        return f"{where}: {group} has no {key!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
    if kind and kind not in FORMATS:
        return f"{where}: no format {kind!r}{did_you_mean(kind, list(FORMATS))} (known: {', '.join(FORMATS)})"
    return None
