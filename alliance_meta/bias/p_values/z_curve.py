"""z-curve: how well powered the published tests were, and so how many would replicate and how many lie in drawers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.favoured import check_alpha
from alliance_meta.bias.given import Given, OfStudies, given
from alliance_meta.core.bias import p_values as core
from alliance_meta.core.distributions import critical_value
from alliance_meta.notes import NotApplicable, Note, check_iterations, check_seed, merge_notes
from alliance_meta.results.fit import frame_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import format_level

LABELS = {
    "err": "Expected replication rate",
    "edr": "Expected discovery rate",
    "odr": "Observed discovery rate",
    "fdr": "Most false positives (Soric)",
    "drawer": "Unpublished per significant",
}
CAUTION = (
    "z-curve gives no mean effect. An expected discovery rate below the observed one suggests that results were "
    "selected; it is known to no more than its interval, which is wide."
)
FEW = 100


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
        notes = _notes(source, inside, found, iterations)
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


def _notes(source: Given, inside: int, found: core.ZCurve, iterations: int) -> list[Note]:
    notes = [Note("z-curve-no-mean", CAUTION)]
    if inside < FEW:
        message = f"{inside} significant results up to z = {core.HIGHEST_Z:g}: z-curve is made for hundreds."
        notes.append(Note("few-significant", message))
    if source.dependent:
        notes.append(Note("studies-count-once", "Each study counts once, its effects in equal parts."))
    if found.used < iterations:
        message = f"{iterations - found.used} bootstrap samples had no significant result up to z = {core.HIGHEST_Z:g}."
        notes.append(Note("lost-samples", message))
    return notes
