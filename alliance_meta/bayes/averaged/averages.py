"""What averages over models answer alike, whatever the models differ in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.averaged.quantity import AveragedMarginal
from alliance_meta.bayes.marginals import COLUMNS, LACKS, IntervalKind, Marginal, Posterior, column, row
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Scale, did_you_mean
from alliance_meta.results import fit

# Quantities that are effects, and so can be correlations.
EFFECTS = ("mu", "theta_new")


class Averaged(Posterior):
    """An average over models, some of which fix a quantity at one value."""

    lacks: ClassVar[Mapping[str, str]] = LACKS
    _of_a_point = "state a range; for a point see .inclusion"
    # What `inclusion` says of a component beside its probabilities.
    _evidence: ClassVar[tuple[str, ...]] = ("bf10", "log_bf10")
    interval: IntervalKind = "eti"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `tidy` has."""
        raise NotImplementedError

    @property
    def inclusion(self) -> pd.DataFrame:
        """The evidence, one row for each thing that only some models have.

        ``prior`` and ``posterior`` probability, ``bf10`` (above 1 the data speak for it), ``log_bf10`` and, of `robma`,
        ``error``, the numerical error of the latter. Of `average`: candidates, ``effect``, ``heterogeneity`` and, where
        there are several, each prior of tau. Of `robma`: ``effect``, ``heterogeneity``, ``bias``, and each kind of bias
        there is, ``weight functions`` and ``PET-PEESE``.
        """
        rows = self._inclusion
        columns = {name: column([one[name] for one in rows.values()]) for name in next(iter(rows.values()))}
        return pd.DataFrame(columns, index=pd.Index(list(rows), name="component"))

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, averaged over the models."""
        return float(special.logsumexp(self._logs))

    def tidy(self, *, conditional: bool = False, level: float | None = None) -> pd.DataFrame:
        """Return one row per parameter, unrounded, on the analysis scale.

        Parameters
        ----------
        conditional : bool
            Average only over the models that have the parameter. Otherwise it is 0 in the others, and their
            probability counts.
        level : float, optional

        Returns
        -------
        DataFrame
            Indexed by the coefficients, ``tau``, ``theta_new`` (the true effect of a new study, with moderators at
            their average) and, of `robma`, ``PET`` and ``PEESE``; ``p_incl`` (posterior probability of the models with
            it) and ``mean sd median ci_lb ci_ub``, equal-tailed.
        """
        used = self._level(level)
        rows: dict[str, tuple[float, ...]] = {}
        for name in self.parameters:
            included = 1.0 - self._quantity(name, False).spike
            if conditional and not included:
                rows[name] = (included, *[NotApplicable("no model has it")] * len(COLUMNS))
            else:
                rows[name] = (included, *row(self.posterior(name, conditional=conditional), used, "eti"))
        names = ("p_incl", *COLUMNS)
        cells = {name: column(list(part)) for name, part in zip(names, zip(*rows.values(), strict=True), strict=True)}
        out = pd.DataFrame(cells, index=pd.Index(list(rows), name="parameter"))
        out.attrs.update(scale=self.effects.scale_label, level=used, interval="eti", conditional=conditional)
        return out

    def posterior(self, what: str, *, conditional: bool = False, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity, averaged over the models.

        Parameters
        ----------
        what : str
            A coefficient (``"mu"`` is the mean effect, with moderators at their average), ``"tau"`` or
            ``"theta_new"``; of `robma` also ``"PET"`` or ``"PEESE"`` (their coefficients), or ``"omega[0.03]"``, the
            relative probability that a result with this one-sided p-value is published.
        conditional : bool
            Average only over the models that have it. Otherwise it is 0 in the others (``omega`` is 1), and the
            posterior has a spike there.
        scale : {"z", "r"}, optional
            ``"r"``: ``mu`` and ``theta_new`` as correlations.
        """
        return self._on_scale(self._quantity(what, conditional), scale, "" if what in EFFECTS else what)

    def prob(self, statement: str, *, conditional: bool = False, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau < 0.2"``."""
        stated = self._range(statement)
        marginal = self.posterior(stated.name, conditional=conditional, scale=scale)
        return marginal.prob(stated.lower, stated.upper)

    def _quantity(self, what: str, conditional: bool) -> AveragedMarginal:
        if what not in self.parameters and not (what.startswith("omega[") and "omega[<p>]" in self._known):
            raise InputError(f"no quantity {what!r}{did_you_mean(what, self._known)} Known: {', '.join(self._known)}")
        return self._averaged(what, conditional)

    @property
    def _known(self) -> list[str]:
        return list(self.parameters)

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        raise NotImplementedError

    def _predictions(
        self, pairs: Iterable[tuple[AveragedMarginal, AveragedMarginal]], scale: Scale | None, level: float
    ) -> pd.DataFrame:
        """Return one row for each mean effect and effect of a new study."""
        rows = []
        for one in pairs:
            mean, new = (self._on_scale(marginal, scale, "") for marginal in one)
            inside, around = mean.interval(level=level), new.interval(level=level)
            rows.append((inside.estimate, mean.sd, inside.lb, inside.ub, around.lb, around.ub))
        out = pd.DataFrame(rows, columns=list(fit.COLUMNS))
        shown = scale or self._scale
        out.attrs.update(scale=shown, scale_label=fit.SCALE_LABELS[shown], level=level, interval="eti")
        return out

    @property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        raise NotImplementedError

    @property
    def _logs(self) -> Array:
        """Log of prior probability times marginal likelihood of each model."""
        raise NotImplementedError

    @property
    def _chances(self) -> tuple[Array, Array]:
        """Prior and posterior probability of each model."""
        raise NotImplementedError

    def _compare(self, mask: Mask) -> dict[str, float]:
        """Return prior and posterior probability of some models, and their Bayes factor against the others."""
        (prior, posterior), logs = self._chances, self._logs
        there = prior > 0
        p, q = float(prior[mask].sum()), float(posterior[mask].sum())
        inside, outside = mask & there, ~mask & there
        if not inside.any() or not outside.any():
            none = NotApplicable("all models agree about that")
            return {"prior": p, "posterior": q} | dict.fromkeys(self._evidence, none)
        log = float(special.logsumexp(logs[inside]) - special.logsumexp(logs[outside]))
        log += float(np.log(prior[outside].sum()) - np.log(p))
        with np.errstate(over="ignore"):
            found = (float(np.exp(log)), log, self._error_of(inside, outside))
        return {"prior": p, "posterior": q} | dict(zip(self._evidence, found, strict=False))

    def _error_of(self, inside: Mask, outside: Mask) -> float:
        """Return the numerical error of a log Bayes factor, where it is worked out."""
        return np.nan
