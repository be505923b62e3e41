from __future__ import annotations

from pathlib import Path
from typing import get_args

from alliance_meta.reporting.build import build_report
from alliance_meta.reporting.spec import (
    Abstract,
    Analysis,
    Certainty,
    Claims,
    Consistency,
    FigureKind,
    FlowTable,
    Item,
    Section,
    TableKind,
    Umbrella,
)
from tests.reports.cases import REPORTS, Report

PAGE = (REPORTS.parent / "docs" / "reports.md").read_text(encoding="utf-8")


def test_every_key_and_table_is_described() -> None:
    words = [
        name
        for kind in (Abstract, Analysis, Certainty, Umbrella, Claims, Consistency, FlowTable, Section, Item)
        for name in kind.model_fields
    ]
    for word in [*words, *get_args(TableKind), *get_args(FigureKind)]:
        assert f"`{word}`" in PAGE or f"[{word}]]" in PAGE or f".{word}]]" in PAGE, word


def test_every_statistic_is_described(reports: dict[str, Report]) -> None:
    _, _, listed = PAGE.partition("Statistics of an analysis:")
    for key in reports["alliance-abstracts"].results["quantities"]["abstracts"]:
        assert key in listed.replace("`", " ").split(), key


def test_every_statistic_of_dependent_effects_is_described(reports: dict[str, Report]) -> None:
    words = PAGE.partition("Statistics of an analysis:")[2].replace("`", " ").split()
    found = reports["relationship-raters"].results["quantities"]
    for key in {key for name in ("means", "three", "che", "rve") for key in found[name]}:
        assert key in words or key.replace("es_id", "study_id") in words, key


def test_the_example_builds(tmp_path: Path) -> None:
    example = PAGE.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "example.toml").write_text(example, encoding="utf-8")
    built = build_report(tmp_path / "example.toml", formats=["html"])
    assert "see Figure 1" in built[1].read_text(encoding="utf-8")
