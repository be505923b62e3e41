"""Models of dependent effects against metafor's rma.mv.

`multilevel.json` and `crede_multilevel.json` come from metafor 5.1 with tight tolerances; sigma2 there is good to
about 1e-7. `multilevel_structures.json` comes from metafor 3.8 and the script beside it. Where an optimiser is
involved, a larger likelihood than the reference's is a better answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, impute_V
from alliance_meta.effects import SamplingCovariance
from tests.reference.reading import numbers, reference
from tests.tolerances import OPTIMISER

# Half the loss of likelihood at which nlminb stops.
LOSS = 1e-9


def effects(data, **more) -> EffectSizes:
    frame = pd.DataFrame({name: values for name, values in {**data, **more}.items() if name not in ("yi", "vi", "V")})
    return EffectSizes.from_arrays(data["yi"], data["vi"], mods=frame, measure="ZCOR")


def rows(data):
    """Return a list of records as columns."""
    return {name: [row[name] for row in data] for name in data[0]}


def agree(fit, expected, *, loss=LOSS, rel=OPTIMISER):
    assert fit.loglik >= expected["ll"] - loss
    np.testing.assert_allclose(fit.beta, numbers(expected["b"]), rtol=rel, atol=rel)
    np.testing.assert_allclose(fit.se, numbers(expected["se"]), rtol=rel)


def test_the_grid_is_whole():
    """If a reference disappears, the tests below may not shrink with it."""
    known = reference("multilevel_structures")
    found = {
        (group, name) for group in known for name, one in known[group].items() if isinstance(one, dict) and "ll" in one
    }
    assert found == {
        *(("tanner", n) for n in ("CS", "mods", "ML")),
        *(("craft", n) for n in ("UN", "HCS", "CS", "DIAG", "ID")),
        *(("ishak", n) for n in ("AR", "HAR", "CAR")),
        *(("konst", n) for n in ("crossed", "R", "slopes", "contain")),
    }


class TestKonstantopoulos:
    known = reference("multilevel")

    @pytest.fixture
    def fit(self):
        return MultilevelModel(effects(self.known["konst_data"]), random="district/school", test="z").fit()

    def test_three_levels(self, fit):
        expected = self.known["konst_3l"]
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-7)
        assert fit.loglik == pytest.approx(expected["ll"], abs=1e-10)
        for ours, theirs in ((fit.QE, "QE"), (fit.QM, "QM"), (fit.QMp, "QMp"), (fit.stat[0], "zval")):
            assert ours == pytest.approx(expected[theirs], rel=OPTIMISER)
        assert fit.pval[0] == pytest.approx(expected["pval"], rel=OPTIMISER)
        assert [fit.ci_lb[0], fit.ci_ub[0]] == pytest.approx([expected["ci_lb"], expected["ci_ub"]], rel=OPTIMISER)
        row = fit.glance().iloc[0]
        for name in ("AIC", "BIC", "AICc"):
            assert row[name] == pytest.approx(expected[name], abs=1e-9)

    def test_predictions(self, fit):
        expected = self.known["konst_predict"]
        row = fit.predict().iloc[0]
        for name in ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"):
            assert row[name] == pytest.approx(expected[name], rel=OPTIMISER), name

    def test_random_effects(self, fit):
        found = fit.ranef()
        for term, expected in self.known["konst_ranef"].items():
            np.testing.assert_allclose(found[term]["pred"], expected["pred"], atol=1e-7)
            np.testing.assert_allclose(found[term]["se"], expected["se"], atol=1e-7)

    def test_profile_intervals(self, fit):
        """metafor's search for a bound stops within 1e-4 of it; the upper one of the second it does not find."""
        found = fit.confint()
        expected = self.known["konst_confint"]
        for name, key in (("sigma2[district]", "1"), ("sigma2[district/school]", "2")):
            assert found.loc[name, "lb"] == pytest.approx(expected[key]["lb"][0], abs=1e-4)
        assert found.loc["sigma2[district]", "ub"] == pytest.approx(expected["1"]["ub"][0], abs=1e-4)
        assert expected["2"]["ub"][0] is None
        assert found.loc["sigma2[district/school]", "ub"] > fit.sigma2[1]

    def test_rows_alone(self):
        """The univariate model of the same data, by both engines."""
        expected = self.known["konst_uni"]
        es = effects(self.known["konst_data"])
        fit = MultilevelModel(es, random="es_id", test="z").fit()
        plain = RandomEffectsModel(es, test="z").fit()
        assert fit.loglik == pytest.approx(expected["fit_REML"][0], abs=1e-10)
        for found in (fit, plain):
            assert found.tau2 == pytest.approx(expected["tau2"], rel=1e-7)
            assert found.beta[0] == pytest.approx(expected["b"], rel=1e-7)
            assert found.se[0] == pytest.approx(expected["se"], rel=1e-7)
            assert pytest.approx(expected["I2"], rel=1e-7) == found.I2
            assert pytest.approx(expected["QM"], rel=1e-6) == found.QM

    def test_as_outcomes_within_districts(self):
        expected = self.known["konst_CS"]
        fit = MultilevelModel(effects(self.known["konst_data"]), random="school | district", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(
            fit.components["estimate"].astype(float), [expected["tau2"], expected["rho"]], rtol=OPTIMISER
        )

    def test_with_a_moderator(self):
        data, expected = self.known["konst_data"], self.known["konst_mod"]
        yc = np.array(data["year"], dtype=float) - np.mean(data["year"])
        fit = MultilevelModel(effects(data, yc=yc), mods="yc", random="district/school", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-7)
        np.testing.assert_allclose(fit.vb, np.array(expected["vb"]), rtol=OPTIMISER)
        assert pytest.approx(expected["QM"], rel=OPTIMISER) == fit.QM
        assert pytest.approx(expected["QE"], rel=1e-10) == fit.QE


class TestCrede:
    known = reference("multilevel")

    @pytest.mark.parametrize("criterion", ["grade", "gpa"])
    def test_three_levels_by_criterion(self, criterion):
        expected = reference("crede_multilevel")[criterion]
        data = {name: expected[name] for name in ("studyid", "sampleid", "yi", "vi")}
        fit = MultilevelModel(effects(data), random="studyid/sampleid", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-6)

    def test_four_levels(self):
        expected = reference("crede_multilevel")["four_level"]
        fit = MultilevelModel(effects(self.known["crede_data"]), random="studyid/sampleid/es_id", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-6, atol=1e-10)
        assert "component-at-edge" in {note.code for note in fit.notes}

    def test_rows_that_share_a_sample_effect(self):
        expected = self.known["crede_3l"]
        fit = MultilevelModel(effects(self.known["crede_data"]), random="studyid/sampleid", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-7)
        assert "no-row-level" in {note.code for note in fit.notes}

    def test_with_a_moderator(self):
        expected = self.known["crede_mod"]["core"]
        model = MultilevelModel(
            effects(self.known["crede_data"]), mods="criterion", random="studyid/sampleid", test="z"
        )
        fit = model.fit()
        assert fit.names == ("intrcpt", "criterion[T.grade]")
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-7)


