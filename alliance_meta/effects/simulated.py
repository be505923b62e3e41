"""`simulate`: a made-up coding sheet whose truth is known, with selective reporting if wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.simulation import Alternative, By, Plan, Selection, Simulated, Whole
from alliance_meta.core.simulation import simulate as run
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_option, did_you_mean

MOST_STUDIES, MOST_EFFECTS, MOST_PEOPLE = 100_000, 1000, 10**9
YEARS = (1990, 2025)
TYPES = {"stepfun": ("steps", "weights"), "beta": ("steps", "delta")}
SELECTION = ("type", "steps", "weights", "delta", "alternative", "by")
Whole_ = int | tuple[int, int] | Sequence[int] | Array


@dataclass(frozen=True, eq=False)
class Truth:
    """What a simulated sheet was made from."""

    # Every argument of `simulate`; ``mean``, the true mean over all moderators; and ``drawn``, the studies that were
    # made until k of them had something to report.
    parameters: Mapping[str, Any]
    # One row per row of the sheet, by ``es_id``: ``theta``, the true effect as Fisher z; ``expected``, what unreliable
    # measures leave of it; ``yi`` and ``vi``, its estimate, which the sheet may lack, and the sampling variance; ``p``
    # on the favoured side; ``hacked`` and ``unreported``.
    effects: pd.DataFrame


@dataclass(frozen=True, eq=False)
class SimulatedTable(CodedTable):
    """A coding sheet made by `simulate`.

    Attributes
    ----------
    truth : Truth
        What it was made from; `query` leaves it whole.
    """

    truth: Truth = field(default_factory=lambda: Truth({}, pd.DataFrame()), repr=False)


def simulate(
    *,
    k: int = 30,
    per_study: Whole_ = 1,
    n: Whole_ = (20, 200),
    mu: float = 0.28,
    tau: float = 0.15,
    omega: float = 0.0,
    rho: float = 0.6,
    moderators: Mapping[str, Mapping[str, float]] | None = None,
    selection: Mapping[str, Any] | None = None,
    p_hacking: float = 0.0,
    unreported: float = 0.0,
    reliability: tuple[float, float] = (1.0, 1.0),
    seed: int,
) -> SimulatedTable:
    r"""Make up a coding sheet whose true effects are known, to see what a method makes of it.

    Whoever doubts a method can try it where the answer is known: how far off is the mean if only significant results
    are published, if every study has five correlations, if authors try until something is significant? The sheet
    has the form of a coded one and says wherever it shows that it is made up.

    Parameters
    ----------
    k : int
        Studies in the sheet. Where some report nothing, studies are made until k report something.
    per_study : int, (low, high) or sequence
        Effects in each study: a number, whole numbers between two, or a list of numbers to draw from.
    n : int, (low, high) or sequence
        People in each study, likewise; between two numbers log-uniform, as small studies are more common.
    mu : float
        Mean true effect, as Fisher z.
    tau, omega : float
        Standard deviations of true effects, as Fisher z: between studies, and between the effects of one study.
    rho : float
        Correlation of the sampling errors of one study.
    moderators : mapping, optional
        ``{"setting": {"outpatient": 0, "inpatient": -0.1}}``: levels, of which every study has one by chance, and
        what each adds to mu.
    selection : mapping, optional
        Which results are reported. ``{"steps": [0.025], "weights": [1, 0.3]}``: those with a p-value above .025 with
        0.3 times the probability of the others. ``{"type": "beta", "delta": [0.5, 1]}``: with a probability that
        goes with p^(delta1 - 1) (1 - p)^(delta2 - 1) between the ``steps`` .025 and .975. Further
        ``"alternative"``: p-values on the side of ``"greater"`` effects (default), ``"less"`` or ``"two.sided"``; and
        ``"by"``: every ``"effect"`` by its own p-value (default), or the whole ``"cluster"``, the study, by that of
        its first effect, which the column ``focal`` tells.
    p_hacking : float
        Share of the effects that are not significant (two-sided .05, on the favoured side) that are estimated anew,
        with errors of their own, until they are; before any selection.
    unreported : float
        Share of the effects that are not significant (two-sided .05) that the sheet has as ``ns``, without r.
    reliability : (float, float)
        Reliability of the measures of alliance and outcome: a true correlation shrinks by the root of their product.
    seed : int
        The same seed gives the same sheet.

    Returns
    -------
    SimulatedTable
        A `CodedTable` with ``truth``. Correlations are not rounded.

    Raises
    ------
    InputError
        An argument out of its range; a selection that leaves next to nothing.

    Notes
    -----
    .. math:: z_{ij} = \theta_{ij} + e_{ij}, \quad \theta_{ij} = \mu + x_j'\beta + \tau u_j + \omega w_{ij}, \quad
              \operatorname{Cov}(e_{ij}, e_{lj}) = \rho / (n_j - 3)

    The sheet's r is tanh(z), so that Fisher z of the sheet is normal with variance 1 / (n - 3) exactly, as models take
    it to be; p-values are those of z times the root of n - 3. Selection as in Hedges & Vevea (1996,
    doi:10.3102/10769986021004299) and, for beta, Citkowicz & Vevea (2017, doi:10.1037/met0000119), truncated.

    See Also
    --------
    alliance_meta.core.simulation.simulate : thousands of such data sets at once, as arrays.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, simulate
    >>> sheet = simulate(k=40, mu=0.2, tau=0.1, selection={"steps": [0.025], "weights": [1, 0.1]}, seed=3)
    >>> sheet.k, sheet.truth.parameters["drawn"]
    (40, 94)
    >>> round(float(RandomEffectsModel(escalc(sheet)).fit().beta[0]), 2)
    0.26
    """
    given = {name: value for name, value in locals().items() if name not in ("selection", "reliability")}
    _check_numbers(given)
    chosen = None if selection is None else _selection(selection)
    plan = Plan(
        k=k,
        per_study=_whole("per_study", per_study, 1, MOST_EFFECTS),
        n=_whole("n", n, 4, MOST_PEOPLE, logarithmic=True),
        mu=mu,
        tau=tau,
        omega=omega,
        rho=rho,
        shifts=_shifts(moderators or {}),
        attenuation=_attenuation(reliability),
        selection=chosen,
        p_hacking=p_hacking,
        unreported=unreported,
    )
    made = run(plan, replicates=1, seed=seed)
    frame = _frame(made, plan, moderators or {}, reliability, seed)
    mean = mu + sum(float(shift.mean()) for shift in plan.shifts)
    parameters = given | {"selection": selection, "reliability": reliability, "mean": mean, "drawn": int(made.drawn[0])}
    step = "simulated: " + _said(parameters)
    return SimulatedTable(
        frame,
        provenance=Provenance(source=f"synthetic sheet (seed {seed})", synthetic=True, steps=(step,)),
        notes=(Note("simulated", f"SYNTHETIC effects, {step}. No number comes from a study."),),
        truth=Truth(parameters, _true(made, frame)),
    )


def _check_numbers(given: Mapping[str, Any]) -> None:
    """Refuse a number out of its range."""
    whole = {"k": (1, MOST_STUDIES), "seed": (0, 2**63)}
    ranges = {"mu": (-3.0, 3.0), "tau": (0.0, 3.0), "omega": (0.0, 3.0)}
    ranges |= dict.fromkeys(("rho", "p_hacking", "unreported"), (0.0, 1.0))
    for name, (low, high) in (whole | ranges).items():
        value = given[name]
        kinds = (int, np.integer) if name in whole else (int, float, np.integer, np.floating)
        if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
            what = "a whole number" if name in whole else "a number"
            raise InputError(f"{name}={value!r} must be {what} from {low:g} to {high:g}")


def _whole(name: str, given: Any, low: int, high: int, *, logarithmic: bool = False) -> Whole:
    """Return what whole numbers are drawn from: one, a pair of bounds, or a list."""
    try:
        values = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        values = np.array([np.nan])
    right = values.ndim == 1 and values.size and np.isin(values, np.rint(values)).all()
    pair = isinstance(given, tuple) and len(given) == 2
    if not right or not ((values >= low) & (values <= high)).all() or (pair and given[0] > given[1]):
        raise InputError(
            f"{name}={given!r} must be a whole number from {low} to {high}, a pair (low, high) of these, or a list of "
            "these to draw from"
        )
    if pair:
        return Whole(int(values[0]), int(values[1]), logarithmic)
    return Whole(values=values)


def _shifts(moderators: Mapping[str, Mapping[str, float]]) -> tuple[Array, ...]:
    """Return what the levels of each moderator add."""
    taken = {"study_id", "es_id", "study", "year", "r", "n", "focal", "ns", "rel_alliance", "rel_outcome"}
    for name, levels in moderators.items():
        if name in taken:
            raise InputError(f"moderators: {name!r} is a column of every simulated sheet; give another name")
        if not isinstance(levels, Mapping) or not levels or not all(map(_is_number, levels.values())):
            raise InputError(
                f"moderators: {name!r} needs its levels with what each adds to mu, as in "
                f"{{{name!r}: {{'a': 0, 'b': 0.1}}}}"
            )
    return tuple(np.array(list(levels.values()), dtype=float) for levels in moderators.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and isfinite(value)


def _attenuation(reliability: Any) -> float:
    if not isinstance(reliability, Sequence) or len(reliability) != 2 or not all(map(_is_number, reliability)):
        raise InputError(f"reliability={reliability!r} must be two numbers, of the measures of alliance and of outcome")
    if not all(0 < one <= 1 for one in reliability):
        raise InputError(f"reliability={reliability!r}: a reliability lies in (0, 1]")
    return float(np.sqrt(reliability[0] * reliability[1]))


def _selection(given: Any) -> Selection:
    """Return the selection that a mapping names."""
    if not isinstance(given, Mapping):
        raise InputError(f'selection={given!r} must be a mapping such as {{"steps": [0.025], "weights": [1, 0.3]}}')
    for name in given:
        if name not in SELECTION:
            hint = did_you_mean(str(name), list(SELECTION))
            raise InputError(f"selection has no {name!r}{hint}; it takes {', '.join(SELECTION)}")
    kind, alternative, by = given.get("type", "stepfun"), given.get("alternative", "greater"), given.get("by", "effect")
    if kind not in TYPES:
        raise InputError(f"selection: type={kind!r} is not one of {', '.join(map(repr, TYPES))}")
    check_option("selection: alternative", alternative, Alternative)
    check_option("selection: by", by, By)
    beta, (_, values) = kind == "beta", TYPES[kind]
    steps = _numbers("steps", given.get("steps", (0.025, 0.975) if beta else (0.025,)))
    weights = _numbers(values, given.get(values, ()))
    if steps.min(initial=1.0) <= 0 or steps.max(initial=0.0) >= 1 or (np.diff(steps) <= 0).any() or not steps.size:
        raise InputError(f"selection: steps={steps.tolist()} must be p-values between 0 and 1 that increase")
    if beta and (steps.size != 2 or weights.size != 2 or weights.min() <= 0):
        raise InputError("selection: a beta density needs two numbers above 0 as delta, and between two steps")
    if not beta and (weights.size != steps.size + 1 or weights.min() < 0 or weights.max() == 0):
        raise InputError(
            f"selection: weights={weights.tolist()} must be {steps.size + 1} numbers, one for each interval of "
            f"p-values that steps={steps.tolist()} leave, none below 0 and not all 0"
        )
    return Selection(steps, weights, beta, alternative, by)


def _numbers(name: str, given: Any) -> Array:
    values = list(given) if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) else [given]
    if not all(map(_is_number, values)):
        raise InputError(f"selection: {name}={given!r} must be a list of numbers")
    return np.array(values, dtype=float)


def _frame(
    made: Simulated, plan: Plan, moderators: Mapping[str, Mapping[str, float]], reliability: Any, seed: int
) -> pd.DataFrame:
    """Return the sheet as coders would have typed it."""
    digits = len(str(plan.k))
    number = pd.Series(made.study + 1).astype(str).str.zfill(digits)
    within = (pd.Series(made.study).groupby(made.study).cumcount() + 1).astype(str)
    r = np.tanh(made.y)
    if not (np.abs(r) < 1).all():
        raise InputError("some correlations would be 1; lower mu, the shifts of its moderators, tau or omega")
    years = np.random.default_rng(np.random.SeedSequence(seed)).integers(*YEARS, plan.k, endpoint=True)
    columns: dict[str, Any] = {
        "study_id": "s" + number,
        "es_id": "s" + number + "_" + within,
        "study": "Synthetic study " + number,
        "year": years[made.study],
        "r": np.where(made.unreported, np.nan, r),
        "n": made.n,
    }
    for i, (name, levels) in enumerate(moderators.items()):
        columns[name] = np.array(list(map(str, levels)), dtype=object)[made.levels[:, i]]
    if plan.selection is not None and plan.selection.by == "cluster":
        columns["focal"] = np.where(within == "1", "yes", "no")
    if plan.unreported:
        columns["ns"] = np.where(made.unreported, "yes", "no")
    if plan.attenuation != 1:
        columns |= {"rel_alliance": float(reliability[0]), "rel_outcome": float(reliability[1])}
    return pd.DataFrame(columns)


def _true(made: Simulated, frame: pd.DataFrame) -> pd.DataFrame:
    columns = {"study_id": frame["study_id"].to_numpy(), "theta": made.theta, "expected": made.expected, "yi": made.y}
    columns |= {"vi": made.v, "p": made.p, "hacked": made.hacked, "unreported": made.unreported}
    return pd.DataFrame(columns, index=pd.Index(frame["es_id"], name="es_id"))


def _said(parameters: Mapping[str, Any]) -> str:
    """Return the arguments in words that a note can hold."""
    usual = {"moderators": None, "selection": None, "p_hacking": 0, "unreported": 0, "reliability": (1.0, 1.0)}
    usual |= {"omega": 0, "mean": parameters["mu"], "drawn": parameters["k"]}
    shown = {name: value for name, value in parameters.items() if name not in usual or value != usual[name]}
    if shown["per_study"] == 1:
        del shown["per_study"], shown["rho"]
    return ", ".join(f"{name} = {_short(value)}" for name, value in shown.items())


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) < 120 else f"{text[:100]} ..."
