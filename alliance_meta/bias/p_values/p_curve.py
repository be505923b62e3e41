"""p-curve: whether significant p-values crowd near 0, as those of true effects do, or just below the critical level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.favoured import Side, check_alpha, side_of, sign_of
from alliance_meta.bias.given import OfStudies, given
from alliance_meta.bias.p_values.one_each import few_significant, one_each, significant
from alliance_meta.core.bias import p_values as core
from alliance_meta.core.distributions import critical_value
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, fixed_interval, format_level

NONE = "no effect is significant on this side"
COUNTED = "counted, without a statistic"
TESTS = {"right": "Right skew", "flat": "Flatter than power of 33%"}
PARTS = {"full": "all", "half": "below alpha / 2", "binomial": "counted"}
CAUTION = (
    "p-curve measures neither bias nor the mean effect: a curve skewed to the right says only that not every "
    "significant result is a false positive. Its tests can point the wrong way (Morey & Davis-Stober 2025, "
    "doi:10.1080/01621459.2025.2544397), and its average power comes out too high where effects differ."
)
BINS = 5


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PCurveResult(OfStudies):
    """The tests of p-curve.

    Attributes
    ----------
    right_full, right_half : float
        z of the tests for right skew, of all significant results and of those with p below alpha / 2: negative where
        p-values crowd near 0.
    right_full_p, right_half_p, right_binomial_p : float
        Their one-sided p-values, and that of the count of p-values below alpha / 2.
    flat_full, flat_half, flat_full_p, flat_half_p, flat_binomial_p : float
        The same for a curve flatter than that of tests with a power of 33%.
    power, power_lb, power_ub : float
        Average power of the tests behind the significant results, looked for between `alpha` and .99.
    z : ndarray of shape (significant,)
        |z| of the significant results.
    significant, low : int
        Significant results, and those among them with p below alpha / 2.
    side : {"right", "left"}
    alpha, level : float
    """

    right_full: float
    right_full_p: float
    right_half: float
    right_half_p: float
    right_binomial_p: float
    flat_full: float
    flat_full_p: float
    flat_half: float
    flat_half_p: float
    flat_binomial_p: float
    power: float
    power_lb: float
    power_ub: float
    z: Array
    significant: int
    low: int
    side: Side
    alpha: float
    level: float

    @property
    def evidence(self) -> str:
        """What the rule of its authors makes of the tests: ``"present"``, ``"inadequate"``, ``"open"`` or ``"none"``.

        Present: right skew of the half with p < .05, or of both with p < .1. Inadequate: flatter than a power of 33%
        with p < .05 for all, or with p < .1 for both the half and the count.
        """
        if not self.significant:
            return "none"
        if self.right_half_p < 0.05 or (self.right_full_p < 0.1 and self.right_half_p < 0.1):
            return "present"
        flat = self.flat_full_p < 0.05 or (self.flat_half_p < 0.1 and self.flat_binomial_p < 0.1)
        return "inadequate" if flat else "open"

    def tidy(self) -> pd.DataFrame:
        """Return a row for each test, ``right_full`` to ``flat_binomial``: ``label stat pval``."""
        rows, names = [], []
        for test, label in TESTS.items():
            for part, which in PARTS.items():
                stat = NotApplicable(COUNTED) if part == "binomial" else getattr(self, f"{test}_{part}")
                pval = getattr(self, f"{test}_{part}_p")
                rows.append({"label": f"{label}, {which}", "stat": stat, "pval": pval})
                names.append(f"{test}_{part}")
        return frame_of(rows, index=pd.Index(names, name="test"))

    def curve(self) -> pd.DataFrame:
        """Return the p-curve: for each fifth of (0, alpha) ``upper observed none third estimated``.

        The shares of significant p-values up to ``upper`` that were observed, and that are expected without effect,
        with a power of 33% and with the power estimated. Empty without significant results.
        """
        upper = self.alpha * np.arange(1, BINS + 1) / BINS
        if not self.significant:
            return pd.DataFrame(dict.fromkeys(("upper", "observed", "none", "third", "estimated"), upper[:0]))
        powers = {"third": core.THIRD, "estimated": self.power}
        expected = {name: core.shares(self.z, alpha=self.alpha, bins=BINS, power=f)[1] for name, f in powers.items()}
        observed = core.shares(self.z, alpha=self.alpha, bins=BINS, power=core.THIRD)[0]
        return pd.DataFrame({"upper": upper, "observed": observed, "none": 1.0 / BINS, **expected})

    def _values(self) -> dict[str, Any]:
        tests = [f"{test}_{part}" for test in TESTS for part in PARTS]
        names = [*(name for name in tests if not name.endswith("binomial")), *(f"{name}_p" for name in tests)]
        others = ("power", "power_lb", "power_ub", "evidence", "z", "significant", "low", "k", "studies", "side")
        return self._these(*names, *others, "alpha", "level")

    def _content(self) -> Document:
        title = f"p-curve ({self.significant} of {self.k} effects significant on the {self.side})"
        if not self.significant:
            return self._document(title, lines=(f"Not applicable: {NONE}",))
        frame = self.tidy().set_index("label")
        interval = f"{fixed_interval(self.power_lb, self.power_ub, 2)} ({format_level(self.level)})"
        power = f"Average power {fixed(self.power, 2)} {interval}"
        rule = {
            "present": "evidential value",
            "inadequate": "evidential value absent or inadequate",
            "open": "neither evidential value nor its absence",
        }[self.evidence]
        lines = (f"{self.low} of them below p = {self.alpha / 2:g}", power, f"Its authors' rule reads this as: {rule}")
        return self._document(title, table_of(frame, {"stat": 2, "pval": "p"}), lines=lines)


def pcurve(fit: Any, *, side: Side | None = None, alpha: float = 0.05, level: float | None = None) -> PCurveResult:
    """Test whether the significant p-values look like those of true effects.

    Where there is no effect at all, every significant p-value is as likely as any other: the curve is flat. Where there
    is one, very small p-values are the most frequent: the curve is skewed to the right. Where results were pushed over
    the line, many lie just below it. The tests ask whether the curve is skewed to the right, and whether it is flatter
    than that of tests so weak that only a third of them find what is there.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used. Where studies have several, one of each study: the first whose column ``focal`` says that
        it was the point of its paper, else the first listed; a warning says so.
    side : {"right", "left"}, optional
        Where results are favoured: positive or negative ones. By default the sign of the mean. Significant results on
        the other side are left out.
    alpha : float
        Two-sided level of significance in the studies.
    level : float, optional
        Of the interval of the power; the fit's own by default, where the authors' app has 90%.

    Returns
    -------
    PCurveResult
        With `NotApplicable` where no effect is significant.

    Raises
    ------
    InputError
        What is no fit, a model with moderators, an unknown option.

    Warns
    -----
    DependenceWarning
        Several effects of a study, of which one was used.

    Notes
    -----
    R: ``dmetar::pcurve(x)``, or the authors' app. Simonsohn, Simmons & Nelson (2015, doi:10.1037/xge0000104),
    Stouffer's method, with the half curve; its test for a power of 33% is that of the app since version 4.1. All
    results are taken as z tests. The power is found exactly, not to the whole percent.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.pcurve(fit))
    p-curve (9 of 16 effects significant on the right)
    8 of them below p = 0.025
    Average power 0.68 [0.27, 0.91] (95%)
    Its authors' rule reads this as: evidential value
    <BLANKLINE>
                                                  stat    pval
    Right skew, all                              -3.90  <.0001
    Right skew, below alpha / 2                  -3.24  0.0006
    Right skew, counted                            n/a  0.0195
    Flatter than power of 33%, all               1.65  0.9505
    Flatter than power of 33%, below alpha / 2   1.32  0.9073
    Flatter than power of 33%, counted            n/a  0.9517
    <BLANKLINE>
    Note: p-curve measures neither bias nor the mean effect: a curve skewed to the
      right says only that not every significant result is a false positive. Its
      tests can point the wrong way (Morey & Davis-Stober 2025,
      doi:10.1080/01621459.2025.2544397), and its average power comes out too high
      where effects differ.
    Note: Only 9 significant results: p-curve tells little with fewer than 10.
    """
    source = given(fit, "pcurve", level=level)
    check_alpha(alpha)
    sign = sign_of(source, side)
    rows, notes = one_each(source, "pcurve")
    y, se, critical = sign * source.yi[rows], source.sei[rows], critical_value(1.0 - alpha, None)
    chosen, others = significant(y, se, critical), int(significant(-y, se, critical).sum())
    z = y[chosen] / se[chosen]
    more = [Note("p-curve-caution", CAUTION), *few_significant(len(z), "p-curve")] if len(z) else []
    if others:
        results = "One significant result" if others == 1 else f"{others} significant results"
        more.append(Note("other-side", f"{results} on the other side left out."))
    return PCurveResult(
        **_tests(z, alpha, source.level),
        z=z,
        significant=len(z),
        k=len(rows),
        studies=source.studies,
        provenance=source.effects.provenance,
        side=side_of(sign),
        alpha=alpha,
        level=source.level,
        notes=merge_notes(source.effects.notes, notes, more),
    )


def _tests(z: Array, alpha: float, level: float) -> dict[str, Any]:
    names = [f"{test}_{part}{end}" for test in TESTS for part in ("full", "half") for end in ("", "_p")]
    names += [f"{test}_binomial_p" for test in TESTS]
    if not len(z):
        return dict.fromkeys((*names, "power", "power_lb", "power_ub"), NotApplicable(NONE)) | {"low": 0}
    found = core.p_curve(z, alpha=alpha, level=level)
    values: dict[str, Any] = {}
    for name in names:
        test, part = name.split("_", 1)
        value = getattr(getattr(found, test), part)
        values[name] = NotApplicable(f"no p-value below {alpha / 2:g}") if np.isnan(value) else value
    return values | {name: getattr(found, name) for name in ("power", "power_lb", "power_ub", "low")}
