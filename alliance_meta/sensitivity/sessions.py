"""How dependable an alliance score is, by the number of sessions it averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.core.correlations import artifacts as core
from alliance_meta.errors import InputError
from alliance_meta.result import Result
from alliance_meta.results.fit import columns_of
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import brief


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
