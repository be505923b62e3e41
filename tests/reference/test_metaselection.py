"""Selection models of dependent effects give the numbers of R's metaselection: computed anew, and as printed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import bias
from tests.reference.reading import numbers, reference
from tests.tolerances import ITERATIVE, printed

SETS = ("lehmann", "ego", "self_control")
STORED = [
    (name, label, case)
    for name in SETS
    for label, fits in reference("metaselection")[name]["fits"].items()
    for case in fits
]


def effects(name: str) -> am.EffectSizes:
    data = reference("metaselection")[name]["data"]
    return am.EffectSizes.from_arrays(
        numbers(data["yi"]), numbers(data["vi"]), measure="SMD", study_id=[str(one) for one in data["study"]]
    )


def selected(name: str, **options: Any) -> bias.SelectionResult:
    return bias.selmodel(am.MultilevelModel(effects(name), random="study_id/es_id").fit(), **options)


def options(case: str) -> dict[str, Any]:
    if case == "beta":
        return {"type": "beta", "steps": (0.025, 0.975)}
    estimator, parameters = case.split("_")
    return {"estimator": estimator, "steps": (0.025,) if parameters == "3" else (0.025, 0.5)}


@pytest.mark.parametrize(("name", "label", "case"), STORED)
def test_estimates_and_sandwiches_are_those_of_its_equations_solved_to_the_end(name, label, case):
    stored = reference("metaselection")[name]["fits"][label][case]
    found = selected(name, penalised=label == "penalised", **options(case))
    assert found.fitted.theta == pytest.approx(numbers(stored["theta"]), rel=ITERATIVE, abs=ITERATIVE)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(numbers(stored["se"]), rel=ITERATIVE)
    assert found.loglik == pytest.approx(stored["loglik"], abs=1e-6)


# Printed by metaselection: its vignette (docs/articles/selection_models.html of github.com/jepusto/metaselection at
# ac99bd1; no priors then), the README (priors), the help page of selection_model, and the example of Pustejovsky,
# Citkowicz & Joshi (2025), research/step-function-paper/ego-depletion/empirical-example-models.html, which gives the
# limits that are not beta's own to three digits: estimate, standard error, limits; weights by the delta method.
VIGNETTE_3, VIGNETTE_4 = ("lehmann", {"steps": (0.025,)}), ("lehmann", {"steps": (0.025, 0.5)})
PRINTED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "vignette, one step": (
        *VIGNETTE_3,
        {
            "intrcpt": "0.1328 0.1373 -0.1363 0.402",
            "tau2": "0.0811 0.0845 0.0105 0.625",
            "delta[2]": "0.5485 0.6160 0.0607 4.956",
        },
    ),
    "vignette, two steps": (
        *VIGNETTE_4,
        {
            "intrcpt": "0.0725 0.1590 -0.2392 0.384",
            "tau2": "0.0842 0.0907 0.0102 0.695",
            "delta[2]": "0.5022 0.6111 0.0463 5.453",
            "delta[3]": "0.3410 0.5097 0.0182 6.383",
        },
    ),
    "vignette, beta": (
        "lehmann",
        {"type": "beta", "steps": (0.025, 0.975)},
        {
            "intrcpt": "-0.122 0.125 -0.366 0.123",
            "tau2": "0.165 0.150 0.028 0.977",
            "delta[1]": "0.910 0.460 0.338 2.451",
            "delta[2]": "1.610 0.337 1.067 2.427",
        },
    ),
    "help page": (
        "self_control",
        {"penalised": True},
        {
            "intrcpt": "0.22 0.0525 0.117 0.322",
            "tau2": "0.0394 0.0286 0.00951 0.163",
            "delta[2]": "1.03 0.506 0.397 2.7",
        },
    ),
    "ego depletion, one step": (
        "ego",
        {"penalised": True},
        {
            "intrcpt": "0.254 0.0918 0.0735 0.434",
            "tau2": "0.105 0.0339 0.0556 0.197",
            "delta[2]": "0.271 0.1367 0.1010 0.728",
        },
    ),
    "ego depletion, two steps": (
        "ego",
        {"penalised": True, "steps": (0.025, 0.5)},
        {
            "intrcpt": "0.234 0.1015 0.0351 0.433",
            "tau2": "0.109 0.0335 0.0594 0.199",
            "delta[2]": "0.269 0.1322 0.1024 0.705",
            "delta[3]": "0.233 0.1525 0.0648 0.840",
        },
    ),
}


@pytest.mark.parametrize("case", PRINTED)
def test_what_it_prints(case):
    name, chosen, rows = PRINTED[case]
    table = selected(name, **chosen).parameters
    for row, texts in rows.items():
        assert table.loc[row].tolist() == [printed(one) for one in texts.split()], row


def test_what_its_readme_and_help_page_print_beside_estimates():
    red = selected("lehmann", penalised=True)
    assert red.loglik == printed("-44.46655")
    assert (red.estimate, red.se) == (printed("0.131"), printed("0.135"))
    assert (red.tau2, red.se_tau2) == (printed("0.0794"), printed("0.0815"))
    assert (red.delta[1], red.se_delta[1]) == (printed("0.54"), printed("0.601"))
    assert (red.counts, red.how.clusters) == ((25, 56), 41)
    control = selected("self_control", penalised=True)
    assert control.loglik == printed("-54.97404")
    assert control.pval == printed("0.0000285")
    # Of one log weight: its p-value there is that of Wald's test here.
    assert control.wald.pval == printed("0.944")
    assert control.wald.df == 1


@pytest.mark.parametrize(
    ("name", "steps", "texts"),
    [
        ("self_control", (0.025,), "0.2194 0.0393 1.0332"),
        ("ego", (0.025,), "0.272 0.110 0.296"),
        ("ego", (0.025, 0.5), "0.255 0.113 0.290 0.262"),
    ],
)
def test_printed_argl_estimates(name, steps, texts):
    """Its printed standard errors of ARGL are other ones: see make_metaselection.R."""
    found = selected(name, steps=steps, estimator="ARGL", penalised=True)
    assert found.parameters["estimate"].tolist() == [printed(one) for one in texts.split()]


# The same page of the ego-depletion example: 1999 two-stage samples, percentiles. ARGL's are left out: its replicates
# were solved with the other derivatives.
LIMITS = {
    "CML_3": {"intrcpt": (0.0493, 0.468), "tau2": (0.0267, 0.181), "delta[2]": (0.0746, 0.825)},
    "CML_4": {
        "intrcpt": (0.0224, 0.490),
        "tau2": (0.0307, 0.182),
        "delta[2]": (0.0841, 0.816),
        "delta[3]": (0.0594, 1.161),
    },
}


@pytest.mark.parametrize("case", LIMITS)
def test_printed_bootstrap_intervals_within_what_chance_allows(case):
    found = selected("ego", **options(case), penalised=True, vcov="bootstrap", seed=1, iterations=1999)
    table = found.parameters
    for row, ends in LIMITS[case].items():
        part = next(one for one in found.parts if one.name == row)
        draws = found.replicates.theta[:, part.index]
        for tail, end in zip((0.025, 0.975), ends, strict=True):
            # Where quantiles of 1999 draws may lie, four standard errors of their rank away, for either of the two.
            ranks = tail + np.array([-4.0, 4.0]) * np.sqrt(2.0 * tail * (1.0 - tail) / 1999)
            low, high = np.quantile(np.exp(draws) if part.logarithm else draws, np.clip(ranks, 0.0, 1.0))
            assert low <= end <= high, (row, end, table.loc[row].tolist())
