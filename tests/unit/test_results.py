"""A fitted result: everything in it can be read, printed and written; the degenerate cases have answers."""

from __future__ import annotations

import itertools
import json
import warnings
from itertools import cycle

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, NotApplicable, RandomEffectsModel, escalc, load_dataset
from alliance_meta.core.univariate.fit import GENERALISED_Q
from alliance_meta.errors import AllianceMetaWarning, FewStudiesWarning, TruncationWarning
from alliance_meta.models.subgroups import subgroups
from alliance_meta.notes import Measure, Tau2IntervalKind, Tau2Method, Test


def arrays(k, rng, spread=0.6):
    return EffectSizes.from_arrays(rng.normal(0.2, spread, k), rng.uniform(0.01, 0.1, k), measure="ZCOR")


def quiet(es, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return RandomEffectsModel(es, **options).fit()


@pytest.mark.parametrize("mods", ["1", "design + meanage"])
@pytest.mark.parametrize(
    ("measure", "method", "test"),
    [
        ("ZCOR", method, "z" if method in GENERALISED_Q else test)
        for method, test in zip(Tau2Method.__args__, cycle(Test.__args__), strict=False)
    ]
    + [(measure, "REML", test) for measure in Measure.__args__ for test in Test.__args__],
)
def test_touch_everything(measure, method, test, mods):
    fit = quiet(escalc(load_dataset("molloy2014"), measure=measure), method=method, test=test, mods=mods)
    for name in dir(fit):
        if not name.startswith("_"):
            value = getattr(fit, name)
            assert value is not None, name
    for text in (str(fit), fit.methods_text(), fit.r_code(), fit._repr_html_()):
        assert "nan" not in text
        assert "0x" not in text
    assert all(len(line) <= 80 for line in fit.summary().splitlines())
    assert fit.tidy().shape == (fit.p, 7)
    assert fit.glance().shape[0] == 1
    reasons = {name for name, value in fit.glance().iloc[0].items() if value != value}
    assert all(isinstance(fit.glance()[name][0], NotApplicable) for name in reasons)
    json.dumps(fit.to_dict(), allow_nan=False)


def test_the_summary_of_molloy():
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    lines = fit.summary().splitlines()
    assert lines[0] == "Random-effects model (k = 16; tau2 estimator: REML)"
    assert "tau2 = 0.0081 (SE 0.0055), 95% CI [0.0017, 0.0378] (Q-profile)" in lines
    assert "Heterogeneity: QE(df = 15) = 38.1595, p = 0.0009" in lines
    assert "intrcpt    0.1499  0.0316  4.7502  <.0001  0.0881  0.2118" in lines
    assert any(line.startswith("Caution: Validation set from another field") for line in lines)


def test_r_code_names_every_choice():
    fit = quiet(
        escalc(load_dataset("kolden2011"), measure="COR", ri="r_recoded", ni="n_recoded", vtype="AV"),
        method="HE",
        level=0.9,
    )
    assert fit.r_code().splitlines()[3:5] == [
        'dat <- escalc(measure="COR", ri=r_recoded, ni=n_recoded, data=dat, vtype="AV")',
        'fit <- rma(yi, vi, data=dat, method="HE", test="knha", level=90)',
    ]


def test_given_tau2_and_weights_are_named_everywhere(rng):
    es = arrays(9, rng)
    fit = quiet(es, tau2=0.05, weights=np.arange(1.0, 10.0), test="z")
    assert fit.tau2 == 0.05
    assert isinstance(fit.se_tau2, NotApplicable)
    assert isinstance(fit.R2, NotApplicable)
    w = np.arange(1.0, 10.0)
    assert float(fit.beta[0]) == pytest.approx(w @ es.yi / w.sum(), rel=1e-12)
    assert float(fit.se[0]) == pytest.approx(np.sqrt(w**2 @ (es.vi + 0.05)) / w.sum(), rel=1e-12)
    assert "tau2 given" in fit.summary()
    assert "weights given" in fit.summary()
    assert "was set to 0.05" in fit.methods_text()
    assert "tau2=0.05, weights=w)" in fit.r_code()
    with pytest.raises(InputError, match="weights has 2 values for 9 effects"):
        quiet(es, weights=[1, 2], test="z")
    with pytest.raises(InputError, match="every weight must be a positive, finite number"):
        quiet(es, weights=-w, test="z")
    with pytest.raises(InputError, match="test='knha' is not defined where weights are given"):
        quiet(es, weights=w)
    with pytest.raises(InputError, match="must be above minus the smallest variance"):
        quiet(es, tau2=-1)


def test_sample_sizes_as_weights_give_hunter_and_schmidts_mean():
    """Hunter & Schmidt's bare-bones mean correlation is sum(n r) / sum(n)."""
    es = escalc(load_dataset("berry2012"), measure="COR", vtype="AV")
    fit = quiet(es, method="HS", test="z", weights="ni")
    assert float(fit.beta[0]) == pytest.approx(es.ni @ es.yi / es.ni.sum(), rel=1e-12)
    assert "weights=w" in fit.r_code()
    with pytest.raises(InputError, match="these effects have no sample sizes"):
        quiet(EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1]), weights="ni", test="z")
    with pytest.raises(InputError, match="give one number per effect, or 'ni'"):
        quiet(es, weights="n", test="z")


