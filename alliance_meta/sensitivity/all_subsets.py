"""GOSH: the mean effect and heterogeneity of every subset of the studies, and which studies make clusters of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Mask
from alliance_meta.bias.given import given, study_means
from alliance_meta.core.univariate import gosh as core
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, check_cores, check_option, check_seed, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import frame_of, records_of
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.results.robust import RobustResults
from alliance_meta.sensitivity.outliers import MOST_SHOWN, By
from alliance_meta.tables.document import Document, table_of
from alliance_meta.tables.format import fixed, format_count

METHODS = ("REML", "DL", "EE")
# Up to so many units every subset is fitted; of more so many subsets are drawn.
MOST_UNITS, DRAWN = 20, 100_000
SAME = "every subset has the same"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Gosh(Result):
    """What subsets of the effects, or of studies, give.

    Attributes
    ----------
    by : {"effect", "study"}
    labels : tuple of str
        The n effects or studies.
    method : {"REML", "DL", "EE"}
        How each subset was fitted.
    subsets : int
        How many.
    seed : int or None
        Of those drawn at random; None where every subset was fitted.
    cloud : Gosh of the core
        Histograms over all subsets and a sample of them: ``edges counts members kept marks``.
    measure : str
    scale : str
        Scale of the means, in words.
    provenance : Provenance
    """

    by: By
    labels: tuple[str, ...]
    method: str
    subsets: int
    seed: int | None
    cloud: core.Gosh
    measure: str
    scale: str
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def splits(self) -> Mask:
        """Effects or studies whose presence splits the subsets into clusters, of their mean or of I2, (n,)."""
        return core.splitting(core.presence(self.cloud, 0).share) | core.splitting(core.presence(self.cloud, 1).share)

    def tidy(self) -> pd.DataFrame:
        """Return one row per effect or study: what subsets with it and without it give.

        ``mu_with mu_without shift``: average mean effect of the subsets; ``overlap`` of the two distributions of the
        mean, 1 where they are the same; ``share`` of the variance of the mean between subsets that its presence
        makes; ``I2_with I2_without share_I2``, the same for I2 in percent; ``splits``.
        """
        mean, I2 = core.presence(self.cloud, 0), core.presence(self.cloud, 1)
        columns: dict[str, Any] = {"mu_with": mean.inside, "mu_without": mean.outside}
        columns |= {"shift": mean.inside - mean.outside, "overlap": core.overlap(self.cloud), "share": mean.share}
        columns |= {"I2_with": I2.inside, "I2_without": I2.outside, "share_I2": I2.share, "splits": self.splits}
        why = {"share": NotApplicable(f"{SAME} mean"), "share_I2": NotApplicable(f"{SAME} I2")}
        rows = [
            {name: why[name] if name in why and np.isnan(value) else value for name, value in row.items()}
            for row in pd.DataFrame(columns).to_dict("records")
        ]
        out = frame_of([{str(name): value for name, value in row.items()} for row in rows], self._index)
        out.attrs["scale"] = self.scale
        return out

    @property
    def _index(self) -> pd.Index:
        return pd.Index(self.labels, name="label")

    def sample(self) -> pd.DataFrame:
        """Return some of the subsets, one row each: ``k mu tau2 I2 QE``, and for each label whether it is in."""
        kept = self.cloud.kept
        values = {name: getattr(kept, name) for name in ("k", "mu", "tau2", "I2", "QE")}
        return pd.concat([pd.DataFrame(values), pd.DataFrame(self.cloud.marks, columns=list(self.labels))], axis=1)

    @property
    def spread(self) -> dict[str, float]:
        """Average and standard deviation of mean and I2 over the subsets: ``mu mu_sd I2 I2_sd``."""
        n, *sums = self.cloud.sums[-1]
        mean, square, I2, I2_square = (one / n for one in sums)
        sd = (float(np.sqrt(max(b - a * a, 0.0))) for a, b in ((mean, square), (I2, I2_square)))
        return {"mu": float(mean + self.cloud.centre), "mu_sd": next(sd), "I2": float(I2), "I2_sd": next(sd)}

    def _values(self) -> dict[str, Any]:
        rows = records_of(self.tidy().reset_index())
        return {**self._these("by", "method", "subsets", "seed", "measure"), **self.spread, "presence": rows}

    def _content(self) -> Document:
        table = self.tidy()
        order = np.argsort(-np.nan_to_num(table["share"].to_numpy(dtype=float)), kind="stable")[:MOST_SHOWN]
        kinds = {"mu_with": 3, "mu_without": 3, "overlap": 2, "share": 2, "I2_with": 0, "I2_without": 0, "share_I2": 2}
        heads = {"mu_with": "mu with", "mu_without": "without", "I2_with": "I2 with", "I2_without": "without"}
        found = self.spread
        named = [label for label, split in zip(self.labels, self.splits, strict=True) if split]
        lines = (
            f"Mean {fixed(found['mu'], 3)} (SD {fixed(found['mu_sd'], 3)}), "
            f"I2 {fixed(found['I2'], 0)}% (SD {fixed(found['I2_sd'], 0)}) over subsets; {self.scale}.",
            f"Subsets fall into clusters by {', '.join(named)}." if named else "No study splits the subsets.",
        )
        return self._document(
            f"GOSH by {self.by}: {self.drawn} of {format_count(len(self.labels))}, {self.method}",
            table_of(table.iloc[order], kinds, heads=heads, label=self.by),
            lines=lines,
        )

    @property
    def drawn(self) -> str:
        """How many subsets there are, and how they were chosen."""
        if self.seed is None:
            return f"all {format_count(self.subsets)} subsets"
        return f"{format_count(self.subsets)} random subsets (seed {self.seed})"


def gosh(
    fit: Any,
    *,
    subsets: int | None = None,
    seed: int | None = None,
    method: str | None = None,
    by: By | None = None,
    cores: int = 1,
) -> Gosh:
    r"""Fit every subset of the studies, to see whether the result is one of all or of a few.

    Studies of one kind give subsets that lie in one cloud of mean and I2. Two clouds say that one or a few studies
    decide the result; those are named, by what their presence makes of the mean and of I2.

    Parameters
    ----------
    fit : any fitted model without moderators
        Its effects are used, and the method of a random-effects model.
    subsets : int, optional
        How many subsets to draw at random, where there are more; by default every one of up to 20 effects or studies,
        100,000 of more.
    seed : int
        Of a random draw.
    method : {"REML", "DL", "EE"}, optional
        By default that of the fit, REML where it has another.
    by : {"effect", "study"}, optional
        By default studies where some have several effects: each is then one mean, its sampling errors correlated as
        the model takes them.
    cores : int
        Blocks at a time; they do not change the result.

    Returns
    -------
    Gosh
        ``plots.gosh`` draws it.

    Raises
    ------
    InputError
        A model with moderators, a single study, or no seed for a random draw.

    Notes
    -----
    Each random subset holds each unit with probability one half. Presence is independent between units, so that the
    share of the variance between subsets that one unit makes is :math:`p (1 - p) (\bar\mu_{with} -
    \bar\mu_{without})^2 / \mathrm{Var}(\mu)`, its first-order Sobol' index. A unit splits the subsets if its share is
    larger than what all others leave: two normal distributions of equal size and variance have two peaks only if
    their means are more than two standard deviations apart. Up to three units are named so (of 4, 8 and 12 at least),
    each against the variance that none of them makes. Nothing is clustered. I2 as in R's ``gosh(fit)``. Olkin,
    Dahabreh & Trikalinos (2012, doi:10.1002/jrsm.1053).

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> found = sensitivity.gosh(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> found.subsets, found.tidy()["share"].idxmax(), round(float(found.tidy()["share"].max()), 2)
    (65535, "O'Cleirigh et al. 2007", 0.17)
    """
    source = given(fit, "gosh")
    check_cores(cores)
    if by is not None:
        check_option("by", by, By)
    chosen: By = by or ("study" if source.dependent else "effect")
    averaged = chosen == "study" and source.dependent
    effects = study_means(source) if averaged else source.effects
    labels = _labels(effects, chosen)
    n = effects.k
    if n < 2:
        raise InputError(f"gosh compares subsets, and a single {chosen} has only one; it needs at least 2")
    used, notes = _method(fit, method)
    if averaged:
        notes += [note for note in effects.notes if note.code == "aggregated"]
    elif source.dependent:
        text = "Effects of one study are taken for independent, each in or out; by='study' keeps them together."
        notes.append(Note("dependent-points", text))
    many = _many(n, subsets)
    number = None if many is None else check_seed(seed, f"random subsets of {n}")
    cloud = core.gosh(effects.yi, effects.vi, method=used, subsets=many, seed=number or 0, cores=cores)
    return Gosh(
        chosen, labels, used, many or 2**n - 1, number, cloud, effects.measure, effects.scale_label,
        effects.provenance, merge_notes(fit.notes, notes),
    )  # fmt: skip


def _labels(effects: EffectSizes, by: By) -> tuple[str, ...]:
    return tuple(str(one) for one in (effects.slab if by == "effect" or effects.study_id is None else effects.study_id))


def _many(n: int, subsets: int | None) -> int | None:
    """Return how many subsets to draw at random, None for all."""
    if subsets is None:
        return None if n <= MOST_UNITS else DRAWN
    if not isinstance(subsets, int) or isinstance(subsets, bool) or subsets < 2:
        raise InputError(f"subsets={subsets!r} must be a whole number of at least 2")
    return subsets if n > 60 or 2**n - 1 > subsets else None


def _method(fit: Any, method: str | None) -> tuple[str, list[Note]]:
    """Return how to fit subsets, and what to say where the fit did otherwise."""
    if method is not None and method not in METHODS:
        raise InputError(f"method={method!r} is not one of {', '.join(map(repr, METHODS))}")
    plain = isinstance(fit, RandomEffectsResults)
    own = fit.settings.method if plain else None
    used = method or (own if own in METHODS else "REML")
    special = plain and (fit.settings.tau2 is not None or fit.fitted.own_weights is not None)
    if used == own and not special:
        return used, []
    model = fit.fit if isinstance(fit, RobustResults) else fit
    what = "has weights or a tau2 of its own" if special else f"is by {own}" if own else f"is {model.called}"
    text = f"Subsets are fitted by a random-effects model with inverse-variance weights ({used}); the fit {what}."
    return used, [Note("gosh-method", text)]
