"""A model of dependent effects without each study in turn: estimated again, or at once with variances held."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import Deletions, IntArray, deletions
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.notes import NotApplicable, Note, check_cores, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.coefficients import WaldTested
from alliance_meta.results.fit import frame_of
from alliance_meta.results.multilevel import MultilevelResults
from alliance_meta.results.robust import Clustered, RobustResults, clustered, robust_results
from alliance_meta.sensitivity.refitting import (
    check_multilevel,
    coefficient,
    full,
    natural_values,
    part,
    refitted,
)
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import fixed, level_text

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
        name = coefficient(self.fit.names, term)
        rows = [
            {"label": label, "k": size, **one[name], **one[""]}
            for label, size, one in zip(self.labels, self.sizes, self._rows, strict=True)
        ]
        out = frame_of(rows)
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
        frame, name = self.tidy(term=term), coefficient(self.fit.names, term)
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

    def _values(self) -> dict[str, Any]:
        return {
            "cluster": self.cluster,
            "level": self.fit.level,
            "terms": {term: self.tidy(term=term).to_dict(orient="records") for term in self.fit.names},
        }

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        span: dict[str, Kind] = {"all": 4, "lowest": 4, "lowest_without": "s", "highest": 4, "highest_without": "s"}
        frame, estimate = self.tidy(), float(self.fit.beta[0])
        order = (frame["estimate"].astype(float) - estimate).abs().sort_values(ascending=False, kind="stable").index
        moved = dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub"), 4)
        return self._document(
            f"Without each of {len(self.labels)} clusters ({self.cluster}): {self.fit.names[0]}, "
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


def _notes(labels: Sequence[str], rows: Sequence[dict[str, Row]]) -> list[Note]:
    lost = [
        label
        for label, row in zip(labels, rows, strict=True)
        if isinstance(next(iter(row.values()))["se"], NotApplicable)
    ]
    if not lost:
        return []
    return [Note("cluster-needed", f"The model cannot be fitted without {', '.join(lost[:5])}: {NEEDED}.")]


# Conventions of metafor's influence(): half of a chi-squared distribution, one standard error.
HALF, ONE = 0.5, 1.0
MOST_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class ClusterInfluence(Result):
    """What leaving out each cluster would do to the coefficients, variances and correlations held as they are.

    Attributes
    ----------
    cluster : str
        The column that made the clusters.
    names : tuple of str
        Coefficients.
    labels : tuple of str
        Clusters, sorted.
    sizes, weight : ndarray of shape (J,)
        Effects, and share of the model's weights in percent.
    cook_d, cov_r : ndarray of shape (J,)
    dfbetas : ndarray of shape (J, p)
    notes : tuple of Note
    """

    cluster: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: IntArray
    weight: Array
    cook_d: Array
    cov_r: Array
    dfbetas: Array
    notes: tuple[Note, ...] = ()

    @property
    def influential(self) -> Mask:
        """Clusters that pull hard: Cook's distance beyond half of chi2(p), or a DFBETAS beyond 1 either way."""
        far = special.chdtr(float(len(self.names)), np.nan_to_num(self.cook_d)) > HALF
        return far | (np.abs(np.nan_to_num(self.dfbetas)) > ONE).any(axis=1)

    def tidy(self) -> pd.DataFrame:
        """Return one row per cluster: ``label k weight cook_d cov_r dfbs_<coefficient> influential``.

        NaN where a coefficient cannot be estimated without the cluster; the notes name these.
        """
        columns: dict[str, Any] = {"label": list(self.labels), "k": self.sizes, "weight": self.weight}
        columns |= {"cook_d": self.cook_d, "cov_r": self.cov_r}
        columns |= {f"dfbs_{name}": self.dfbetas[:, i] for i, name in enumerate(self.names)}
        return pd.DataFrame(columns | {"influential": self.influential})

    def _values(self) -> dict[str, Any]:
        why = NotApplicable(NEEDED)
        rows = [
            {str(n): why if isinstance(v, float) and np.isnan(v) else v for n, v in row.items()}
            for row in self.tidy().to_dict(orient="records")
        ]
        return {"cluster": self.cluster, "clusters": rows}

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        order = np.argsort(-np.nan_to_num(self.cook_d), kind="stable")[:MOST_SHOWN]
        rows = []
        for i in order:
            largest = int(np.argmax(np.abs(np.nan_to_num(self.dfbetas[i]))))
            numbers = (fixed(self.weight[i], 2), fixed(self.cook_d[i]), fixed(self.cov_r[i], 3))
            of = (fixed(self.dfbetas[i, largest]), self.names[largest], "*" if self.influential[i] else "")
            rows.append((self.labels[i], str(self.sizes[i]), *numbers, *of))
        head = ("", "k", "weight", "cook_d", "cov_r", "dfbs", "of", "")
        return self._document(
            f"Influence of {len(self.labels)} clusters ({self.cluster}), variances held; "
            f"{int(self.influential.sum())} flagged *",
            Table(head, tuple(rows), words=(6,)),
        )