def test_a_single_study_with_a_known_tau2():
    fit = quiet(EffectSizes.from_arrays([0.3], [0.04], measure="ZCOR"), tau2=0.05)
    assert float(fit.se[0]) == pytest.approx(0.3, rel=1e-12)
    assert (fit.method, fit.inference) == ("REML", "z")


def test_every_kind_of_interval_for_tau2(rng):
    fit = quiet(arrays(14, rng), test="z")
    for kind in Tau2IntervalKind.__args__:
        interval = fit.confint_tau2(kind=kind)
        assert 0 <= interval.lb < interval.estimate < interval.ub, kind
    with pytest.raises(InputError, match="kind='PL' profiles a likelihood"):
        quiet(arrays(14, rng), method="DL").confint_tau2(kind="PL")
    assert isinstance(quiet(arrays(2, rng)).confint_tau2(kind="HT").lb, NotApplicable)
    assert fit.se_tau2_observed == pytest.approx(fit.se_tau2, rel=0.5)


def test_markdown_and_latex_hold_the_summarys_numbers():
    fit = quiet(escalc(load_dataset("molloy2014")), mods="design")
    rows = fit.to_markdown().splitlines()
    assert rows[0].startswith("| term (Fisher z; REML, HK) | estimate | se |")
    assert rows[2] == "| intrcpt | 0.1701 | 0.0575 | 2.9578 | 14 | 0.0104 | 0.0467 | 0.2934 |"
    latex = fit.to_latex().splitlines()
    assert latex[1] == r"\caption{REML, HK; Fisher z; k = 16}"
    assert r"design[T.prospective] & $-0.0298$ & 0.0712 & $-0.4190$ & 14 & 0.6815 & $-0.1825$ & 0.1229 \\" in latex
    odd = EffectSizes.from_arrays([0.1, 0.2, 0.4], [0.1] * 3, mods={"a_b": [1.0, 2.0, 4.0]})
    assert r"a\_b & " in quiet(odd, mods="a_b").to_latex()


def test_an_effect_that_sets_its_own_mean_has_no_standardised_residual():
    lone = EffectSizes.from_arrays([0.1, 0.2, 0.4, 0.9], [0.1] * 4, mods={"x": [0.0, 0.0, 0.0, 1.0]})
    table = quiet(lone, mods="x").augment()
    assert table["hat"].iloc[3] == pytest.approx(1.0, abs=1e-12)
    assert table["rstandard"].isna().tolist() == [False, False, False, True]


def test_augment_is_the_fit_row_by_row(rng):
    fit = quiet(arrays(12, rng), test="z")
    table = fit.augment()
    np.testing.assert_allclose(table["yi"], table["fitted"] + table["resid"], rtol=1e-12)
    np.testing.assert_allclose(fit.ranef()["pred"], table["blup"] - table["fitted"], rtol=1e-9, atol=1e-12)
    assert table["hat"].sum() == pytest.approx(1.0, rel=1e-12)
    assert list(table.index) == list(fit.effects.slab)


def test_a_combination_that_no_effect_has_is_not_predicted(rng):
    mods = {"rater": ["a", "a", "b", "b", "c", "c"] * 4, "part": ["x", "y", "x", "y", "x", "x"] * 4}
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.5, 24), [0.02] * 24, mods=mods)
    fit = quiet(es, mods="rater * part")
    assert fit.predict({"rater": "b", "part": "y"}).shape == (1, 6)
    with pytest.raises(InputError, match="no effect tells about rater = c, part = y"):
        fit.predict({"rater": ["b", "c"], "part": "y"})


