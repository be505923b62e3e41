"""Sheets with finished effects: metafor's, psymetadata's and Metapsy's columns."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from alliance_meta import CodingError, EffectSizes, InputError, RandomEffectsModel, escalc, load_dataset, read_coded
from alliance_meta.effects.sheet.examine import examine_bytes
from alliance_meta.errors import AdaptedInputWarning, DroppedRowsWarning, SuspiciousInputWarning

METAFOR = "slab,yi,vi,rater\nAda,.31,.02,client\nBo,-.02,.01,observer\nCy,.18,.03,client\nDi,.25,.02,observer\n"
PSYMETADATA = "study_id,es_id,yi,vi\n1,1,.31,.02\n1,2,.2,.02\n2,3,-.1,.01\n"
METAPSY = (
    "study;.g;.g_se;rating\nAda 2001;0,31;0,15;self-report\nBo 2004;-0,02;0,1;clinician\nCy 2007;0,18;0,2;clinician\n"
)


def effects(content: str, folder: Path) -> EffectSizes:
    path = folder / "sheet.csv"
    path.write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptedInputWarning)
        warnings.simplefilter("ignore", SuspiciousInputWarning)
        return escalc(read_coded(path))


@pytest.mark.parametrize(
    ("content", "yi", "vi", "names"),
    [
        (METAFOR, [0.31, -0.02, 0.18, 0.25], [0.02, 0.01, 0.03, 0.02], ("Ada", "Bo", "Cy", "Di")),
        (PSYMETADATA, [0.31, 0.2, -0.1], [0.02, 0.02, 0.01], ("1", "1", "2")),
        (METAPSY, [0.31, -0.02, 0.18], [0.15**2, 0.1**2, 0.2**2], ("Ada 2001", "Bo 2004", "Cy 2007")),
    ],
)
def test_finished_effects_become_effect_sizes_unchanged(content, yi, vi, names, tmp_path) -> None:
    es = effects(content, tmp_path)
    assert es.yi.tolist() == yi
    assert es.vi.tolist() == vi
    assert es.study_id == names
    assert (es.measure, es.vtype, es.ni) == ("GEN", None, None)
    assert {"finished-effects"} <= {note.code for note in es.notes}


def test_they_give_the_fit_of_the_arrays(tmp_path: Path) -> None:
    es = effects(METAFOR, tmp_path)
    ours = RandomEffectsModel(es, test="z").fit()
    plain = RandomEffectsModel(EffectSizes.from_arrays(es.yi, es.vi), test="z").fit()
    assert ours.beta.tolist() == plain.beta.tolist()
    assert ours.tau2 == plain.tau2


def test_r_and_n_come_before_finished_effects() -> None:
    sheet = b"slab,ri,ni,yi,vi\nA,.31,48,.3205,.0222\nB,-.02,120,-.02,.0085\n"
    table = examine_bytes(sheet, "sheet.csv").table
    assert table is not None
    es = escalc(table)
    assert (es.measure, es.columns) == ("ZCOR", {"ri": "r", "ni": "n"})
    assert es.vi[0] == 1 / 45


def test_both_columns_of_metapsy_are_announced() -> None:
    said = " ".join(note.message for note in examine_bytes(METAPSY.encode(), "sheet.csv").notes)
    for words in ("'.g' is read as 'yi'", "'.g_se' is read as 'sei'", "are read as finished effects", "semicolons"):
        assert words in said


def test_incomplete_rows_are_left_out_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(DroppedRowsWarning, match="1 of 4 rows left out because yi or vi is missing: Bo"):
        es = effects(METAFOR.replace("Bo,-.02", "Bo,"), tmp_path)
    assert es.slab == ("Ada", "Cy", "Di")
    with pytest.raises(CodingError, match="no row has both yi and vi"):
        effects("study,yi,vi\nA,.3,\nB,,.02\n", tmp_path)


def test_a_shipped_set_of_finished_effects_is_usable() -> None:
    table = load_dataset("tannersmith2016")
    es = escalc(table)
    assert np.array_equal(es.yi, table.frame["yi"])
    assert {"not-poolable", "finished-effects"} <= {note.code for note in es.notes}
    with pytest.raises(InputError, match="has no column 'cor'"):
        escalc(table, ri="cor")


def test_statistics_to_be_converted_need_no_r() -> None:
    sheet = b"study,n,es_type,es_value,df\nA,40,t,2.1,38\nB,50,t,-1.2,48\n"
    reading = examine_bytes(sheet, "sheet.csv")
    assert reading.errors == []
    assert "convertible" in {note.code for note in reading.notes}
    mixed = b"study,r,n,es_type,es_value,df\nA,,40,t,2.1,38\nB,.2,50,,,\n"
    assert "missing" not in {problem.kind for problem in examine_bytes(mixed, "sheet.csv").problems}
