"""Routes followed by the hundred give what the models of the package give one by one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from alliance_meta import load_dataset
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.evidence.printed import read_printed
from alliance_meta.evidence.reproduction import Search, search
from alliance_meta.evidence.route_engine import follow
from tests.tolerances import CLOSED_FORM, ITERATIVE

COMPARED = (
    *("estimate", "se", "ci_lb", "ci_ub", "stat", "pval", "ddf", "tau2", "tau", "se_tau2", "I2", "H2"),
    *("QE", "QEdf", "QEp", "pi_lb", "pi_ub", "z", "t"),
)
PRINTED = {"estimate": ".30", "ci_lb": ".20", "ci_ub": ".40"}


def nested_sheet() -> CodedTable:
    """Studies with samples with effects; sample numbers begin anew in each study."""
    rng = np.random.default_rng(4)
    rows = [
        {"study_id": f"S{s}", "sample_id": sample, "r": round(float(np.tanh(rng.normal(0.3, 0.2))), 2), "n": 30 + 7 * s}
        for s in range(8)
        for sample in range(1 + s % 3)
        for _ in range(1 + (s + sample) % 2)
    ]
    return CodedTable(pd.DataFrame(rows), Provenance(source="sheet"))


def compare(
    found: Search,
    table: CodedTable,
    *,
    scale: str,
    level: float,
    every: int,
    tolerance: float,
    only: tuple[str, ...] = ("random", "mean", "multilevel", "rve"),
) -> set[str]:
    """Hold every so many routes against the route followed alone; return the models that were compared."""
    models = set()
    places = [place for place, route in enumerate(found.followed.routes) if route.model in only]
    for place in places[::every]:
        one = found.found(place)
        alone = follow(one.route, table, scale=scale, level=level)
        shared = [name for name in COMPARED if name in one.values and name in alone]
        assert {"estimate", "se", "ci_lb", "ci_ub"} <= set(shared), one.route.words
        for name in shared:
            if math.isfinite(one.values[name]) and not math.isnan(float(alone[name])):
                assert one.values[name] == pytest.approx(float(alone[name]), rel=tolerance, abs=1e-12), (
                    one.route.words,
                    name,
                )
        models.add(one.route.model)
    return models


@pytest.mark.parametrize(("scale", "every"), [("r", 4), ("z", 1)])
def test_one_level_routes(scale, every):
    table = load_dataset("molloy2014")
    found = search(table, read_printed(PRINTED), scale=scale)
    models = compare(found, table, scale=scale, level=0.95, every=every, tolerance=CLOSED_FORM)
    assert models == {"random", "mean"}


def test_routes_of_dependent_effects():
    table = nested_sheet()
    found = search(table, read_printed(PRINTED), scale="r", level=0.9)
    assert found.samples.groups == ("study_id", "study_id/sample_id")
    models = compare(found, table, scale="r", level=0.9, every=23, tolerance=ITERATIVE)
    models |= compare(found, table, scale="r", level=0.9, every=2, tolerance=ITERATIVE, only=("multilevel", "rve"))
    assert models == {"random", "mean", "multilevel", "rve"}


def test_finished_effects_are_pooled_as_they_are():
    table = load_dataset("tannersmith2016")
    found = search(table, read_printed({"estimate": "0.10"}), scale="z")
    assert {route.measure for route in found.followed.routes} == {"GEN"}
    compare(found, table, scale="z", level=0.95, every=5, tolerance=ITERATIVE)


def test_a_single_study_has_one_route_per_scale():
    table = CodedTable(pd.DataFrame({"study": ["A"], "r": [0.3], "n": [103]}), Provenance(source="sheet"))
    found = search(table, read_printed({"estimate": ".30", "ci_lb": ".11", "ci_ub": ".47"}), scale="r")
    assert {route.method for route in found.followed.routes} == {"EE"}
    assert found.best(most=1)[0].route.words == "Fisher z, EE, Wald z"
    assert found.best(most=1)[0].agrees
