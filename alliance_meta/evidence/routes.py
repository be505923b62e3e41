"""Routes: the choices that lead from a table of correlations to one printed number."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from alliance_meta.effects.aggregate import aggregate
from alliance_meta.effects.coded import CodedTable
from alliance_meta.effects.escalc import VTYPES, escalc
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.options import Measure, Tau2Method, Test, VType
from alliance_meta.results.random_effects import RandomEffectsResults

METHODS: tuple[Tau2Method, ...] = ("REML", "DL", "ML", "PM", "HE", "HS", "SJ", "EE")
TESTS: tuple[Test, ...] = ("z", "knha", "t")
# What programs offered by default when the older syntheses were made: a printed two-digit value is met by
# chance by some of the many other routes, which therefore prove nothing.
USUAL_METHODS = ("DL", "HE", "HS", "EE", "REML", "ML")
USUAL_VARIANCES = (("ZCOR", "LS"), ("COR", "LS"), ("COR", "AV"))

COUNTS = ("k", "N")

TEST_WORDS = {"z": "Wald z", "knha": "Knapp-Hartung t", "t": "t", "adhoc": "Knapp-Hartung ad hoc"}
SCALE_WORDS = {"ZCOR": "Fisher z", "COR": "raw r", "UCOR": "unbiased r"}


@dataclass(frozen=True, slots=True)
class Route:
    """One way from a table to a pooled value.

    Attributes
    ----------
    ri, ni : str
        Columns with the correlations and sample sizes.
    measure, vtype, method, test : str
        As in `escalc` and `RandomEffectsModel`.
    mods : str
        Moderators.
    subset : str or None
        Expression that picks rows.
    per : str or None
        Column whose groups (studies, samples) are averaged into one effect each before pooling.
    """

    ri: str
    ni: str
    measure: Measure = "ZCOR"
    vtype: VType = "LS"
    method: Tau2Method = "REML"
    test: Test = "z"
    mods: str = "1"
    subset: str | None = None
    per: str | None = None

    def fit(self, table: CodedTable) -> RandomEffectsResults:
        """Follow the route; our warnings are left to the notes of the result."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            rows = table if self.subset is None else table.query(self.subset)
            effects = escalc(rows, measure=self.measure, vtype=self.vtype, ri=self.ri, ni=self.ni)
            if self.per is not None:
                effects = aggregate(effects, cluster=self.per)
            return RandomEffectsModel(effects, mods=self.mods, method=self.method, test=self.test).fit()

    @property
    def usual(self) -> bool:
        """Whether common programs take this route on the effects as the article lists them."""
        return (
            self.method in USUAL_METHODS
            and (self.measure, self.vtype) in USUAL_VARIANCES
            and self.test == "z"
            and self.ri == "r"
        )

    @property
    def words(self) -> str:
        """The route in words, e.g. ``"Fisher z, REML, Wald z"``."""
        variance = f" (variance {self.vtype})" if self.measure != "ZCOR" else ""
        parts = [f"{SCALE_WORDS[self.measure]}{variance}", self.method, TEST_WORDS[self.test]]
        if self.ri != "r":
            parts.append(f"column {self.ri}")
        if self.mods != "1":
            parts.append(f"mods {self.mods}")
        if self.subset:
            parts.append(f"where {self.subset}")
        if self.per:
            parts.append(f"one mean per {self.per} (rho .5)")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as a plain dictionary."""
        return asdict(self)


def route_from(block: Mapping[str, Any]) -> Route:
    """Read a route from a data card."""
    return Route(**{key: value for key, value in block.items() if value is not None or key == "subset"})


def statistics(fit: RandomEffectsResults, *, scale: str, coefficient: str = "intrcpt") -> dict[str, float]:
    """Return what a paper could print of a fit, by metafor's names, on the scale it is printed on."""
    row = fit.names.index(coefficient)
    values: dict[str, float] = {
        "k": fit.k,
        "p": fit.p,
        "estimate": float(fit.beta[row]),
        "se": float(fit.se[row]),
        "ci_lb": float(fit.ci_lb[row]),
        "ci_ub": float(fit.ci_ub[row]),
        "stat": float(fit.stat[row]),
        "pval": float(fit.pval[row]),
        "tau2": fit.tau2,
        "se_tau2": fit.se_tau2,
        "I2": fit.I2,
        "H2": fit.H2,
        "R2": fit.R2,
        "QE": fit.QE,
        "QEdf": fit.QEdf,
        "QEp": fit.QEp,
        "QM": fit.QM,
        "QMdf": fit.QMdf[0],
        "QMp": fit.QMp,
    }
    if fit.effects.ni is not None:
        values["N"] = float(fit.effects.ni.sum())
    if scale == "r" and fit.effects.measure == "ZCOR":
        if coefficient != "intrcpt" or fit.p > 1:
            raise InputError("only the mean effect of a model without moderators can be given as r")
        on_r = fit.predict(scale="r").iloc[0]
        values.update(estimate=on_r["pred"], se=on_r["se"], ci_lb=on_r["ci_lb"], ci_ub=on_r["ci_ub"])
    if fit.p == 1 and fit.method != "EE":
        prediction = fit.predict(scale="r" if scale == "r" and fit.effects.measure == "ZCOR" else None).iloc[0]
        values.update(pi_lb=prediction["pi_lb"], pi_ub=prediction["pi_ub"])
    return values


