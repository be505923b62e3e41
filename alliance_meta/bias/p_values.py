"""p-curve, p-uniform* and z-curve: what significant results alone say, one of each study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Adjusted, Given, OfStudies, Side, check_alpha, given, side_of, sign_of
from alliance_meta.core.bias import p_values as core
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import DependenceWarning
from alliance_meta.notes import NotApplicable, Note, check_iterations, check_option, check_seed, merge_notes, warn_note
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, fixed_interval, format_level, p_value

FEW = 10


def one_each(source: Given, who: str, *, stacklevel: int = 4) -> tuple[IntArray, tuple[Note, ...]]:
    """Return the rows of one effect of each study, chosen without a look at any number, and the note that says which.

    It is the first whose ``focal`` says that it was what its paper set out to test, else the first: p-curve too asks
    for the result that a paper reports first.
    """
    if not source.dependent:
        return np.arange(source.k, dtype=np.intp), ()
    said = source.focal
    focal = np.zeros(source.k, dtype=bool) if said is None else said.fillna(False).to_numpy(dtype=bool)
    order = np.lexsort((np.arange(source.k), ~focal, source.cluster))
    first = np.unique(source.cluster[order], return_index=True)[1]
    rows: IntArray = np.sort(order[first])
    which = (
        "the first that was the point of its paper (focal), else the first listed"
        if focal.any()
        else "the first listed, as no column focal says which was the point of its paper"
    )
    message = (
        f"{who} takes results as independent: it used one effect of each study, {which}; {len(rows)} of {source.k}."
    )
    return rows, (warn_note("one-per-study", message, DependenceWarning, stacklevel=stacklevel),)


def significant(y: Array, se: Array, critical: float) -> Mask:
    """Say which effects are positive and significant."""
    return y > critical * se


def few_significant(k: int, who: str) -> tuple[Note, ...]:
    """Return the note on few significant results."""
    if not 0 < k < FEW:
        return ()
    few = "one significant result" if k == 1 else f"{k} significant results"
    return (Note("few-significant", f"Only {few}: {who} tells little with fewer than {FEW}."),)


NONE = "no effect is significant on this side"
COUNTED = "counted, without a statistic"
TESTS = {"right": "Right skew", "flat": "Flatter than power of 33%"}
PARTS = {"full": "all", "half": "below alpha / 2", "binomial": "counted"}
P_CURVE_CAUTION = (
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
    more = [Note("p-curve-caution", P_CURVE_CAUTION), *few_significant(len(z), "p-curve")] if len(z) else []
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


PUniformMethod = Literal["star", "original"]
NAMES = {"star": "p-uniform*", "original": "p-uniform"}
# What may be missing beside an estimate.
LIMITS = {"ci_lb": "lower limit", "ci_ub": "upper limit"}
OPEN = {"star": {"se": "standard error", **LIMITS, "tau2_ub": "upper limit of tau2"}, "original": LIMITS}
NO_LIMIT = "the likelihood never falls far enough on this side"
NO_PEAK = "the likelihood has no highest point: it rises as the mean moves away without end"
ONE_EFFECT = "p-uniform takes all studies to have one true effect"
NO_ERROR = "the likelihood is too flat at its highest point"
NONE_SIGNIFICANT = (
    "No effect is significant on this side: the estimate rests on how effects that are not significant spread, and "
    "says nothing about what was selected."
)
FAR = (
    "The estimate lies farther from 0, on the other side, than any effect: the effects crowd at their critical values "
    "and hardly bound the mean."
)
BELOW_ZERO = (
    "The significant effects suggest a mean on the other side of 0; the authors of p-uniform advise to take it as 0 "
    "(doi:10.1177/1745691616650874)."
)
NO_BIAS_TEST = "p-uniform* has no test of publication bias; the likelihood-ratio test of selmodel asks for it"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PUniformResult(Adjusted):
    """The mean by p-uniform* or p-uniform.

    Attributes
    ----------
    method : {"star", "original"}
    side : {"right", "left"}
        Where results are favoured.
    alpha : float
        Two-sided level of significance of the studies.
    significant : int
        Effects that are significant on that side.
    stat : float
        Statistic of the test of a mean of 0, whose p-value is `pval`: chi-squared with 1 df of p-uniform*; z of
        p-uniform, one-sided.
    tau2, tau2_lb, tau2_ub : float
        Between-study variance with its interval; of p-uniform* alone.
    stat_tau2, pval_tau2 : float
        Likelihood-ratio test that it is 0, whose p-value is halved, 0 being a boundary.
    stat_bias, pval_bias : float
        z and one-sided p-value of p-uniform's test of publication bias.
    """

    called: ClassVar[str] = "p-uniform*"
    assumes: ClassVar[str] = "publication depends on significance alone, and true effects are normal"

    method: PUniformMethod
    side: Side
    alpha: float
    significant: int
    stat: float
    tau2: float
    tau2_lb: float
    tau2_ub: float
    stat_tau2: float
    pval_tau2: float
    stat_bias: float
    pval_bias: float

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``estimate se ci_lb ci_ub pval``, and ``r r_lb r_ub`` where the effects are Fisher z."""
        return Adjusted.tidy(self).rename(index={self.called: NAMES[self.method]})

    def _content(self) -> Document:
        found = Adjusted._content(self)
        lines = [f"{self.significant} of {self.k} effects significant on the {self.side}"]
        if isinstance(self.estimate, NotApplicable):
            lines.append(f"Not applicable: {self.estimate.reason}")
            return self._document(found.title.replace(self.called, NAMES[self.method]), lines=lines)
        if self.method == "star":
            spread = f"tau2 = {fixed(self.tau2)} {fixed_interval(self.tau2_lb, self.tau2_ub)}"
            lines.append(f"{spread}, test of 0: p {p_value(self.pval_tau2)}")
        else:
            lines.append(f"Test of publication bias: z = {fixed(self.stat_bias, 2)}, p {p_value(self.pval_bias)}")
        for name, called in OPEN[self.method].items():
            value = getattr(self, name)
            if isinstance(value, NotApplicable):
                lines.append(f"No {called}: {value.reason}")
        title = found.title.replace(self.called, NAMES[self.method])
        return replace(found, title=title, lines=tuple(lines))


