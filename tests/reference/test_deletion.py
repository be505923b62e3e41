"""Leaving out effects and clusters, against metafor's influence, leave1out, cumul, cooks.distance, dfbetas, rstudent.

`R/<dataset>_ZCOR.json` and `R/metaregression.json` from metafor 5.1, `R/deletion.json` from metafor 3.8 and the script
beside it (konstantopoulos2011; closed-form and searched estimators, weights of the user, three levels, and with a
sampling covariance).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, escalc, impute_V, load_dataset, sensitivity
from tests.reference.reading import numbers, reference
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
KNOWN = reference("deletion")
OURS = {"cook.d": "cook_d", "Q": "QE"}
# nlminb stops rma.mv at about this in a variance, which moves what depends on it.
FROM_SIGMA2 = 1e-5


def agree(frame, known, *, rtol, atol=1e-10) -> None:
    for name, values in known.items():
        if name in ("dfbs", "is_infl", "flagged", "H2"):
            continue
        ours = frame[OURS.get(name, name.replace(".", "_"))].astype(float)
        np.testing.assert_allclose(ours, numbers(values), rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("dataset", ["molloy2014", "mcdaniel1994", "crede2010"])
def test_reml(dataset):
    known = reference(f"{dataset}_ZCOR")
    es = EffectSizes.from_arrays(numbers(known["yi"]), numbers(known["vi"]), measure="ZCOR")
    fit = RandomEffectsModel(es, test="z").fit()
    found = sensitivity.influence(fit).tidy()
    agree(found, known["influence"], rtol=ITERATIVE)
    np.testing.assert_allclose(found["dfbs_intrcpt"], numbers(known["influence"]["dfbs"]), rtol=ITERATIVE, atol=1e-10)
    assert found["influential"].tolist() == known["influence"]["is_infl"]
    agree(sensitivity.leave_one_out(fit).tidy(), known["leave1out"], rtol=ITERATIVE)
    steps = sensitivity.cumulative(fit, order="given").tidy()
    assert steps["I2"].isna().tolist() == [True] + [False] * (fit.k - 1)
    # What metafor's search leaves of a tau2 of 0 is not 0.
    agree(steps.fillna({"I2": 0.0}), known["cumul"], rtol=ITERATIVE, atol=1e-4)


MODELS = {"molloy_meanage_quality": "meanage + quality", "molloy_design": "design"}


@pytest.mark.parametrize("name", MODELS)
def test_moderators(name):
    known = reference("metaregression")[name]["influence"]
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods=MODELS[name], test="z").fit()
    found = sensitivity.influence(fit).tidy()
    agree(found, known, rtol=ITERATIVE)
    rows = [values for key, values in known["dfbs"].items() if key not in ("slab", "digits")]
    for own, values in zip(fit.names, rows, strict=True):
        np.testing.assert_allclose(found[f"dfbs_{own}"], numbers(values), rtol=ITERATIVE, atol=1e-9)


@pytest.fixture(scope="module")
def es():
    frame = pd.DataFrame(KNOWN["data"])
    frame = frame.assign(**{name: frame[name].astype(str) for name in ("district", "school", "study")})
    return EffectSizes.from_arrays(frame["yi"], frame["vi"], mods=frame, study_id=frame["district"], measure="GEN")


@pytest.mark.parametrize("name", KNOWN["univariate"])
def test_estimators(es, name):
    known = KNOWN["univariate"][name]
    rtol = CLOSED_FORM if known["method"] in ("DL", "HE", "SJ") else ITERATIVE
    how = {"method": known["method"], "test": known["test"]}
    found = sensitivity.influence(RandomEffectsModel(es, mods="yc", **how).fit(), by="effect").tidy()
    agree(found, known["influence"], rtol=rtol)
    for own, values in zip(("intrcpt", "yc"), known["influence"]["dfbs"], strict=True):
        np.testing.assert_allclose(found[f"dfbs_{own}"], numbers(values), rtol=rtol, atol=1e-10)
    assert found["influential"].tolist() == known["influence"]["flagged"]
    agree(
        sensitivity.leave_one_out(RandomEffectsModel(es, **how).fit(), by="effect").tidy(),
        known["leave1out"],
        rtol=rtol,
    )


def test_weights_of_the_user(es):
    known = KNOWN["weights"]
    fit = RandomEffectsModel(es, method="DL", test="z", weights=np.sqrt(1.0 / es.vi)).fit()
    found = sensitivity.influence(fit, by="effect").tidy()
    agree(found, known, rtol=CLOSED_FORM)
    np.testing.assert_allclose(found["dfbs_intrcpt"], numbers(known["dfbs"][0]), rtol=CLOSED_FORM)


def test_cumulative(es):
    fit = RandomEffectsModel(es, method="DL", test="knha").fit()
    steps = sensitivity.cumulative(fit, order="year", collapse=False).tidy()
    agree(steps.iloc[1:], {name: values[1:] for name, values in KNOWN["cumul"].items()}, rtol=CLOSED_FORM)
    years = sensitivity.cumulative(fit, order="year").tidy()
    last = steps.groupby(es.moderators["year"].sort_values(kind="stable").to_numpy())["estimate"].last()
    np.testing.assert_allclose(years["estimate"], last, rtol=CLOSED_FORM)


def near(ours, values, *, rtol=1e-4, atol=1e-5) -> None:
    """Compare where metafor's search, at its tightest, did not give up."""
    known = numbers(values)
    there = np.isfinite(known)
    assert there.mean() > 0.6
    np.testing.assert_allclose(np.asarray(ours, dtype=float)[there], known[there], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["three", "che"])
def test_multilevel(es, name):
    known = KNOWN[name]
    model = {"mods": "yc"} if name == "three" else {"V": impute_V(es, cluster="district", rho=0.6)}
    fit = MultilevelModel(es, random="district/school", test="z", **model).fit()
    np.testing.assert_allclose(fit.sigma2, numbers(known["sigma2"]), rtol=FROM_SIGMA2)
    found = sensitivity.influence(fit, by="district").tidy().set_index("label").loc[known["cook"]["district"]]
    near(found["cook_d"], known["cook"]["cook"], atol=1e-7)
    for own, values in known["cook"]["dfbs"].items():
        near(found[f"dfbs_{own}"], values)
    found = sensitivity.influence(fit, by="effect").tidy()
    near(found["cook_d"], known["cook_of_effects"], atol=1e-7)
    near(found["rstudent"], known["rstudent"], atol=1e-6)
    near(found["hat"], known["hat"], rtol=FROM_SIGMA2)
    for own, values in known["dfbs"].items():
        near(found[f"dfbs_{own}"], values)
