"""Correlations freed of artifacts, one model under each correction, and how dependable an alliance score is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations import artifacts as core
from alliance_meta.core.distributions import critical_value
from alliance_meta.effects.converting.artifacts import (
    Artifact,
    Given,
    RelIn,
    corrected_effects,
    correlations,
    read_artifacts,
    row_steps,
    weights_of,
)
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.models.random_effects import fit_design
from alliance_meta.notes import NotApplicable, Note, check_level, check_option, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of, frame_of, records_of
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit
from alliance_meta.sensitivity.refitting import ours
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import brief, fixed, fixed_interval, format_level

Method = Literal["auto", "individual", "distribution"]
Reference = Literal["z", "t"]
OBSERVED, CORRECTED = "as observed", "corrected"
WORDS_OF = {
    OBSERVED: ("mean r", "true r", "sampling error"),
    CORRECTED: ("mean rho", "rho", "sampling error and artifacts"),
}
FEW = "needs at least 2 studies"


@dataclass(frozen=True, eq=False, repr=False)
class HunterSchmidt(Result):
    """Mean correlation and its spread over studies, as observed and corrected for artifacts.

    Attributes
    ----------
    rows : pandas.DataFrame
        ``as observed`` (bare bones: only sampling error is taken off) and ``corrected``. ``estimate`` is the mean
        (of rho where corrected), ``se ci_lb ci_ub`` its standard error and confidence interval; ``var_total`` the
        variance of the correlations, ``var_error`` and ``var_artifacts`` what sampling error and differing artifacts
        account for, ``var_true`` the rest, ``percent`` the share accounted for; ``sd_true`` the standard deviation
        of rho, ``cr_lb cr_ub`` the credibility interval, in which that share of true correlations is expected.
    k : int
        Number of correlations.
    N : float
        Sum of n over the correlations, which is the number of people where each is of people of its own.
    method : {"individual", "distribution", "bare-bones"}
        How artifacts were corrected.
    assumptions : str
        What the correction takes for granted.
    level, credibility : float
    """

    rows: pd.DataFrame
    k: int
    N: float
    method: str
    assumptions: str
    level: float
    credibility: float
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row as observed and one corrected."""
        return self.rows.copy()

    def _values(self) -> dict[str, Any]:
        rows = dict(zip(self.rows.index, records_of(self.rows), strict=True))
        kept = {name: value for name, value in vars(self).items() if name not in ("rows", "notes")}
        return {**kept, "rows": rows}

    def _content(self) -> Document:
        blocks = []
        for name, row in self.rows.iterrows():
            mean, spread, why = WORDS_OF[str(name)]
            interval = f"{format_level(self.level)} CI {_interval(row.ci_lb, row.ci_ub)}"
            credible = f"{format_level(self.credibility)} credibility interval {_interval(row.cr_lb, row.cr_ub)}"
            share = fixed(row.percent, 1) + ("" if np.isnan(row.percent) else " %")
            blocks.append(
                [
                    f"{name}: {mean} = {fixed(row.estimate)}, {interval}",
                    f"  SD of {spread} = {fixed(row.sd_true)}, {credible}",
                    f"  variance accounted for by {why}: {share}",
                ]
            )
        return self._document(
            f"Hunter-Schmidt meta-analysis: k = {self.k}, N = {brief(self.N, 12)} ({self.method})",
            *blocks,
            lines=[f"corrected for: {self.assumptions}"] if self.assumptions else [],
        )