def test_scales(rng):
    fit = RandomEffectsModel(arrays(12, rng)).fit()
    z, r, mean = (fit.predict(scale=scale).iloc[0] for scale in ("z", "r", "r_mean"))
    assert r.pred == np.tanh(z.pred)
    assert (r.ci_lb, r.pi_ub) == (np.tanh(z.ci_lb), np.tanh(z.pi_ub))
    assert abs(mean.pred) < abs(r.pred)
    assert fit.predict(scale="r").attrs["scale"] == "r"
    with pytest.raises(InputError, match="fitted on raw r"):
        quiet(escalc(load_dataset("molloy2014"), measure="COR")).predict(scale="z")
    with pytest.raises(InputError, match="needs Fisher z effects; these are 'GEN'"):
        quiet(EffectSizes.from_arrays([0.1, 0.4], [0.1, 0.1])).predict(scale="r")
    with pytest.raises(InputError, match="not one of 'z', 'r', 'r_mean'"):
        fit.predict(scale="R")


def test_terms_coefficients_and_matrices_are_tested_alike(rng):
    es = EffectSizes.from_arrays(
        rng.normal(0.2, 0.5, 30), rng.uniform(0.01, 0.1, 30), mods={"rater": list("abc") * 10, "year": range(30)}
    )
    fit = RandomEffectsModel(es, mods="rater + year").fit()
    assert fit.test("rater") == fit.test(["rater[T.b]", "rater[T.c]"])
    assert fit.test("year").pval == pytest.approx(float(fit.pval[3]), rel=1e-10)
    assert fit.test([[0, 1, 0, 0], [0, 0, 1, 0]]).stat == pytest.approx(fit.test("rater").stat, rel=1e-12)
    assert fit.test("rater").null == "rater[T.b] and rater[T.c] = 0"
    assert (fit.QM, fit.QMp, fit.QMdf) == (fit.test(["rater", "year"]).stat, fit.omnibus.pval, (3, 26.0))
    with pytest.raises(InputError, match="no term or coefficient 'raters'; did you mean 'rater'"):
        fit.test("raters")
    with pytest.raises(InputError, match="L has 2 columns; the model has 4"):
        fit.test([[1, 0]])
    with pytest.raises(InputError, match="repeat each other"):
        fit.test([[0, 1, 0, 0], [0, 2, 0, 0]])


def test_a_single_study():
    es = EffectSizes.from_arrays([0.3], [0.04], measure="ZCOR")
    with pytest.warns(FewStudiesWarning, match="A single effect leaves nothing to estimate tau2 from"):
        fit = RandomEffectsModel(es).fit()
    assert (fit.method, fit.inference, fit.tau2) == ("EE", "z", 0.0)
    assert float(fit.ci_ub[0]) == pytest.approx(0.3 + 1.959963984540054 * 0.2, rel=1e-12)
    for value in (fit.I2, fit.QE, fit.QEp, fit.H2, fit.se_tau2, fit.confint_tau2().lb, fit.R2):
        assert isinstance(value, NotApplicable)
    assert "nothing to estimate tau2 from" in fit.summary()


def test_as_many_coefficients_as_effects():
    es = EffectSizes.from_arrays([0.1, 0.5], [0.04, 0.04], mods={"year": [1, 2]})
    fit = quiet(es, mods="year")
    assert fit.notes[0].code == "saturated"
    np.testing.assert_allclose(fit.beta, [-0.3, 0.4], rtol=1e-12)


def test_identical_effects():
    es = EffectSizes.from_arrays([0.2] * 5, [0.01, 0.02, 0.03, 0.04, 0.05], measure="ZCOR")
    with pytest.warns(TruncationWarning, match="set to 0"):
        fit = RandomEffectsModel(es).fit()
    assert {"tau2-truncated", "knha-zero"} <= {note.code for note in fit.notes}
    assert (float(fit.se[0]), float(fit.stat[0]), float(fit.pval[0])) == (0.0, np.inf, 0.0)
    assert isinstance(fit.QM, NotApplicable)
    assert "inf" in fit.summary()
    json.dumps(fit.to_dict(), allow_nan=False)


def test_knapp_hartung_narrower_than_wald_is_said():
    es = EffectSizes.from_arrays([0.20, 0.21, 0.19, 0.20, 0.205, 0.2], [0.05] * 6, measure="ZCOR")
    fit = quiet(es)
    note = next(note for note in fit.notes if note.code == "knha-narrower")
    wald = fit.fitted.wald
    assert f"[{wald.ci_lb[0]:.4f}, {wald.ci_ub[0]:.4f}]" in note.message
    assert "knha-narrower" not in {n.code for n in quiet(es, test="adhoc").notes}


