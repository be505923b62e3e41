"""Robust variance estimation as printed."""

from __future__ import annotations

import pytest

from alliance_meta import RVEModel, escalc, load_dataset
from tests.tolerances import printed

pytestmark = pytest.mark.published


def test_oswald_2013_as_the_vignette_of_robumeta_prints_it():
    """robumeta, vignette, example of Oswald et al. (2013): correlated effects, rho = .8, small-sample corrections."""
    fit = RVEModel(escalc(load_dataset("oswald2013_ex1")), working="CORR", rho=0.8, small=True).fit()
    assert fit.tau2 == printed("0.1849812")
    assert printed("82.05272") == fit.I2
    assert float(fit.beta[0]) == printed("0.277")
    assert float(fit.se[0]) == printed("0.181")
    assert float(fit.ddf[0]) == printed("7.84")
    assert float(fit.ci_lb[0]) == printed("-0.141")
    assert float(fit.ci_ub[0]) == printed("0.695")
    assert (fit.n_clusters, fit.k) == (9, 32)
