"""The same synthesis without priors, with priors solved exactly, and with the same priors drawn by PyMC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import ess
from alliance_meta.bayes.exact.model import BayesianModel
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.bayes.marginals import Marginal, column
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.sampled.quantities import SampledMarginal
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.result import Result
from alliance_meta.results import wording
from alliance_meta.results.fit import Noun, columns_of, predict_rows
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, format_level

# Numbers of draws scatter by their standard error: two of them hold 95 of 100, four all but 6 of 100,000.
USUAL, FAR = 2.0, 4.0
MOST_STUDIES = 30


@dataclass(frozen=True, eq=False, repr=False)
class ThreeWay(Result):
    """A random-effects model without priors, with priors solved exactly, and with the same priors drawn by PyMC.

    Made by `three_way`.

    Attributes
    ----------
    frequentist : RandomEffectsResults
        REML with Knapp-Hartung inference.
    exact : BayesianResults
    sampled : SampledPosterior or None
        None where PyMC was left out.
    table : DataFrame
        See `tidy`.
    """

    frequentist: RandomEffectsResults
    exact: BayesianResults
    sampled: SampledPosterior | None
    table: pd.DataFrame
    notes: tuple[Note, ...] = ()

    k = Noun[int]("exact.k", "Number of effects.")

    def tidy(self) -> pd.DataFrame:
        """Return one row per number, unrounded, on the analysis scale.

        Returns
        -------
        DataFrame
            ``parameter`` (``mu``, the coefficients, ``tau``, ``theta_new``, ``theta[<label>]``), ``number``
            (``estimate``, ``ci_lb``, ``ci_ub``), and its value by each road: ``frequentist``, ``exact``, ``pymc``.
            ``difference`` is exact less frequentist: what the priors do, and that tau is averaged over. ``mcse`` is
            the Monte-Carlo standard error of ``pymc``, and ``z`` how many of these, as probabilities, lie between
            ``pymc`` and ``exact``; both are `NotApplicable` without PyMC.
        """
        return self.table.copy()

    @property
    def worst(self) -> float:
        """Largest distance of PyMC from the exact posterior, in Monte-Carlo standard errors; NaN without PyMC."""
        z = np.abs(self.table["z"].to_numpy(dtype=float))
        return float(np.nanmax(z)) if np.isfinite(z).any() else float("nan")

    def _values(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "level": self.exact.level,
            "priors": str(self.exact.priors),
            "seed": None if self.sampled is None else self.sampled.seed,
            "numbers": columns_of(self.table),
            "provenance": self.exact.effects.provenance.to_dict(),
        }

    def _content(self) -> Document:
        exact = self.exact
        return wording.document(
            self,
            f"One model by three roads (k = {self.k}; {format_level(exact.level)} intervals)",
            [
                f"{exact.effects.provenance.source}: {exact.effects.scale_label} ({exact.effects.measure})",
                *wording.moderated(exact),
                "frequentist: REML, Knapp-Hartung; tau: Q-profile; theta: shrunken (BLUP)",
                f"exact, PyMC: posterior medians and equal-tailed intervals; {exact.priors}",
            ],
            _printed_table(self),
            [
                *_agreement(self),
                "exact less frequentist is no error of either: it is what the priors add, and that tau is averaged "
                "over instead of estimated.",
            ],
            effects=exact.effects,
        )


def _agreement(found: ThreeWay) -> list[str]:
    if found.sampled is None:
        return []
    z = np.abs(found.table["z"].to_numpy(dtype=float))
    z = z[np.isfinite(z)]
    return [
        f"z: PyMC less exact, in Monte-Carlo standard errors of PyMC. {int((z <= USUAL).sum())} of {len(z)} "
        f"numbers are within {brief(USUAL)} (about {fixed(0.954 * len(z), 0)} to be expected); the furthest is "
        f"{fixed(found.worst, 1)} away."
    ]


def _printed_table(found: ThreeWay) -> Table:
    of_study = found.table["parameter"].str.startswith("theta[")
    studies = found.table["parameter"][of_study].nunique()
    hide = studies > MOST_STUDIES
    shown = found.table[~of_study] if hide else found.table
    names = shown["parameter"].where(~shown["parameter"].duplicated(), "")
    drawn: dict[str, Kind] = {} if found.sampled is None else {"pymc": 4, "z": 1}
    kinds: dict[str, Kind] = {"number": "s", "frequentist": 4, "exact": 4}
    table = table_of(shown.set_axis(names), kinds | drawn, heads={"number": "", "pymc": "PyMC"})
    return replace(table, rows=(*table.rows, (f"and {studies} theta: tidy()",))) if hide else table


NUMBERS = ("estimate", "ci_lb", "ci_ub")
WITHOUT = "PyMC was left out"
# The stream of random numbers from which true effects are drawn.
STUDIES = 2
# Priors are the same if their numbers are, up to rounding.
SAME = 1e-12


def three_way(
    effects: EffectSizes,
    *,
    mods: str = "1",
    mu_prior: EffectPrior = MU,
    tau_prior: TauPrior = TAU,
    beta_prior: EffectPrior | Mapping[str, EffectPrior] | None = None,
    level: float = 0.95,
    pymc: bool | SampledPosterior = True,
    seed: int | None = None,
    **settings: Any,
) -> ThreeWay:
    """Fit one random-effects model by three roads and put their numbers side by side.

    What do the priors change, and does the sampler agree with the exact solution? The first is read from the
    columns frequentist and exact; the second from the column z, in units of the error that random draws have anyway.

    Parameters
    ----------
    effects : EffectSizes
    mods : str
        Right-hand side of a formula over the moderators, ``"1"`` for none.
    mu_prior, tau_prior, beta_prior : EffectPrior, TauPrior, EffectPrior or mapping
        As in `BayesianModel`; PyMC gets the same ones.
    level : float
        Of all intervals, a fraction.
    pymc : bool or SampledPosterior
        Whether to draw with PyMC, which takes up to a minute; or what `bayes.sample` has drawn already from
        ``bayes.pymc.normal_normal`` with these effects, moderators and priors.
    seed : int, optional
        Needed where PyMC draws: the same seed gives the same numbers.
    **settings
        For `bayes.sample`: ``draws=``, ``chains=``, ``cores=``, ...

    Returns
    -------
    ThreeWay
        ``tidy()`` with one row per number; ``worst``, the largest distance between PyMC and exact.

    Raises
    ------
    InputError
        No seed where PyMC shall draw; draws of another model, of other effects or with other priors.
    DesignError
        An unknown moderator, one with a single level, more coefficients than effects.

    Warns
    -----
    ConvergenceWarning
        PyMC's draws fail a check of convergence; also in ``.notes``.

    Notes
    -----
    Frequentist: REML, Knapp-Hartung intervals (t), Q-profile interval of tau, predictions by t(k - p); shrunken
    studies with the standard errors of ``metafor::blup``. Bayesian estimates are posterior medians. The Monte-Carlo
    standard error of a quantile is sqrt(p (1 - p) / ESS) as a probability, with the effective number of draws for that
    quantile (Vehtari et al. 2021, doi:10.1214/20-BA1221); z is counted there, and ``mcse`` is the same divided by the
    exact density. Of PyMC's numbers about 95 of 100 should lie within two of them from exact; all come from the same
    draws, so that they stray together.
    Studies' true effects are drawn given each draw of mean and tau, because that model integrates them out.

    Examples
    --------
    >>> import alliance_meta as am
    >>> es = am.escalc(am.load_dataset("molloy2014"))
    >>> both = am.sensitivity.three_way(es, pymc=False)
    >>> estimates = both.tidy().query("number == 'estimate'")[["parameter", "frequentist", "exact"]]
    >>> estimates.head(3).round(3).values.tolist()
    [['mu', 0.15, 0.148], ['tau', 0.09, 0.096], ['theta_new', 0.15, 0.147]]
    """
    priors: dict[str, Any] = {"mu_prior": mu_prior, "tau_prior": tau_prior, "beta_prior": beta_prior}
    if pymc is True and seed is None:
        raise InputError("three_way needs a seed= where PyMC draws; or leave it out with pymc=False")
    if not isinstance(pymc, bool | SampledPosterior):
        raise InputError(f"pymc={pymc!r} is neither True or False nor the result of bayes.sample")
    exact = BayesianModel(effects, mods=mods, level=level, **priors).fit()
    assert isinstance(exact, BayesianResults)
    frequentist = RandomEffectsModel(effects, mods=mods, method="REML", test="knha", level=level).fit()
    sampled = pymc if isinstance(pymc, SampledPosterior) else None
    if sampled is not None:
        _check_same(sampled, exact)
    elif pymc:
        sampled = _drawn(effects, mods, priors, seed, settings)
    found = ThreeWay(
        frequentist,
        exact,
        sampled,
        _table(frequentist, exact, sampled, level),
        merge_notes(frequentist.notes, exact.notes, sampled.notes if sampled else ()),
    )
    return replace(found, notes=(*found.notes, _apart(found))) if found.worst > FAR else found


def _drawn(
    effects: EffectSizes, mods: str, priors: dict[str, Any], seed: int | None, settings: dict[str, Any]
) -> SampledPosterior:
    # PyMC is loaded only where it draws.
    from alliance_meta.bayes.pymc import normal_normal
    from alliance_meta.bayes.sampled.sampling import sample

    assert seed is not None
    return sample(normal_normal(effects, mods=mods, **priors), seed=seed, **settings)


def _check_same(sampled: SampledPosterior, exact: BayesianResults) -> None:
    """Refuse draws that belong to another question."""
    made = sampled.made
    wrong = [] if made.model == "normal_normal" else [f"they are from the model {made.model}, not normal_normal"]
    ours, theirs = exact.effects, made.effects
    if not (np.array_equal(ours.yi, theirs.yi) and np.array_equal(ours.vi, theirs.vi)):
        wrong.append("they are of other effects")
    if exact.design.names != made.design.names or not np.array_equal(exact.design.X, made.design.X):
        wrong.append(f"their moderators are {made.design.formula!r}, not {exact.design.formula!r}")
    names = [*exact.priors.names, "tau"]
    for name, prior in zip(names, [*exact.priors.coefficients, exact.priors.tau], strict=True):
        other = made.priors.get(name)
        if other is None or not _same(prior.to_dict(), other.to_dict()):
            wrong.append(f"their prior of {name} is {other}, not {prior}")
    if wrong:
        raise InputError(f"pymc: these draws answer another question: {'; '.join(wrong)}")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.keys() != other.keys() or one["prior"] != other["prior"]:
        return False
    return all(np.allclose(one[name], other[name], rtol=SAME, atol=0.0) for name in one if name != "prior")


def _table(
    frequentist: RandomEffectsResults, exact: BayesianResults, sampled: SampledPosterior | None, level: float
) -> pd.DataFrame:
    classic = _classic(frequentist, level)
    p = (0.5, 0.5 * (1.0 - level), 0.5 * (1.0 + level))
    drawn = _studies_drawn(sampled, exact) if sampled is not None else {}
    rows = []
    for name, values in classic.items():
        solved: Marginal = exact.posterior(name)
        one = drawn.get(name) if name in drawn else sampled.posterior(name) if sampled is not None else None
        for which, at, value in zip(NUMBERS, p, values, strict=True):
            rows.append({"parameter": name, "number": which, **_row(value, solved, one, at)})
    columns = {name: column([row[name] for row in rows]) for name in rows[0]}
    out = pd.DataFrame(columns)
    out.attrs.update(scale=exact.effects.scale_label, level=level, interval="eti")
    return out


def _row(value: float, solved: Marginal, one: SampledMarginal | None, at: float) -> dict[str, float]:
    theirs = float(solved.quantile(at))
    unknown = isinstance(value, NotApplicable)
    row = {"frequentist": value, "exact": theirs, "difference": value if unknown else theirs - value}
    none = NotApplicable(WITHOUT)
    if one is None:
        return row | {"pymc": none, "mcse": none, "z": none}
    drawn = float(one.quantile(at))
    size = ess(one.chains, "quantile", prob=at)
    if size != size:
        return row | {"pymc": drawn, "mcse": size, "z": size}
    # In probability a quantile of draws is nearly normal, and the exact posterior knows it without noise.
    error = float(np.sqrt(at * (1.0 - at) / size))
    below = float(solved.cdf(drawn)) - at if at <= 0.5 else 1.0 - at - float(solved.sf(drawn))
    return row | {"pymc": drawn, "mcse": error / float(solved.pdf(theirs)), "z": below / error}


def _classic(fit: RandomEffectsResults, level: float) -> dict[str, tuple[float, float, float]]:
    """Return estimate and interval of every parameter, under the names of the posterior."""
    row = fit.design.X.mean(axis=0)[None]
    df = fit.fitted.coefficients.df
    random = fit.method != "EE"
    at = predict_rows(row, beta=fit.beta, vb=fit.vb, tau2=fit.tau2, df=df, level=level, random=random).iloc[0]
    found: dict[str, tuple[float, float, float]] = {"mu": (at["pred"], at["ci_lb"], at["ci_ub"])}
    if fit.design.formula != "1":
        found |= {
            name: (float(b), float(lb), float(ub))
            for name, b, lb, ub in zip(fit.names, fit.beta, fit.ci_lb, fit.ci_ub, strict=True)
        }
    tau2 = fit.confint_tau2(level=level)
    limits = [one if isinstance(one, NotApplicable) else float(np.sqrt(one)) for one in (tau2.lb, tau2.ub)]
    found["tau"] = (fit.tau, limits[0], limits[1])
    found["theta_new"] = (at["pred"], at["pi_lb"], at["pi_ub"])
    for label, one in fit.blup(level=level).iterrows():
        found[f"theta[{label}]"] = (one["pred"], one["pi_lb"], one["pi_ub"])
    return {name: (_known(a), _known(b), _known(c)) for name, (a, b, c) in found.items()}


def _known(value: float) -> float:
    if isinstance(value, NotApplicable):
        return value
    return float(value) if np.isfinite(value) else NotApplicable("this frequentist model has none")


def _studies_drawn(sampled: SampledPosterior, exact: BayesianResults) -> dict[str, SampledMarginal]:
    """Draw each study's true effect given each draw of mean and tau."""
    made, flat = sampled.made, sampled._flat
    y, v, tau2 = made.effects.yi, made.effects.vi, flat["tau"][:, None] ** 2
    mean = made.fitted(flat)
    own = tau2 / (tau2 + v)
    noise = np.random.default_rng([sampled.seed, STUDIES]).standard_normal(mean.shape)
    theta: Array = mean + own * (y - mean) + np.sqrt(own * v) * noise
    return {
        f"theta[{label}]": SampledMarginal(f"theta[{label}]", theta[:, i].reshape(sampled._shape))
        for i, label in enumerate(exact.effects.slab)
    }


def _apart(found: ThreeWay) -> Note:
    z = np.abs(found.table["z"].to_numpy(dtype=float))
    row = found.table.iloc[int(np.nanargmax(z))]
    message = (
        f"PyMC and the exact posterior are further apart than chance explains: {row['number']} of {row['parameter']} "
        f"by {fixed(found.worst, 1)} Monte-Carlo standard errors. Check the convergence of the draws before trusting "
        "them."
    )
    return Note("sampler-disagrees", message)
