"""Selection models of few, lopsided, equal and extreme effects: a defined answer, or a reason and a way out."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.errors import ConvergenceWarning, FewStudiesWarning, InputError, TruncationWarning
from tests.tolerances import ITERATIVE

RNG = np.random.default_rng(3)
FAMILIES = ("stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow")
SELECTED = np.concatenate([RNG.uniform(0.3, 0.6, 18), RNG.uniform(-0.1, 0.15, 12)])


def fit(y, v=0.01, **moderators) -> am.models.RandomEffectsResults:
    y = np.array(y, dtype=float)
    mods = pd.DataFrame(moderators) if moderators else None
    effects = am.EffectSizes.from_arrays(y, np.broadcast_to(v, len(y)).astype(float), measure="ZCOR", mods=mods)
    with warnings.catch_warnings():
        for kind in (TruncationWarning, FewStudiesWarning):
            warnings.simplefilter("ignore", kind)
        return am.RandomEffectsModel(effects).fit()


def codes(result) -> set[str]:
    return {note.code for note in result.notes}


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("type", FAMILIES)
def test_too_few_effects_are_refused_with_a_way_out(type, k):
    with pytest.raises(InputError, match=r"too few effects \(\d\) for the \d parameters .*bias\.vevea_woods"):
        bias.selmodel(fit([0.3, 0.1][:k]), type)


def test_few_effects_are_noted_and_ten_are_not():
    assert {"few-effects", "few-in-interval"} <= codes(bias.selmodel(fit(SELECTED[12:21])))
    assert "few-effects" not in codes(bias.selmodel(fit(SELECTED[12:22])))
    assert not codes(bias.selmodel(fit(SELECTED))) & {"few-effects", "few-in-interval"}


@pytest.mark.parametrize("y", [SELECTED[:18], SELECTED[18:]], ids=["all significant", "none significant"])
def test_effects_on_one_side_of_the_step_tell_nothing_and_given_weights_still_answer(y):
    with pytest.raises(InputError, match=r"no effect has .* on one side of every step.* bias\.vevea_woods"):
        bias.selmodel(fit(y))
    assert np.isfinite(bias.vevea_woods(fit(y)).tidy().to_numpy(dtype=float)).all()


def test_an_interval_without_effects_is_named_with_steps_that_work():
    one = fit(np.maximum(SELECTED, 0.01))
    with pytest.raises(InputError) as refusal:
        bias.selmodel(one, steps=(0.025, 0.5, 0.8))
    assert "no effect has 0.5 < p <= 0.8, 0.8 < p <= 1" in str(refusal.value)
    offered = re.search(r"steps=\(([^)]*)\)", str(refusal.value))
    assert offered is not None
    steps = [float(text) for text in offered[1].split(",") if text]
    assert steps == [0.025]
    assert bias.selmodel(one, steps=steps).counts == (18, 12)


EXTREME = {
    "equal standard errors": (SELECTED, 0.01),
    "one and the same effect": ([0.2] * 16, [0.009, 0.02] * 8),
    "one effect is significant": ([0.5, *RNG.normal(0.05, 0.02, 15)], 0.01),
    "far apart": ([50, 0, -3, 2, 0.1, 0.2, 0.3, 0.5, 1, 0.01, 0.02, 3], 1e-4),
    "variances of 1e-8 to 1e4": (RNG.normal(0.2, 0.2, 30), np.geomspace(1e-8, 1e4, 30)),
    "no variance to speak of": (RNG.normal(0.1, 0.2, 30), 1e-9),
}


@pytest.mark.parametrize("type", FAMILIES)
@pytest.mark.parametrize("name", EXTREME)
def test_whatever_the_effects_every_number_is_one_or_has_a_reason(name, type):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = bias.selmodel(fit(*EXTREME[name]), type)
    assert bool(caught) == ("not-converged" in codes(found))
    numbers = [found.estimate, found.se, found.ci_lb, found.ci_ub, found.pval, found.tau2, found.se_tau2]
    for one in [*numbers, *found.delta, *found.se_delta, found.loglik, found.lrt.stat, found.lrt.pval]:
        assert isinstance(one, am.NotApplicable) or math.isfinite(one)
    assert bool(codes(found) & {"weight-at-bound", "weight-untold"}) == bool(
        [one for one in found.se_delta if isinstance(one, am.NotApplicable) and "bound" in one.reason]
    )
    assert ("tau2-zero" in codes(found)) == (found.tau2 == 0.0)
    assert found.lrt.stat >= 0.0


def test_parameters_that_data_cannot_tell_apart_have_no_standard_error_and_a_note():
    # The moderator of the weights is constant among the effects that are not significant.
    arm = np.where(np.arange(30) < 15, "a", "b")
    with pytest.raises(InputError, match="mods_delta"):
        bias.selmodel(fit(SELECTED, arm=arm), mods_delta="arm", delta=(1, 0.5))
    found = bias.selmodel(fit(SELECTED, arm=arm), mods_delta="arm")
    assert codes(found) & {"flat", "weight-untold"}
    errors = [one.se for one in found.parts if one.name.startswith("log delta")]
    assert all(isinstance(one, am.NotApplicable) for one in errors)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": ()}, "steps are p-values"),
        ({"steps": (0.025, 1.5)}, "steps are p-values"),
        ({"steps": "x"}, "steps are p-values"),
        ({"delta": (1, 0.5, 0.2)}, "it takes 2"),
        ({"delta": (1, -0.5)}, "not negative"),
        ({"delta": (0.5, 0.5)}, "first weight is 1"),
        ({"delta": (1, 0)}, "take a small one"),
        ({"type": "gamma"}, "type"),
        ({"alternative": "up"}, "alternative"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        bias.selmodel(fit(SELECTED), **options)


def test_effects_in_the_other_direction_give_the_mirror_image_and_a_note():
    up, down = bias.selmodel(fit(SELECTED)), bias.selmodel(fit(-SELECTED))
    assert down.estimate == pytest.approx(-up.estimate, rel=ITERATIVE)
    assert (down.alternative, down.delta) == ("less", pytest.approx(up.delta, rel=ITERATIVE))
    assert "direction" in codes(down)
    assert "direction" not in codes(up)
    assert "direction" not in codes(bias.selmodel(fit(-SELECTED), alternative="less"))


def told(result) -> str:
    return next(note.message for note in result.notes if note.code == "focal")


def test_only_effects_that_were_their_papers_point_are_taken_as_selected():
    everything = bias.selmodel(fit(SELECTED))
    assert told(everything).startswith("No column 'focal'")
    some = bias.selmodel(fit(SELECTED, focal=["yes", "no", None] * 10))
    assert told(some).startswith("20 of 30 effects")
    assert sum(some.counts) == 20
    assert some.estimate != pytest.approx(everything.estimate, rel=1e-3)
    # What nobody knows about is exposed; a column that says yes throughout changes nothing.
    for column in (["yes"] * 30, [1] * 30, ["yes", None] * 15):
        assert bias.selmodel(fit(SELECTED, focal=column)).estimate == pytest.approx(everything.estimate, rel=ITERATIVE)
    assert told(bias.selmodel(fit(SELECTED, focal=[None, ""] * 15))).startswith("No column 'focal'")


def test_effects_that_were_not_selected_enter_with_their_ordinary_likelihood():
    """With one exposed effect in each interval the others must give the mean of a random-effects model of their own."""
    exposed = np.arange(30) >= 18
    with pytest.raises(InputError, match=r"no focal effect has 0 < p <= 0\.025"):
        bias.selmodel(fit(SELECTED, focal=np.where(exposed, "yes", "no")))
    with pytest.raises(InputError, match="none was selected"):
        bias.selmodel(fit(SELECTED, focal=["no"] * 30))
    with pytest.raises(InputError, match="'perhaps' is neither yes nor no"):
        bias.selmodel(fit(SELECTED, focal=["perhaps"] * 30))
    given = bias.selmodel(fit(SELECTED, focal=np.where(exposed, "yes", "no")), delta=(1, 1))
    plain = am.RandomEffectsModel(fit(SELECTED).effects, method="ML").fit()
    assert given.estimate == pytest.approx(float(plain.beta[0]), rel=ITERATIVE)
    assert given.loglik == pytest.approx(bias.selmodel(fit(SELECTED), delta=(1, 1)).loglik, rel=ITERATIVE)


def test_a_mean_that_left_the_effects_behind_is_not_to_be_trusted():
    sheet = am.RandomEffectsModel(am.escalc(am.load_dataset("synthetic_alliance"))).fit()
    away = bias.selmodel(sheet, "beta")
    y = sheet.effects.yi
    assert away.estimate < y.min() - np.ptp(y) - sheet.effects.vi.max() ** 0.5
    assert "mean-untold" in codes(away)
    assert bias.panel(sheet).tidy().loc["selection_beta", "why"].startswith("The mean before selection lies farther")
    assert "mean-untold" not in codes(bias.selmodel(sheet))
