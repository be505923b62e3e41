"""Profile likelihoods of variances and correlations: how sharply the data tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta.core.mixed.profile import ProfileCurve
from alliance_meta.errors import AllianceMetaWarning, ConvergenceWarning, InputError, NotIdentifiedWarning
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.options import check_level, did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.components import object_frame
from alliance_meta.results.export import plain
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.profiles import COSTLY, GIVEN, limits, remarks_on, slots
from alliance_meta.sensitivity.refitting import check_multilevel
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import level_text

WORDS = {
    "peak": "one peak, at the estimate",
    "edge": "falls from the edge of its range",
    "flat": "flat: not identified",
    "higher": "higher elsewhere: not the maximum",
    "several": "more than one peak",
}


@dataclass(frozen=True, eq=False, repr=False)
class ProfileLikelihood(Result):
    """How likely each value of each variance and correlation makes the data, all else at its best.

    Attributes
    ----------
    fit : MultilevelResults
    curves : mapping of str to ProfileCurve
        Variance or correlation -> the curve; those that were given are absent.
    level : float
        Confidence level of the intervals.
    notes : tuple of Note
        Those of the fit, and one for each curve that is no single peak at the estimate.
    """

    fit: MultilevelResults
    curves: dict[str, ProfileCurve]
    level: float
    notes: tuple[Note, ...] = ()

    @property
    def components(self) -> tuple[str, ...]:
        """The variances and correlations."""
        return tuple(self.curves)

    def tidy(self) -> pd.DataFrame:
        """Return one row per point of each curve: ``component value loglik``, rising values."""
        frames = [
            pd.DataFrame({"component": name, "value": curve.values, "loglik": curve.loglik})
            for name, curve in self.curves.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def check(self) -> pd.DataFrame:
        """Return one row per component: ``estimate lb ub peak cutoff verdict``.

        ``peak`` is the fit's log-likelihood, ``cutoff`` the height at which the interval is read off. The verdict is
        in words: one peak at the estimate, falling from the edge of the range (the estimate is 0, or a correlation
        1), flat, higher elsewhere, more than one peak.
        """
        rows = {}
        for name, curve in self.curves.items():
            lb, ub = limits(curve)
            heights = {"peak": curve.peak, "cutoff": curve.cutoff, "verdict": WORDS[curve.verdict]}
            rows[name] = {"estimate": curve.estimate, "lb": lb, "ub": ub, **heights}
        out = object_frame(rows, ("estimate", "lb", "ub", "peak", "cutoff", "verdict"))
        out.index.name = "component"
        return out

    @property
    def identified(self) -> bool:
        """Every curve is one peak, or falls from the edge of its range."""
        return all(curve.verdict in ("peak", "edge") for curve in self.curves.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return plain(
            {
                "level": self.level,
                "method": self.fit.method,
                "components": self.check().to_dict(orient="index"),
                "curves": {n: {"value": c.values, "loglik": c.loglik} for n, c in self.curves.items()},
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        kind = "restricted likelihood" if self.fit.method == "REML" else "likelihood"
        kinds: dict[str, Kind] = {"estimate": 4, "lb": 4, "ub": 4, "verdict": "s"}
        return self._document(
            f"Profile {kind} ({level_text(self.level)} intervals)",
            table_of(self.check(), kinds, heads={"verdict": "shape"}),
        )


def profile(
    fit: MultilevelResults,
    *,
    components: str | Sequence[str] | None = None,
    level: float | None = None,
    points: int = 41,
) -> ProfileLikelihood:
    r"""Draw up the profile likelihood of each variance and correlation, and check that it is a peak.

    Each variance is held at one value after the other while everything else is fitted again. A sharp peak means that
    the data tell the variance well; a curve that does not fall, that almost any value would do: the model asks for
    more than the data hold. The interval holds the values whose likelihood is not much lower than the best.

    Parameters
    ----------
    fit : MultilevelResults
    components : str or sequence of str, optional
        Names from ``fit.components``; by default all that were estimated, but for those of unstructured terms with
        more than three columns, which take long.
    level : float, optional
        Confidence level of the interval; the fit's by default.
    points : int
        Values per curve, at least 5; around the interval, evenly spaced in the standard deviation.

    Returns
    -------
    ProfileLikelihood
        ``plots.profile`` draws it. Its intervals are those of ``fit.confint()``.

    Raises
    ------
    InputError
        Another kind of fit, an unknown component, or none that was estimated.

    Warns
    -----
    NotIdentifiedWarning
        A curve is flat; also a note.
    ConvergenceWarning
        A curve has several peaks, or is higher elsewhere; also a note.

    Notes
    -----
    The limits are where the curve has fallen by :math:`\chi^2_{1,level} / 2`. Variances and correlations of ``UN`` and
    ``GEN`` terms, which the model estimates by a Cholesky factor, are made parameters of their own for this.
    R: ``profile(fit)`` and ``confint(fit)``.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> print(sensitivity.profile(fit, points=9))
    Profile restricted likelihood (95 % intervals)
    <BLANKLINE>
                            estimate      lb      ub  shape
    sigma2[study_id]          0.0230  0.0000  0.0525  one peak, at the estimate
    sigma2[study_id/es_id]    0.0329  0.0174  0.0634  one peak, at the estimate
    """
    check_multilevel(fit, "profile")
    used = fit.level if level is None else level
    check_level(used)
    if not isinstance(points, int) or isinstance(points, bool) or points < 5:
        raise InputError(f"points={points!r} must be a whole number of at least 5")
    asked = _asked(fit, components)
    curves: dict[str, ProfileCurve] = {}
    notes: list[Note] = []
    for slot in slots(fit):
        if slot.name in asked and slot.costly and components is None:
            notes.append(Note("not-profiled", f"{slot.name}: {COSTLY}."))
        elif slot.name in asked and slot.fit is not None:
            curves[slot.name] = slot.curve(level=used, points=points)
    if not curves:
        raise InputError(f"{', '.join(asked)}: {COSTLY if notes else GIVEN}; there is nothing to profile")
    found: dict[str, ProfileCurve | NotApplicable] = dict(curves)
    own = [warn_note(note.code, note.message, _category(note), stacklevel=3) for note in remarks_on(found)]
    return ProfileLikelihood(fit, curves, used, merge_notes(fit.notes, notes, own))


def _category(note: Note) -> type[AllianceMetaWarning]:
    return NotIdentifiedWarning if note.code == "profile-flat" else ConvergenceWarning


def _asked(fit: MultilevelResults, components: str | Sequence[str] | None) -> list[str]:
    known = [str(name) for name in fit.components.index]
    if components is None:
        return known
    names = [components] if isinstance(components, str) else list(components)
    for name in names:
        if name not in known:
            raise InputError(
                f"components: {name!r} is no component{did_you_mean(name, known)}; there are: {', '.join(known)}"
            )
    return names
