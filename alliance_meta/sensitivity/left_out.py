"""A model of dependent effects without each study in turn, everything estimated again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.encoding import plain
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import did_you_mean
from alliance_meta.result import Result
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import RobustResults, robust_results
from alliance_meta.sensitivity.refitting import check_cores, check_multilevel, full, natural_values, part, refitted
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import level_text

NEEDED = "a coefficient cannot be estimated without this cluster"
GONE = "no other cluster has this level"
ESTIMATES = {"estimate": "beta", "se": "se", "ddf": "ddf", "pval": "pval", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}
# Clusters that one process refits at a time.
CHUNK = 20
SHOWN = 5

Row = dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class ClustersLeftOut(Result):
    """The model without each cluster in turn.

    Attributes
    ----------
    fit : MultilevelResults or RobustResults
        The model of all effects.
    cluster : str
        The column that made the clusters.
    labels : tuple of str
        The cluster left out in each refit, sorted.
    sizes : tuple of int
        Effects left out.
    notes : tuple of Note
    """

    fit: MultilevelResults | RobustResults
    cluster: str
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    _rows: tuple[dict[str, Row], ...]
    notes: tuple[Note, ...] = ()

    def tidy(self, *, term: str | None = None) -> pd.DataFrame:
        """Return one row per cluster left out.

        Parameters
        ----------
        term : str, optional
            The coefficient to show; by default the first.

        Returns
        -------
        DataFrame
            ``label k`` (effects left out), ``estimate se ddf pval ci_lb ci_ub`` of the coefficient, ``tau2 QE I2``, and
            every variance and correlation by its name. `NotApplicable` where something cannot be estimated.

        Raises
        ------
        InputError
            An unknown term.
        """
        name = self._term(term)
        rows = [
            {"label": label, "k": size, **one[name], **one[""]}
            for label, size, one in zip(self.labels, self.sizes, self._rows, strict=True)
        ]
        out = pd.DataFrame({column: _column([row[column] for row in rows]) for column in rows[0]})
        out.attrs.update(term=name, level=self.fit.level, scale=self.fit.effects.scale_label)
        return out

    def span(self, *, term: str | None = None) -> pd.DataFrame:
        """Return how far each number moves: ``all lowest without highest without_`` by name.

        Returns
        -------
        DataFrame
            One row each for ``estimate``, ``se``, ``pval`` and every variance and correlation: its value from all
            effects (``all``), the lowest and highest without one cluster, and which cluster that was
            (``lowest_without``, ``highest_without``).
        """
        frame, name = self.tidy(term=term), self._term(term)
        whole = _numbers(self.fit)
        rows = {}
        for column in ["estimate", "se", "pval", "tau2", *self._components]:
            values = frame[column].to_numpy(dtype=float)
            if np.isnan(values).all():
                continue
            low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
            rows[column] = {
                "all": float((whole[name] | whole[""])[column]),
                "lowest": float(values[low]),
                "lowest_without": self.labels[low],
                "highest": float(values[high]),
                "highest_without": self.labels[high],
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def _components(self) -> list[str]:
        return [str(name) for name in self.fit.components.index]

    def _term(self, term: str | None) -> str:
        names = self.fit.names
        if term is not None and term not in names:
            raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, list(names))}: {', '.join(names)}")
        return names[0] if term is None else term

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return plain(
            {
                "cluster": self.cluster,
                "level": self.fit.level,
                "terms": {term: self.tidy(term=term).to_dict(orient="records") for term in self.fit.names},
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        span: dict[str, Kind] = {"all": 4, "lowest": 4, "lowest_without": "s", "highest": 4, "highest_without": "s"}
        frame, estimate = self.tidy(), float(self.fit.beta[0])
        order = (frame["estimate"].astype(float) - estimate).abs().sort_values(ascending=False, kind="stable").index
        moved = dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub"), 4)
        return self._document(
            f"Without each of {len(self.labels)} clusters ({self.cluster}): {self._term(None)}, "
            f"{self.fit.effects.scale_label}",
            table_of(self.span(), span, heads={"lowest_without": "without", "highest_without": "without"}),
            table_of(
                frame.loc[order[:SHOWN]].set_index("label"),
                moved,
                f"Largest moves of the estimate ({level_text(self.fit.level)} intervals)",
            ),
        )


def leave_out_clusters(
    fit: MultilevelResults | RobustResults, *, cluster: Any = None, cores: int = 1
) -> ClustersLeftOut:
    """Fit the model again without each study in turn, and see what changes.

    A conclusion that falls when one study is left out rests on that study. Studies, not effects, are left out:
    without one of its effects, a study would still speak through the others.

    Parameters
    ----------
    fit : MultilevelResults, or its ``robust()`` results
        With robust results, standard errors, degrees of freedom and intervals are robust ones in every refit.
    cluster : str or array-like of shape (k,), optional
        What is left out whole; by default that of robust results, else ``"study_id"``.
    cores : int
        Processes; they do not change the result.

    Returns
    -------
    ClustersLeftOut
        ``plots.leave_out`` draws it.

    Raises
    ------
    InputError
        Another kind of fit, or a single cluster.

    See Also
    --------
    cluster_influence : the same at once, with variances held.

    Notes
    -----
    Each search starts from the estimates of all effects. R: a loop of ``rma.mv(..., subset = study != i)``.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> found = sensitivity.leave_out_clusters(MultilevelModel(es).fit())
    >>> found.span().loc["estimate", ["all", "lowest", "highest"]].astype(float).round(4).tolist()
    [0.4798, 0.4611, 0.4869]
    """
    model = check_multilevel(fit.fit if isinstance(fit, RobustResults) else fit, "leave_out_clusters")
    check_cores(cores)
    if cluster is None and isinstance(fit, RobustResults):
        name, of, labels = fit.cluster, fit._clusters.cluster, fit._clusters.labels
    else:
        groups = read_clusters(model.effects, "study_id" if cluster is None else cluster)
        order = sorted(range(groups.n), key=lambda code: groups.labels[code])
        name, labels = groups.name, tuple(groups.labels[code] for code in order)
        of = np.argsort(order)[groups.codes]
    if len(labels) < 2:
        raise InputError(f"cluster={name!r} holds every effect in one cluster; nothing is left without it")
    rows = tuple(row for chunk in _chunks(fit, of, len(labels), cores) for row in chunk)
    sizes = tuple(np.bincount(of).tolist())
    return ClustersLeftOut(fit, name, labels, sizes, rows, merge_notes(fit.notes, _notes(labels, rows)))


def _chunks(fit: Any, of: IntArray, J: int, cores: int) -> Iterator[list[dict[str, Row]]]:
    spans = [range(start, min(start + CHUNK, J)) for start in range(0, J, CHUNK)]
    if cores == 1 or len(spans) == 1:
        yield from (_without(fit, of, span) for span in spans)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=cores)(delayed(_without)(fit, of, span) for span in spans)


def _without(fit: MultilevelResults | RobustResults, of: IntArray, codes: Sequence[int]) -> list[dict[str, Row]]:
    """Return the numbers of the refits without each of these clusters."""
    model: MultilevelResults = fit.fit if isinstance(fit, RobustResults) else fit
    names = [str(name) for name in model.components.index]
    found = []
    for code in codes:
        rows = np.flatnonzero(of != code)
        if not full(model, rows):
            found.append(_nothing(model, names))
            continue
        one: Any = refitted(model, part(model, rows), rows)
        if isinstance(fit, RobustResults):
            labels = [fit._clusters.labels[i] for i in fit._clusters.cluster[rows]]
            if len(set(labels)) < 2:
                found.append(_nothing(model, names))
                continue
            with warnings.catch_warnings():
                # What robust inference says of the fit holds for every refit, and is in its notes.
                warnings.simplefilter("ignore", AllianceMetaWarning)
                one = robust_results(one, cluster=labels, type=fit.type)
        found.append(_numbers(one, names))
    return found


def _numbers(fit: MultilevelResults | RobustResults, names: list[str] | None = None) -> dict[str, Row]:
    """Return a row for each coefficient, and under "" what belongs to the model."""
    found: dict[str, Row] = {
        term: {column: float(getattr(fit, source)[i]) for column, source in ESTIMATES.items()}
        for i, term in enumerate(fit.names)
    }
    model = fit.fit if isinstance(fit, RobustResults) else fit
    own = natural_values(model.fitted, model.random)
    gone = NotApplicable(GONE)
    found[""] = {"tau2": fit.tau2, "QE": fit.QE, "I2": fit.I2}
    found[""] |= {name: own.get(name, gone) for name in (own if names is None else names)}
    return found


def _nothing(model: MultilevelResults, names: list[str]) -> dict[str, Row]:
    gone = NotApplicable(NEEDED)
    found: dict[str, Row] = {term: dict.fromkeys(ESTIMATES, gone) for term in model.names}
    return found | {"": dict.fromkeys(["tau2", "QE", "I2", *names], gone)}


def _column(values: list[Any]) -> pd.Series:
    plain_numbers = not any(isinstance(value, NotApplicable) for value in values)
    return pd.Series(values, dtype=None if plain_numbers else object)


def _notes(labels: Sequence[str], rows: Sequence[dict[str, Row]]) -> list[Note]:
    lost = [
        label
        for label, row in zip(labels, rows, strict=True)
        if isinstance(next(iter(row.values()))["se"], NotApplicable)
    ]
    if not lost:
        return []
    return [Note("cluster-needed", f"The model cannot be fitted without {', '.join(lost[:5])}: {NEEDED}.")]
