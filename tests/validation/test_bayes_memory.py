"""An exact posterior of 100,000 studies, with every true effect: how much memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import resource
import numpy as np
import alliance_meta as am
rng = np.random.default_rng(1)
v = rng.uniform(0.005, 0.1, 100_000)
es = am.EffectSizes.from_arrays(rng.normal(0.3, np.sqrt(0.03 + v)), v, measure="ZCOR")
fit = am.BayesianModel(es).fit()
assert abs(fit.tidy().loc["mu", "mean"] - 0.3) < 0.01
assert len(fit.blup()) == 100_000
fit.predict()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_hundred_thousand_studies_take_less_than_a_gigabyte() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000