def hunter_schmidt(
    effects: EffectSizes,
    *,
    rel_alliance: Given = None,
    rel_outcome: Given = None,
    split_alliance: Given = None,
    split_outcome: Given = None,
    u_alliance: Given = None,
    range_restriction: core.RangeRestriction = "direct",
    rel_alliance_in: RelIn = "sample",
    method: Method = "auto",
    small_sample: bool = False,
    unbiased: bool = False,
    test: Reference = "z",
    level: float = 0.95,
    credibility: float = 0.80,
) -> HunterSchmidt:
    r"""Pool correlations as Hunter and Schmidt do, and correct them for artifacts.

    How much of the difference between studies is chance and imperfect measurement, and what would the correlation
    be if alliance and outcome were measured without error? The credibility interval says where the true correlations
    of most settings lie; the confidence interval how well their mean is known.

    Parameters
    ----------
    effects : EffectSizes
        Correlations with sample sizes; the sampling variances in it are not used.
    rel_alliance, rel_outcome : str, float, sequence of float or mapping, optional
        Reliability of the measures: a column of the sheet, one value for all, one per row, or a distribution
        ``{value: weight}`` from elsewhere.
    split_alliance, split_outcome : str, float, sequence of float or mapping, optional
        Where a continuous measure was cut in two: the share of people on one side.
    u_alliance : str, float, sequence of float or mapping, optional
        Standard deviation of the alliance in the sample over that in the population of interest.
    range_restriction : {"direct", "indirect"}
        Thorndike's case II or case IV.
    rel_alliance_in : {"sample", "population"}
        Where the reliability of the alliance was found; matters with `u_alliance` only.
    method : {"auto", "individual", "distribution"}
        ``individual``: each r by its own artifacts, weighted by :math:`n A^2`. ``distribution``: mean and variance
        by the distributions of the artifacts, each row's value weighing as its n. ``auto``: individual if every row
        has every value.
    small_sample : bool
        Divide each r by (2n - 2)/(2n - 1) first, against its small downward bias; psychmeta does by default.
    unbiased : bool
        Variances over studies with k/(k - 1), as psychmeta by default; the book has it not.
    test : {"z", "t"}
        Intervals by the normal distribution (the book) or by t with k - 1 degrees of freedom (psychmeta).
    level : float
        Of the confidence interval.
    credibility : float
        Of the credibility interval.

    Returns
    -------
    HunterSchmidt

    Raises
    ------
    InputError
        Other effects than correlations, no sample sizes, artifacts out of range or missing for `method`.

    Notes
    -----
    Error variance :math:`(1 - \bar r^2)^2 / (n - 1)` with the observed mean, times the squared slope of the
    correction. Where sampling error exceeds the variance of the correlations, the SD of rho is 0 and a note says so.
    Schmidt & Hunter (2015), Methods of Meta-Analysis, ch. 3 and 4. R: ``psychmeta::ma_r``; the individually corrected
    results are its, with ``small_sample=True, unbiased=True, test="t"``. The mean is also
    ``rma(ri, vi, weights = ni)``.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, sensitivity
    >>> es = escalc(load_dataset("molloy2014"), measure="COR")
    >>> print(sensitivity.hunter_schmidt(es, rel_alliance=0.85, rel_outcome={0.7: 1, 0.8: 2}))
    Hunter-Schmidt meta-analysis: k = 16, N = 3509 (distribution)
    corrected for: reliability of the alliance 0.85; reliability of the outcome distributed around 0.77
    ...
    """
    for name, value, options in (("method", method, Method), ("test", test, Reference)):
        check_option(name, value, options)
    check_level(level)
    check_level(credibility)
    if effects.ni is None:
        raise InputError("hunter_schmidt weights by sample size, and these effects have none; make them with escalc")
    given = {
        "rel_alliance": rel_alliance,
        "rel_outcome": rel_outcome,
        "split_alliance": split_alliance,
        "split_outcome": split_outcome,
        "u_alliance": u_alliance,
    }
    checks: dict[str, Any] = {"range_restriction": range_restriction, "rel_alliance_in": rel_alliance_in}
    known = read_artifacts(effects, given, **checks) if any(x is not None for x in given.values()) else {}
    n = effects.ni
    r = core.without_bias(correlations(effects), n) if small_sample else correlations(effects)
    found = {OBSERVED: core.bare_bones(r, n, unbiased=unbiased)}
    how = "bare-bones" if not known else _method(method, known)
    if known:
        pool = _individually if how == "individual" else _by_distribution
        found[CORRECTED] = pool(r, n, known, range_restriction, rel_alliance_in, unbiased)
    k = effects.k
    df = k - 1 if test == "t" and k > 1 else None
    quantiles = critical_value(level, df), critical_value(credibility, df)
    rows = [_row(pooled, k, *quantiles) for pooled in found.values()]
    return HunterSchmidt(
        rows=frame_of(rows, pd.Index(list(found), name="correlations")),
        k=k,
        N=float(n.sum()),
        method=how,
        assumptions="; ".join(one.words(n) for one in known.values()),
        level=level,
        credibility=credibility,
        notes=merge_notes(effects.notes, _notes(found, k), dependence_notes(effects, stacklevel=4)),
    )


