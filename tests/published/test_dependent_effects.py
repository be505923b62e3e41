"""Printed models of dependent effects.

metadat's help pages print the output of metafor and clubSandwich for both sets (docs/reference/dat.craft2003.html and
dat.tannersmith2016.html of github.com/wviechtb/metadat at commit 0cb96ce4).
"""

from __future__ import annotations

import pytest

from alliance_meta import EffectSizes, MultilevelModel, impute_V, load_dataset
from alliance_meta.effects import rcalc
from alliance_meta.errors import DroppedRowsWarning
from tests.tolerances import printed


class TestTannerSmith2016:
    @pytest.fixture
    def fit(self):
        frame = load_dataset("tannersmith2016").frame
        es = EffectSizes.from_arrays(frame.yi, frame.vi, mods=frame, measure="ZCOR", study_id=frame.studyid)
        return MultilevelModel(es, V=impute_V(es, rho=0.8), random="es_id | study_id", test="z").fit()

    def test_model(self, fit):
        assert fit.k == 113
        assert fit.beta[0] == printed("0.1023")
        assert fit.se[0] == printed("0.0241")
        assert fit.ci_lb[0] == printed("0.0550")
        assert fit.ci_ub[0] == printed("0.1496")
        tau2, rho = fit.components["estimate"]
        assert tau2 == printed("0.0111")
        assert rho == printed("0.3424")
        assert printed("852.8372") == fit.QE
        assert fit.QEdf == 112

    def test_cluster_robust(self, fit):
        robust = fit.robust(cluster="study_id", type="CR2")
        assert robust.ddf[0] == printed("14.88")
        assert robust.ci_lb[0] == printed("0.0509")
        assert robust.ci_ub[0] == printed("0.1537")


def test_craft2003_six_correlations():
    with pytest.warns(DroppedRowsWarning):
        es, V = rcalc(load_dataset("craft2003"), measure="COR", missing="drop")
    fit = MultilevelModel(es, V=V, mods="0 + pair", random="pair | study_id", struct="UN", test="z").fit()
    at = fit.names.index("pair[conf.perf]")
    assert fit.k == 51
    assert fit.beta[at] == printed("0.3167")
    assert fit.se[at] == printed("0.0847")
    assert fit.ci_lb[at] == printed("0.1507")
    assert fit.ci_ub[at] == printed("0.4827")
    assert fit.components.loc["tau2[pair | study_id: conf.perf]", "estimate"] == printed("0.0468")
    assert printed("334.8358") == fit.QE
    assert fit.QEdf == 45
