"""The curve that is drawn is the posterior's own."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import InputError
from alliance_meta.bayes.sampled.quantities import FAILED
from alliance_meta.plots import smooth, smooth_data
from tests.plots.cases import molloy
from tests.plots.charts import draw
from tests.plots.smooth_cases import curved
from tests.tolerances import CLOSED_FORM


@pytest.mark.parametrize("kind", ["eti", "hdi"])
def test_the_curve_is_the_prediction(kind: str) -> None:
    posterior = curved(mods="rater", kind=kind)
    frame = smooth_data(posterior, at={"rater": "observer"})
    line = frame[frame["kind"] == "line"]
    predicted = posterior.predict({"year": line["x"].tolist(), "rater": "observer"}, scale="z")
    for name, column in (("yi", "pred"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub")):
        np.testing.assert_allclose(line[name], predicted[column], rtol=CLOSED_FORM)
    # The limits of a new study are those of other draws.
    width = predicted["pi_ub"] - predicted["pi_lb"]
    assert np.abs(line["pi_lb"].to_numpy() - predicted["pi_lb"].to_numpy()).max() < 0.25 * width.min()
    assert np.abs(line["pi_ub"].to_numpy() - predicted["pi_ub"].to_numpy()).max() < 0.25 * width.min()
    # Quantiles have no steps, as one draw of a deviation serves all values; shortest intervals do jump.
    assert kind == "hdi" or np.abs(np.diff(line["pi_ub"], 2)).max() < 0.1 * np.ptp(line["yi"])
    assert frame.attrs["held"] == {"rater": "observer"}


def test_the_bubbles_are_the_effects() -> None:
    posterior = curved()
    frame = smooth_data(posterior)
    studies = frame[frame["kind"] == "study"]
    np.testing.assert_array_equal(studies["yi"], posterior.effects.yi)
    np.testing.assert_array_equal(studies["x"], posterior.effects.moderators["year"])
    weight = 1 / (posterior.effects.vi + posterior.tau**2)
    np.testing.assert_allclose(studies["weight"], 100 * weight / weight.sum(), rtol=CLOSED_FORM)
    np.testing.assert_allclose(studies["r"], np.tanh(posterior.effects.yi), rtol=CLOSED_FORM)
    assert (len(frame) - len(studies), frame.attrs["bottom"][-1]) == (
        101,
        "Medians and 95% equal-tailed intervals (Fisher z scale)",
    )


def test_draws_that_failed_say_so() -> None:
    assert smooth_data(curved(stuck=True)).attrs["bottom"][0] == FAILED
    texts = [text.get_text() for text in draw("smooth that failed").axes[0].texts]
    assert any(FAILED.split(":")[0] in text for text in texts)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match=r"needs the posterior of a model from bayes\.pymc\.smooth"):
        smooth_data(molloy())
    with pytest.raises(InputError, match="year is on the axis"):
        smooth_data(curved(), at={"year": 2000})
    with pytest.raises(InputError, match="rater"):
        smooth_data(curved(), at={"rater": "client"})
    with pytest.raises(InputError, match="give this to smooth_data"):
        smooth(smooth_data(curved()), level=0.9)