def _method(method: Method, known: Mapping[str, Artifact]) -> str:
    partial = [name for name, one in known.items() if not one.complete]
    if method == "individual" and partial:
        raise InputError(f"method='individual' needs a value in every row; {partial[0]} has not: use 'distribution'")
    return ("distribution" if partial else "individual") if method == "auto" else method


def _individually(
    r: Array, n: Array, known: Mapping[str, Artifact], kind: core.RangeRestriction, rel_in: str, unbiased: bool
) -> core.Pooled:
    corrected = core.correct(r, row_steps(known, n, len(r), kind=kind, rel_in=rel_in))
    if not np.isfinite(corrected.rho).all():
        i = int(np.flatnonzero(~np.isfinite(corrected.rho))[0])
        raise InputError(
            f"r = {brief(r[i], 3)} is larger than could be observed with its artifacts (row {i + 1}); check them"
        )
    return core.individual(r, n, corrected, unbiased=unbiased)


def _by_distribution(
    r: Array, n: Array, known: Mapping[str, Artifact], kind: core.RangeRestriction, rel_in: str, unbiased: bool
) -> core.Pooled:
    one = core.Distribution(np.ones(1), np.ones(1))
    parts = {name: known[name].distribution(n) if name in known else one for name in ("rel_alliance", "rel_outcome")}
    for name in ("split_alliance", "split_outcome"):
        parts[name] = one
        if name in known:
            shares = known[name].distribution(n)
            parts[name] = core.Distribution(core.dichotomy(shares.values), shares.weights)
    u = known["u_alliance"].distribution(n) if "u_alliance" in known else one
    if rel_in == "population" and "u_alliance" in known:
        typical = np.full_like(parts["rel_alliance"].values, float(u.weights @ u.values))
        lowered = core.restricted_reliability(parts["rel_alliance"].values, typical)
        parts["rel_alliance"] = core.Distribution(lowered, parts["rel_alliance"].weights)
    pooled = core.by_distribution(
        r,
        n,
        rxx=parts["rel_alliance"],
        ryy=parts["rel_outcome"],
        split_x=parts["split_alliance"],
        split_y=parts["split_outcome"],
        u=u,
        kind=kind,
        unbiased=unbiased,
    )
    if not np.isfinite(pooled.mean):
        raise InputError("no true correlation within (-1, 1) gives the observed mean with these artifacts; check them")
    return pooled


def _row(pooled: core.Pooled, k: int, confidence: float, credibility: float) -> dict[str, float]:
    sd = float(np.sqrt(max(pooled.var_true, 0.0)))
    values = asdict(pooled)
    explained = pooled.var_error + pooled.var_artifacts
    row = {
        "estimate": pooled.mean,
        "se": pooled.se,
        "ci_lb": pooled.mean - confidence * pooled.se,
        "ci_ub": pooled.mean + confidence * pooled.se,
        **{name: values[name] for name in ("var_total", "var_error", "var_artifacts", "var_true")},
        "percent": 100.0 * explained / pooled.var_total if pooled.var_total > 0 else NotApplicable("no variance"),
        "sd_true": sd,
        "cr_lb": pooled.mean - credibility * sd,
        "cr_ub": pooled.mean + credibility * sd,
    }
    if k < 2:
        row |= {name: NotApplicable(FEW) for name in row if name not in ("estimate", "var_error", "var_artifacts")}
    return row


def _notes(found: Mapping[str, core.Pooled], k: int) -> list[Note]:
    over = [name for name, pooled in found.items() if pooled.var_true < 0 and k > 1]
    if not over:
        return []
    text = (
        f"Sampling error and artifacts explain more than all of the variance ({' and '.join(over)}): "
        "the SD of the true correlations is 0."
    )
    return [Note("var-true-truncated", text)]


def _interval(lb: float, ub: float) -> str:
    return "n/a" if np.isnan(lb) else fixed_interval(lb, ub)


SHORT = {
    "rel_alliance": "alliance reliability",
    "rel_outcome": "outcome reliability",
    "split_alliance": "alliance split",
    "split_outcome": "outcome split",
    "u_alliance": "range restriction",
}
RELIABILITIES = ("rel_alliance", "rel_outcome")


