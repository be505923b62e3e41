"""A report's own words: all of them stand in every catalogue, and a German report says none of them in English."""

from __future__ import annotations

import ast
import io
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any, get_args
from zipfile import ZipFile

import pytest

import alliance_meta as am
import alliance_meta.reporting
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.reporting import build_report, words
from alliance_meta.reporting.declaration import read_declaration
from alliance_meta.reporting.document import make_document
from alliance_meta.reporting.html import number_blocks
from alliance_meta.reporting.spec import Concern, Judgement, Suspicion
from alliance_meta.reporting.starter import BY, HEAD, PROSE, REST
from alliance_meta.reporting.text.appendix import ITEMS, MARS
from alliance_meta.reporting.words import read_catalogue, speaking, tr
from alliance_meta.reporting.words.remarks import remark
from alliance_meta.reporting.words.sentences import in_language
from alliance_meta.sensitivity.batteries.scenarios import KINDS
from alliance_meta.tables.pdf import WORDS
from tests.reports.cases import Report, small_sheet

FOLDER = Path(alliance_meta.reporting.__file__).parent
CATALOGUES = sorted((FOLDER / "words").glob("*.po"))
# What says a word of the report -> which of its arguments the word is.
SAID_BY = {"tr": 0, "marked": 0, "column": 1, "put": 3, "caption": 0, "stacked": 4, "_always": 0, "NotApplicable": 0}
DECLARED = """
title = "Zusammenhang"
lang = "de"
[[analysis]]
id = "a"
label = "Alle"
data = "own.csv"
[[analysis]]
id = "b"
label = "Stufen"
data = "own.csv"
mods = "C(rater)"
[[analysis]]
id = "c"
label = "Abhängig"
data = "own.csv"
kind = "multilevel"
rho = 0.6
robust = "CR2"
[[section]]
heading = "Studien"
[[section.item]]
table = "studies"
of = "a"
[[section.item]]
table = "comparison"
of = ["a", "c"]
[certainty.a]
judgement = "very low"
risk_of_bias = "serious"
reason = "Nur {a.k} Effekte."
"""


def constants(node: ast.expr) -> Iterator[str]:
    """Yield the words in an argument; one that is put together could be in no catalogue."""
    assert not isinstance(node, ast.JoinedStr), ast.unparse(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    inside = {ast.Dict: "values", ast.Tuple: "elts", ast.List: "elts"}.get(type(node))
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else getattr(node, inside) if inside else []
    for part in parts:
        yield from constants(part)


def in_code() -> Iterator[str]:
    """Yield every word that the code of reports says."""
    for path in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                at = SAID_BY.get(node.func.id, len(node.args))
                yield from constants(node.args[at]) if at < len(node.args) else ()
    for path in FOLDER.glob("templates/*.j2"):
        yield from re.findall(r'\btr\("([^"]+)"', path.read_text(encoding="utf-8"))
    yield from WORDS.values()
    yield from KINDS.values()
    yield from (words for _, words in PROSE.findall((HEAD + BY).replace("{{", "{").replace("}}", "}") + REST))
    yield from (topic for items in ITEMS.values() for topic, _ in items.values())
    yield from ITEMS[MARS]
    yield from (word for said in (Concern, Suspicion, Judgement) for word in get_args(said))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_word_and_no_other(path: Path) -> None:
    with path.open(encoding="utf-8") as stream:
        said = read_catalogue(stream).said
    assert set(in_code()) == set(said)
    for own, other in said.items():
        assert parts(own) == parts(other), own
        assert own.count("*") == other.count("*"), own


def parts(text: str) -> list[str]:
    return sorted(name for _, name, *_ in Formatter().parse(text) if name)


def test_what_a_catalogue_lacks_stays_english() -> None:
    text = 'msgid ""\nmsgstr "Language: xx\\n"\n\nmsgid "two "\n"parts"\nmsgstr "\\"a\\""\n\nmsgid "none"\nmsgstr ""\n'
    found = read_catalogue(io.StringIO(text))
    assert [found.gettext(one) for one in ("two parts", "none", "other", "")] == ['"a"', "none", "other", ""]


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = small_sheet(tmp_path_factory.mktemp("german"))
    (folder / "g.toml").write_text(DECLARED, encoding="utf-8")
    build_report(folder / "g.toml", out=folder / "made", formats=["html", "pdf", "docx", "methods"])
    return Report(folder / "made")


def test_a_german_report_says_nothing_of_its_own_in_english(german: Report) -> None:
    with (FOLDER / "words" / "de.po").open(encoding="utf-8") as stream:
        english = {own for own, other in read_catalogue(stream).said.items() if own != other}
    shown = re.findall(r"<(?:h\d|dt|th|caption|title)\b[^>]*>(.*?)</", german.page, re.DOTALL)
    texts = {re.sub(r"<[^>]+>", "", text).strip() for text in shown}
    assert {"Zusammenfassung", "Inhalt", "Ergebnisse", "Methoden", "Anhang", "Checklisten", "Literatur"} <= texts
    assert {"Vertrauenswürdigkeit der Evidenz", "Studie", "Prognoseintervall", "Zusammengefasster Effekt"} <= texts
    assert not texts & english
    assert '<html lang="de">' in german.page
    assert "Tabelle S1" in german.page
    assert "Für die Praxis." in german.page
    assert "Table " not in german.page


def test_methods_of_the_usual_models_are_german(german: Report) -> None:
    text = (german.folder / "methods.txt").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.isupper()] == ["METHODEN", "DATEN UND SOFTWARE", "LITERATUR"]
    said = text[: text.index("DATEN UND SOFTWARE")]
    assert "Ein Modell zufälliger Effekte wurde angepasst (k = 5 Effekte)" in said
    assert "mit den Moderatoren C(rater)" in said
    assert "ρ = 0.6 innerhalb von study_id" in said
    assert "durch cluster-robuste ersetzt (CR2: verzerrungsreduzierte Linearisierung; 5 Cluster" in said
    assert not re.search(r"\b(?:was|were|the|with|by|of)\b", said)


