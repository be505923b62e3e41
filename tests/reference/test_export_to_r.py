"""R reads what is exported for metafor as the same numbers and the same fit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import alliance_meta as am
from tests.reference.running import missing_packages


@pytest.mark.reference
def test_r_reads_the_same_numbers(tmp_path: Path) -> None:
    if why := missing_packages(("metafor",)):
        pytest.skip(why)
    effects = am.escalc(am.load_dataset("synthetic_alliance"))
    am.effects.export(effects, tmp_path / "out.csv", to="metafor")
    code = (
        'd <- read.csv("out.csv"); own <- metafor::escalc("ZCOR", ri=ri, ni=ni, data=d, append=FALSE)\n'
        'cat(sprintf("%.17g", c(d$yi, d$vi, own$yi, own$vi)), "\\n"); cat(names(d), "\\n"); cat(d$setting, sep="|")'
    )
    done = subprocess.run(["Rscript", "-e", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    numbers, names, settings = done.stdout.splitlines()
    read = np.array(numbers.split(), dtype=float).reshape(4, -1)
    np.testing.assert_allclose(read, [effects.yi, effects.vi, effects.yi, effects.vi], rtol=1e-14)
    assert names.split()[:6] == ["slab", "study_id", "yi", "vi", "ri", "ni"]
    assert settings.split("|") == effects.moderators["setting"].tolist()