def puniform(
    fit: Any,
    *,
    method: PUniformMethod = "star",
    side: Side | None = None,
    alpha: float = 0.05,
    level: float | None = None,
) -> PUniformResult:
    """Estimate the mean effect from how large the significant and the other effects are among their own kind.

    If journals prefer significant results, the significant ones are no fair sample of all; but among themselves they
    still show how large the effect is: with a true effect of nothing they pile up just beyond the critical value, with
    a large one they go far beyond it. p-uniform* asks which mean and which differences between studies fit the
    significant effects given that they were significant, and the others given that they were not. How many of either
    kind were published then does not matter.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used. Where studies have several, one of each study: the first whose column ``focal`` says that
        it was the point of its paper, else the first listed; a warning says so.
    method : {"star", "original"}
        p-uniform*, or p-uniform, which uses significant effects only and takes the true effect to be one for all.
    side : {"right", "left"}, optional
        Where results are favoured: positive or negative ones. By default the sign of the mean.
    alpha : float
        Two-sided level of significance in the studies.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    PUniformResult
        With `NotApplicable` where the likelihood has no highest point, and for p-uniform without significant effects.

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
    R: ``puniform::puni_star(yi=, vi=, side=)`` and ``puniform::puniform(method = "P")``. p-uniform* maximises the
    likelihood of van Aert & van Assen (2025, doi:10.31222/osf.io/zqjr9) to rounding, R to four or five digits; limits
    are those of the profile likelihood. With equal standard errors it is the three-parameter selection model.
    p-uniform: van Assen, van Aert & Wicherts (2015, doi:10.1037/met0000025); where true effects differ it comes out too
    high.
    Significance is read off effect and standard error, as a z test; for Fisher z that nearly is the test of r.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> print(bias.puniform(fit))
    p-uniform* (k = 16; 95%)
    9 of 16 effects significant on the right
    tau2 = 0.0039 [0.0001, 0.0185], test of 0: p = 0.0177
    <BLANKLINE>
                estimate      se   ci_lb   ci_ub    pval       r    r_lb    r_ub
    p-uniform*    0.1082  0.0433  0.0073  0.1926  0.0382  0.1078  0.0073  0.1902
    <BLANKLINE>
    Note: Only 9 significant results: p-uniform* tells little with fewer than 10.
    """
    source = given(fit, "puniform", level=level)
    check_option("method", method, PUniformMethod)
    check_alpha(alpha)
    sign = sign_of(source, side)
    rows, notes = one_each(source, "puniform")
    y, v = sign * source.yi[rows], source.vi[rows]
    critical = critical_value(1.0 - alpha, None)
    chosen = significant(y, np.sqrt(v), critical)
    found = (_star if method == "star" else _original)(y, v, critical, chosen, source.level)
    notes = merge_notes(source.effects.notes, notes, _uniform_notes(found, y, chosen, method))
    if sign < 0:
        mirror = {"estimate": "estimate", "ci_lb": "ci_ub", "ci_ub": "ci_lb"}
        found |= {name: found[other] if np.isnan(found[other]) else -found[other] for name, other in mirror.items()}
    return PUniformResult(
        **found,
        k=len(rows),
        studies=source.studies,
        level=source.level,
        measure=source.effects.measure,
        provenance=source.effects.provenance,
        method=method,
        side=side_of(sign),
        alpha=alpha,
        significant=int(chosen.sum()),
        notes=notes,
    )


