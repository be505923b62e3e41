"""The route finder on printed results: the route that made the number, or that none does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from alliance_meta import load_dataset
from alliance_meta.evidence.reproduction import reproduce
from alliance_meta.sensitivity import RouteMatch, match

pytestmark = pytest.mark.published

HERE = Path(__file__).parent
NAMES = {
    "Smith": "smith2011",
    "Tillman": "tillman2011",
    "van Iddekinge": "vaniddekinge2012",
    "Berry 1": "berry2012",
    "Lucassen": "lucassen2011",
    "Woodley": "woodley2011",
    "Farber": "farber2011_positive_regard",
    "Kolden": "kolden2011_congruence",
}
MAASSEN = pd.read_csv(HERE / "pooled_maassen2020.csv").set_index("meta")
PRINTED = pd.read_csv(HERE / "pooled_printed.csv", dtype=str, keep_default_na=False)


def words(found: RouteMatch, *, usual: bool = True) -> list[str]:
    return [one.route.words for one in found.fits if one.route.usual or not usual]


def test_molloy_2014_with_its_slip():
    """The lower limit is .0878: .087 is what is left when its digits are cut off."""
    found = match("r=.149 [.087, .209]", load_dataset("molloy2014"))
    assert found.outcome == "slip"
    assert found.best.route.words == "Fisher z, REML, Wald z"
    assert [one.route.words for one in found.slips] == ["Fisher z, REML, Wald z"]
    assert "lower limit: .08783 rounds to .088 and reads .087 only if cut off" in found.verdict


def test_molloy_2014_as_metadat_prints_it():
    found = match("r=.149 [.088, .209]", load_dataset("molloy2014"))
    assert found.outcome == "usual"
    assert words(found, usual=False) == ["Fisher z, REML, Wald z"]


@pytest.mark.parametrize("meta", list(NAMES))
@pytest.mark.parametrize("version", ["co", "cc"])
def test_every_recalculation_of_maassen_2020_is_found(meta, version):
    """What metafor printed of the effects as reported (co) and as recoded (cc), to six digits."""
    row = MAASSEN.loc[meta]
    recoded = "_recoded" if version == "cc" else ""
    printed = {
        "estimate": f"{row[f'eff.{version}']:.6f}",
        "ci_lb": f"{row[f'cilb.{version}']:.6f}",
        "ci_ub": f"{row[f'ciub.{version}']:.6f}",
        "tau2": f"{row[f'tau2.{version}']:.6f}",
    }
    found = match(printed, load_dataset(NAMES[meta]), ri=f"r{recoded}", ni=f"n{recoded}")
    method = {"HO": "HE"}.get(row["matching_estimator"], row["matching_estimator"])
    expected = f"raw r (variance LS), {method}, Wald z" + (f", column r{recoded}" if recoded else "")
    assert expected in words(found, usual=False)
    # tau2 = 0 by every estimator that is cut there: nothing can tell them apart.
    assert len(found.fits) == 1 or float(printed["tau2"]) == 0


@pytest.mark.parametrize(
    ("meta", "printed", "outcome", "route"),
    [
        ("Smith", "r = .173, k = 184", "rare", None),
        ("Tillman", "r = .66, k = 30", "none", None),
        ("van Iddekinge", "r = .23, k = 17", "usual", "raw r, mean weighted by n (Hunter-Schmidt), z from SD/√k"),
        ("Berry 1", "r = .32, k = 21", "usual", "raw r, mean weighted by n (Hunter-Schmidt), z from SD/√k"),
        ("Lucassen", "r = .12, k = 16", "usual", "Fisher z, DL, Wald z"),
        ("Woodley", "r = .023, k = 12", "usual", "Fisher z, EE, Wald z"),
        ("Farber", "r = .27, k = 18", "rare", None),
        ("Kolden", "r = .24 [.12, .36], k = 16", "rare", None),
    ],
)
def test_what_the_articles_print(meta, printed, outcome, route):
    """Two articles say Hunter and Schmidt: the mean weighted by n is theirs, and gives .23 and .32."""
    found = match(printed, load_dataset(NAMES[meta]))
    assert found.outcome == outcome
    if route is None:
        assert not words(found)
        assert found.verdict.startswith("NONE" if outcome == "none" else "None of ")
        assert str(found.usual) in found.verdict
    else:
        assert route in words(found)


def test_farber_is_a_coincidence_and_said_to_be_one():
    found = match("r=.27", load_dataset("farber2011_positive_regard"))
    assert [one.route.words for one in found.fits] == ["Fisher z, PM, Wald z"]
    assert "which is what chance alone allows in a search this wide" in found.verdict
    assert f"Of all {found.tried} routes 1 rare one" in found.verdict


def test_tillman_is_too_far_off_for_any_method():
    assert "no choice of method explains a gap this large" in match(".66", load_dataset("tillman2011")).verdict


@pytest.mark.parametrize(
    ("file", "model", "subset", "route"),
    [
        ("molloy2014.csv", "RE REML", None, "Fisher z, REML, Wald z"),
        ("mcdaniel1994.csv", "RE REML", None, "Fisher z, REML, Wald z"),
        ("cohen1981.csv", "RE REML", None, "Fisher z, REML, Wald z"),
        ("crede2010.csv", "RE REML subset criterion==grade", "criterion == 'grade'", None),
        ("tannersmith2016.csv", "rma.mv esid|studyid V rho=.8 REML", None, None),
        ("oswald2013_ex1.csv", "robu CORR rho=.8 small=TRUE intercept", None, None),
    ],
)
def test_printed_by_package_documentation(file, model, subset, route):
    row = PRINTED[(PRINTED["dataset_file"] == file) & (PRINTED["model"] == model)].iloc[0]
    names = {"estimate": "estimate", "se": "se", "ci_lb": "ci_low", "ci_ub": "ci_high", "tau2": "tau2", "I2": "I2"}
    printed = {name: row[column] for name, column in names.items() if row[column]}
    found = match({"metric": "z", **printed}, load_dataset(file.removesuffix(".csv")), subset=subset)
    expected = {
        "crede2010.csv": "Fisher z, REML, Wald z, where criterion == 'grade'",
        "tannersmith2016.csv": "effects as given, three-level (study_id / row), REML, errors correlating .8, Wald z",
        "oswald2013_ex1.csv": "Fisher z, robust variance estimation (CORR, rho .8) by study_id, t (Satterthwaite)",
    }.get(file, route)
    assert found.best.agrees
    assert expected in words(found, usual=False)


def test_cluster_robust_inference_is_told_from_the_models_own():
    found = match("z = 0.1023 [0.0509, 0.1537], p = .0007", load_dataset("tannersmith2016"))
    assert [one.route.robust for one in found.fits] == ["study_id"]


def test_lui_2015_is_met_by_no_usual_route():
    found = match("r = 0.250, k = 18", load_dataset("lui2015"))
    assert found.outcome == "rare"


@pytest.mark.parametrize(
    ("name", "printed"),
    [("farber2011_positive_regard", {"k": "18", "estimate": ".27"}), ("berry2012", {"k": "21", "estimate": ".32"})],
)
def test_reproduce_and_match_agree(name, printed):
    table = reproduce(name)
    row = table[(table["kind"] == "published") & (table["quantity"] == "estimate")].iloc[0]
    found = match(printed, load_dataset(name))
    assert bool(row["agrees"]) == (found.outcome == "usual")
    assert row["route"] == (found.nearest_usual or found.best).route.words
    assert row["ours"] == (found.nearest_usual or found.best).values["estimate"]
