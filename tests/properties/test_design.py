"""What is coded without formulaic is what formulaic makes of it, to the last bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alliance_meta import design
from alliance_meta.errors import InputError

K = 12
COLUMNS = ("a", "b", "c", "d", "e f")
KINDS = ("number", "whole", "text", "ordered", "yes or no", "gaps")


def column(rng: np.random.Generator, kind: str):
    if kind == "number":
        return rng.normal(size=K)
    if kind == "whole":
        return rng.integers(0, 3, K)
    if kind == "yes or no":
        return rng.random(K) > 0.5
    text = rng.choice(["x", "y", "z"], K)
    if kind == "ordered":
        return pd.Categorical(text, ["z", "w", "y", "x"])
    return np.where(rng.random(K) < 0.2, None, text) if kind == "gaps" else text


@st.composite
def tables(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return pd.DataFrame({name: column(rng, draw(st.sampled_from(KINDS))) for name in COLUMNS})


@st.composite
def formulas(draw):
    words = st.sampled_from(["a", "b", "c", "d", "`e f`"])
    first, *others = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    return first + "".join(f" {draw(st.sampled_from('+*:'))} {word}" for word in others)


def told(table: pd.DataFrame, formula: str):
    """Return a design and its coding of new rows, or why there is none."""
    labels = [f"study {i}" for i in range(K)]
    try:
        made = design.build_design(formula, table, labels=labels)
    except InputError as error:
        return str(error)
    new = {name: [made.levels[name][-1]] if name in made.levels else [0.7] for name in made.variables}
    try:
        rows = made.new_rows(new)[0].tobytes()
    except InputError as error:
        rows = str(error)
    return (
        (made.X.tobytes(), made.X.flags.f_contiguous, made.names, dict(made.terms), made.variables, dict(made.levels)),
        (made.rows.tobytes(), [str(note) for note in made.notes], rows),
    )


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
@given(table=tables(), formula=formulas())
def test_products_of_columns_are_those_of_formulaic(table, formula):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(design, "_products", lambda *_: None)
        slowly = told(table, formula)
    assert told(table, formula) == slowly


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_what_formulaic_is_left_out_of():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({name: column(rng, kind) for name, kind in zip("abcd", KINDS, strict=False)})
    alone = ("a", "a + b + c", "c * a", "a:b", "a * c * b", "b + 1", "d + a")
    shared = ("0 + a", "c:a", "C(b)", "center(a)")
    made = {formula: design.build_design(formula, table, labels="abcdefghijkl") for formula in (*alone, *shared)}
    assert [formula for formula, one in made.items() if one._spec is None] == list(alone)