def half_unit(printed: str) -> float:
    """Return half a unit of the last printed digit.

    >>> half_unit(".278"), half_unit("61.73")
    (0.0005, 0.005)
    """
    exponent = Decimal(printed.replace("−", "-")).as_tuple().exponent
    if not isinstance(exponent, int):
        raise InputError(f"{printed!r} is not a printed number")
    return float(Decimal(5).scaleb(exponent - 1))


def distance(value: float, printed: str) -> float:
    """Return how far a value is from a printed number, in half units of its last digit; at most 1 agrees."""
    return abs(value - float(printed.replace("−", "-"))) / half_unit(printed)


def agrees(value: float, printed: str) -> bool:
    """Say whether `value` rounds to the printed number (a hair of binary rounding is allowed)."""
    return distance(value, printed) <= 1.0 + 1e-9


@dataclass(frozen=True, slots=True)
class Found:
    """A route with what it gives and how far that is from the printed numbers (in half units of the last digit)."""

    route: Route
    values: Mapping[str, float]
    distance: float

    @property
    def agrees(self) -> bool:
        """Whether every printed number is met within its rounding."""
        return self.distance <= 1.0 + 1e-9


def search(
    table: CodedTable, printed: Mapping[str, str], *, scale: str, per: Sequence[str | None] = (None,)
) -> list[Found]:
    """Follow every route and return them by their largest distance from the printed numbers, nearest first.

    Routes to another k than the printed one come last; people are the table's, whatever the route.
    """
    with_interval = bool({"ci_lb", "ci_ub", "se", "pval"} & set(printed))
    tests = TESTS if with_interval else TESTS[:1]
    found = []
    for route in _grid(table, tests, scale, per):
        values = statistics(route.fit(table), scale=scale)
        gaps = {name: distance(values[name], text) for name, text in printed.items() if name in values}
        chosen = [gap for name, gap in gaps.items() if name not in COUNTS]
        order = (gaps.get("k", 0.0) > 1.0, max(chosen, default=0.0), max(gaps.values()))
        found.append((order, Found(route, values, order[-1])))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _grid(table: CodedTable, tests: tuple[Test, ...], scale: str, per: Sequence[str | None]) -> Iterator[Route]:
    pairs = [("r", "n"), ("r_recoded", "n_recoded")]
    measures: tuple[Measure, ...] = ("ZCOR", "COR", "UCOR") if scale == "r" else ("ZCOR",)
    for ri, ni in pairs:
        if ri not in table.columns or ni not in table.columns:
            continue
        for measure in measures:
            for vtype in VTYPES[measure]:
                for method in METHODS:
                    for test in tests:
                        for group in per:
                            yield Route(ri, ni, measure, vtype, method, test, per=group)  # type: ignore[arg-type]
