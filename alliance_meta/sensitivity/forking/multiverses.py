"""`multiverse`: every defensible analysis of the same studies, side by side, and work that can be stopped."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from alliance_meta import __version__
from alliance_meta._typing import AnyArray, Array
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.sizes import escalc, finished_columns
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import CannotRunError, CodingError, InputError
from alliance_meta.evidence.reproduction import read_rows
from alliance_meta.files import read_regular, write_bytes
from alliance_meta.notes import NotApplicable, Note, check_cores, check_level, check_seed, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of
from alliance_meta.results.wording import CORRELATIONS
from alliance_meta.sensitivity.forking.choices import (
    CHOICES,
    GRADES,
    UNUSED,
    Options,
    Source,
    Spec,
    measures,
    read_choices,
    usual,
)
from alliance_meta.sensitivity.forking.following import NUMBERS, Row, Setting, follow_specs, head_of, specifications
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, brief, fixed, fixed_interval, format_level, format_percent, thousands

NAME = "multiverse.jsonl"
BAR = 30
# What a line may hold, besides what says which one it is.
PLAIN = {int, float, str, list, type(None)}
Record = dict[str, Any]
Unit = TypeVar("Unit")


def line_of(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON; a number that does not exist is null, every other keeps its last digit."""
    values = {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in record.items()}
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Kept:
    """The file in which finished records are kept, or none."""

    path: Path | None
    header: Mapping[str, Any]  # what makes another analysis another file

    def finished(self, expected: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Record]]:
        """Return the records of the units that an earlier run finished, and cut the file after the last of them.

        `expected` holds for each unit the beginning of each of its records: what says which it is.

        Raises `InputError`: a file of other data or other choices, or of something else altogether; `CannotRunError`: a
        file that cannot be read or written.
        """
        if self.path is None:
            return []
        first = line_of(self.header)
        data = self._read()
        if not data.startswith(first):
            if data and not first.startswith(data):
                raise InputError(
                    f"{self.path} holds something else, or a multiverse of other data, choices or another version; "
                    "name another file, or delete it"
                )
            write_bytes(self.path, first)
            return []
        lines = iter(data[len(first) :].split(b"\n")[:-1])
        done: list[list[Record]] = []
        size = len(first)
        for unit in expected:
            records = [_record(line, start) for start, line in zip(unit, lines, strict=False)]
            found = [one for one in records if one is not None]
            if len(found) < len(unit):
                break
            done.append([record for record, _ in found])
            size += sum(length for _, length in found)
        write_bytes(self.path, data[:size])
        return done

    def _read(self) -> bytes:
        assert self.path is not None
        try:
            return read_regular(self.path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise CannotRunError(f"cannot read {self.path}: {error.strerror}") from error

    def add(self, records: Sequence[Record]) -> None:
        """Write the records of a finished unit."""
        if self.path is None:
            return
        try:
            with open(self.path, "ab") as stream:
                stream.write(b"".join(map(line_of, records)))
        except OSError as error:
            raise CannotRunError(f"cannot write {self.path}: {error.strerror}") from error


def _record(line: bytes, start: Mapping[str, Any]) -> tuple[Record, int] | None:
    """Return the record of a line and its length, or None where the line was not finished or is no such record."""
    try:
        found = json.loads(line)
        known = isinstance(found, dict) and all(found.get(name) == value for name, value in start.items())
        if not known or line_of(found) != line + b"\n" or not set(map(type, found.values())) <= PLAIN:
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    return {name: math.nan if one is None else one for name, one in found.items()}, len(line) + 1


def kept_in(place: str | Path | None, header: Mapping[str, Any]) -> Kept:
    """Return where finished work is kept: a file, or `NAME` in a folder that is there."""
    if place is None:
        return Kept(None, header)
    if not isinstance(place, str | Path):
        raise InputError(f"keep={place!r} must be the name of a file or folder")
    path = Path(place)
    return Kept(path / NAME if path.is_dir() else path, header)


def in_order(work: Callable[[Unit], list[Record]], units: Sequence[Unit], cores: int | None) -> Iterator[list[Record]]:
    """Yield what is made of each unit in their order, whoever makes it.

    `cores` None leaves the number of workers to the backend of joblib in whose context this is called.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    workers = effective_n_jobs(cores)
    if workers == 1:
        yield from map(work, units)
        return
    with Parallel(n_jobs=cores) as pool:
        for start in range(0, len(units), 2 * workers):
            yield from pool(delayed(work)(unit) for unit in units[start : start + 2 * workers])


def shows_progress(asked: bool | None) -> bool:
    """Tell whether a bar is drawn: if asked for, or in a terminal."""
    return sys.stderr.isatty() if asked is None else asked


def draw_bar(done: int, total: int, what: str) -> None:
    """Draw how much is done over the last such line of standard error; the last ends it."""
    full = BAR * done // max(total, 1)
    end = "\n" if done >= total else ""
    sys.stderr.write(f"\r[{'#' * full}{'.' * (BAR - full)}] {thousands(done)} of {thousands(total)} {what}{end}")
    sys.stderr.flush()


def main_effects(values: Array, codes: AnyArray) -> Array:
    """Return the share of the variation of values (n,) that each choice alone accounts for, (c,).

    `codes` (n, c) numbers the option of each choice. Additive effects of all options are fitted by least squares; the
    share of a choice is by how much the sum of squares left over grows without it (type II; in a complete grid, the
    classic main effect). What all leave is interaction; what two choices account for alike is in neither's share.
    The values must vary.
    """
    total = float(((values - values.mean()) ** 2).sum())
    blocks = [(column[:, None] == np.unique(column)[1:]).astype(float) for column in codes.T]
    left = _left_over(values, blocks)
    without = [_left_over(values, [*blocks[:j], *blocks[j + 1 :]]) for j in range(len(blocks))]
    return np.clip((np.array(without) - left) / total, 0.0, 1.0)


def _left_over(values: Array, blocks: list[Array]) -> float:
    X = np.column_stack([np.ones(values.size), *blocks])
    centred = values - values.mean()
    # Options that never occur apart make columns that repeat each other: the smallest solution is as good as any.
    fitted = X @ (np.linalg.pinv(X.T @ X, hermitian=True) @ (X.T @ centred))
    return float(((centred - fitted) ** 2).sum())


# Specifications that one worker takes at a time: with their neighbours they share effects and fits. How they are cut
# into parts must not depend on who works, or last digits would.
PART = 250
NO_MATTER = "–"
AS_R = {"r": "estimate", "r_lb": "ci_lb", "r_ub": "ci_ub"}
STATISTICS = {
    "median": "median of the curve",
    "significant": "share significant in the direction of most",
    "z": "mean z",
}
SOURCE = "Simonsohn, Simmons & Nelson (2020), doi:10.1038/s41562-020-0912-z"


@dataclass(frozen=True, slots=True, repr=False)
class Multiverse(Result):
    """Every specification of an analysis and what it gives.

    Attributes
    ----------
    choices : mapping of str to tuple of Option
        What could be chosen.
    frame : DataFrame
        What `tidy` returns.
    null : DataFrame or None
        ``median significant z`` of the curve with the signs of studies flipped, one row per draw.
    level : float
        Confidence level of every interval, a fraction.
    measure : str
        Scale of the headline.
    provenance : Provenance
    """

    choices: Mapping[str, tuple[Any, ...]]
    frame: pd.DataFrame
    null: pd.DataFrame | None
    level: float
    measure: str
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return the specification curve: one row per specification, the lowest estimate first, failures last.

        Returns
        -------
        DataFrame
            A column for each choice with the option taken ("–" where it makes no difference); ``grade``, the lowest
            of its options; ``headline``; ``estimate se ci_lb ci_ub pval tau2`` on the specification's own scale; of
            correlations ``r r_lb r_ub``, by which the rows are sorted; ``k studies``; ``why`` it gives no number,
            empty where it does. Indexed by ``specification``, its number in the order of the choices.
        """
        return self.frame.copy()

    @property
    def point(self) -> str:
        """The column that specifications are compared by: ``"r"``, or ``"estimate"`` of other effects."""
        return "r" if "r" in self.frame else "estimate"

    @property
    def headline(self) -> pd.Series[Any]:
        """The row of the analysis that is reported."""
        return self.frame[self.frame["headline"]].iloc[0]

    @property
    def given(self) -> pd.DataFrame:
        """The rows of specifications that give a number."""
        rows = self.frame[self.frame["why"] == ""]
        return rows.astype({name: float for name in (*NUMBERS, *AS_R) if name in rows})

    def shares(self) -> pd.DataFrame:
        """Return how much of the variation of the estimates goes with each choice.

        Returns
        -------
        DataFrame
            For each choice with several options: ``options``, how many; ``share`` of the variance of the estimates
            of all specifications that its options alone account for, and ``share_defensible`` of those that can be
            defended; ``lowest`` and ``highest`` mean estimate of its options, and which these are. The last row,
            ``interactions and overlap``, is what the main effects leave.
        """
        varied = [name for name in CHOICES if len(self.choices[name]) > 1]
        defensible = self.given["grade"] != GRADES[-1]
        each, some = (_shares(rows, self, varied) for rows in (self.given, self.given[defensible]))
        rows = [
            {"options": len(self.choices[name]), "share": each[i], "share_defensible": some[i]} | self._ends(name)
            for i, name in enumerate(varied)
        ]
        none = NotApplicable("no choice")
        rest = {"share": each[-1], "share_defensible": some[-1], "lowest": none, "highest": none}
        rows.append({"options": none, **rest, "lowest_by": "", "highest_by": ""})
        return frame_of(rows, index=pd.Index([*varied, REST], name="choice"))

    def _ends(self, name: str) -> dict[str, Any]:
        means = self.given[self.given[name] != NO_MATTER].groupby(name, sort=True)[self.point].mean()
        if means.empty:
            none = NotApplicable("it made no difference to any specification")
            return {"lowest": none, "highest": none, "lowest_by": "", "highest_by": ""}
        return {
            "lowest": means.min(), "highest": means.max(),
            "lowest_by": str(means.idxmin()), "highest_by": str(means.idxmax()),
        }  # fmt: skip

    def null_test(self) -> pd.DataFrame:
        """Return what the whole curve says against no effect at all.

        Returns
        -------
        DataFrame
            For ``median``, ``significant`` (share of specifications with p below 1 - level in the direction that
            most have) and ``z`` (the mean of estimate / se): ``observed``, the ``upper`` 95% point of its size when
            the signs of whole studies are flipped at random, and ``pval``, two-sided.

        Raises
        ------
        InputError
            A multiverse without draws.
        """
        if self.null is None:
            raise InputError("there are no draws without effect; call multiverse with null=200 and a seed")
        seen = _curve(self.given, self.point, self.level)
        rows = []
        for name in STATISTICS:
            drawn = np.abs(self.null[name].to_numpy(dtype=float))
            as_far = int((drawn >= abs(seen[name]) * (1.0 - 1e-12)).sum())
            rows.append({
                "observed": seen[name], "upper": float(np.quantile(drawn, 0.95)),
                "pval": (1 + as_far) / (1 + drawn.size),
            })  # fmt: skip
        return pd.DataFrame(rows, index=pd.Index(list(STATISTICS), name="statistic"))

    def agreement(self) -> str:
        """Say how many specifications agree with the headline in sign and significance."""
        head, given = self.headline, self.given
        gives = "gives" if len(given) == 1 else "give"
        what = f"{thousands(len(given))} of {_many(len(self.frame))} {gives} a number."
        if head["why"]:
            return f"{what} The headline gives none: {head['why']}"
        parts = [what, f"Of these, {self._agrees(given)}."]
        some = given[given["grade"] != GRADES[-1]]
        if len(some) < len(given):
            parts.append(f"Of the {thousands(len(some))} that can be defended, {self._agrees(some)}.")
        return " ".join(parts)

    def _agrees(self, rows: pd.DataFrame) -> str:
        """Say how many rows have the sign of the headline, and how many its significance too."""
        head, alpha = self.headline, 1.0 - self.level
        same = np.sign(rows[self.point]) == np.sign(head[self.point])
        own = head["pval"] < alpha
        both = same & ((rows["pval"] < alpha) == own)
        counts = [f"{thousands(int(one.sum()))} ({format_percent(100.0 * float(one.mean()))})" for one in (same, both)]
        less = f"p {'<' if own else '>='} {brief(alpha)}"
        return f"{counts[0]} have the sign of the headline and {counts[1]} also its significance ({less})"

    def position(self) -> str:
        """Say in a sentence where the headline stands on the curve."""
        head, given, point = self.headline, self.given, self.point
        if given.empty or head["why"]:
            return ""
        symbol = "r" if point == "r" else "estimate"
        values = given[point].to_numpy(dtype=float)
        below, above = (values < head[point] - SAME).mean(), (values > head[point] + SAME).mean()
        limits = (head["r_lb"], head["r_ub"]) if point == "r" else (head["ci_lb"], head["ci_ub"])
        return (
            f"The headline, {symbol} = {fixed(head[point], 3)} {fixed_interval(*limits, 3)}, is above "
            f"{format_percent(100 * below)} of the specifications and below {format_percent(100 * above)}; they run "
            f"from {fixed(values.min(), 3)} to {fixed(values.max(), 3)}, the median is {fixed(np.median(values), 3)}."
        )

    def _content(self) -> Document:
        title = f"Multiverse of {_many(len(self.frame))} ({format_level(self.level)})"
        lost = self.frame.loc[self.frame["why"] != "", "why"].value_counts(sort=True)
        gone = [f"{count} x {why}" for why, count in sorted(lost.items(), key=lambda one: (-one[1], one[0]))]
        blocks: tuple[Any, ...] = (
            _options_table(self), _shares_table(self), [] if self.null is None else _null_table(self),
            gone and ["Specifications without a number:", *gone],
        )  # fmt: skip
        lines = [line for line in (self.position(), self.agreement()) if line]
        return self._document(title, *(block for block in blocks if block), lines=lines)

    def _values(self) -> dict[str, Any]:
        def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
            return frame.reset_index().astype(object).to_dict("records")

        listed = {
            name: [{"value": one.value, "grade": one.grade, "label": one.label} for one in options]
            for name, options in self.choices.items()
        }
        test = {} if self.null is None else {"null_test": rows(self.null_test())}
        return {
            **self._these("level", "measure"), "agreement": self.agreement(), "position": self.position(),
            "choices": listed, "shares": rows(self.shares()), **test, "specifications": rows(self.frame),
        }  # fmt: skip


REST = "interactions and overlap"
# Estimates nearer to each other than this are the same.
SAME = 1e-9


def _many(count: int) -> str:
    return f"{thousands(count)} specification{'' if count == 1 else 's'}"


def _shares(rows: pd.DataFrame, result: Multiverse, varied: Sequence[str]) -> list[float]:
    """Return the share of each choice and of what they leave; where one makes no difference it has its headline."""
    values = rows[result.point].to_numpy(dtype=float)
    if not varied or values.size < 2 or np.ptp(values) < SAME:
        return [NotApplicable("the estimates do not vary")] * (len(varied) + 1)
    codes = []
    for name in varied:
        at = {one.label: place for place, one in enumerate(result.choices[name])}
        head = next(place for place, one in enumerate(result.choices[name]) if one.grade == "headline")
        codes.append([at.get(label, head) for label in rows[name]])
    each = main_effects(values, np.array(codes).T)
    return [*map(float, each), max(0.0, 1.0 - float(each.sum()))]


def _curve(rows: pd.DataFrame, point: str, level: float) -> dict[str, float]:
    """Return the three statistics of a curve."""
    if rows.empty:
        return dict.fromkeys(STATISTICS, 0.0)
    values = rows[point].to_numpy(dtype=float)
    clear = rows["pval"].to_numpy(dtype=float) < 1.0 - level
    shares = [float((clear & (np.sign(values) == sign)).mean()) for sign in (-1.0, 1.0)]
    se = rows["se"].to_numpy(dtype=float)
    z = (rows["estimate"].to_numpy(dtype=float) / np.where(se > 0, se, np.inf)).mean()
    return {"median": float(np.median(values)), "significant": max(shares), "z": float(z)}


def _options_table(result: Multiverse) -> Table:
    """Return for each option how many specifications take it, and between which values they lie."""
    rows: list[tuple[str, ...]] = []
    given, point = result.given, result.point
    for name in CHOICES:
        if len(result.choices[name]) == 1:
            continue
        rows.append((name,))
        for one in result.choices[name]:
            own = given.loc[given[name] == one.label, point]
            ends = ("", "", "") if own.empty else tuple(fixed(v, 3) for v in (own.min(), own.median(), own.max()))
            rows.append((f"  {one.label}", one.grade, str(len(own)), *ends))
    return Table(("", "grade", "specifications", "lowest", "median", "highest"), tuple(rows), "Options", (1,))


def _shares_table(result: Multiverse) -> Table:
    table = result.shares().astype(object)

    def cell(value: float) -> str:
        return "" if math.isnan(value) else format_percent(100.0 * value)

    rows = [(str(name), cell(row["share"]), cell(row["share_defensible"])) for name, row in table.iterrows()]
    caption = "Share of the variance of the estimates that goes with each choice alone (additive main effects)"
    return Table(("", "of all", "of what can be defended"), tuple(rows), caption)


def _null_table(result: Multiverse) -> Table:
    assert result.null is not None
    rows = [
        (STATISTICS[str(name)], fixed(row["observed"], 3), fixed(row["upper"], 3), bare_p(row["pval"]))
        for name, row in result.null_test().iterrows()
    ]
    draws = thousands(len(result.null))
    return Table(("", "observed", "95% without effect", "p"), tuple(rows), f"The curve without effect ({draws} draws)")


def multiverse(
    source: EffectSizes | Any,
    *,
    choices: Mapping[str, Sequence[Any]] | None = None,
    cluster: str = STUDY,
    ri: str | None = None,
    ni: str | None = None,
    level: float = 0.95,
    null: int = 0,
    seed: int | None = None,
    keep: str | Path | None = None,
    cores: int | None = None,
    progress: bool | None = None,
) -> Multiverse:
    r"""Analyse the same studies in every way that could have been chosen, and show the answers as one curve.

    A meta-analysis is a chain of choices: which effects, on which scale, what to do with several effects of one study,
    which estimator. Each can be defended, others could be too, and readers cannot know what the answer would have been.
    This follows all combinations. If nearly all say the same, the answer does not hang on them; if not, the shares say
    on which it does.

    Parameters
    ----------
    source : EffectSizes, CodedTable, DataFrame, str or Path
        The effects; or the table with r and n, a file of it or the name of a data set, of which the effects on several
        scales are made.
    choices : mapping of str to sequence, optional
        Options by choice, each an `Option`, or its value alone: the first is then the headline, others are defensible.
        A choice that is not named stays at its headline. By default what this literature uses; see Notes.
    cluster : str
        Column of the studies.
    ri, ni : str, optional
        Columns of a table with correlations and sample sizes, as in `escalc`.
    level : float
        Confidence level, a fraction.
    null : int
        How often the whole curve is made anew with the signs of studies flipped at random, as if none had an effect.
    seed : int, optional
        For `null`.
    keep : str or Path, optional
        A file, or a folder that is there: finished specifications are kept as lines of JSON. Called again after it was
        stopped, it goes on where it was, and the file becomes the same to the last byte.
    cores : int, optional
        Worker processes; by default one, or what the backend of joblib says in whose context the call stands, such as
        a Dask cluster: ``with joblib.parallel_backend("dask"): ...``. Results are the same for any number.
    progress : bool, optional
        Draw a bar on standard error; by default in a terminal.

    Returns
    -------
    Multiverse
        A specification that cannot be fitted says why in its row, and the others stand.

    Raises
    ------
    InputError
        A choice or option that does not exist, headline options that do not go together, more than 200,000
        combinations; `null` without `seed`; a file of another multiverse.
    CodingError
        A table of which no effect can be made.

    Notes
    -----
    The choices and the values of their options, in the order in which an analysis goes through them:

    - ``effects``: None for all; a condition such as ``"rater == 'client'"``; ``{"pick": "lowest"}`` or ``"highest"``
      effect of each study; what `select_effects` takes, ``{"by": {"rater": ["client", "observer"]}, "ties": "first"}``.
    - ``measure``: of a table ``"ZCOR"``, ``"COR"``, ``"COR AV"``, ``"UCOR"`` and so on; of effects their own.
    - ``dependence``: ``"CHE"``, ``"three-level"``, ``"RVE CORR"``, ``"RVE HIER"``; ``"mean"``, ``"CS"``,
      ``"gleser-olkin"`` and ``"composite"`` average each study first, as `aggregate` does; ``"independent"`` takes
      all effects for independent.
    - ``rho``: assumed correlation of sampling errors within studies, where one is assumed.
    - ``moderators``: a formula, ``"1"`` for none; the estimate is then the mean at the average of the moderators.
    - ``outliers``: None, or ``"intervals"``: effects whose 95% interval misses that of the mean are left out, once.
    - ``bias``: None, or a row of `bias.panel`: ``"pet_peese"``, ``"selection"``, ``"trimfill"`` ...
    - ``estimator``: of tau2, as in `RandomEffectsModel`; REML or ML where effects are dependent.
    - ``inference``: ``"knha"``, ``"adhoc"``, ``"t"``, ``"z"``; ``"CR2"`` robust by study.

    Combinations that give the same analysis are one specification, those that do not exist are left out; a note counts
    them. A correction for bias has its own inference. Shares of variance are type II: by how much the additive
    main effects of all other choices say less. Without an effect signs of studies are arbitrary: flipping them gives
    the curve's distribution under no effect, whatever the choices (Simonsohn, Simmons & Nelson 2020,
    doi:10.1038/s41562-020-0912-z); sampling variances stay as they are. Multiverse: Steegen, Tuerlinckx, Gelman &
    Vanpaemel (2016), doi:10.1177/1745691616658637; in meta-analysis Voracek, Kossmeier & Tran (2019),
    doi:10.1027/2151-2604/a000357. R: a loop over ``rma``, as in their code.

    Examples
    --------
    >>> import alliance_meta as am
    >>> effects = am.escalc(am.load_dataset("molloy2014"))
    >>> choices = {"estimator": ["REML", "DL", "EE"], "outliers": [None, "intervals"]}
    >>> found = am.sensitivity.multiverse(effects, choices=choices)
    >>> found.tidy()["r"].astype(float).round(3).to_list()
    [0.125, 0.125, 0.148, 0.148, 0.149, 0.149]
    >>> found.position()  # doctest: +ELLIPSIS
    'The headline, r = 0.149 [0.080, 0.216], is above 66.7% of the specifications and below 0.0%; they run ...'
    """
    check_level(level)
    if cores is not None:
        check_cores(cores)
    draws = _draws(null)
    used = check_seed(seed, "random signs of studies") if draws else 0
    made = _source(source, choices, cluster, ri, ni)
    options = read_choices(usual(made) if choices is None else choices, made)
    specs, gone = specifications(options)
    setting = Setting(made, options, level)
    parts = [specs[start : start + PART] for start in range(0, len(specs), PART)]
    units: list[Sequence[Spec] | int] = [*parts, *range(draws)]
    expected = [*([_start(spec, options) for spec in part] for part in parts), *([{"draw": n}] for n in range(draws))]
    kept = kept_in(keep, _header(setting, draws, used))
    done = kept.finished(expected)
    work = partial(_work, setting, specs, used)
    shown = shows_progress(progress)
    for records in in_order(work, units[len(done) :], cores):
        kept.add(records)
        done.append(records)
        if shown:
            count = min(len(done) * PART, len(specs))
            at_curve = draws == 0 or len(done) <= len(parts)
            draw_bar(
                *((count, len(specs), "specifications") if at_curve else (len(done) - len(parts), draws, "curves"))
            )
    rows = [record for part in done[: len(parts)] for record in part]
    frame = _frame(rows, specs, options, made)
    return Multiverse(
        choices=options,
        frame=frame,
        null=pd.DataFrame([one[0] for one in done[len(parts) :]])[list(STATISTICS)] if draws else None,
        level=level,
        measure=made.first.measure,
        provenance=made.first.provenance,
        notes=merge_notes(made.first.notes, _notes(frame, specs, options, gone)),
    )


def _draws(null: Any) -> int:
    if not isinstance(null, int) or isinstance(null, bool) or null < 0:
        raise InputError(f"null={null!r} must be a whole number of draws, 0 for none")
    return null


def _source(source: Any, choices: Any, cluster: str, ri: str | None, ni: str | None) -> Source:
    """Return the effects on every scale that is asked for."""
    if not isinstance(cluster, str):
        raise InputError("cluster must name the column of the studies, so that every selection of effects has it")
    if isinstance(source, EffectSizes):
        effects = {source.measure: source}
    else:
        effects = _from_table(source, choices, ri, ni)
    for one in effects.values():
        read_clusters(one, cluster)
    return Source(effects, cluster)


def _from_table(source: Any, choices: Any, ri: str | None, ni: str | None) -> dict[str, EffectSizes]:
    table = read_rows(source, ri, ni, who="multiverse")
    if ri is None and ni is None and "ri" not in table.defaults and finished_columns(table):
        one = escalc(table)
        return {one.measure: one}
    asked = isinstance(choices, Mapping) and "measure" in choices
    found: dict[str, EffectSizes] = {}
    problem: CodingError | None = None
    for name in measures(asked):
        measure, _, vtype = name.partition(" ")
        scale: Any = {"measure": measure, "vtype": vtype or "LS"}
        try:
            found[name] = escalc(table, ri=ri, ni=ni, **scale)
        except CodingError as error:
            problem = problem or error
    if not found and problem is not None:
        raise problem
    return found


def _work(setting: Setting, specs: Sequence[Spec], seed: int, unit: Sequence[Spec] | int) -> list[Record]:
    """Return the records of a part of the specifications, or of the number of a curve without effect."""
    if not isinstance(unit, int):
        found = follow_specs(setting, unit)
        return [{**_start(spec, setting.choices), **row} for spec, row in zip(unit, found, strict=True)]
    turned = setting.flipped(seed, unit)
    rows = [row for start in range(0, len(specs), PART) for row in follow_specs(turned, specs[start : start + PART])]
    given = [
        _on_r(row, setting.value(spec, "measure")) for spec, row in zip(specs, rows, strict=True) if not row["why"]
    ]
    frame = pd.DataFrame(given)
    return [{"draw": unit, **_curve(frame, "r" if "r" in frame else "estimate", setting.level)}]


def _start(spec: Spec, choices: Options) -> dict[str, Any]:
    """Return what says which specification a record is of."""
    return {"choices": [_taken(options, place) for options, place in zip(choices.values(), spec, strict=True)]}


def _taken(options: Sequence[Any], place: int) -> str:
    return NO_MATTER if place == UNUSED else str(options[place].label)


def _header(setting: Setting, draws: int, seed: int) -> dict[str, Any]:
    """Return what makes another analysis of the first line of a file."""
    listed = {name: [(one.value, one.grade, one.label) for one in options] for name, options in setting.choices.items()}
    text = [json.dumps(listed, sort_keys=True), setting.source.cluster, __version__]
    for name, effects in setting.source.effects.items():
        text += [name, effects.measure, str(effects.vtype), effects.frame.to_csv(index=False)]
    digest = hashlib.sha256("\x1f".join(text).encode("utf-8", "surrogatepass")).hexdigest()
    return {"multiverse": digest, "level": setting.level, "null": draws, "seed": seed}


def _on_r(row: Row, measure: str) -> Row:
    """Return a row with its estimate and limits as correlations, where they have that scale."""
    scale = measure.partition(" ")[0]
    if scale not in CORRELATIONS:
        return row
    return row | {r: math.tanh(row[name]) if scale == "ZCOR" else row[name] for r, name in AS_R.items()}


def _frame(records: Sequence[Record], specs: Sequence[Spec], options: Options, source: Source) -> pd.DataFrame:
    """Return the rows in the order of the curve."""
    head, scales = head_of(options), [one.value for one in options["measure"]]
    rows = []
    for record, spec in zip(records, specs, strict=True):
        graded = [GRADES.index(options[name][at].grade) for name, at in zip(CHOICES, spec, strict=True) if at != UNUSED]
        row = _on_r(record, scales[spec[CHOICES.index("measure")]])
        if row["why"]:
            gone = NotApplicable(row["why"])
            row = row | {name: gone for name in (*NUMBERS, *AS_R) if name in row}
        rows.append({
            **dict(zip(CHOICES, row.pop("choices"), strict=True)), "grade": GRADES[max(graded)],
            "headline": spec == head, **{name: _known(row[name]) for name in (*NUMBERS, *AS_R) if name in row},
            "k": int(row["k"]), "studies": int(row["studies"]), "why": row["why"],
        })  # fmt: skip
    frame = frame_of(rows, index=pd.RangeIndex(1, len(rows) + 1, name="specification"))
    point = frame["r" if "r" in frame else "estimate"].astype(float).to_numpy()
    ordered = frame.iloc[np.argsort(point, kind="stable")]
    ordered.attrs["scale"] = source.first.scale_label
    return ordered


def _known(value: float) -> float:
    """Return a number; the reason where a method has none."""
    return NotApplicable("the method gives none") if value != value and not isinstance(value, NotApplicable) else value


def _notes(frame: pd.DataFrame, specs: Sequence[Spec], options: Options, gone: Mapping[str, int]) -> Iterator[Note]:
    every = math.prod(len(one) for one in options.values())
    missing = sum(gone.values())
    if every > len(specs):
        same = every - missing - len(specs)
        alike = f"; {thousands(same)} give the same analysis as another" if same else ""
        reasons = "; ".join(f"{thousands(count)} because {why}" for why, count in gone.items())
        left = f"; {thousands(missing)} do not exist ({reasons})" if missing else ""
        yield Note("specifications", f"The choices have {thousands(every)} combinations{alike}{left}.")
    lost = int((frame["why"] != "").sum())
    if lost:
        yield Note("specifications-lost", f"{_many(lost)} gave no number; the column why says for what reason.")
    yield Note(
        "no-vote",
        "Specifications share their data: how many agree is no evidence, and grades are the analyst's judgement.",
    )
