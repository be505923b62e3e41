"""Which program draws, what it is told, and what is said when it is not there; no sampler runs."""

from __future__ import annotations

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.sampled import sampling
from alliance_meta.bayes.sampled.quantities import CompiledModel
from alliance_meta.errors import CannotRunError, ConvergenceWarning, FallbackWarning


class Model:
    """Stand in for a pymc.Model that is not from `bayes.pymc`."""


class Recipe:
    """Stand in for how a model was made."""

    model, notes, target_accept = "careful", (am.Note("dropped-rows", "Two rows were left out."),), 0.97


def raw(*, chains=4, shift=0.0, seed=1):
    draws = np.random.default_rng(seed).normal(size=(chains, 500)) + shift * np.arange(chains)[:, None]
    return bridge.from_draws({"mu": draws}, sample_stats={"diverging": np.zeros(draws.shape, dtype=bool)})


@pytest.fixture
def without_nutpie(monkeypatch):
    load = bridge.load

    def failing(name):
        if name == "nutpie":
            raise ImportError("No module named 'nutpie'")
        return load(name)

    monkeypatch.setattr(bridge, "load", failing)


@pytest.fixture
def told(monkeypatch):
    """Replace both samplers; return what they were told."""
    seen = []

    def by_pymc(model, sampler, **settings):
        seen.append((sampler, settings))
        return raw()

    def by_nutpie(self, **settings):
        seen.append(("nutpie", settings))
        return raw()

    monkeypatch.setattr(sampling, "_by_pymc", by_pymc)
    monkeypatch.setattr(CompiledModel, "draw", by_nutpie)
    monkeypatch.setattr(sampling, "compile", lambda model: CompiledModel(model, None, getattr(model, "recipe", None)))
    return seen


def test_nutpie_draws_unless_told_otherwise(told):
    found = am.bayes.sample(Model(), seed=7)
    assert told[0][0] == "nutpie"
    settings = {"draws": 1000, "tune": 1000, "chains": 4, "cores": None, "seed": 7, "target_accept": 0.9}
    assert told[0][1] == settings | {"progress": False}
    assert (found.converged, found.notes, found.seed) == (True, (), 7)
    assert found.sampler.to_dict() == {"program": "nutpie", "tune": 1000, "target_accept": 0.9}


def test_a_model_of_few_effects_gets_smaller_steps_and_more_draws(told):
    es = am.escalc(am.load_dataset("molloy2014"))
    for k in (11, 12):
        am.bayes.sample(am.bayes.pymc.normal_normal(es.take(range(k))), seed=1)
    asked = [(settings["target_accept"], settings["draws"]) for _, settings in told]
    assert asked == [(0.99, 2000), (0.9, 1000)]


def test_progress_is_shown_in_a_terminal_and_not_in_a_file(told, monkeypatch):
    for stream, shown in (("stdout", True), ("stderr", True)):
        monkeypatch.setattr(getattr(sampling.sys, stream), "isatty", lambda shown=shown: shown)
    am.bayes.sample(Model(), seed=1)
    monkeypatch.setattr(sampling.sys.stdout, "isatty", lambda: False)
    am.bayes.sample(Model(), seed=1)
    am.bayes.sample(Model(), seed=1, progress=True)
    assert [settings["progress"] for _, settings in told] == [True, False, True]


def test_without_nutpie_pymc_draws_and_says_so(told, without_nutpie):
    with pytest.warns(FallbackWarning, match="nutpie cannot be imported .*PyMC's own sampler was used"):
        found = am.bayes.sample(Model(), seed=1)
    assert told[0][0] == "pymc"
    assert [note.code for note in found.notes] == ["sampler-fallback"]
    assert found.sampler.program == "pymc"
    assert "PyMC's own sampler was used" in " ".join(found.summary().split())


def test_without_nutpie_nothing_is_compiled(without_nutpie):
    with pytest.raises(CannotRunError, match="compile needs nutpie"):
        am.bayes.compile(Model())


def test_numpyro_must_be_there(monkeypatch):
    monkeypatch.setattr(sampling, "find_spec", lambda name: None)
    with pytest.raises(am.InputError, match="sampler='numpyro' is not installed: pip install numpyro"):
        am.bayes.sample(Model(), seed=1, sampler="numpyro")


def test_a_compiled_model_is_for_nutpie():
    with pytest.raises(am.InputError, match="cannot use a compiled model"):
        am.bayes.sample(CompiledModel(Model(), None), seed=1, sampler="pymc")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"sampler": "stan"}, "sampler"), ({"level": 95}, "level"), ({"interval": "middle"}, "interval")],
)
def test_settings_are_checked_first(told, settings, message):
    with pytest.raises(am.InputError, match=message):
        am.bayes.sample(Model(), seed=1, **settings)
    assert told == []


def test_a_model_may_ask_for_small_steps_and_is_overruled(told):
    model = CompiledModel(Model(), None, Recipe())
    found = am.bayes.sample(model, seed=1)
    assert told[-1][1]["target_accept"] == 0.97
    assert found.notes == Recipe.notes
    am.bayes.sample(model, seed=1, target_accept=0.8)
    assert told[-1][1]["target_accept"] == 0.8


def test_a_failed_check_is_warned_of_and_noted(told, monkeypatch):
    monkeypatch.setattr(CompiledModel, "draw", lambda self, **settings: raw(shift=1.0))
    with pytest.warns(ConvergenceWarning) as caught:
        found = am.bayes.sample(Model(), seed=1, level=0.9, interval="hdi")
    assert {str(one.message) for one in caught} == {note.message for note in found.notes}
    assert found.problems == found.notes
    assert (found.level, found.interval) == (0.9, "hdi")
