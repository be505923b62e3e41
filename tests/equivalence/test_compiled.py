"""The compiled searches are the NumPy searches: the same steps, results equal to rounding, numba only where it pays."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from alliance_meta.core import compiled, searches
from alliance_meta.core.tau2 import PAYS, engine_for, estimate_tau2
from alliance_meta.core.wls import make_batch

# Rounding alone: sums are taken in another order.
SAME = 1e-12
SEARCHED = ("REML", "ML", "PM", "PMM")


def make(rng, *, moderators, ragged, B=300, k=14):
    """Return replicates from homogeneous to very heterogeneous, with variances over three orders of magnitude."""
    v = 10.0 ** rng.uniform(-3, 0, (B, k))
    X = np.column_stack([np.ones(k), *rng.normal(size=(moderators, k))])
    tau2 = rng.choice([0.0, 0.01, 0.1, 1.0], (B, 1))
    y = 0.3 + rng.normal(size=(B, k)) * np.sqrt(v + tau2)
    present = None
    if ragged:
        present = (rng.random((B, k)) < 0.8) | (np.arange(k) < moderators + 3)
    return make_batch(y, v, X, present)


def assert_same(one, two, scale):
    np.testing.assert_array_equal(one.truncated, two.truncated)
    np.testing.assert_array_equal(one.converged, two.converged)
    np.testing.assert_allclose(one.tau2, two.tau2, rtol=SAME, atol=SAME * scale)
    np.testing.assert_allclose(one.se, two.se, rtol=1e-10)
    np.testing.assert_array_equal(np.isnan(one.untruncated), np.isnan(two.untruncated))


@pytest.mark.parametrize("method", SEARCHED)
@pytest.mark.parametrize("moderators", [0, 1, 4])
@pytest.mark.parametrize("ragged", [False, True])
def test_compiled_is_numpy(rng, method, moderators, ragged):
    batch = make(rng, moderators=moderators, ragged=ragged)
    numpy = estimate_tau2(batch, method=method, engine="numpy")
    fast = estimate_tau2(batch, method=method, engine="compiled")
    assert numpy.truncated.any()
    assert (~numpy.truncated).sum() > 100
    assert_same(fast, numpy, scale=0.05)
    assert (np.abs(fast.iterations - numpy.iterations) <= 1).all()


@pytest.mark.parametrize("method", SEARCHED)
def test_compiled_allows_the_same_negative_estimates(rng, method):
    v = rng.uniform(0.05, 0.1, (200, 12))
    batch = make_batch(rng.normal(size=v.shape) * np.sqrt(0.5 * v), v, np.ones((12, 1)))
    numpy = estimate_tau2(batch, method=method, lowest=-0.04, engine="numpy")
    assert (numpy.tau2 < 0).sum() > 20
    assert_same(estimate_tau2(batch, method=method, lowest=-0.04, engine="compiled"), numpy, scale=0.05)


@pytest.mark.parametrize("method", SEARCHED)
@pytest.mark.parametrize("moderators", [0, 2])
def test_a_single_fit_is_a_row_of_a_batch(rng, method, moderators):
    batch = make(rng, moderators=moderators, ragged=True, B=60)
    together = estimate_tau2(batch, method=method, engine="numpy")
    for b in range(60):
        alone = estimate_tau2(batch.part(slice(b, b + 1)), method=method)
        assert alone.tau2[0] == pytest.approx(together.tau2[b], rel=SAME, abs=SAME * 0.05)
        assert alone.se[0] == pytest.approx(together.se[b], rel=1e-10)
        assert alone.truncated[0] == together.truncated[b]


@pytest.mark.parametrize("moderators", [0, 2])
def test_the_functions_that_are_compiled_also_run_as_python(rng, monkeypatch, moderators):
    batch = make(rng, moderators=moderators, ragged=True, B=12)
    plain = compiled.Kernels(compiled.maximise_rows, compiled.solve_rows)
    for method in ("REML", "ML", "PM"):
        numpy = estimate_tau2(batch, method=method, engine="numpy")
        with monkeypatch.context() as context:
            context.setattr(searches, "load", lambda: plain)
            assert_same(estimate_tau2(batch, method=method, engine="compiled"), numpy, scale=0.05)


def test_size_alone_decides():
    assert engine_for(PAYS - 1) == "numpy"
    assert engine_for(PAYS) == "compiled"


def test_small_work_leaves_numba_unloaded():
    code = (
        "import sys, numpy as np, alliance_meta\n"
        "from alliance_meta import EffectSizes, RandomEffectsModel\n"
        "from alliance_meta.core.tau2 import estimate_tau2\n"
        "from alliance_meta.core.wls import make_batch\n"
        "RandomEffectsModel(EffectSizes.from_arrays([.1, .9, .4, .2], [.02, .03, .01, .02])).fit()\n"
        "y = np.random.default_rng(1).normal(size=(1000, 30))\n"
        "estimate_tau2(make_batch(y, np.full((1000, 30), .2), np.ones((30, 1))), method='REML')\n"
        "sys.exit('numba' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_machine_code_goes_where_numba_is_told_and_nothing_warns(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from alliance_meta.core.tau2 import estimate_tau2\n"
        "from alliance_meta.core.wls import make_batch\n"
        "y = np.random.default_rng(1).normal(size=(10, 5))\n"
        "fit = estimate_tau2(make_batch(y, np.ones_like(y), np.ones((5, 1))), method='PM', engine='compiled')\n"
        "sys.exit(0 if fit.converged.all() and 'numba' in sys.modules else 1)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300, env=environment)
    assert list(tmp_path.rglob("compiled.solve_rows*.nbc"))


@pytest.mark.parametrize("trouble", ["no numba", "no place for its files"])
def test_without_numba_the_same_function_runs_in_numpy(rng, monkeypatch, trouble):
    if trouble == "no numba":
        monkeypatch.setitem(sys.modules, "numba", None)
    else:

        def njit(**_options):
            def refuse(function):
                raise RuntimeError(f"cannot cache function {function.__name__!r}: no locator available")

            return refuse

        monkeypatch.setattr("numba.njit", njit)
    monkeypatch.setattr(searches, "load", compiled.load.__wrapped__)
    assert searches.load() is None
    batch = make(rng, moderators=1, ragged=False, B=20)
    for method in SEARCHED:
        asked = estimate_tau2(batch, method=method, engine="compiled")
        np.testing.assert_array_equal(asked.tau2, estimate_tau2(batch, method=method, engine="numpy").tau2)