def cluster_influence(fit: WaldTested, *, cluster: Any = None) -> ClusterInfluence:
    r"""Say how far each study pulls the coefficients, without refitting.

    Variances and correlations stay as they were estimated from all studies, so that the answer comes at once, for
    any number of studies; `leave_out_clusters` estimates them again.

    Parameters
    ----------
    fit : MultilevelResults, RandomEffectsResults, or the ``robust()`` results of one
    cluster : str or array-like of shape (k,), optional
        What is left out whole; by default that of robust results, else ``"study_id"``. Clusters may be tied
        together by crossed random terms.

    Returns
    -------
    ClusterInfluence

    Raises
    ------
    InputError
        Another kind of fit, or a single cluster.

    Notes
    -----
    With :math:`d_i` the change of the coefficients when cluster i is left out: ``cook_d`` is
    :math:`d_i' vb^{-1} d_i` (a chi-squared distance with p degrees of freedom), ``dfbs`` each change over the
    coefficient's standard error, ``cov_r`` the ratio of the determinants of vb without and with the cluster;
    model-based standard errors throughout. Flagged are, by metafor's conventions, a distance beyond the median of
    chi2(p) or a ``dfbs`` beyond 1. R: ``cooks.distance(fit, cluster = study, reestimate = FALSE)``, ``dfbetas(...)``.

    Examples
    --------
    >>> from alliance_meta import MultilevelModel, escalc, load_dataset, sensitivity
    >>> fit = MultilevelModel(escalc(load_dataset("crede2010"))).fit()
    >>> found = sensitivity.cluster_influence(fit).tidy().sort_values("cook_d")
    >>> found["label"].iloc[-1], round(float(found["cook_d"].iloc[-1]), 4)
    ('23', 0.1708)
    """
    model: WaldTested = fit.fit if isinstance(fit, RobustResults) else fit
    if not hasattr(model, "working"):
        raise InputError(f"cluster_influence needs a fitted model that robust() knows, not {type(fit).__name__}")
    if isinstance(fit, RobustResults) and cluster is None:
        parts = fit._clusters
    else:
        parts = clustered(model, "study_id" if cluster is None else cluster)
    work, X = model.working(), model.design.X
    GX, Gr = work.solve(X), work.solve((model.effects.yi - X @ model.beta)[:, None])[:, 0]
    vb = parts.change @ parts.model.bread @ parts.change.T
    found = deletions(0.5 * (vb + vb.T), GX, Gr, list(_stacks(parts, work)), parts.n)
    rows = work.solve(np.ones((len(X), 1)))[:, 0]
    weight = 100.0 * np.bincount(parts.cluster, rows, minlength=parts.n) / rows.sum()
    cook = np.einsum("jp,pq,jq->j", found.change, np.linalg.inv(vb), found.change)
    dfbetas = found.change / np.sqrt(np.diag(vb))
    cov_r = np.linalg.det(np.nan_to_num(found.vb)) / np.linalg.det(vb)
    return ClusterInfluence(
        cluster=parts.name,
        names=model.design.names,
        labels=parts.labels,
        sizes=parts.sizes,
        weight=weight,
        cook_d=cook,
        cov_r=np.where(found.usable, cov_r, np.nan),
        dfbetas=dfbetas,
        notes=merge_notes(model.notes, _needed_notes(parts, found)),
    )


def _stacks(parts: Clustered, work: Any) -> Any:
    """Yield cluster numbers, rows and the blocks of M^-1 of clusters of one size."""
    k = parts.cluster.size
    for rows, M in parts.model.blocks:
        if not parts.crossed:
            inverse = np.linalg.inv(M)
        else:
            inverse = np.empty_like(M)
            for i, own in enumerate(rows):
                E = np.zeros((k, own.size))
                E[own, np.arange(own.size)] = 1.0
                inverse[i] = work.solve(E)[own]
        yield parts.cluster[rows[:, 0]], rows, 0.5 * (inverse + np.swapaxes(inverse, 1, 2))


def _needed_notes(parts: Clustered, found: Deletions) -> list[Note]:
    lost = [parts.labels[i] for i in np.flatnonzero(~found.usable)]
    if not lost:
        return []
    message = f"A coefficient cannot be estimated without {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}."
    return [Note("cluster-needed", message)]
