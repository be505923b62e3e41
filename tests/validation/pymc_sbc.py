"""Are the PyMC models calibrated? ``python -m tests.validation.pymc_sbc normal_normal`` writes a model's result.

Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788): parameters are drawn from the prior, data from
the parameters; then the share of posterior draws below the true value is uniform between 0 and 1. Each model is
compiled once. A family is a `Family` in the ``FAMILIES`` of a module ``pymc_sbc_<subject>.py`` beside this one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge

HERE = Path(__file__).parent
RESULT = Path(__file__).with_suffix(".json")
SEED = 1804
# Of the draws of each fit so many are kept, equally spaced, so that they are as good as independent.
KEPT = 400
BINS = 10
LEVEL = 0.9


@dataclass(frozen=True)
class Family:
    """A model with priors, and data drawn from it.

    Attributes
    ----------
    simulate : callable
        ``simulate(rng)`` draws parameters from the priors and data from them: the effects, and the truth by name, as
        ``mu`` or, for an element of an array, ``theta[0]`` or ``beta[1]``. Its keys are what is ranked. All data sets
        have the same size and the same moderators.
    model : callable
        ``model(effects)`` builds the model with these same priors, given in full.
    settings : mapping
        Of the sampler, where the usual ones will not do.
    replicates : int
        Sets of data; fewer, down to 200, for models that take long.
    """

    simulate: Callable[[np.random.Generator], tuple[am.EffectSizes, dict[str, float]]]
    model: Callable[[am.EffectSizes], Any]
    settings: Mapping[str, Any] | None = None
    replicates: int = 400


USUAL = {"draws": 800, "tune": 500, "chains": 2, "cores": 1, "target_accept": 0.9, "progress": False}


def families():
    """Return every family by the name of its model."""
    found = {}
    for path in sorted(HERE.glob("pymc_sbc_*.py")):
        found |= import_module(f"tests.validation.{path.stem}").FAMILIES
    return found


def shares(name, *, replicates, seed):
    """Return the share of draws below the truth, quantity by quantity, and the number of divergences."""
    family = families()[name]
    own = zlib.crc32(name.encode())
    simulated = [family.simulate(np.random.default_rng([seed, own, i])) for i in range(replicates)]
    compiled = am.bayes.compile(family.model(simulated[0][0]))
    found = {quantity: np.empty(replicates) for quantity in simulated[0][1]}
    divergences = 0
    for i, (effects, truth) in enumerate(simulated):
        raw = compiled.with_data(effects).draw(**USUAL | dict(family.settings or {}), seed=seed + i)
        divergences += int(arviz_bridge.sampler_diagnostics(raw).divergences)
        draws = arviz_bridge.draws(raw)
        jitter = np.random.default_rng([seed, own, i, 1]).random(len(truth))
        for (quantity, value), extra in zip(truth.items(), jitter, strict=True):
            kept = thinned(element(draws, quantity))
            found[quantity][i] = ((kept < value).sum() + extra) / (len(kept) + 1)
    return found, divergences


def element(draws, quantity):
    """Return the draws of one number, (chain, draw)."""
    name, index = re.fullmatch(r"([^\[]+)(?:\[([\d, ]+)\])?", quantity).groups()
    return draws[name][(..., *map(int, index.split(",")))] if index else draws[name]


def thinned(chains):
    """Return draws that are equally spaced along the chains."""
    every = max(1, chains.size // KEPT)
    return chains[:, ::every].ravel()


def describe(values):
    """Return the histogram, two tests of uniformity and the coverage of equal-tailed intervals."""
    counts = np.histogram(values, bins=BINS, range=(0.0, 1.0))[0]
    edge = 0.5 * (1.0 - LEVEL)
    return {
        "counts": counts.tolist(),
        "chi2": float(stats.chisquare(counts).statistic),
        "ks_p": float(stats.kstest(values, "uniform").pvalue),
        "coverage": float(((values > edge) & (values < 1.0 - edge)).mean()),
    }


def run(name, *, seed=SEED):
    """Return a model's result as JSON-ready values."""
    replicates = families()[name].replicates
    found, divergences = shares(name, replicates=replicates, seed=seed)
    quantities = {quantity: describe(values) for quantity, values in found.items()}
    return {"replicates": replicates, "seed": seed, "divergences": divergences, "quantities": quantities}


def write(name, result):
    """Put one model's result among those of the others."""
    known = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    everything = dict(sorted((known | {name: result}).items()))
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps(everything, indent=1) + "\n", "utf-8")
    os.replace(part, RESULT)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or families():
        write(wanted, run(wanted))
