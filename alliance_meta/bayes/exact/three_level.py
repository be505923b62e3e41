"""Three-level models with priors, solved exactly: effects within studies, with a covariance of sampling errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.evidence import LeaveOneOut, leave_out, multilevel_bayes_factor
from alliance_meta.bayes.exact.prediction import brms_code
from alliance_meta.bayes.exact.quantities import Drawn
from alliance_meta.bayes.exact.results import ExactResults
from alliance_meta.bayes.exact.setup import (
    FEW_FOR_TAU,
    LOOK_TWICE,
    Priors,
    choose_priors,
    conflict_note,
    coordinates,
    distance_from_prior,
    error_notes,
    far_more_likely,
    far_out,
    gaussians,
    prior_limits,
    priors_by_name,
    sampling_covariance,
    scale_notes,
    size_notes,
)
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import SHARE, GridMarginal, IntervalKind, Marginal, TransformedMarginal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.quadrature import Grid, NormalMixture, TauDensity
from alliance_meta.core.bayes.three_level import (
    GroupedRows,
    MultilevelData,
    MultilevelPosterior,
    combination,
    draw_deviations,
    draw_effects,
    given_deviations,
    grouped_rows,
    multilevel_data,
    proper,
    row_effects,
    solve_multilevel,
    thinned,
    total_and_share,
    with_priors,
)
from alliance_meta.core.dependent import IntArray, SamplingCovariance, stacks
from alliance_meta.design import Design, design_of
from alliance_meta.effects.dependent.groups import ROWS, expand, factor, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError, NotIdentifiedWarning
from alliance_meta.notes import Note, merge_notes, warn_note
from alliance_meta.results.fit import with_moderators
from alliance_meta.tables.format import brief


@dataclass(frozen=True, eq=False)
class MultilevelPriors(Priors):
    """The priors of a three-level model."""

    terms: tuple[str, str]  # the grouping and the rows within it
    names: tuple[str, ...]  # coefficients; the intercept stands for ``mu``
    coefficients: tuple[EffectPrior, ...]
    taus: tuple[TauPrior, TauPrior]  # of the standard deviation of each term

    @property
    def tau_names(self) -> tuple[str, str]:
        """``tau[<term>]`` for both terms."""
        return f"tau[{self.terms[0]}]", f"tau[{self.terms[1]}]"

    def with_taus(self, *taus: TauPrior) -> MultilevelPriors:
        """Return the same with other priors of both standard deviations."""
        return replace(self, taus=(taus[0], taus[1]))

    @cached_property
    def densities(self) -> tuple[TauDensity, TauDensity]:
        """The priors of both standard deviations as the quadrature needs them."""
        return density(self.taus[0]), density(self.taus[1])


def density(prior: TauPrior) -> TauDensity:
    """Return the prior of one standard deviation as the quadrature needs it."""
    return TauDensity(prior.logpdf, prior.upper, prior.tail, (), prior.proper)


# Two integrations of one posterior, by both deviations and by their total and share, have to agree.
AGREE = 1e-7

NO_TOTAL = (
    "the total of {} and {} cannot be worked out to enough digits: the posterior of their share is too narrow. Ask for "
    "each by itself"
)


def multilevel_notes(effects: EffectSizes, priors: MultilevelPriors, exact: MultilevelPosterior) -> list[Note]:
    """Return the notes of a three-level model."""
    return [
        *scale_notes(effects, priors.coefficients, priors.names, priors.taus),
        *_group_notes(exact.data, priors),
        *_multilevel_conflict(exact.data, priors),
        *error_notes(exact.error),
    ]


def _group_notes(data: MultilevelData, priors: MultilevelPriors) -> list[Note]:
    groups, k = len(data.starts), len(data.y)
    (outer, inner), (between, within) = priors.terms, priors.tau_names
    if groups == k:
        message = (
            f"Every row is a group of its own in {outer}: the data only tell about {between}^2 + {within}^2, and how "
            f"it divides rests on the priors. Leave random out, or group by another column."
        )
        return [*size_notes(k), warn_note("not-identified", message, NotIdentifiedWarning, stacklevel=6)]
    if groups < FEW_FOR_TAU:
        message = (
            f"{outer} has {groups} group{'s' if groups > 1 else ''}: what is said about {between} rests on its prior; "
            "prior_sensitivity() shows what other priors give."
        )
        return [Note("prior-bound", message)]
    if k - groups < FEW_FOR_TAU:
        message = (
            f"Only {k - groups} row{'s' if k - groups > 1 else ''} more than groups of {outer}: what is said about "
            f"{within}, the variation of {inner}, rests mostly on its prior; prior_sensitivity() shows what other "
            "priors give."
        )
        return [Note("prior-bound", message)]
    return []


def _multilevel_conflict(data: MultilevelData, priors: MultilevelPriors) -> list[Note]:
    v = data.laid.restore_diagonal(data.d)
    largest = np.sqrt(max(float(v.max()), float(np.ptp(data.y)) ** 2))
    around = np.append(0.0, np.geomspace(1e-2 * float(np.sqrt(v.min())), 1e2 * largest, LOOK_TWICE - 1))
    limits = [prior_limits(prior) for prior in priors.taus]
    most = 1e3 * around[-1]
    values = [np.unique(np.append(around, [] if ends is None else np.minimum(ends, most))) for ends in limits]
    between, within = (one.ravel() for one in np.meshgrid(*values, indexing="ij"))
    given = given_deviations(data, between, within)
    best = int(np.argmax(given.loglik))
    surprise = distance_from_prior(given.mean[best], given.root[best], data.mean + data.centre, data.precision)
    parts = far_out(surprise, priors.names, priors.coefficients)
    table = given.loglik.reshape(len(values[0]), -1)
    for i, ends in enumerate(limits):
        if ends is not None and far_more_likely(values[i], table.max(axis=1 - i), ends):
            parts.append(f"{priors.tau_names[i]} (prior {priors.taus[i]})")
    return conflict_note(parts)


def solver(fit: BayesianMultilevelResults, priors: Priors) -> Callable[[MultilevelPriors], MultilevelPosterior]:
    """Return what solves the model with these priors and others of both standard deviations."""
    base = fit.exact if priors is fit.priors else _with_mu(fit, priors)
    own = fit.priors

    def solve(tried: MultilevelPriors) -> MultilevelPosterior:
        """Solve the model with these priors of both standard deviations."""
        # Where the density is that of the fit, nothing has to be weighed anew.
        pairs = zip(tried.taus, own.taus, own.densities, strict=True)
        between, within = (kept if prior == before else density(prior) for prior, before, kept in pairs)
        if not proper(base.data, between, within):
            raise InputError(f"the posterior is improper under {tried}; leave this combination out")
        found = None
        if all(one.proper for one in own.densities):
            found = with_priors(base, own.densities, (between, within))
        return found or solve_multilevel(base.data, between, within)

    return solve


def _with_mu(fit: BayesianMultilevelResults, priors: Priors) -> MultilevelPosterior:
    """Return the posterior with another prior of the mean."""
    j = priors.names.index("mu")
    mu, data = priors.coefficients[j], fit.exact.data
    if mu.gaussian is None:
        raise InputError(f"mu_priors: {mu}: the exact three-level model takes normal and flat priors")
    mean, precision = data.mean.copy(), data.precision.copy()
    middle, precision[j] = mu.gaussian
    mean[j] = middle - data.centre[j] if mu.proper else 0.0
    changed = replace(data, mean=mean, precision=precision)
    if not proper(changed, *fit.priors.densities):
        raise InputError(f"mu_priors: {mu} leaves the posterior improper with the priors of tau of this fit")
    return solve_multilevel(changed, *fit.priors.densities)


@dataclass(frozen=True, eq=False, repr=False)
class BayesianMultilevelResults(ExactResults):
    """The posterior of a Bayesian three-level model: effects within studies.

    Made by `BayesianModel.fit` with ``random=``. Every number comes from quadrature over the two standard
    deviations, none from random draws. Terms are named as `MultilevelModel` names them, ``study_id`` and
    ``study_id/es_id``; where a name is asked for, the last part of it is enough: ``"tau[es_id]"``.

    Attributes
    ----------
    effects : EffectSizes
    design : Design
    priors : MultilevelPriors
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed or shortest intervals.
    exact : MultilevelPosterior
        The raw arrays.
    group : ndarray of int, shape (k,)
        Group of each effect, by code.
    levels : tuple of str
        What each group is called, by code.
    V : SamplingCovariance or None
        None: sampling errors are independent.
    """

    called = "a Bayesian three-level model"
    _nested = True
    _row_is = "effect"

    effects: EffectSizes
    design: Design
    priors: MultilevelPriors
    level: float
    interval: IntervalKind
    exact: MultilevelPosterior
    group: IntArray
    levels: tuple[str, ...]
    V: SamplingCovariance | None
    notes: tuple[Note, ...] = ()

    @property
    def taus(self) -> dict[str, float]:
        """Posterior median of the standard deviation of each term."""
        names = zip(self.priors.terms, self.priors.tau_names, strict=True)
        return {term: self._marginal(name).median for term, name in names}

    @property
    def sigma2(self) -> Array:
        """Posterior medians of the variances, between groups and within, (2,)."""
        return np.array(list(self.taus.values())) ** 2

    @property
    def icc(self) -> float:
        """Posterior median of the share of the true variance that lies between groups."""
        return self._median("icc")

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    def _named(self, name: str) -> Marginal:
        if name == "icc":
            return TransformedMarginal(name, GridMarginal("logit", self._total.marginal(1)), SHARE)
        return super()._named(name)

    @property
    def _known(self) -> list[str]:
        return [*super()._known, "icc"]

    def _is_spread(self, name: str) -> bool:
        return name == "icc" or super()._is_spread(name)

    def _deviation(self, exact: MultilevelPosterior, which: int) -> Marginal:  # type: ignore[override]
        return GridMarginal(self.priors.tau_names[which], exact.deviation(which), exact.moments(which))

    @property
    def _all_spread(self) -> Marginal:
        finite = sum(self.exact.finite(order, of="new") for order in (1, 2, 3, 4))
        return GridMarginal("tau", self._total.marginal(0), finite)

    @property
    def _typical_variance(self) -> float:
        """(k - p) / trace(P) with P of the model with sampling error only, as of `MultilevelResults`."""
        if self.V is None:
            return super()._typical_variance
        rows = self._rows
        trace, XWX, XWWX = 0.0, np.zeros((self.p, self.p)), np.zeros((self.p, self.p))
        for where, V in rows.clusters:
            X = rows.X[where].reshape(len(V), V.shape[1], -1)
            inverse = np.linalg.inv(V)
            WX = inverse @ X
            trace += float(np.einsum("nii->", inverse))
            XWX += np.einsum("nmi,nmj->ij", X, WX)
            XWWX += np.einsum("nmi,nmj->ij", WX, WX)
        return (self.k - self.p) / (trace - float(np.trace(np.linalg.solve(XWX, XWWX))))

    def _combined(self, c: Array, d: Array) -> NormalMixture:
        return combination(self.exact, self._rows, c, d)

    def _true_effect(self, i: int) -> NormalMixture:
        return self._theta.row(i)

    def _true_effects(self, some: slice) -> NormalMixture:
        all_rows = self._theta
        return NormalMixture(all_rows.weight, all_rows.mean[some], all_rows.sd[some])

    @cached_property
    def _total(self) -> Grid:
        """The posterior of the total standard deviation and of the logit of the share between groups."""
        found = total_and_share(self.exact.data, self.priors.densities)
        if not abs(found.log_integral - self.exact.log_marginal) <= AGREE:
            raise InputError(NO_TOTAL.format(*self.priors.tau_names))
        return found

    @cached_property
    def _thinned(self) -> MultilevelPosterior:  # type: ignore[override]
        return thinned(self.exact)

    @cached_property
    def _rows(self) -> GroupedRows:
        """Effects, design and sampling covariance, group by group."""
        clusters = []
        for rows in stacks(self.group):
            if self.V is None:
                covariance = self.effects.vi[rows][:, :, None] * np.eye(rows.shape[1])
            else:
                covariance = np.stack([self.V.block(one) for one in rows])
            clusters.append((rows, covariance))
        return grouped_rows(self.effects.yi, self.design.X @ coordinates(self.design), self.group, clusters)

    @cached_property
    def _theta(self) -> NormalMixture:
        return row_effects(self.exact, self._rows)

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return how much more likely the data are under a hypothesis than under its opposite.

        Parameters
        ----------
        hypothesis : str
            A point, ``"mu = 0"``, ``"year = 0"`` or ``"tau[study_id] = 0"`` (no variation between groups); or a
            range, ``"mu > 0"``, ``"|mu| < 0.1"``, ``"tau[study_id] < 0.1"``.

        Returns
        -------
        BayesFactor
            As of `BayesianResults.bayes_factor`. The priors of everything else stay as they are.
        """
        return multilevel_bayes_factor(self, read_hypothesis(hypothesis))

    def joint_density(self, between: Any, within: Any) -> Array:
        """Return the joint posterior density of both standard deviations at values that broadcast together."""
        between, within = np.broadcast_arrays(np.asarray(between, dtype=float), np.asarray(within, dtype=float))
        s1, s2 = np.maximum(between.ravel(), 0.0), np.maximum(within.ravel(), 0.0)
        logs = given_deviations(self.exact.data, s1, s2).loglik - self.exact.log_marginal
        for prior, at in zip(self.priors.densities, (s1, s2), strict=True):
            logs = logs + prior.log_density(at)
        return np.where((between >= 0) & (within >= 0), np.exp(logs).reshape(between.shape), 0.0)

    def loo(self, *, cluster: str | None = None) -> LeaveOneOut:
        """Leave out each row in turn, or each whole group, exactly.

        How well do the other rows, or the other studies, predict each one, and what would the synthesis say
        without it? A row is predicted from the rest of its own study too; a study left out whole is not, which is
        the harder test, and the one that counts for new studies.

        Parameters
        ----------
        cluster : str, optional
            The grouping, such as ``"study_id"``: leave out whole groups.

        Returns
        -------
        LeaveOneOut
            ``elpd`` (larger is better), ``elpd_se``, and ``tidy()`` with one row per effect or group.

        Examples
        --------
        >>> import alliance_meta as am
        >>> es = am.escalc(am.load_dataset("crede2010"))
        >>> fit = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
        >>> print(fit.loo(cluster="study_id"))
        elpd = -8.19 (SE 15.00), p_loo = 8.66, 68 groups of study_id; exact leave-one-out
        """
        return leave_out(self, cluster)

    def r_code(self) -> str:
        """Return the R code (brms) that fits the same model by sampling, as far as it can."""
        return brms_code(self)

    @property
    def _model_words(self) -> list[str]:
        outer, inner = self.priors.terms
        size = f"k = {self.k} effects in {self.n_groups} groups; exact, error about {brief(self.error_bound, 1)}"
        return [
            f"Bayesian three-level model ({size})",
            f"Random: {outer}, and {inner} within it; sampling errors: {self._errors}",
        ]

    @property
    def _method_words(self) -> tuple[str, str]:
        outer, inner = self.priors.terms
        taken = "independent" if self.V is None else f"taken as follows: {self._errors}"
        return (
            f"A Bayesian three-level model{with_moderators(self)} was fitted to k = {self.k} effects in "
            f"{self.n_groups} groups, with random effects of {outer} and of {inner} within it; sampling errors were "
            f"{taken}",
            "Coefficients and true effects were integrated analytically, the two standard deviations by quadrature",
        )

    @property
    def _errors(self) -> str:
        return "independent" if self.V is None else self.V.assumption

    def _drawn(self, rng: np.random.Generator, draws: int) -> Drawn:
        between, within = draw_deviations(self.exact, rng.uniform(2.0**-54, 1.0, (draws, 2)))
        coefficients, theta = draw_effects(self.exact, between, within, rng)
        return np.column_stack([between, within]), coefficients, np.hypot(between, within), theta

    def _solver(self, priors: Priors) -> Callable[[Any], MultilevelPosterior]:
        return solver(self, priors)

    @property
    def _nesting(self) -> dict[str, dict[str, Any]]:
        return {
            "model": {"random": list(self.priors.terms), "V": self._errors},
            "statistics": {"groups": self.n_groups},
            "studies": {"group": [self.levels[i] for i in self.group]},
        }