@dataclass(frozen=True, eq=False, repr=False)
class Attenuation(Result):
    """One model fitted to the correlations as observed and under each correction.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per correction: pooled r with confidence and prediction interval (``estimate ci_lb ci_ub pi_lb
        pi_ub``, as correlations), ``tau2`` and ``I2`` on the scale of the model, and ``assumption`` in words.
    model : str
        The model fitted.
    level : float
    k : int
    """

    rows: pd.DataFrame
    model: str
    level: float
    k: int
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per correction."""
        return self.rows.copy()

    def _values(self) -> dict[str, Any]:
        return {**self._these("model", "level", "k"), "rows": records_of(self.rows.reset_index())}

    def _content(self) -> Document:
        shown = {str(name): {"I2": 1, "tau2": 4}.get(str(name), 3) for name in self.rows.drop(columns="assumption")}
        return self._document(
            f"Pooled r, k = {self.k}; {self.model}; {format_level(self.level)} intervals",
            table_of(self.rows, shown),
            [f"{name}: {words}" for name, words in self.rows["assumption"].items()],
        )


def attenuation(
    fit: RandomEffectsResults,
    *,
    rel_alliance: Given = None,
    rel_outcome: Given = None,
    split_alliance: Given = None,
    split_outcome: Given = None,
    u_alliance: Given = None,
    range_restriction: core.RangeRestriction = "direct",
    rel_alliance_in: RelIn = "sample",
    assumed: Sequence[float] = (),
) -> Attenuation:
    """Refit a model to correlations corrected for artifacts, one correction after another and all together.

    Alliance and outcome are measured with error, so their observed correlation is smaller than that of the constructs.
    By how much depends on reliabilities that are often unknown. The table shows what each assumption does to the
    result, with the assumption in words.

    Parameters
    ----------
    fit : RandomEffectsResults
        Of correlations, without moderators.
    rel_alliance, rel_outcome, split_alliance, split_outcome, u_alliance
        As in `correct_artifacts`. Rows without a value get the mean of the others, weighted by n.
    range_restriction : {"direct", "indirect"}
        Thorndike's case II or case IV.
    rel_alliance_in : {"sample", "population"}
        Where the reliability of the alliance was found; matters with `u_alliance` only.
    assumed : sequence of float
        Further rows, in which both measures have this reliability in every study.

    Returns
    -------
    Attenuation

    Raises
    ------
    InputError
        A model with moderators, other effects than correlations, values out of range, nothing to correct for.

    See Also
    --------
    hunter_schmidt : Hunter and Schmidt's own way of pooling.

    Notes
    -----
    Each row is ``rma`` on effects divided by their attenuation, with the variance corrected too. Reliabilities count
    as known without error: the intervals leave that out.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> table = sensitivity.attenuation(fit, rel_alliance=0.9, rel_outcome=0.8).tidy()
    >>> table["estimate"].round(3).to_dict()
    {'as observed': 0.149, 'alliance reliability': 0.156, 'outcome reliability': 0.165, 'both reliabilities': 0.173}
    """
    check_fit(fit, "attenuation")
    if fit.p > 1 or not fit.design.has_intercept:
        raise InputError("attenuation compares pooled correlations: fit the model without moderators")
    given: dict[str, Given] = {
        "rel_alliance": rel_alliance,
        "rel_outcome": rel_outcome,
        "split_alliance": split_alliance,
        "split_outcome": split_outcome,
        "u_alliance": u_alliance,
    }
    checks: dict[str, Any] = {"range_restriction": range_restriction, "rel_alliance_in": rel_alliance_in}
    known = {}
    if any(value is not None for value in given.values()) or not assumed:
        known = read_artifacts(fit.effects, given, **checks)
    sets = _sets(known, range_restriction)
    for value in assumed:
        both: dict[str, Given] = dict.fromkeys(RELIABILITIES, float(value))
        sets[f"both reliabilities {brief(value)}"] = read_artifacts(fit.effects, both, **checks)
    weights = weights_of(fit.effects)
    rows = {OBSERVED: _refitted_row(fit, "no correction; what the measures as used would predict")}
    notes: list[Note] = []
    for name, artifacts in sets.items():
        one, warned = _refit(fit, artifacts, weights, range_restriction, rel_alliance_in)
        rows[name] = _refitted_row(one, "; ".join(artifact.words(weights) for artifact in artifacts.values()))
        for note in one.notes:
            if note in fit.notes or note.code == "corrected-artifacts":
                continue
            notes.append(Note(note.code, f"{name}: {note.message}"))
            if note.message in warned:
                warnings.warn(notes[-1].message, warned[note.message], stacklevel=2)
    return Attenuation(
        rows=frame_of(list(rows.values()), pd.Index(list(rows), name="correction")),
        model=fit.model_label,
        level=fit.level,
        k=fit.k,
        notes=merge_notes(fit.notes, notes),
    )


def _sets(known: dict[str, Artifact], kind: core.RangeRestriction) -> dict[str, dict[str, Artifact]]:
    """Return which artifacts each row corrects for: one at a time, both reliabilities, all."""
    sets = {SHORT[name]: {name: one} for name, one in known.items()}
    if kind == "indirect" and "u_alliance" in known:
        del sets[SHORT["u_alliance"]]
    if set(RELIABILITIES) <= set(known):
        sets["both reliabilities"] = {name: known[name] for name in RELIABILITIES}
    if len(known) > 1 and set(known) != set(RELIABILITIES):
        sets["all"] = known
    return sets


def _refit(
    fit: RandomEffectsResults, known: dict[str, Artifact], weights: Array, kind: core.RangeRestriction, rel_in: str
) -> tuple[RandomEffectsResults, dict[str, type[AllianceMetaWarning]]]:
    """Fit the model to corrected effects; its warnings are returned, to be given with the name of the row."""
    by = row_steps(known, weights, fit.k, kind=kind, rel_in=rel_in)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AllianceMetaWarning)
        found = fit_design(corrected_effects(fit.effects, by, known), fit.design, fit.settings)
    return found, ours(caught)


def _refitted_row(fit: RandomEffectsResults, assumption: str) -> dict[str, Any]:
    scale: Any = "r" if fit.effects.measure == "ZCOR" else None
    row = fit.predict(scale=scale).iloc[0]
    limits = {name: float(row[name]) for name in ("ci_lb", "ci_ub", "pi_lb", "pi_ub")}
    missing = NotApplicable("under equal effects no new effect can differ")
    return {
        "estimate": float(row["pred"]),
        **{name: missing if np.isnan(value) else value for name, value in limits.items()},
        "tau2": fit.tau2,
        "I2": fit.I2,
        "assumption": assumption,
    }


@dataclass(frozen=True, eq=False, repr=False)
class Dependability(Result):
    """Dependability of a score by the number of sessions averaged.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per number of sessions: ``dependability``, its square root ``attenuation`` (by which a correlation
        shrinks), and ``r``, the correlation expected, where one was given.
    assumptions : str
        In words.
    """

    rows: pd.DataFrame
    assumptions: str

    def tidy(self) -> pd.DataFrame:
        """Return one row per number of sessions."""
        return self.rows.copy()

    def _values(self) -> dict[str, Any]:
        return {"assumptions": self.assumptions, "rows": columns_of(self.rows.reset_index())}

    def _content(self) -> Document:
        rows = self.rows.set_axis([brief(float(one)) for one in self.rows.index])
        table = table_of(rows, dict.fromkeys(map(str, rows), 3), label="sessions")
        return self._document("Dependability by the number of sessions averaged", table, lines=[self.assumptions])


def dependability(
    sessions: int | Sequence[int] = (1, 2, 3, 4, 5, 6, 8, 10),
    *,
    single: float | None = None,
    averaged: int = 1,
    var_patient: float | None = None,
    var_session: float = 0.0,
    var_residual: float | None = None,
    absolute: bool = False,
    r: float | None = None,
    r_sessions: int = 1,
) -> Dependability:
    r"""Say how well an average over sessions stands for a patient's alliance, and what that does to r.

    The alliance differs from session to session. A score from one session stands for the patient's usual alliance
    only in part, and its correlation with outcome is smaller for it. Most studies rate one session: the commonest
    attenuation of this field.

    Parameters
    ----------
    sessions : int or sequence of int
        Numbers of sessions averaged.
    single : float, optional
        Reliability over sessions of a score from `averaged` sessions: what two such scores of the same patients
        correlate.
    averaged : int
        The number of sessions behind `single`.
    var_patient, var_residual : float, optional
        In place of `single`, variance components from a generalisability study: between patients, and within
        patients from session to session.
    var_session : float
        Between sessions that all patients share; counts as error only for `absolute` decisions.
    absolute : bool
        Whether the level of the score matters (index of dependability) or only the order of patients
        (generalisability coefficient).
    r : float, optional
        A correlation observed with an average of `r_sessions` sessions; the table then has what it would be with
        each number, and with endlessly many.
    r_sessions : int
        The number of sessions behind `r`.

    Returns
    -------
    Dependability

    Raises
    ------
    InputError
        Neither `single` nor variance components, or values that cannot be.

    Notes
    -----
    Spearman-Brown: :math:`m\rho / (1 + (m-1)\rho)` (Spearman 1910; Brown 1910), which from variance components is the
    generalisability coefficient :math:`\sigma^2_p / (\sigma^2_p + \sigma^2_e / m)`. Sessions count as alike and
    exchangeable: a trend over therapy is error here.

    Examples
    --------
    >>> from alliance_meta import sensitivity
    >>> sensitivity.dependability([1, 4], single=0.5, r=0.2).tidy()["r"].round(3).to_dict()
    {1.0: 0.2, 4.0: 0.253, inf: 0.283}
    """
    counts: list[Any] = np.atleast_1d(np.asarray(sessions)).tolist()
    _check(counts, single, var_patient, var_residual, var_session, absolute)
    if r is not None and not -1 < r < 1:
        raise InputError(f"r={r!r} is outside (-1, 1)")
    for name, count in (("averaged", averaged), ("r_sessions", r_sessions)):
        if count < 1 or count != int(count):
            raise InputError(f"{name}={count!r} must be a whole number of sessions, 1 or more")
    m = np.array([*counts, *([np.inf] if r is not None else [])], dtype=float)
    if single is not None:
        one = float(core.spearman_brown(single, np.array(1.0 / averaged)))
        words = f"one session: reliability {brief(one, 3)} over sessions; Spearman-Brown, sessions alike"
    else:
        patient, residual = float(var_patient or 0.0), float(var_residual or 0.0)
        one = float(core.dependability(patient, var_session, residual, np.array(1.0), absolute=absolute))
        kind = "index of dependability" if absolute else "generalisability coefficient"
        parts = {"patients": patient, "sessions": var_session, "within": residual}
        words = f"{kind} from variances {', '.join(f'{brief(value)} ({of})' for of, value in parts.items())}"
    value = core.spearman_brown(one, m)
    rows = pd.DataFrame({"dependability": value, "attenuation": np.sqrt(value)}, index=pd.Index(m, name="sessions"))
    if r is not None:
        base = float(core.spearman_brown(one, np.array(float(r_sessions))))
        expected = r * np.sqrt(value / base)
        if abs(expected[-1]) >= 1:
            raise InputError(
                f"r={brief(r)} and a dependability of {brief(base, 3)} contradict each other: r would exceed 1"
            )
        rows["r"] = expected
        words += f"; r = {brief(r)} observed with {r_sessions} session{'s' if r_sessions > 1 else ''}"
    return Dependability(rows, words)


def _check(
    sessions: Sequence[int],
    single: float | None,
    patient: float | None,
    residual: float | None,
    session: float,
    absolute: bool,
) -> None:
    if not sessions or not all(isinstance(m, int | float) and m >= 1 and m == int(m) for m in sessions):
        raise InputError(f"sessions={list(sessions)!r} must be whole numbers, 1 or more")
    if (single is None) == (patient is None or residual is None):
        raise InputError("give single=, or var_patient= and var_residual= of a generalisability study")
    if single is not None and not 0 < single <= 1:
        hint = f"; in percent? write {brief(single / 100)}" if 1 < single <= 100 else ""
        raise InputError(f"single={brief(single)} is a reliability and lies in (0, 1]{hint}")
    if single is not None and (absolute or session):
        raise InputError("absolute= and var_session= belong to variance components, not to single=")
    if patient is not None and residual is not None and not (patient > 0 and residual >= 0 and session >= 0):
        raise InputError("variance components cannot be negative, and that between patients must be above 0")
