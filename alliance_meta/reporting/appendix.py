"""What every report says at its end without being asked: methods, notes, all statistics, R code, sources."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from alliance_meta import __version__
from alliance_meta.effects.provenance import Provenance
from alliance_meta.reporting.citations import linked, method_keys, reference_list
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.made import named_by
from alliance_meta.reporting.prose import escape
from alliance_meta.reporting.spec import Declaration, Item
from alliance_meta.reporting.tables import MAKERS
from alliance_meta.results.r_code import SHEET, comment
from alliance_meta.tables.format import format_r

if TYPE_CHECKING:
    from alliance_meta.reporting.pieces import Pieces

MOST_COLUMNS = 4
NUMERIC = ("numpy", "scipy", "pandas")
CHE = "a correlated and hierarchical effects model with CR2 inference"
# Lines that stand once above all models of one sheet.
ONCE = ("library(", f"{SHEET} <- ", f"names({SHEET})")
SYNTHETIC = "Synthetic data: the rows are made up for teaching and say nothing about psychotherapy."


def sections(
    declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces, builder: Any
) -> list[dict[str, Any]]:
    """Return the closing sections as blocks."""
    out = []
    if fits:
        out.append(builder.headed("How the numbers were made", [_text(methods_prose(fits.values()))]))
        out.append(builder.headed("Notes of the fits", [_text(_notes(fits.values()))]))
        out.append(builder.headed("Every fit in full", _full(declaration, fits, builder)))
        out.append(builder.headed("The same fits in R", _r_code(fits.values())))
    out.append(builder.headed("Data, software and how to rebuild this report", _sources(declaration, fits, pieces)))
    out.append(builder.headed("References", [{"type": "references", "items": references(fits, pieces)}]))
    return out


def methods_prose(fits: Iterable[Fitted]) -> str:
    """Return the methods paragraph of each distinct set of settings, with the fits it was used for."""
    texts: dict[str, list[Fitted]] = {}
    alike: dict[str, str] = {}
    for fitted in fits:
        text = fitted.methods()
        if fitted.varying is not None:
            text = alike.setdefault(fitted.varying.sub("#", text), text)
        texts.setdefault(text, []).append(fitted)
    return escape("\n\n".join(_paragraph(text, members) for text, members in texts.items()))


def _paragraph(text: str, members: Sequence[Fitted]) -> str:
    """Return one paragraph; fits whose text differs in numbers alone (Bayesian: in k alone) are named at its end."""
    first, *rest = members
    if first.varying is None:
        return f"**{'; '.join(fitted.spec.label for fitted in members)}.** {text}"
    others = "; ".join(f"{fitted.spec.label} (k = {fitted.fit.k})" for fitted in rest)
    return f"**{first.spec.label}.** {text}" + (f" *In the same way: {others}.*" if others else "")


def references(fits: Mapping[str, Fitted], pieces: Pieces) -> list[str]:
    """Return the reference list: methods used and sources of the data."""
    settings = [fitted.cited() for fitted in fits.values()]
    found = [*(fitted.effects.provenance.citation for fitted in fits.values())]
    for piece in pieces.values():
        found += piece.citations
    return reference_list(method_keys(settings), [text for text in found if text])


def cautions(fits: Mapping[str, Fitted], pieces: Pieces) -> list[dict[str, Any]]:
    """Return the cautions of the data, each once, under the data they concern."""
    concerned: dict[str, list[str]] = {}
    for origin in _origins(fits, pieces):
        texts = [SYNTHETIC] if origin.synthetic else []
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
            text = (
                f"Studies gave several effects ({fitted.fit.k} effects of {fitted.effects.n_studies} studies), which "
                f"depend on each other. No kind was declared, so the model is {CHE}, with an assumed correlation of "
                f"{format_r(fitted.spec.rho)} between the sampling errors of one study."
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
            found.setdefault(note.message, []).append(fitted.spec.label)
    if not found:
        return "No fit had anything to remark: no row was dropped, no estimate truncated, every search converged."
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
        blocks.append(builder.text(f"Statistics already shown: {', '.join(ids)}."))
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
    packages = " and ".join(sorted({fitted.package for fitted in fits}, reverse=True))
    blocks: list[dict[str, Any]] = [
        _text(f"The same models in R, with {packages}, from the data files that the next section names.")
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
        blocks.append({"type": "code", "label": f"R code for {source}", "text": "\n\n".join(calls)})
    return blocks


def _sources(declaration: Declaration, fits: Mapping[str, Fitted], pieces: Pieces) -> list[dict[str, Any]]:
    lines = []
    for origin in _origins(fits, pieces):
        parts = [f"**{origin.title or origin.source}**, file `{origin.source}`."]
        if origin.citation:
            parts.append(f"Source: {linked(origin.citation.rstrip('.'))}.")
        if origin.licence:
            parts.append(f"Licence: {origin.licence}.")
        if origin.sha256:
            parts.append(f"SHA-256: `{origin.sha256}`.")
        lines.append("- " + " ".join(parts))
    used = ", ".join(f"{name} {number}" for name, number in software(fits).items())
    text = (
        "\n".join(lines) + f"\n\nSoftware that affects the numbers: {used}. The same data and the same versions give "
    )
    text += "the same numbers to the last digit; rebuild with"
    return [
        _text(escape(text)),
        {"type": "code", "label": "Command that rebuilds this report", "text": rebuild_command(declaration)},
    ]


def _origins(fits: Mapping[str, Fitted], pieces: Pieces) -> list[Provenance]:
    found = {
        (fitted.table.provenance.source, fitted.table.provenance.sha256): fitted.whole.provenance
        for fitted in fits.values()
    }
    published = {origin.source: origin for piece in pieces.values() for origin in piece.origins}
    return [*found.values(), *published.values()]
