from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

import alliance_meta as am
from alliance_meta.effects.datasets import load_dataset
from alliance_meta.plots import frame_from_dict
from tests.reports.cases import Report
from tests.tolerances import CLOSED_FORM, ITERATIVE, printed

SNAPSHOTS = Path(__file__).parent / "snapshots"
DIGITS = 8


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def assert_near(found: Any, kept: Any, where: str) -> None:
    if isinstance(kept, float):
        assert found == pytest.approx(kept, rel=ITERATIVE, abs=1e-9), where
    elif isinstance(kept, dict):
        assert list(found) == list(kept), where
        for key, value in kept.items():
            assert_near(found[key], value, f"{where}.{key}")
    elif isinstance(kept, list):
        assert len(found) == len(kept), where
        for position, value in enumerate(kept):
            assert_near(found[position], value, f"{where}[{position}]")
    else:
        assert found == kept, where


def test_numbers_are_those_of_the_snapshot(report: Report) -> None:
    """UPDATE_SNAPSHOTS=1 writes the snapshots anew; the diff then shows which numbers moved."""
    quantities = {
        group: {key: entry["value"] for key, entry in entries.items()}
        for group, entries in report.results["quantities"].items()
    }
    found = rounded(quantities)
    path = SNAPSHOTS / f"{report.results['report']['name']}.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert_near(found, json.loads(path.read_text(encoding="utf-8")), path.stem)


@pytest.mark.published
def test_kolden_by_the_routes_the_issue_names(reports: dict[str, Report]) -> None:
    found = reports["relationship-2011"].results["quantities"]
    assert found["kolden_dl"]["r"]["value"] == printed(".250")
    assert found["kolden_dl"]["r_ci"]["value"] == [printed(".118"), printed(".373")]
    assert found["kolden_he_raw"]["r"]["value"] == printed(".25096")


def test_quantities_are_those_of_the_fit(reports: dict[str, Report]) -> None:
    es = am.escalc(load_dataset("farber2011_positive_regard"), ri="r_recoded", ni="n_recoded")
    fit = am.RandomEffectsModel(es).fit()
    found = reports["relationship-2011"].results["quantities"]["farber_recoded"]
    row = fit.predict(scale="r").iloc[0]
    assert found["r"]["value"] == row["pred"]
    assert found["r_ci"]["value"] == [row["ci_lb"], row["ci_ub"]]
    assert found["pi"]["value"] == [row["pi_lb"], row["pi_ub"]]
    assert found["tau2"]["value"] == fit.tau2
    assert found["I2"]["value"] == fit.I2
    assert found["r_mean"]["value"] == fit.predict(scale="r_mean").iloc[0]["pred"]


def test_figure_and_table_show_the_same_studies(reports: dict[str, Report]) -> None:
    results = reports["relationship-2011"].results
    for name in ("kolden", "farber"):
        table = {row["label"]: row for row in results["tables"][f"studies_{name}"]["rows"]}
        for version in ("reported", "recoded"):
            frame = frame_from_dict(results["figures"][f"forest_{name}_{version}"]["frame"])
            drawn = frame[frame["kind"] == "study"]
            assert set(drawn["label"]) == set(table)
            for label, r, n in zip(drawn["label"], drawn["r"], drawn["ni"], strict=True):
                assert r == pytest.approx(table[label][f"r_{name}_{version}"], rel=CLOSED_FORM, abs=1e-12)
                assert n == table[label][f"n_{name}_{version}"]


def test_the_pooled_value_drawn_is_the_one_in_the_text(reports: dict[str, Report]) -> None:
    results = reports["alliance-abstracts"].results
    frame = frame_from_dict(results["figures"]["forest_abstracts"]["frame"])
    diamond = frame[frame["kind"] == "summary"].iloc[0]
    found = results["quantities"]["abstracts"]
    assert [diamond["r"], diamond["r_lb"], diamond["r_ub"]] == pytest.approx(
        [found["r"]["value"], *found["r_ci"]["value"]], rel=CLOSED_FORM
    )


def test_the_umbrella_pools_nothing(reports: dict[str, Report]) -> None:
    results = reports["alliance-evidence"].results
    assert results["analyses"] == {}
    frame = frame_from_dict(results["figures"]["forest_umbrella"]["frame"])
    assert set(frame["kind"]) == {"heading", "study", "blank"}
    shown, left_out = (results["quantities"]["umbrella"][key]["value"] for key in ("shown", "left_out"))
    assert (frame["kind"] == "study").sum() == shown
    assert len(results["tables"]["left_out"]["rows"]) == left_out
    assert shown + left_out == am.list_datasets().set_index("name").loc["published", "k"]
    assert all(row["reason"] for row in results["tables"]["left_out"]["rows"])


def test_all_rows_of_the_abstracts_are_accounted_for(reports: dict[str, Report]) -> None:
    tables = reports["alliance-abstracts"].results["tables"]
    assert len(tables["studies"]["rows"]) == 8
    assert len(tables["studies"]["rows"]) + len(tables["left_out"]["rows"]) == load_dataset("alliance_abstracts").k


def test_csv_holds_the_unrounded_numbers(reports: dict[str, Report]) -> None:
    report = reports["relationship-2011"]
    found = report.results["quantities"]
    with (report.folder / "tables/comparison_farber.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    declared = ("reported", "dl", "dl_raw", "he_raw", "recoded", "dl_recoded", "dl_raw_recoded", "he_raw_recoded")
    assert [float(row["r"]) for row in rows] == [found[f"farber_{name}"]["r"]["value"] for name in declared]


def test_provenance_names_data_and_software(report: Report) -> None:
    results = report.results
    assert all(len(origin["sha256"]) == 64 for origin in results["data"])
    assert {"alliance_meta", "numpy", "scipy", "pandas"} <= set(results["versions"])
    assert "matplotlib" not in results["versions"]
    assert results["report"]["rebuild"] == f"alliance-meta report reports/{results['report']['name']}.toml"


def test_every_caution_of_the_data_is_carried(report: Report) -> None:
    carried = {text for group in report.results["cautions"] for text in group["texts"]}
    expected = {text for origin in report.results["data"] for text in origin["cautions"]}
    assert expected
    assert expected <= carried


def test_methods_text_names_estimator_inference_and_sources(reports: dict[str, Report]) -> None:
    text = (reports["relationship-2011"].folder / "methods.txt").read_text(encoding="utf-8")
    for expected in ("restricted maximum likelihood", "Knapp-Hartung", "10.3102/10769986030003261", "10.1037/a0022141"):
        assert expected in text
