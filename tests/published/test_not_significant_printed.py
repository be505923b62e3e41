"""MetaNSUE as the vignette of metansue 2.0 prints it (Albajes-Eizagirre, Solanes & Radua 2017; GPL-3).

Sections 3.4 and 6 of ``inst/doc/metansue.pdf`` (cran/metansue, commit a28be3b of 21 July 2017; later versions have no
vignette): standardized mean changes and differences. `bias.unreported` takes correlations; here its core is given these
effects and the steps of metansue: the mean is the nearest to 0 that the likelihood gives with one study left out; 500
imputations, whose density grows with their own sampling variance; REML; Rubin's rules. Its draws are not ours, so what
rests on them is compared within three times their error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from alliance_meta.core.pooling import pool
from alliance_meta.core.resampling import Recipe, refit
from alliance_meta.core.univariate.unreported import Bounded, draw, fit
from alliance_meta.core.univariate.wls import make_batch
from tests.tolerances import printed

pytestmark = pytest.mark.published

NA = np.nan
IMPUTATIONS, OURS = 500, 20000
N = np.array([40, 20, 22, 24, 18, 30, 25, 30, 16, 22])
N1 = np.array([43, 32, 32, 48, 52, 43, 42, 43, 38, 36, 39, 36, 55, 36, 42])
N2 = np.array([44, 33, 32, 48, 53, 42, 43, 43, 38, 36, 39, 37, 55, 36, 42])
T = [2.35, NA, 2.06, 2.04, 3.48, NA, 2.13, 2.66, 2.22, 2.2, 3.07, NA, NA, 2.46, 2.14]
TRUTH = np.where(np.isnan(T), [0, 0.28, 0, 0, 0, 1.5, 0, 0, 0, 0, 0, 1.79, 1.13, 0, 0], T)


class Sheet:
    """Hedges' g from t, its bounds of significance, and its variance, a + b g^2."""

    def __init__(self, t, a, df):
        half = df / 2
        correction = np.exp(special.gammaln(half) - np.log(half) / 2 - special.gammaln(half - 0.5))
        scale = correction * np.sqrt(a)
        self.a, self.b = a, 1 - (df - 2) / (df * correction**2)
        self.g, self.bound = scale * np.asarray(t), scale * stats.t.ppf(0.975, df)
        self.out = np.isnan(self.g)

    def bounded(self, at):
        """Return the data; effects without a number have the variance that they would have at `at`."""
        there, bound = ~self.out, self.bound[self.out]
        v, between = (self.a + self.b * np.square(x) for x in (self.g, at))
        return Bounded(self.g[there], v[there], between[self.out], -bound, bound)


CHANGES = Sheet([3.4, NA, NA, NA, NA, 2.8, 2.1, 3.1, 2.0, 3.4], 1 / N, N - 1)
DIFFERENCES = Sheet(T, 1 / N1 + 1 / N2, N1 + N2 - 2)


def without_each(data):
    """Yield the data without each of its effects."""
    for i in range(data.y.size):
        yield replace(data, y=np.delete(data.y, i), v=np.delete(data.v, i))
    for i in range(data.low.size):
        names = ("v_between", "low", "high")
        yield replace(data, **{name: np.delete(getattr(data, name), i) for name in names})


def pooled(sheet):
    """Return estimate, standard error and mean tau2, and the error that 500 imputations leave in the first and last."""
    at_bounds = sheet.bounded(sheet.bound)
    fits = [fit(one) for one in without_each(at_bounds)]
    lowest = min(fits, key=lambda one: abs(one.mu))
    assert lowest.tau2 == 0
    rng = np.random.default_rng(1)
    data = sheet.bounded(np.full(sheet.g.shape, lowest.mu))
    drawn = draw(np.full(OURS, lowest.mu), 0.0, data, rng)
    a, b = sheet.a[sheet.out], sheet.b[sheet.out]
    for column, (low, slope) in zip(drawn.T, zip(a, b, strict=True), strict=True):
        weight = low + slope * column**2
        column[:] = rng.choice(column, OURS, p=weight / weight.sum())
    y = np.concatenate([np.broadcast_to(data.y, (OURS, data.y.size)), drawn], axis=1)
    v = np.concatenate([np.broadcast_to(data.v, (OURS, data.y.size)), a + b * drawn**2], axis=1)
    X = np.ones((y.shape[1], 1))
    beta, vb, tau2 = refit(
        Recipe(X=X, method="REML", test="z", tau2=None, lowest=0.0, tested=(0,)), make_batch(y, v, X)
    )
    found = pool(beta, vb, df=None)
    error = [3 * x.std() / IMPUTATIONS**0.5 for x in (beta, tau2)]
    return float(found.beta[0]), float(found.vb[0, 0]) ** 0.5, float(tau2.mean()), *error


@pytest.mark.parametrize(
    ("sheet", "estimate", "se", "tau2"),
    [(CHANGES, 0.4212, 0.0738, 0.0016), (DIFFERENCES, 0.4568, 0.0609, 0.0004)],
    ids=["changes", "differences"],
)
def test_imputation(sheet, estimate, se, tau2):
    """'(Mean) 0.4212 0.0738', tau^2 '0.0016'; '(Mean) 0.4568 0.0609', tau^2 '0.0004'."""
    ours = pooled(sheet)
    assert ours[0] == pytest.approx(estimate, abs=ours[3])
    assert ours[1] == pytest.approx(se, abs=0.001)
    assert ours[2] == pytest.approx(tau2, abs=ours[4])
    # Neither leaving them out nor entering 0 comes near.
    there = sheet.bounded(sheet.g)
    none = np.empty(0)
    left_out = fit(Bounded(there.y, there.v, none, none, none)).mu
    v = np.concatenate([there.v, sheet.a[sheet.out]])
    zero = fit(Bounded(np.concatenate([there.y, np.zeros(there.low.size)]), v, none, none, none)).mu
    assert left_out > estimate + 3 * ours[3]
    assert zero < estimate - 3 * ours[3]


def test_nothing_unreported():
    """'0.4572 0.0577', z '7.9228', '[0.3441, 0.5703]': the t values that were hidden before."""
    found = fit(Sheet(TRUTH, 1 / N1 + 1 / N2, N1 + N2 - 2).bounded(NA * TRUTH))
    se = found.variance**0.5
    assert (found.mu, se, found.tau2) == (printed("0.4572"), printed("0.0577"), 0)
    assert found.mu / se == printed("7.9228")
    assert [found.mu - 1.959964 * se, found.mu + 1.959964 * se] == [printed("0.3441"), printed("0.5703")]
