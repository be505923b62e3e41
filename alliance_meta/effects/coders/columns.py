"""One column as two coders filled it: how far they agree, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Mask
from alliance_meta.core.correlations import agreement as core
from alliance_meta.effects.coders.pairs import Pairs
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

KAPPAS: dict[str, core.Weights] = {"kappa": "none", "kappa_linear": "linear", "kappa_quadratic": "quadratic"}
ICCS = {"icc1": core.icc1, "icc2": core.icc2, "icc3": core.icc3}
ONE_CATEGORY = "both coders used one and the same category throughout"
CONSTANT = "one coder used a single category throughout, so that kappa is 0 whatever the other did"
NO_SPREAD = "the values do not vary"
PERFECT = "the coders never differ"
FEW = "needs at least 2 rows that both coded"
SAME = 1e-12


class Column:
    """One column as both coders filled it."""

    def __init__(
        self, name: str, first: pd.Series[Any], second: pd.Series[Any], order: Sequence[Any] | None, tolerance: float
    ) -> None:
        self.name = name
        self.order = None if order is None else [_text(value) for value in order]
        numbers = [pd.to_numeric(cells, errors="coerce") for cells in (first, second)]
        self.numeric = order is None and all(
            bool((number.notna() == cells.notna()).all())
            for number, cells in zip(numbers, (first, second), strict=True)
        )
        read = numbers if self.numeric else [cells.map(_text, na_action="ignore") for cells in (first, second)]
        self.first, self.second = (
            cells.to_numpy(dtype=float if self.numeric else object, na_value=np.nan) for cells in read
        )
        self.given = first.notna().to_numpy(), second.notna().to_numpy()
        self.both: Mask = self.given[0] & self.given[1]
        self.same = self._same(tolerance)

    def _same(self, tolerance: float) -> Mask:
        if self.numeric:
            with np.errstate(invalid="ignore"):
                return self.both & (np.abs(self.first - self.second) <= tolerance + SAME)
        return self.both & (self.first == self.second)

    def estimates(self, level: float) -> list[dict[str, Any]]:
        """Return one row per statistic."""
        kind = "number" if self.numeric else "category" if self.order is None else "ordered"
        any_given = self.given[0] | self.given[1]
        found: dict[str, tuple[int, core.Agreement | str]] = {}
        n, n_both = int(any_given.sum()), int(self.both.sum())
        found["percent"] = n, core.share(int(self.same.sum()), n, level=level) if n else FEW
        if self.numeric:
            found |= {name: (n_both, value) for name, value in self._iccs(level).items()}
        else:
            found |= {name: (n_both, value) for name, value in self._kappas(level).items()}
        return [
            {"column": self.name, "statistic": name, "kind": kind, "n": size, **_cells(value)}
            for name, (size, value) in found.items()
        ]

    def _kappas(self, level: float) -> dict[str, core.Agreement | str]:
        wanted = KAPPAS if self.order is not None else {"kappa": KAPPAS["kappa"]}
        a, b = self.first[self.both], self.second[self.both]
        if not a.size:
            return dict.fromkeys(wanted, FEW)
        categories = self.order or list(dict.fromkeys([*a, *b]))
        unknown = sorted({*a, *b} - set(categories))
        if unknown:
            raise InputError(f"{self.name}: {unknown[0]!r} is not in the given order ({', '.join(categories)})")
        table = np.zeros((len(categories), len(categories)))
        place = {category: i for i, category in enumerate(categories)}
        np.add.at(table, ([place[x] for x in a], [place[x] for x in b]), 1.0)
        found = {name: core.kappa(table, weights=weights, level=level) for name, weights in wanted.items()}
        return {name: ONE_CATEGORY if np.isnan(value.estimate) else value for name, value in found.items()}

    def _iccs(self, level: float) -> dict[str, core.Agreement | str]:
        ratings = np.column_stack([self.first, self.second])[self.both]
        if len(ratings) < 2:
            return dict.fromkeys(ICCS, FEW)
        ms = core.mean_squares(ratings)
        found = {name: icc(ms, level=level) for name, icc in ICCS.items()}
        return {name: NO_SPREAD if np.isnan(value.estimate) else value for name, value in found.items()}

    def disagreements(self, pairs: Pairs) -> pd.DataFrame:
        """Return the cells that differ, an empty one beside a filled one among them."""
        here = np.flatnonzero((self.given[0] | self.given[1]) & ~self.same)
        out = pairs.keys.iloc[here].reset_index(drop=True)
        values: dict[str, AnyArray | str] = {"column": self.name}
        for name, cells in zip(pairs.names, (self.first, self.second), strict=True):
            values[name] = cells[here].astype(object)
        difference = self.second[here] - self.first[here] if self.numeric else np.full(here.size, np.nan)
        return out.assign(**values, difference=difference)


def _text(value: Any) -> str:
    text = str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float) else text


def _cells(value: core.Agreement | str) -> dict[str, float]:
    if isinstance(value, str):
        gone = NotApplicable(value)
        return {"estimate": gone, "ci_lb": gone, "ci_ub": gone}
    why = NotApplicable(CONSTANT if np.isnan(value.se) and value.estimate == 0 else PERFECT)
    limits = [limit if np.isfinite(limit) else why for limit in (value.lb, value.ub)]
    return {"estimate": value.estimate, "ci_lb": limits[0], "ci_ub": limits[1]}
