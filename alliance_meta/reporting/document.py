"""From a declaration to the document that `results.json` holds: every number and every word a report needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from alliance_meta.encoding import plain
from alliance_meta.errors import InputError
from alliance_meta.files import sha256
from alliance_meta.options import did_you_mean
from alliance_meta.reporting import appendix, evidence, prose
from alliance_meta.reporting.assumed import rho_table
from alliance_meta.reporting.checks import refuse
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.fitting import run_analysis
from alliance_meta.reporting.frames import figure
from alliance_meta.reporting.made import named_by
from alliance_meta.reporting.numbers import FORMATS
from alliance_meta.reporting.pieces import Pieces, read_pieces
from alliance_meta.reporting.spec import PIECE_TABLES, Declaration, Item
from alliance_meta.reporting.tables import MAKERS

SCHEMA = "alliance_meta/report/1"


def make_document(declaration: Declaration) -> dict[str, Any]:
    """Run what the declaration asks for and return plain JSON values.

    Raises
    ------
    InputError
        With everything that the analyses, the tables and the placeholders object to, at once.
    """
    fits = _run(declaration)
    pieces = read_pieces(declaration)
    builder = _Builder(declaration, fits, pieces)
    sections = [builder.section(section) for section in declaration.section]
    quantities: dict[str, Any] = {name: fitted.statistics | fitted.slopes() for name, fitted in fits.items()}
    quantities |= {name: piece.quantities for name, piece in pieces.items()}
    quantities["printed"] = evidence.printed(fits.values())
    quantities["reproduce"] = builder.reproduced
    if builder.varied:
        quantities["rho"] = builder.varied
    if not builder.problems:
        sections += appendix.sections(declaration, fits, pieces, builder)
    builder.problems += _unknown_placeholders(builder.texts(), quantities, builder.names)
    refuse(declaration.path, builder.problems)
    document = {
        "schema": SCHEMA,
        "report": {
            "name": declaration.name,
            "title": declaration.title,
            "subtitle": declaration.subtitle,
            "lang": declaration.lang,
            "declaration_sha256": sha256(declaration.path.read_bytes()),
            "rebuild": appendix.rebuild_command(declaration),
        },
        "versions": appendix.software(fits),
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


class _Builder:
    """Collect figures, tables and problems while sections are put together."""

    def __init__(self, declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces) -> None:
        self.declaration = declaration
        self.fits = fits
        self.pieces = pieces
        self.figures: dict[str, Any] = {}
        self.tables: dict[str, Any] = {}
        self.reproduced: dict[str, Any] = {}
        self.varied: dict[str, Any] = {}
        self.problems: list[str] = []
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

    def section(self, section: Any) -> dict[str, Any]:
        """Return one declared section as blocks."""
        blocks = [self.text(section.text)] if section.text.strip() else []
        for item in section.item:
            try:
                blocks.append(self.item(item))
            except InputError as error:
                self.problems.append(f"[[section]] {section.heading!r}: {error}")
        return self.headed(section.heading, blocks)

    def headed(self, heading: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a section with an id of its own."""
        return {"id": self.unique(slug(heading)), "heading": heading, "blocks": blocks}

    def unique(self, name: str) -> str:
        """Return `name`, or with a number behind it where it is taken."""
        candidate, turn = name, 1
        while candidate in self._slugs:
            turn += 1
            candidate = f"{name}-{turn}"
        self._slugs.add(candidate)
        return candidate

    def text(self, text: str) -> dict[str, Any]:
        """Return a block of prose."""
        self._texts.append(text)
        return {"type": "text", "text": text}

    def item(self, item: Item) -> dict[str, Any]:
        """Return one declared item as a block, keeping its figure or table."""
        if item.text is not None:
            return self.text(item.text)
        if item.drawn is not None:
            identifier = self.unique(item.id or named_by(item.drawn, *item.shown))
            self.figures[identifier] = figure(item, self.fits, self.pieces)
            return {"type": "figure", "id": identifier}
        return self.table(item.id or named_by(str(item.table), *item.of), self._table(item))

    def table(self, identifier: str, table: dict[str, Any]) -> dict[str, Any]:
        """Keep a table and return the block that shows it."""
        name = self.unique(identifier)
        self.tables[name] = table
        return {"type": "table", "id": name}

    def _table(self, item: Item) -> dict[str, Any]:
        kind = str(item.table)
        if kind in MAKERS:
            return MAKERS[kind](item, self.fits)
        if kind == "rho":
            table, quantities = rho_table(item, self.fits)
            self.varied |= quantities
            return table
        if kind == "reproduce":
            table, quantities = evidence.reproduce_table(item, self.declaration.path.parent)
            self.reproduced |= quantities
            return table
        return self.pieces[PIECE_TABLES[kind]].table(item)


def slug(heading: str) -> str:
    """Return a heading as an id.

    >>> slug("What τ² says, & why")
    'what-says-why'
    """
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"


def _run(declaration: Declaration) -> dict[str, Fitted]:
    fits: dict[str, Fitted] = {}
    problems = []
    for spec in declaration.analysis:
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
        for placeholder in prose.placeholders(text):
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