def _star(y: Array, v: Array, critical: float, chosen: Mask, level: float) -> dict[str, Any]:
    names = ("estimate", "se", "ci_lb", "ci_ub", "pval", "stat", "tau2", "tau2_lb", "tau2_ub", "stat_tau2", "pval_tau2")
    none = dict.fromkeys(("stat_bias", "pval_bias"), NotApplicable(NO_BIAS_TEST))
    if len(y) < 2:
        return dict.fromkeys(names, NotApplicable("needs at least 2 studies")) | none
    found = core.p_uniform_star(y, v, critical, level=level)
    if np.isnan(found.mu):
        return dict.fromkeys(names, NotApplicable(NO_PEAK)) | none
    values = {name: getattr(found, "mu" if name == "estimate" else name) for name in names}
    for name, value in values.items():
        if not np.isfinite(value):
            values[name] = NotApplicable(NO_ERROR if name == "se" else NO_LIMIT)
    return values | none


def _original(y: Array, v: Array, critical: float, chosen: Mask, level: float) -> dict[str, Any]:
    names = ("estimate", "ci_lb", "ci_ub", "stat", "pval", "stat_bias", "pval_bias")
    none = dict.fromkeys(("tau2", "tau2_lb", "tau2_ub", "stat_tau2", "pval_tau2"), NotApplicable(ONE_EFFECT))
    none["se"] = NotApplicable("the interval of p-uniform comes from p-values, not from a standard error")
    if not chosen.any():
        return dict.fromkeys(names, NotApplicable("no effect is significant on this side")) | none
    fixed_mean = float((y / v).sum() / (1.0 / v).sum())
    found = core.p_uniform(y[chosen], v[chosen], critical, fixed=fixed_mean, level=level)
    return {name: getattr(found, "mu" if name == "estimate" else name) for name in names} | none


def _uniform_notes(found: dict[str, Any], y: Array, chosen: Mask, method: PUniformMethod) -> list[Note]:
    """Return what a reader must know; effects and estimate are those of a literature that favours positive ones."""
    notes = list(few_significant(int(chosen.sum()), NAMES[method]))
    if method == "star" and not chosen.any():
        notes.append(Note("none-significant", NONE_SIGNIFICANT))
    estimate = found["estimate"]
    if estimate < -np.abs(y).max():
        notes.append(Note("far-estimate", FAR))
    elif estimate < 0.0 and method == "original":
        notes.append(Note("p-uniform-below-zero", BELOW_ZERO))
    return notes


