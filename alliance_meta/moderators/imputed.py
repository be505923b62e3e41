"""What imputation gives: completed tables of moderators, and a meta-regression pooled over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.design import Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.encoding import plain
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import Tau2Method, Test
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import records_of
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import fixed, level_text

# Square of what rounding leaves between two analyses of the same numbers.
SAME = 1e-24


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Pooled coefficients.

    Attributes
    ----------
    beta, se, df : ndarray of shape (p,)
        `df` may be infinite.
    vb, within, between : ndarray of shape (p, p)
        Total covariance, and its two parts.
    riv, fmi, mcse : ndarray of shape (p,)
        Relative increase in variance, fraction of missing information, Monte Carlo error of `beta`.
    """

    beta: Array
    se: Array
    df: Array
    vb: Array
    within: Array
    between: Array
    riv: Array
    fmi: Array
    mcse: Array


def pool(beta: Array, vb: Array, *, df: float | None) -> Pooled:
    """Pool coefficients (m, p) with covariances (m, p, p) by Rubin's rules (Rubin 1987).

    `df` are the degrees of freedom of the analysis of complete data, None for the normal. Those of the pooled
    coefficients are Barnard & Rubin's (1999, doi:10.1093/biomet/86.4.948), and `df` itself where the imputed
    data sets agree exactly.
    """
    m = len(beta)
    within = vb.mean(axis=0)
    between = np.atleast_2d(np.cov(beta, rowvar=False, ddof=1))
    total = within + (1.0 + 1.0 / m) * between
    B, W, T = (np.diag(one) for one in (between, within, total))
    complete = np.inf if df is None else float(df)
    same = np.maximum(T, (beta**2).max()) * SAME >= B
    B = np.where(same, 0.0, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        riv = np.where(same, 0.0, (1.0 + 1.0 / m) * B / W)
        share = np.where(same, 0.0, (1.0 + 1.0 / m) * B / T)
        large = (m - 1.0) / share**2
        observed = (complete + 1.0) / (complete + 3.0) * complete * (1.0 - share) if df is not None else np.inf
        df_pooled = np.where(same, complete, 1.0 / (1.0 / large + 1.0 / observed))
        fmi = np.where(same, 0.0, np.where(np.isinf(riv), 1.0, (riv + 2.0 / (df_pooled + 3.0)) / (riv + 1.0)))
    return Pooled(
        beta=beta.mean(axis=0),
        se=np.sqrt(T),
        df=df_pooled,
        vb=total,
        within=within,
        between=between,
        riv=riv,
        fmi=fmi,
        mcse=np.sqrt(B / m),
    )


@dataclass(frozen=True, eq=False, repr=False)
class ImputedModerators(Result):
    """Several completions of a table of moderators.

    Attributes
    ----------
    effects : EffectSizes
        All effects, also those that lack a moderator.
    mods : str
        The meta-regression the imputations agree with.
    m, seed, sweeps : int
    missing : mapping of str to int
        Missing values of each moderator.
    frames : tuple of DataFrame
        The m completed tables.
    accepted : float
        Share of proposed values that were accepted.
    notes : tuple of Note
    design : Design
        The coding, the same in every data set.
    X : ndarray of shape (m, k, p)
        The m completed design matrices.
    """

    effects: EffectSizes
    mods: str
    m: int
    seed: int
    sweeps: int
    missing: dict[str, int]
    frames: tuple[pd.DataFrame, ...]
    accepted: float
    notes: tuple[Note, ...]
    design: Design
    X: Array

    def tidy(self) -> pd.DataFrame:
        """Return one row per moderator: ``k`` effects, ``missing`` values and their ``share``."""
        counts = pd.Series(self.missing, dtype=int)
        return pd.DataFrame({"k": self.effects.k, "missing": counts, "share": counts / self.effects.k})

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, the completed values and the notes as JSON-ready values."""
        gaps = {name: [int(i) for i in np.flatnonzero(self._missing(name))] for name in self.missing}
        values = {name: [frame[name].iloc[rows].tolist() for frame in self.frames] for name, rows in gaps.items()}
        head = {"mods": self.mods, "m": self.m, "seed": self.seed, "sweeps": self.sweeps, "k": self.effects.k}
        about = {"missing": self.missing, "rows": gaps, "imputed": values, "accepted": self.accepted}
        return plain({**head, **about, "notes": [note.to_dict() for note in self.notes]})

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        title = f"{self.m} imputations for mods = {self.mods!r} (k = {self.effects.k}, seed {self.seed})"
        table = table_of(self.tidy(), {"k": 0, "missing": 0, "share": 3})
        return wording.document(self, title, (), table)

    def _missing(self, name: str) -> Mask:
        return self.effects.moderators[name].isna().to_numpy()


@dataclass(frozen=True, eq=False, repr=False)
class ImputedResults(Result):
    """A meta-regression pooled over imputed data sets.

    Attributes
    ----------
    imputed : ImputedModerators
    names : tuple of str
    pooled : Pooled
        Coefficients, total covariance and what the missing values cost.
    stat, pval, ci_lb, ci_ub : ndarray of shape (p,)
    tau2s : ndarray of shape (m,)
        Between-study variance in each data set.
    method, test : str
    level : float
    notes : tuple of Note
    """

    imputed: ImputedModerators
    names: tuple[str, ...]
    pooled: Pooled
    stat: Array
    pval: Array
    ci_lb: Array
    ci_ub: Array
    tau2s: Array
    method: Tau2Method
    test: Test
    level: float
    notes: tuple[Note, ...]

    @property
    def tau2(self) -> float:
        """Mean of the between-study variances of the imputed data sets."""
        return float(self.tau2s.mean())

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient, unrounded, on the analysis scale.

        ``estimate se stat ddf pval ci_lb ci_ub``; ``fmi``, the fraction of the information on it that is
        missing; ``riv``, the relative increase in its variance; ``mcse``, the Monte Carlo error of the
        estimate, which falls with m.
        """
        columns = {
            "estimate": self.pooled.beta,
            "se": self.pooled.se,
            "stat": self.stat,
            "ddf": self.pooled.df,
            "pval": self.pval,
            "ci_lb": self.ci_lb,
            "ci_ub": self.ci_ub,
            "fmi": self.pooled.fmi,
            "riv": self.pooled.riv,
            "mcse": self.pooled.mcse,
        }
        out = pd.DataFrame(columns, index=pd.Index(self.names, name="term"))
        out.attrs.update(scale=self.imputed.effects.scale_label, level=self.level)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        gone = NotApplicable("the coefficient has no variance")
        rows = [
            {**row, **(dict.fromkeys(("stat", "pval"), gone) if np.isnan(row["stat"]) else {})}
            for row in records_of(self.tidy().reset_index())
        ]
        return plain(
            {
                "mods": self.imputed.mods,
                "k": self.imputed.effects.k,
                "m": self.imputed.m,
                "seed": self.imputed.seed,
                "method": self.method,
                "test": self.test,
                "level": self.level,
                "missing": self.imputed.missing,
                "tau2": self.tau2,
                "tau2s": self.tau2s,
                "coefficients": rows,
                "vb": self.pooled.vb,
                "notes": [note.to_dict() for note in self.notes],
            }
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        imputed = self.imputed
        kinds: dict[str, Kind] = {"estimate": 4, "se": 4, "ddf": "df", "pval": "p", "ci_lb": 4, "ci_ub": 4, "fmi": 2}
        return wording.document(
            self,
            f"Meta-regression pooled over {imputed.m} imputed data sets (k = {imputed.effects.k})",
            [
                f"Moderators: {imputed.mods}; {self.method}, {self.test}; {imputed.effects.scale_label}; "
                f"{level_text(self.level)} intervals; mean tau2 {fixed(self.tau2)}"
            ],
            table_of(self.tidy(), kinds),
            effects=imputed.effects,
        )
