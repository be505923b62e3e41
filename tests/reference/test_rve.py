"""Robust variance estimation against robumeta, and its tests against clubSandwich (`R/make_rve.R`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alliance_meta import EffectSizes, RVEModel, escalc, load_dataset
from alliance_meta.errors import TruncationWarning
from alliance_meta.models import RVEResults
from tests.reference.reading import numbers, reference
from tests.tolerances import CLOSED_FORM

# Some of these fits have few degrees of freedom, or a coefficient that rests on one cluster, and say so.
pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning")]

# R solves the normal equations of uncentred moderators (age 14.4, year 1994), which costs these digits.
NORMAL_EQUATIONS = 1e-8

OSWALD = {
    **{f"CORR_{rho}": {"rho": float(rho)} for rho in ("0", "0.2", "0.4", "0.5", "0.6", "0.8", "1")},
    "CORR_large": {"small": False},
    "HIER": {"working": "HIER"},
    "HIER_mod": {"working": "HIER", "mods": "`Crit.Cat`"},
    "USER": {"weights": "ni"},
    "USER_rows": {"mods": "`Crit.Cat`", "weights": "Crit.ID"},
    "USER_large": {"weights": "ni", "small": False},
}
TANNERSMITH = {
    "CORR": {},
    "HIER": {"working": "HIER"},
    "CORR_mod": {"mods": "aget1 + propmale + sexmix"},
    "HIER_mod": {"mods": "aget1 + propmale", "working": "HIER"},
    "CORR_mod_large": {"mods": "aget1 + propmale + sexmix", "small": False},
    "HIER_mod_large": {"mods": "aget1 + propmale", "working": "HIER", "small": False},
}
ASSINK = {
    "CORR": {},
    "CORR_mod": {"mods": "deltype + year"},
    "HIER": {"working": "HIER"},
    "HIER_mod": {"mods": "deltype + year", "working": "HIER"},
    "CORR_large": {"small": False},
}
CREDE = {
    "CORR": {},
    "HIER": {"working": "HIER"},
    "CORR_mod": {"mods": "criterion + year"},
    "HIER_mod": {"mods": "criterion + year", "working": "HIER"},
}
SETS = {"oswald": OSWALD, "tannersmith": TANNERSMITH, "assink": ASSINK, "crede": CREDE}
CASES = [(name, case) for name, cases in SETS.items() for case in cases]


def effects(name: str) -> EffectSizes:
    if name == "oswald":
        return escalc(load_dataset("oswald2013_ex1"))
    if name == "crede":
        return escalc(load_dataset("crede2010"))
    if name == "tannersmith":
        frame = load_dataset("tannersmith2016").frame
        mods = frame[["aget1", "propmale", "sexmix"]]
        return EffectSizes.from_arrays(frame["yi"], frame["vi"], mods=mods, study_id=frame["studyid"])
    data = reference("rve")["assink"]["data"]
    mods = {key: data[key] for key in ("deltype", "year")}
    return EffectSizes.from_arrays(data["yi"], data["vi"], mods=mods, study_id=data["study"])


def fit(name: str, case: str) -> RVEResults:
    options: dict[str, Any] = dict(SETS[name][case])
    table = effects(name)
    if options.get("weights") == "Crit.ID":
        options["weights"] = table.moderators["Crit.ID"]
    if name == "assink" and case.startswith("HIER"):
        with pytest.warns(TruncationWarning, match="omega2 was set to 0"):
            return RVEModel(table, **options).fit()
    return RVEModel(table, **options).fit()


def close(ours: Any, theirs: Any, what: str, tolerance: float = CLOSED_FORM) -> None:
    np.testing.assert_allclose(np.atleast_1d(ours), numbers(theirs), rtol=tolerance, err_msg=what)


def tolerance(name: str, case: str) -> float:
    return NORMAL_EQUATIONS if "mod" in case and name in ("tannersmith", "crede") else CLOSED_FORM


def test_the_grid_does_not_shrink():
    stored = {(name, case) for name, cases in reference("rve").items() if name != "versions" for case in cases}
    assert stored - {("assink", "data")} == set(CASES)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_coefficients(name, case):
    theirs, ours, near = reference("rve")[name][case], fit(name, case), tolerance(name, case)
    assert (ours.n_clusters, ours.k) == (theirs["N"], theirs["M"])
    close(ours.beta, theirs["b"], "b", near)
    close(ours.se, theirs["se"], "se", near)
    close(ours.stat, theirs["t"], "t", near)
    if case in ("USER", "USER_rows"):
        # robumeta leaves the working covariance out of the degrees of freedom here; clubSandwich does not.
        close(ours.ddf, theirs["clubSandwich"]["dfs"], "df")
        return
    close(ours.ddf, theirs["dfs"], "df", near)
    # R's 2 (1 - pt(t)) ends at the spacing of numbers below 1.
    np.testing.assert_allclose(ours.pval, numbers(theirs["prob"]), rtol=near, atol=1e-15)
    close(ours.ci_lb, theirs["ci_lb"], "lower", near)
    close(ours.ci_ub, theirs["ci_ub"], "upper", near)


@pytest.mark.parametrize(("name", "case"), [pair for pair in CASES if not pair[1].startswith("USER")])
def test_heterogeneity(name, case):
    theirs, ours, near = reference("rve")[name][case], fit(name, case), tolerance(name, case)
    close(ours.tau2, theirs["tau2"], "tau2", near)
    if case.startswith("HIER"):
        close(ours.omega2, theirs["omega2"], "omega2", near)
    else:
        close(ours.I2, theirs["I2"], "I2", near)


SANDWICHES = [pair for pair in CASES if "clubSandwich" in reference("rve")[pair[0]][pair[1]]]


@pytest.mark.parametrize(("name", "case"), SANDWICHES)
def test_covariance_and_joint_tests(name, case):
    theirs, ours = reference("rve")[name][case]["clubSandwich"], fit(name, case)
    near = tolerance(name, case)
    close(ours.vb.ravel(), theirs["vb"], "vb", near)
    for test in theirs["htz"]:
        rows = np.atleast_1d(test["rows"]) - 1
        found = ours.test(np.eye(ours.p)[rows])
        assert found.df1 == test["df1"]
        close(found.stat, test["F"], "F", near)
        close(found.df2, test["df2"], "df2", near)
        close(found.pval, test["p"], "p", near)


def test_other_correlations():
    table = fit("oswald", "CORR_0.8").sensitivity()
    for rho in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        theirs, row = reference("rve")["oswald"][f"CORR_{rho:g}"], table.loc[(rho, "intrcpt")]
        close(row["tau2"], theirs["tau2"], "tau2")
        close(row["estimate"], theirs["b"], "b")
        close(row["se"], theirs["se"], "se")
