"""How much each study pulls the result of a model of dependent effects, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import Deletions, IntArray, deletions
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.clustered import Clustered, ModelBased, clustered
from alliance_meta.results.export import plain
from alliance_meta.results.robust import RobustResults
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import fixed

# Conventions of metafor's influence(): half of a chi-squared distribution, one standard error.
HALF, ONE = 0.5, 1.0
SHOWN = 10


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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        why = NotApplicable("a coefficient cannot be estimated without this cluster")
        rows = [
            {str(n): why if isinstance(v, float) and np.isnan(v) else v for n, v in row.items()}
            for row in self.tidy().to_dict(orient="records")
        ]
        return plain({"cluster": self.cluster, "clusters": rows, "notes": [note.to_dict() for note in self.notes]})

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        order = np.argsort(-np.nan_to_num(self.cook_d), kind="stable")[:SHOWN]
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


def cluster_influence(fit: ModelBased | RobustResults, *, cluster: Any = None) -> ClusterInfluence:
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
    model: ModelBased = fit.fit if isinstance(fit, RobustResults) else fit
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
        notes=merge_notes(model.notes, _notes(parts, found)),
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


def _notes(parts: Clustered, found: Deletions) -> list[Note]:
    lost = [parts.labels[i] for i in np.flatnonzero(~found.usable)]
    if not lost:
        return []
    message = f"A coefficient cannot be estimated without {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}."
    return [Note("cluster-needed", message)]