def test_pdf_and_word_are_german_too(german: Report) -> None:
    assert b"/Lang(de)" in german.pdf
    with ZipFile(german.folder / "report.docx") as file:
        body, core = file.read("word/document.xml").decode(), file.read("docProps/core.xml").decode()
        styles = file.read("word/styles.xml").decode()
    assert "Zusammenfassung" in body
    assert "Anhang" in body
    assert "<dc:language>de<" in core
    assert '<w:lang w:val="de"' in styles


def test_certainty_is_the_authors_and_checklists_refer_to_it(german: Report) -> None:
    table = german.results["tables"]["certainty"]
    assert table["rows"] == [{"label": "Alle", "risk_of_bias": "schwerwiegend", "judgement": "sehr niedrig"}]
    assert "Alle: Nur 5 Effekte." in german.page
    rows = {row["item"]: row["where"] for row in german.results["tables"]["prisma_2020"]["rows"]}
    assert rows["15"] == rows["22"] == "Tabelle 4"
    assert "guyatt2008" in german.results["cited"]
    assert "An emerging consensus on rating quality" in german.page


def test_figures_are_numbered_in_the_language_that_is_spoken() -> None:
    document = {"sections": [{"blocks": [{"type": "figure", "id": "x"}]}]}
    with speaking("de-AT"):
        assert number_blocks(document) == {"x": "Abbildung 1"}
    assert number_blocks(document) == {"x": "Figure 1"}


def test_methods_with_a_sentence_that_is_unknown_stay_as_they_are() -> None:
    known = "Sampling errors were taken as independent."
    with speaking("de"):
        assert in_language(known) == "Stichprobenfehler wurden als unabhängig angenommen."
        assert in_language(f"{known} Something else.") == f"{known} Something else."
    assert in_language(known) == known


def test_a_note_is_said_with_the_methods_that_it_is_of_and_one_that_is_unknown_stays() -> None:
    known = "Trim and fill; p-uniform*: Vary it and compare."
    unknown = "Trim and fill: Something else. Vary it and compare."
    with speaking("de"):
        assert remark(known) == "Trim-and-fill; p-uniform*: Andere Werte zum Vergleich rechnen."
        assert remark(unknown) == unknown
        low = "Other models: between 0.1 (Uncorrected) and 0.2 (Trim and fill), and 1 of 2 intervals leave out 0."
        assert remark(low) == (
            "Andere Modelle: zwischen 0.1 (Unkorrigiert) und 0.2 (Trim-and-fill), und 1 von 2 Intervallen schließen 0 "
            "aus."
        )
        left = "Not given: Published only; Without imputed n.s.: the sheet has no column x. CHE, rho = 0.6: {}."
        assert remark(left.format("rho = 0.6 is the headline's")) == (
            "Ohne Ergebnis: Nur Veröffentlichtes; Ohne ersetzte n. s.: die Tabelle hat keine Spalte x. CHE, rho = 0.6: "
            "rho = 0.6 ist das der Hauptanalyse."
        )
        assert remark(left.format("something else")) == left.format("something else")
    assert remark(known) == known


