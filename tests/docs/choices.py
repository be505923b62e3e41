"""The tables in docs/choices.md, computed; ``PYTHONPATH=. python tests/docs/choices.py`` writes them into the page.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. `test_choices.py` asserts that the page holds
what is computed here.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import norm, t

import alliance_meta as am
from alliance_meta.errors import DependenceWarning

PAGE = Path(__file__).parents[2] / "docs" / "choices.md"
BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z_]+) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)


def fit(dataset: str = "molloy2014", *, measure: str = "ZCOR", vtype: str = "LS", **options: Any) -> Any:
    columns = {key: options.pop(key) for key in ("ri", "ni") if key in options}
    effects = am.escalc(am.load_dataset(dataset), measure=measure, vtype=vtype, **columns)
    return am.RandomEffectsModel(effects, **options).fit()


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def estimators() -> str:
    rows = []
    for method in ("REML", "ML", "DL", "PM", "HE", "HS", "SJ", "EE"):
        result = fit(method=method, test="z")
        row = result.predict(scale="r").iloc[0]
        rows.append((f"`{method}`", number(result.tau2, 4), number(row.pred), interval(row.ci_lb, row.ci_ub)))
    return table(("estimator", "τ²", "r", "95% CI"), rows)


def scales() -> str:
    rows = []
    routes = (("ZCOR", "LS"), ("COR", "LS"), ("COR", "AV"), ("COR", "H0"), ("UCOR", "LS"), ("UCOR", "UB"))
    for measure, vtype in routes:
        result = fit(measure=measure, vtype=vtype, test="z")
        row = result.predict(scale="r").iloc[0]
        words = f'`measure="{measure}"`' + ("" if measure == "ZCOR" else f', `vtype="{vtype}"`')
        rows.append((words, number(result.tau2, 4), number(row.pred), interval(row.ci_lb, row.ci_ub)))
    return table(("scale and variance", "τ² on that scale", "r", "95% CI"), rows)


def inference() -> str:
    rows = []
    for test in ("knha", "adhoc", "t", "z"):
        cells = []
        for name in ("molloy2014", "kolden2011_congruence"):
            row = fit(name, test=test).predict(scale="r").iloc[0]
            cells.append(interval(row.ci_lb, row.ci_ub))
        rows.append((f"`{test}`", *cells))
    return table(("inference", "`molloy2014`", "`kolden2011_congruence`"), rows)


def prediction() -> str:
    result = fit(test="z")
    mean, spread = float(result.beta[0]), math.hypot(result.tau, float(result.se[0]))
    older = [math.tanh(mean + sign * float(t.ppf(0.975, result.k - 2)) * spread) for sign in (-1, 1)]
    normal = [math.tanh(mean + sign * float(norm.ppf(0.975)) * spread) for sign in (-1, 1)]
    row, ours = result.predict(scale="r").iloc[0], fit().predict(scale="r").iloc[0]
    assert math.isclose(row.pi_lb, normal[0], rel_tol=1e-9)
    rows = (
        ("t(k − 1), Knapp-Hartung standard error (`knha`, the default)", interval(ours.pi_lb, ours.pi_ub)),
        ("normal (`z`)", interval(row.pi_lb, row.pi_ub)),
        ("t(k − 2), as in Higgins et al. (2009); not built in, computed here by hand", interval(*older)),
    )
    return table(("rule", "95% prediction interval for r"), rows)


def i_squared() -> str:
    rows = []
    for method in ("REML", "PM", "DL"):
        result = fit(method=method)
        rows.append((f"`{method}`", f"{number(result.I2, 2)}%", f"{number(result.I2_Q, 2)}%"))
    return table(("estimator", "`I2`, from τ²", "`I2_Q`, from Q"), rows)


def back_transformation() -> str:
    rows = []
    for name in ("molloy2014", "kolden2011_congruence"):
        result = fit(name)
        median, mean = (float(result.predict(scale=scale)["pred"].iloc[0]) for scale in ("r", "r_mean"))
        rows.append((f"`{name}`", number(result.tau), number(median), number(mean)))
    return table(("data", "τ", 'median, `scale="r"`', 'mean, `scale="r_mean"`'), rows)


def versions() -> str:
    rows = []
    for words, r, n in (("as the article lists them", "r", "n"), ("as recoded", "r_recoded", "n_recoded")):
        row = fit("kolden2011_congruence", ri=r, ni=n).predict(scale="r").iloc[0]
        rows.append((words, f"`{r}`, `{n}`", number(row.pred), interval(row.ci_lb, row.ci_ub)))
    return table(("the same 16 studies", "columns", "r", "95% CI"), rows)


def dependence() -> str:
    table_ = am.load_dataset("relationship_dependent_effects")
    effects = am.escalc(table_.query(str(table_.card.subset)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DependenceWarning)
        naive = am.RandomEffectsModel(effects, test="t").fit()
    row = naive.predict(scale="r").iloc[0]
    rows = [
        ("all rows as if independent", "48", number(row.pred), interval(row.ci_lb, row.ci_ub), f"{naive.ddf[0]:.1f}")
    ]
    methods = ("mean", "three-level", "CHE + CR2", "RVE CORR", "RVE HIER")
    found = am.sensitivity.compare_dependence(effects, rho=0.6, methods=methods).tidy()
    labels = {
        "mean": "mean of each study, `aggregate`",
        "three-level": "three-level, `MultilevelModel`",
        "CHE + CR2": "CHE with CR2, `che`",
        "RVE CORR": "RVE, correlated effects, `RVEModel`",
        "RVE HIER": "RVE, hierarchical effects",
    }
    for name, one in found.iterrows():
        rows.append((labels[str(name)], f"{one.k:g}", number(one.r), interval(one.r_lb, one.r_ub), f"{one.ddf:.1f}"))
    return table(("method", "effects", "r", "95% CI", "df"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "estimators": estimators,
    "scales": scales,
    "inference": inference,
    "prediction": prediction,
    "i_squared": i_squared,
    "back_transformation": back_transformation,
    "versions": versions,
    "dependence": dependence,
}


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + TABLES[m["name"]]() + m[4], text), encoding="utf-8")


if __name__ == "__main__":
    main()
