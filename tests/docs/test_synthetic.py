"""The synthetic sheet: its script gives its bytes, and its label shows in every form a reader may meet."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

import alliance_meta as am

FOLDER = Path(__file__).parents[2] / "data" / "synthetic"
SHEET = FOLDER / "synthetic_alliance" / "synthetic_alliance.csv"
SCRIPT = runpy.run_path(str(FOLDER / "make_synthetic.py"))


def test_the_seeded_script_gives_the_committed_bytes() -> None:
    assert SCRIPT["make_sheet"]().encode("utf-8") == SHEET.read_bytes()
    assert SCRIPT["make_sheet"](1) != SCRIPT["make_sheet"]()


def test_the_script_brings_the_card_up_to_date(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "synthetic")
    card = tmp_path / "synthetic" / "synthetic_alliance" / "datapackage.json"
    right = card.read_text(encoding="utf-8")
    card.write_text(right.replace('"sha256:', '"sha256:0'), encoding="utf-8")
    runpy.run_path(str(tmp_path / "synthetic" / "make_synthetic.py"), run_name="__main__")
    assert card.read_text(encoding="utf-8") == right


def test_the_card_and_every_row_say_synthetic() -> None:
    table = am.load_dataset("synthetic_alliance")
    assert "SYNTHETIC" in table.card.title
    assert "SYNTHETIC" in table.card.cautions[0]
    assert table.frame["study"].str.startswith("Synthetic").all()


@pytest.mark.parametrize("name", ["synthetic_alliance.csv", "Synthetic sheet.csv"])
def test_a_file_called_synthetic_is_labelled_in_text_page_and_plot(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SHEET.read_bytes())
    fit = am.RandomEffectsModel(am.escalc(am.read_coded(path))).fit()
    assert "SYNTHETIC DATA" in str(fit)
    assert "SYNTHETIC DATA" in fit._repr_html_()
    frame = am.plots.forest_data(fit)
    assert frame.attrs["synthetic"]
    assert frame.attrs["description"].startswith("SYNTHETIC DATA")
    drawing = am.plots.figure_bytes(am.plots.forest(frame), format="svg", text="text").decode("utf-8")
    assert "SYNTHETIC DATA" in drawing


def test_a_file_with_another_name_is_not_called_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "my_synthetic_sheet.csv"
    path.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,-.02,120\nCy 2005,.2,40\n", encoding="utf-8")
    fit = am.RandomEffectsModel(am.escalc(am.read_coded(path))).fit()
    assert not fit.effects.provenance.synthetic
    assert "SYNTHETIC" not in str(fit)


BIAS = [
    "copas",
    "fsn",
    "hc",
    "limitmeta",
    "panel",
    "pcurve",
    "pet_peese",
    "puniform",
    "ranktest",
    "regtest",
    "rtma",
    "selmodel",
    "tes",
    "trimfill",
    "unreported",
    "unseen",
    "uwls",
    "uwls3",
    "vevea_woods",
    "waap",
    "worst_case",
    "zcurve",
]
ASKED = {
    **{f"bias.{name}": getattr(am.bias, name) for name in BIAS},
    "sensitivity.battery": lambda fit: am.sensitivity.battery(fit.effects),
    "sensitivity.fragility": lambda fit: am.sensitivity.fragility(fit.effects),
    "sensitivity.influence": am.sensitivity.influence,
    "sensitivity.leave_one_out": am.sensitivity.leave_one_out,
    "sensitivity.cumulative": am.sensitivity.cumulative,
    "sensitivity.multiverse": lambda fit: am.sensitivity.multiverse(fit.effects, choices={"estimator": ["REML", "DL"]}),
    "sensitivity.baujat": am.sensitivity.baujat,
    "sensitivity.radial": am.sensitivity.radial,
    "sensitivity.qqnorm": lambda fit: am.sensitivity.qqnorm(fit, seed=1),
    "sensitivity.gosh": lambda fit: am.sensitivity.gosh(fit, subsets=100, seed=1),
    "moderator_table": lambda fit: am.moderator_table(fit.effects, ["rater"]),
}


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
@pytest.mark.parametrize("name", ASKED)
def test_every_answer_about_synthetic_effects_says_so(name: str) -> None:
    for data, label in (("synthetic_alliance", True), ("molloy2014", False)):
        if name == "moderator_table" and not label:
            continue
        found = ASKED[name](am.RandomEffectsModel(am.escalc(am.load_dataset(data))).fit())
        assert ("SYNTHETIC DATA" in found.summary()) == label
        assert ("SYNTHETIC DATA" in found._repr_html_()) == label