def test_knapp_hartung_is_not_said_to_be_narrower_where_effects_differ():
    """With tau2 > 0 its factor is near 1 by construction; the limits agree to three digits."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        r = np.tanh(rng.normal(0.3, 0.2, 200) + rng.normal(0, 0.1, 200))
        sheet = pd.DataFrame({"study": [f"S{i}" for i in range(200)], "r": r, "n": rng.integers(20, 200, 200)})
        fit = quiet(escalc(sheet))
        assert fit.I2 > 60
        assert "knha-narrower" not in {note.code for note in fit.notes}


def test_an_empty_set_of_tau2_and_an_estimate_outside_its_interval_are_said():
    """Each note stands exactly where the interval itself shows it."""
    rng = np.random.default_rng(1)
    told = {"tau2-interval-empty": 0, "tau2-outside-interval": 0}
    for method, spread in itertools.product(("REML", "HE", "PM"), (0.0, 0.05)):
        for _ in range(40):
            v = rng.choice([0.001, 0.3], 8)
            fit = quiet(EffectSizes.from_arrays(rng.normal(0, np.sqrt(v + spread)), v), method=method)
            interval, codes = fit.confint_tau2(), {note.code for note in fit.notes}
            empty = interval.lb == interval.ub == 0
            outside = not empty and not interval.lb - 1e-9 <= interval.estimate <= interval.ub + 1e-9
            assert ("tau2-interval-empty" in codes, "tau2-outside-interval" in codes) == (empty, outside)
            for code in told:
                told[code] += code in codes
    assert min(told.values()) > 0


def test_few_studies_are_computed_and_noted(rng):
    assert "few-for-tau2" in {n.code for n in quiet(arrays(3, rng)).notes}
    es = EffectSizes.from_arrays(rng.normal(0, 1, 6), [0.01] * 6, mods={"year": range(6)})
    assert "few-for-moderators" in {n.code for n in quiet(es, mods="year").notes}


def test_hostile_variances(rng):
    y = rng.normal(0.2, 0.5, 40)
    v = np.full(40, 0.02)
    v[0] = 2e-14
    fit = quiet(EffectSizes.from_arrays(y, v))
    assert np.isfinite(fit.se).all()
    assert fit.fitted.tau2.converged.all()
    far = quiet(EffectSizes.from_arrays(np.append(y, 10.0), np.append(np.full(40, 0.02), 0.02)))
    assert far.tau2 > fit.tau2


def test_no_prediction_interval_under_equal_effects(rng):
    frame = quiet(arrays(8, rng), method="EE").predict()
    assert frame[["pi_lb", "pi_ub"]].isna().all().all()
    assert frame.attrs["pi_note"] == "an equal-effects model has no prediction interval"


def test_options_are_checked_before_anything_is_computed(rng):
    es = arrays(5, rng)
    with pytest.raises(InputError, match=r"method='reml' is not one of .*did you mean 'REML'"):
        RandomEffectsModel(es, method="reml")
    with pytest.raises(InputError, match=r"level=95.*for 95% write 0.95"):
        RandomEffectsModel(es, level=95)
    with pytest.raises(InputError, match="needs EffectSizes, not DataFrame; make them with escalc"):
        RandomEffectsModel(pd.DataFrame())


def test_subgroups_with_one_effect_and_with_one_level(rng):
    es = EffectSizes.from_arrays(
        rng.normal(0.2, 0.6, 9), [0.02] * 9, mods={"rater": ["a"] * 8 + ["b"], "one": ["x"] * 9}
    )
    fit = RandomEffectsModel(es).fit()
    parts = subgroups(fit, by="rater", tau2="separate")
    assert parts.fits["b"].k == 1
    alone = "rater: b has one effect; no variance between studies can be seen there"
    assert parts.notes[0].message == f"{alone}."
    assert parts.tidy().loc["b", "estimate"] == es.yi[8]
    shared = subgroups(fit, by="rater")
    assert shared.notes[0].message == f"{alone}, and the interval rests on that of the other levels."
    assert shared.tidy().loc["b", "tau2"] == shared.model.tau2 > 0
    with pytest.raises(InputError, match="'one' has one level"):
        subgroups(fit, by="one")
    with pytest.raises(InputError, match="subgroups need a model without moderators"):
        subgroups(RandomEffectsModel(es, mods="rater").fit(), by="rater")


def test_not_applicable_is_a_number_that_knows_why():
    value = NotApplicable("needs 2 studies")
    assert np.isnan(value)
    assert np.isnan(value + 1)
    assert repr(value) == "NotApplicable('needs 2 studies')"
    assert f"{value:.2f}" == "n/a (needs 2 studies)"


def test_twenty_thousand_studies(rng):
    v = rng.uniform(0.005, 0.1, 20_000)
    es = EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(v + 0.03)), v, measure="ZCOR")
    fit = RandomEffectsModel(es).fit()
    assert fit.tau2 == pytest.approx(0.03, rel=0.1)  # sampling error of tau2 at this k is about 1.3%