def test_names_as_long_as_a_sheet_allows_are_read_once() -> None:
    hostile = [
        ", r = 0.2 [" * 20_000,
        "(and " * 20_000,
        "of " * 20_000 + "5 rows left out because r or n is missing: a.",
    ]
    started = time.monotonic()
    with speaking("de"):
        assert [remark(text) for text in hostile[:2]] == hostile[:2]
        remark(hostile[2])
    assert time.monotonic() - started < 2.0


def test_what_is_put_into_words_is_no_pattern() -> None:
    with speaking("de"):
        assert tr("{name}, CI", name="{0.__class__}") == "{0.__class__}, KI"


def test_another_language_is_a_file_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fr.po").write_text('msgid "Methods"\nmsgstr "Méthodes"\n', encoding="utf-8")
    monkeypatch.setattr(words, "files", lambda package: tmp_path)
    assert words.languages() == ["en", "fr"]
    with speaking("fr"):
        assert (tr("Methods"), tr("Results")) == ("Méthodes", "Results")


def test_figures_and_methods_are_german_and_their_numbers_the_same(tmp_path: Path) -> None:
    folder, made = small_sheet(tmp_path), {}
    asked = (*(f'figure = "{kind}"' for kind in ("forest", "funnel", "bias")), 'table = "bias"\nid = "methods"')
    items = "".join(f'[[section.item]]\n{item}\nof = "a"\n' for item in (*asked, 'table = "sensitivity"\nid = "other"'))
    analysis = '[[analysis]]\nid = "a"\nlabel = "Alle"\ndata = "own.csv"\n[[section]]\nheading = "H"\n'
    for lang in ("en", "de"):
        path = folder / f"{lang}.toml"
        path.write_text(f'title = "T"\nlang = "{lang}"\n{analysis}{items}', encoding="utf-8")
        made[lang] = make_document(read_declaration(path))
    frames = {lang: {name: one["frame"] for name, one in made[lang]["figures"].items()} for lang in made}
    heads = frames["de"]["forest_a"]["meta"]
    assert (heads["label_header"], heads["weight_header"], heads["estimate_header"]) == (
        "Studie", "Gewicht %", "r [95%-KI]",
    )  # fmt: skip
    assert "Zusammengefasster Effekt (REML, HK)" in str(frames["de"]["forest_a"])
    assert "95%-Grenzen, hätten alle diesen Effekt" in str(frames["de"]["funnel_a"])
    labels = {row.get("label") for row in made["de"]["tables"]["methods"]["rows"]}
    assert {"Unkorrigiert", "Trim-and-fill", "Rangkorrelation (Begg)"} <= labels
    for name, english in frames["en"].items():
        assert numbers(frames["de"][name]) == numbers(english)
    for name in ("methods", "other"):
        assert numbers(made["de"]["tables"][name]["rows"]) == numbers(made["en"]["tables"][name]["rows"])
    for name, own in made["en"]["figures"].items():
        assert_said_anew(own["description"], made["de"]["figures"][name]["description"])


@pytest.mark.parametrize("name", ["molloy2014", "relationship_dependent_effects"])
def test_what_panels_of_usual_data_remark_is_german(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        effects = am.escalc(am.load_dataset(name))
        fit = am.RandomEffectsModel(effects).fit() if name == "molloy2014" else am.che(effects)
        panel = am.bias.panel(fit)
        battery = am.sensitivity.battery(effects, scenarios=["che", "lowest", "without_outliers", "bias_hc"])
    said = [panel.spread(), battery.spread(), battery.fragile_text()]
    said += [note.message for one in (fit, panel, battery) for note in one.notes]
    assert len(said) > 10
    with speaking("de"):
        for text in said:
            assert_said_anew(text, remark(text))


def assert_said_anew(english: str, other: str) -> None:
    """Assert that a text has German words and the same numbers, in any order."""
    assert not re.search(r"(?<!-)\b(?:the|of|with|were|and)\b", other), other
    figures = re.compile(r"\d+(?:\.\d+)?")
    assert sorted(figures.findall(english)) == sorted(figures.findall(other))


def numbers(value: Any) -> list[float]:
    """Return the numbers in JSON values, in their order."""
    if isinstance(value, dict | list):
        return [one for part in (value.values() if isinstance(value, dict) else value) for one in numbers(part)]
    return [value] if isinstance(value, int | float) else []