@dataclass(frozen=True, eq=False)
class TwoTerms:
    """A grouping and the rows within it."""

    names: tuple[str, str]  # as `MultilevelModel` has them
    group: IntArray  # (k,): group of each row, numbered as they first appear
    levels: tuple[str, ...]  # what each group is called


def read_terms(random: str | Sequence[str], effects: EffectSizes) -> TwoTerms:
    """Read ``"~ 1 | study_id/es_id"``, ``"study_id/es_id"`` or ``("lab", "es_id")``.

    Raises `InputError`: an unknown column or one with missing values; other terms than a grouping and the rows within
    it.
    """
    items = [random] if isinstance(random, str) else [str(one) for one in random]
    paths: list[str] = []
    for item in items:
        left, right = sides(item)
        if left != "1":
            raise _refused(random, f"{item.strip()!r} is no random intercept")
        paths += expand(right)
    repeated = sorted({name for name in paths if paths.count(name) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    found = [(name, *factor(name, effects)) for name in paths]
    if len(found) != 2:
        raise _refused(random, f"{len(found)} term{'s' if len(found) != 1 else ''} where there must be two")
    (outer, levels, group), (inner, _, rows) = sorted(found, key=lambda one: len(one[1]))
    if len(np.unique(rows)) < effects.k:
        raise _refused(random, f"several rows share one {inner}")
    return TwoTerms((outer, inner), group, tuple(levels))


def _refused(random: object, why: str) -> InputError:
    return InputError(
        f"random={random!r}: {why}. Exact posteriors are there for random intercepts of a grouping and of the rows "
        f"within it, random='~ 1 | study_id/{ROWS}'. Slopes, crossed factors, outcomes within studies, a single term "
        "or more levels need a sampler: write them with bayes.pymc, such as bayes.pymc.multilevel"
    )


def fit_multilevel(
    effects: EffectSizes,
    *,
    mods: str,
    random: str | Sequence[str],
    V: Any,
    mu_prior: EffectPrior,
    tau_prior: TauPrior | Mapping[str, TauPrior],
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None,
    level: float,
    interval: IntervalKind,
) -> BayesianMultilevelResults:
    """Solve a model with random terms by quadrature over both standard deviations."""
    V = sampling_covariance(V, effects.k)
    design = design_of(mods, effects)
    effects = design.taking_part(effects)
    if V is not None and not design.rows.all():
        V = V.take(design.rows)
    terms = read_terms(random, effects)
    _check_blocks(terms, V)
    between, within = priors_by_name(tau_prior, terms.names, effects, what="Terms")
    chosen = choose_priors(design, mu_prior, between, beta_prior)
    priors = MultilevelPriors(terms.names, chosen.names, chosen.coefficients, (between, within))
    data = problem(effects, design, priors, terms, V)
    exact = solve_multilevel(data, *priors.densities)
    return BayesianMultilevelResults(
        effects=effects,
        design=design,
        priors=priors,
        level=level,
        interval=interval,
        exact=exact,
        group=terms.group,
        levels=terms.levels,
        V=V,
        notes=merge_notes(
            effects.notes, design.notes, () if V is None else V.notes, multilevel_notes(effects, priors, exact)
        ),
    )


def problem(
    effects: EffectSizes, design: Design, priors: MultilevelPriors, terms: TwoTerms, V: SamplingCovariance | None
) -> MultilevelData:
    """Return the integrals of one model.

    Raises `InputError`: a prior that is neither normal nor flat; the posterior is improper.
    """
    mean, precision = gaussians(priors, "the exact three-level model takes normal and flat priors")
    X = design.X @ coordinates(design)
    v = effects.vi if V is None else V.vi
    blocks = None if V is None else V.blocks
    data = multilevel_data(effects.yi, X, v, terms.group, mean, precision, blocks=blocks)
    if not proper(data, *priors.densities):
        raise InputError(_improper(data, priors))
    return data


def _improper(data: MultilevelData, priors: MultilevelPriors) -> str:
    flat = int((data.precision == 0).sum())
    groups, k = len(data.starts), len(data.y)
    beside = f" and {flat} flat coefficient{'s' if flat > 1 else ''}" if flat else ""
    counts = zip(priors.terms, priors.taus, (groups, k), ("groups", "effects"), strict=True)
    short = [
        f"the prior {prior} of tau[{term}]{beside} need at least {int(np.floor(1.0 - prior.tail + flat)) + 1} {of}"
        for term, prior, n, of in counts
        if not prior.tail + n - flat > 1.0
    ]
    return (
        f"k = {k} effect{'s' if k > 1 else ''} in {groups} group{'s' if groups > 1 else ''} leave the posterior "
        f"improper, it does not integrate to 1: {'; '.join(short)}. Or take a proper prior of tau such as "
        "HalfNormal(0.3)"
    )


def _check_blocks(terms: TwoTerms, V: SamplingCovariance | None) -> None:
    for rows, _ in () if V is None else V.blocks:
        if (terms.group[rows] != terms.group[rows][:, :1]).any():
            raise InputError(
                f"V correlates effects of different groups of {terms.names[0]!r}; its blocks must lie within them"
            )