class TestStructures:
    known = reference("multilevel_structures")

    def test_one_correlation_with_imputed_covariance(self):
        data = rows(self.known["tanner"]["data"])
        es = effects(data)
        V = impute_V(es, cluster="studyid", rho=0.8)
        expected = self.known["tanner"]["CS"]
        fit = MultilevelModel(es, V=V, random="esid | studyid", test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(
            fit.components["estimate"].astype(float), [expected["tau2"], expected["rho"]], rtol=1e-5
        )

    @pytest.mark.parametrize(("name", "method"), [("mods", "REML"), ("ML", "ML")])
    def test_levels_with_imputed_covariance(self, name, method):
        es = effects(rows(self.known["tanner"]["data"]))
        V = impute_V(es, cluster="studyid", rho=0.8)
        expected = self.known["tanner"][name]
        model = MultilevelModel(es, V=V, mods="aget1 + aget2", random=("studyid", "esid"), method=method, test="z")
        fit = model.fit()
        # nlminb's likelihood is flat to within its tolerance of 1e-10 over 1e-5 in the coefficients.
        agree(fit, expected, rel=2e-5)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-4, atol=1e-9)

    @pytest.mark.parametrize("struct", ["UN", "HCS", "CS", "DIAG", "ID"])
    def test_outcomes_within_studies(self, struct):
        known = self.known["craft"]
        data = rows(known["data"])
        V = SamplingCovariance.from_matrix(known["V"])
        es = EffectSizes.from_arrays(data["yi"], V.vi, mods=pd.DataFrame(data)[["study", "pair"]], measure="COR")
        expected = known[struct]
        fit = MultilevelModel(es, V=V, mods="0 + pair", random="pair | study", struct=struct, test="z").fit()
        at = np.argsort(expected["b"])
        assert fit.loglik >= expected["ll"] - LOSS
        np.testing.assert_allclose(np.sort(fit.beta), numbers(expected["b"])[at], rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(fit.se[np.argsort(fit.beta)], numbers(expected["se"])[at], rtol=1e-4)
        variances = np.sort([v for name, v in fit.components["estimate"].items() if str(name).startswith("tau2")])
        np.testing.assert_allclose(variances, np.sort(numbers(expected["tau2"])), rtol=2e-4, atol=1e-5)
        assert pytest.approx(expected["QE"], rel=1e-9) == fit.QE

    @pytest.mark.parametrize("struct", ["AR", "HAR", "CAR"])
    def test_times_within_studies(self, struct):
        known = self.known["ishak"]
        data = rows(known["data"])
        es = effects({**data, "month": [f"t{t}" for t in data["time"]]})
        V = impute_V(es, cluster="study", rho=1.0, time="time", phi=known["phi"])
        expected = known[struct]
        fit = MultilevelModel(es, V=V, mods="0 + month", random="time | study", struct=struct, test="z").fit()
        agree(fit, expected, rel=2e-5)
        values = fit.components["estimate"].astype(float)
        np.testing.assert_allclose(values.iloc[-1], expected["rho"], rtol=1e-4)
        np.testing.assert_allclose(values.iloc[:-1], numbers(expected["tau2"]), rtol=5e-4)

    def test_crossed_factors(self):
        expected = self.known["konst"]["crossed"]
        es = effects(rows(self.known["konst"]["data"]))
        fit = MultilevelModel(es, random=("district", "year", "study"), test="z").fit()
        agree(fit, expected)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=1e-6, atol=1e-9)

    def test_known_correlations_between_groups(self):
        expected = self.known["konst"]["R"]
        es = effects(rows(self.known["konst"]["data"]))
        R = pd.DataFrame(expected["R"], index=expected["levels"], columns=expected["levels"])
        fit = MultilevelModel(es, random=("district", "study"), R={"district": R}, test="z").fit()
        agree(fit, expected, rel=1e-5)
        np.testing.assert_allclose(fit.sigma2, expected["sigma2"], rtol=2e-5)

    def test_random_slopes(self):
        data = rows(self.known["konst"]["data"])
        yc = (np.array(data["year"], dtype=float) - 1990) / 10
        es = effects(data, yc=yc)
        expected = self.known["konst"]["slopes"]
        fit = MultilevelModel(es, mods="yc", random=("1 + yc | school", "study"), test="z").fit()
        agree(fit, expected, rel=2e-5)
        np.testing.assert_allclose(fit.sigma2, [expected["sigma2"]], rtol=1e-4)
        np.testing.assert_allclose(np.diag(fit.G["1 + yc | school"]), expected["tau2"], rtol=1e-3)

    def test_degrees_of_freedom_by_containment(self):
        data = rows(self.known["konst"]["data"])
        yc = (np.array(data["year"], dtype=float) - 1990) / 10
        expected = self.known["konst"]["contain"]
        fit = MultilevelModel(effects(data, yc=yc), mods="yc", random="district/school", test="t").fit()
        agree(fit, expected)
        # Years differ within two districts of the data, so metafor contains them in rows; see `_contained`.
        assert fit.ddf.tolist() == expected["ddf"]