LABELS = {
    "err": "Expected replication rate",
    "edr": "Expected discovery rate",
    "odr": "Observed discovery rate",
    "fdr": "Most false positives (Soric)",
    "drawer": "Unpublished per significant",
}
Z_CURVE_CAUTION = (
    "z-curve gives no mean effect. An expected discovery rate below the observed one suggests that results were "
    "selected; it is known to no more than its interval, which is wide."
)
FEW_Z = 100


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ZCurveResult(OfStudies):
    """How well powered the tests behind significant results were.

    Attributes
    ----------
    err, err_lb, err_ub : float
        Expected replication rate: how many of the significant results would be significant again, with the same sign,
        in exact replications.
    edr, edr_lb, edr_ub : float
        Expected discovery rate: how many of all tests conducted came out significant.
    odr, odr_lb, odr_ub : float
        Observed discovery rate: how many of the effects are significant.
    fdr, fdr_lb, fdr_ub : float
        The largest share of false positives among the significant results that fits the expected discovery rate.
    drawer, drawer_lb, drawer_ub : float
        Tests that were not significant for each that was, (1 - edr) / edr.
    weights : ndarray of shape (7,)
        Share of significant results up to 6 from tests whose z has a mean of 0, 1, ..., 6; empty without estimate.
    beyond : float
        Share of significant results beyond 6, whose power is taken as 1.
    z : ndarray of shape (k,)
        |z| of the effects.
    significant : int
    alpha, level : float
    iterations, seed : int
        Of the bootstrap.
    """

    err: float
    err_lb: float
    err_ub: float
    edr: float
    edr_lb: float
    edr_ub: float
    odr: float
    odr_lb: float
    odr_ub: float
    fdr: float
    fdr_lb: float
    fdr_ub: float
    drawer: float
    drawer_lb: float
    drawer_ub: float
    weights: Array
    beyond: float
    z: Array
    significant: int
    alpha: float
    level: float
    iterations: int
    seed: int

    def tidy(self) -> pd.DataFrame:
        """Return a row for each of ``err edr odr fdr drawer``: ``label estimate ci_lb ci_ub``."""
        rows = [
            {"label": label, "estimate": getattr(self, name)}
            | {limit: getattr(self, f"{name}_{limit[3:]}") for limit in ("ci_lb", "ci_ub")}
            for name, label in LABELS.items()
        ]
        return frame_of(rows, index=pd.Index(list(LABELS), name="rate"))

    def curve(self, points: int = 301) -> pd.DataFrame:
        """Return the density of |z| that was fitted: ``z density fitted``.

        It is that among significant results up to 6; below the critical value, where ``fitted`` is False, it shows what
        the tests behind them lead one to expect, published or not. Empty without estimate.
        """
        z = np.linspace(0.0, core.HIGHEST_Z, points)
        critical = critical_value(1.0 - self.alpha, None)
        if not len(self.weights):
            z = z[:0]
        density = core.densities(z, critical) @ self.weights if len(z) else z
        return pd.DataFrame({"z": z, "density": density, "fitted": z >= critical})

    def _values(self) -> dict[str, Any]:
        names = [f"{name}{end}" for name in LABELS for end in ("", "_lb", "_ub")]
        others = ("weights", "beyond", "z", "significant", "k", "studies", "alpha", "level", "iterations", "seed")
        return self._these(*names, *others)

    def _content(self) -> Document:
        many = f"{self.significant} of {self.k} effects significant" + (
            f", {self.studies} studies" if self.studies < self.k else ""
        )
        title = f"z-curve ({many}; {format_level(self.level)})"
        if isinstance(self.err, NotApplicable):
            return self._document(title, lines=(f"Not applicable: {self.err.reason}",))
        frame = self.tidy().set_index("label")
        table = table_of(frame, dict.fromkeys(("estimate", "ci_lb", "ci_ub"), 3))
        line = f"{self.iterations} bootstrap samples{' of studies' if self.studies < self.k else ''}, seed {self.seed}"
        return self._document(title, table, lines=(line,))


