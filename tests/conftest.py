"""What every test shares: a seeded generator, a drawing backend without a screen, settled Hypothesis."""

from __future__ import annotations

import gc
import os
import sys

# Before NumPy or matplotlib is imported: xdist already uses every core, and tests draw to files.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
from hypothesis import settings

# CI draws the same examples every time, so a red run can be repeated; at home new ones are looked for.
# `make validate` looks through fifteen times as many.
settings.register_profile("local", deadline=None, max_examples=20)
settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True, database=None)
settings.register_profile("long", deadline=None, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "local")


# Thousands of tests are many objects, and the collector of garbage walked them for a tenth of the time.
gc.set_threshold(50_000, 20, 20)
spared = [0]


def pytest_runtest_setup() -> None:
    """Let the collector pass over what lives to the end: the tests, and again what one of them imported."""
    if len(sys.modules) > spared[-1] + 100:
        gc.collect()
        gc.freeze()
        spared.append(len(sys.modules))


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator that starts from the same seed in every test."""
    return np.random.default_rng(20110301)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name raw bytes by their argument: what they spell is no name for a test."""
    return argname if isinstance(val, bytes) else None