def zcurve(
    fit: Any, *, alpha: float = 0.05, iterations: int = 1000, seed: int = 1, level: float | None = None
) -> ZCurveResult:
    """Estimate how powerful the tests behind the significant results were, from how far beyond significance they lie.

    Tests of low power that came out significant by luck lie just beyond the critical value; tests of high power lie far
    beyond. From the mixture that fits, two numbers follow: how many of the significant results would come out
    significant again (expected replication rate), and how many of all the tests conducted did (expected discovery
    rate). Where far more of the published effects are significant than that, others were not published.

    Parameters
    ----------
    fit : a fitted model without moderators
        Its effects are used, all of them; where studies have several, each study counts once, its effects in equal
        parts, and the bootstrap draws studies.
    alpha : float
        Two-sided level of significance in the studies.
    iterations : int
        Samples of the bootstrap.
    seed : int
        The same seed gives the same result.
    level : float, optional
        The fit's own by default.

    Returns
    -------
    ZCurveResult
        With `NotApplicable` in place of every number for fewer than 10 significant results up to z = 6.

    Raises
    ------
    InputError
        What is no fit, a model with moderators, options out of range.

    Notes
    -----
    R: ``zcurve::zcurve(z)``. Bartos & Schimmack (2022, doi:10.15626/MP.2021.2720): their mixture and the limits of the
    bootstrap, widened by their .03 and .05. The likelihood is driven to its highest point, where R's EM algorithm stops
    earlier; and the share beyond z = 6 is one of the significant results, where zcurve 2.4 divides by all with z > .49.
    Where studies have several effects this comes near to ``zcurve_clustered(method = "b")``, which averages fits to one
    result of each study drawn by lot; its method "w" raises densities to a power in place of weighting likelihoods.
    The largest share of false positives: Soric (1989, doi:10.1080/01621459.1989.10478811).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset
    >>> fit = RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()
    >>> print(bias.zcurve(fit))
    z-curve (81 of 160 effects significant; 95%)
    1000 bootstrap samples, seed 1
    <BLANKLINE>
                                  estimate  ci_lb   ci_ub
    Expected replication rate        0.674  0.496   0.837
    Expected discovery rate          0.385  0.074   0.748
    Observed discovery rate          0.506  0.426   0.586
    Most false positives (Soric)     0.084  0.018   0.662
    Unpublished per significant      1.596  0.338  12.572
    <BLANKLINE>
    Note: z-curve gives no mean effect. An expected discovery rate below the
      observed one suggests that results were selected; it is known to no more than
      its interval, which is wide.
    Note: 71 significant results up to z = 6: z-curve is made for hundreds.
    """
    source = given(fit, "zcurve", level=level)
    check_alpha(alpha)
    check_iterations(iterations)
    check_seed(seed, "Bootstrap samples")
    z, critical = np.abs(source.yi) / source.sei, critical_value(1.0 - alpha, None)
    inside = int(((z > critical) & (z < core.HIGHEST_Z)).sum())
    values = _nothing(inside)
    notes: list[Note] = []
    if inside >= core.LEAST:
        found = core.z_curve(z, source.cluster, critical=critical, level=source.level, iterations=iterations, seed=seed)
        values = _rates(found, alpha)
        notes = _z_notes(source, inside, found, iterations)
    return ZCurveResult(
        **values,
        z=z,
        significant=int((z > critical).sum()),
        k=source.k,
        studies=source.studies,
        provenance=source.effects.provenance,
        alpha=alpha,
        level=source.level,
        iterations=iterations,
        seed=seed,
        notes=merge_notes(source.effects.notes, notes),
    )


def _nothing(inside: int) -> dict[str, Any]:
    gone = NotApplicable(
        f"needs at least {core.LEAST} significant results with z up to {core.HIGHEST_Z:g}, not {inside}"
    )
    names = [f"{name}{end}" for name in LABELS for end in ("", "_lb", "_ub")]
    return dict.fromkeys((*names, "beyond"), gone) | {"weights": np.empty(0)}


def _rates(found: core.ZCurve, alpha: float) -> dict[str, Any]:
    """Return the rates with their limits, and what follows from the expected discovery rate."""
    values: dict[str, Any] = {"weights": found.weights, "beyond": found.beyond}
    for name in ("err", "edr", "odr"):
        values |= {name: getattr(found, name), f"{name}_lb": found.limits[name][0], f"{name}_ub": found.limits[name][1]}
    for end, other in (("", ""), ("_lb", "_ub"), ("_ub", "_lb")):
        values[f"fdr{end}"] = core.soric(values[f"edr{other}"], alpha)
        values[f"drawer{end}"] = 1.0 / values[f"edr{other}"] - 1.0
    gone = NotApplicable(f"no bootstrap sample had a significant result up to z = {core.HIGHEST_Z:g}")
    return values | {name: gone for name, value in values.items() if name.endswith(("_lb", "_ub")) and np.isnan(value)}


def _z_notes(source: Given, inside: int, found: core.ZCurve, iterations: int) -> list[Note]:
    notes = [Note("z-curve-no-mean", Z_CURVE_CAUTION)]
    if inside < FEW_Z:
        message = f"{inside} significant results up to z = {core.HIGHEST_Z:g}: z-curve is made for hundreds."
        notes.append(Note("few-significant", message))
    if source.dependent:
        notes.append(Note("studies-count-once", "Each study counts once, its effects in equal parts."))
    if found.used < iterations:
        message = f"{iterations - found.used} bootstrap samples had no significant result up to z = {core.HIGHEST_Z:g}."
        notes.append(Note("lost-samples", message))
    return notes
