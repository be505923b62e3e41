"""Pairwise comparisons, their corrections and letters; variance inflation."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alliance_meta import EffectSizes, InputError, RandomEffectsModel
from alliance_meta.errors import DesignError, RedundantModeratorWarning
from alliance_meta.moderators import adjust_pvalues, letters, marginal_means, pairwise, vif
from tests.tolerances import CLOSED_FORM

K = 60


@pytest.fixture
def effects(rng) -> EffectSizes:
    mods = {
        "bond": rng.choice(list("abcd"), K),
        "setting": rng.choice(["inpatient", "outpatient"], K),
        "year": rng.integers(1990, 2020, K),
    }
    y = 0.2 + 0.2 * (mods["bond"] == "a") + rng.normal(0, 0.15, K)
    return EffectSizes.from_arrays(y, rng.uniform(0.005, 0.03, K), mods=mods, measure="ZCOR")


def fit(effects, mods, **options):
    return RandomEffectsModel(effects, mods=mods, **options).fit()


@pytest.mark.parametrize("test", ["z", "knha"])
def test_differences_are_contrasts_of_coefficients(effects, test):
    model = fit(effects, "0 + bond + center(year)", test=test)
    ours = pairwise(model, "bond", adjust="none")
    frame = ours.tidy()
    assert frame.index.tolist() == ["a - b", "a - c", "a - d", "b - c", "b - d", "c - d"]
    for (i, j), row in zip(combinations(range(4), 2), frame.itertuples(), strict=True):
        L = np.zeros(model.p)
        L[i], L[j] = 1.0, -1.0
        assert row.estimate == pytest.approx(model.beta[i] - model.beta[j], rel=1e-9)
        assert row.pval == pytest.approx(model.test(L).pval, rel=1e-8)
        assert row.pval_adjusted == row.pval
        assert row.ddf == model.ddf[0]
    reference = fit(effects, "bond + center(year)", test=test)
    np.testing.assert_allclose(frame["ci_lb"].iloc[:3], -reference.ci_ub[1:4], rtol=1e-8)


def test_differences_are_those_of_the_marginal_means(effects):
    model = fit(effects, "bond * setting + year")
    for weights in ("equal", "proportional"):
        means = marginal_means(model, "bond", weights=weights).tidy()["estimate"]
        frame = pairwise(model, "bond", weights=weights).tidy()
        np.testing.assert_allclose(
            frame["estimate"], [means[i] - means[j] for i, j in combinations("abcd", 2)], rtol=1e-8
        )


@pytest.mark.parametrize("adjust", ["bonferroni", "sidak"])
def test_joint_intervals_agree_with_adjusted_p(effects, adjust):
    frame = pairwise(fit(effects, "bond"), "bond", adjust=adjust).tidy()
    outside = (frame["ci_lb"] > 0) | (frame["ci_ub"] < 0)
    assert outside.tolist() == (frame["pval_adjusted"] < 0.05).tolist()
    assert 0 < outside.sum() < 6
    single = pairwise(fit(effects, "bond"), "bond").tidy()
    assert (frame["ci_ub"] > single["ci_ub"]).all()


def test_notes_say_what_the_intervals_are(effects):
    model = fit(effects, "bond")
    assert "not adjusted for 6" in str(pairwise(model, "bond").notes[0])
    assert "for all 6 differences together (Sidak)" in str(pairwise(model, "bond", adjust="sidak").notes[0])
    two = pairwise(fit(effects, "setting"), "setting")
    assert two.notes == ()


def test_letters_follow_the_adjusted_p(effects):
    ours = pairwise(fit(effects, "bond"), "bond")
    for row in ours.tidy().itertuples():
        shared = set(ours.letters[row.level1]) & set(ours.letters[row.level2])
        assert bool(shared) == (row.pval_adjusted >= 0.05)
    assert ours.letters["a"] == "a"
    assert list(ours.letters) == list("abcd")


@given(st.integers(0, 9).flatmap(lambda m: st.lists(st.booleans(), min_size=m * m, max_size=m * m)))
def test_two_share_a_letter_exactly_when_they_do_not_differ(flat):
    m = round(len(flat) ** 0.5)
    upper = np.triu(np.array(flat, dtype=bool).reshape(m, m), 1)
    D = upper | upper.T
    given_letters = letters(D)
    for i, j in combinations(range(m), 2):
        assert bool(set(given_letters[i]) & set(given_letters[j])) == (not D[i, j])
    groups = [{i for i in range(m) if letter in given_letters[i]} for letter in sorted(set("".join(given_letters)))]
    assert not any(one < other for one in groups for other in groups)
    assert all(given_letters)


def test_letters_of_a_published_example():
    # Piepho (2004), example 3: eight treatments, five significant pairs.
    D = np.zeros((8, 8), dtype=bool)
    for i, j in [(1, 7), (1, 8), (2, 4), (2, 5), (3, 5)]:
        D[i - 1, j - 1] = D[j - 1, i - 1] = True
    found = letters(D)
    groups = {frozenset(i + 1 for i in range(8) if letter in found[i]) for letter in set("".join(found))}
    assert groups == {
        frozenset(group)
        for group in [{1, 2, 3, 6}, {1, 3, 4, 6}, {1, 4, 5, 6}, {2, 3, 6, 7, 8}, {3, 4, 6, 7, 8}, {4, 5, 6, 7, 8}]
    }


def test_more_groups_than_letters():
    # m disjoint differing pairs have 2^m largest groups without a difference.
    D = np.zeros((12, 12), dtype=bool)
    for i in range(0, 12, 2):
        D[i, i + 1] = D[i + 1, i] = True
    found = letters(D)
    assert "(53)" in "".join(found)
    assert "(64)" in "".join(found)


@pytest.mark.parametrize("matrix", [[[True]], [[0, 1], [0, 0]], [[0, 0]], [0, 1]])
def test_letters_need_a_symmetric_matrix(matrix):
    with pytest.raises(InputError, match="symmetric"):
        letters(matrix)


def test_corrections_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert adjust_pvalues(p, method="bonferroni").tolist() == pytest.approx([0.04, 0.16, 0.12, 0.02])
    assert adjust_pvalues(p, method="holm").tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_pvalues(p, method="fdr_bh").tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjust_pvalues(p, method="sidak").tolist() == pytest.approx((1 - (1 - p) ** 4).tolist())
    assert adjust_pvalues(p, method="none").tolist() == p.tolist()


def test_tests_that_do_not_exist_do_not_count():
    ours = adjust_pvalues([0.01, np.nan, 0.04], method="bonferroni")
    assert ours[[0, 2]].tolist() == pytest.approx([0.02, 0.08])
    assert np.isnan(ours[1])
    assert adjust_pvalues([]).size == 0
    assert np.isnan(adjust_pvalues(np.nan)).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda es: adjust_pvalues([0.5, 1.2]), "between 0 and 1, not 1.2"),
        (lambda es: adjust_pvalues([0.5], method="tukey"), "method='tukey' is not one of 'holm'"),
        (lambda es: pairwise(fit(es, "bond"), "bond", adjust="tukey"), "adjust='tukey'"),
        (lambda es: pairwise(fit(es, "bond"), "bond", at={"bond": "a"}), "bond has one level here"),
        (lambda es: pairwise(fit(es, "year"), "year"), "year has one level here"),
        (lambda es: pairwise(fit(es, "bond"), "setting"), "no moderator 'setting'"),
    ],
)
def test_what_cannot_be_is_named(effects, call, words):
    with pytest.raises(InputError) as error:
        call(effects)
    assert words in str(error.value)


def test_pairs_that_no_effect_tells_about(effects):
    frame = effects.moderators
    rows = ~((frame["bond"] == "d") & (frame["setting"] == "inpatient")).to_numpy()
    with pytest.warns(RedundantModeratorWarning):
        model = fit(effects.take(rows), "bond * setting")
    ours = pairwise(model, "bond", adjust="bonferroni")
    frame = ours.tidy()
    assert frame.index[frame["pval"].isna()].tolist() == ["a - d", "b - d", "c - d"]
    known = frame["pval"].notna()
    np.testing.assert_allclose(frame["pval_adjusted"][known], np.minimum(3 * frame["pval"][known], 1))
    assert list(ours.letters) == ["a", "b", "c"]
    assert ours.to_dict()["rows"][2]["pval"] == {"not_applicable": "the effects in the model do not determine it"}


def test_identical_effects_under_knapp_hartung():
    es = EffectSizes.from_arrays([0.1] * 4, [0.01] * 4, mods={"g": list("aabb"), "x": [1, 2, 1, 3]}, measure="ZCOR")
    with pytest.warns(match="tau2"):
        model = fit(es, "g + x")
    ours = pairwise(model, "g")
    assert ours.tidy()["pval"].isna().all()
    assert "no variance" in str(ours.notes[0])
    assert ours.to_dict()["rows"][0]["pval"] == {"not_applicable": "the difference has no variance"}
    inflation = vif(model)
    assert all(np.isnan(value) for value in inflation.coefficients.values())
    assert "no variance" in str(inflation.notes[0])


def test_vif_is_that_of_the_auxiliary_regression(effects):
    model = fit(effects, "bond + year + setting")
    w = model.weights / model.weights.sum()
    X = model.design.X[:, 1:] - w @ model.design.X[:, 1:]
    for j, name in enumerate(model.names[1:]):
        rest = np.sqrt(w)[:, None] * np.delete(X, j, axis=1)
        own = np.sqrt(w) * X[:, j]
        left = own - rest @ np.linalg.lstsq(rest, own, rcond=None)[0]
        assert vif(model).coefficients[name] == pytest.approx(own @ own / (left @ left), rel=1e-8)


def test_generalised_vif_does_not_depend_on_the_reference_level(effects):
    frame = effects.moderators
    turned = frame.assign(bond=frame["bond"].map(dict(zip("abcd", "dcba", strict=True))))
    again = EffectSizes.from_arrays(effects.yi, effects.vi, mods=turned, measure="ZCOR")
    first, second = (vif(fit(es, "bond + year + setting")).tidy() for es in (effects, again))
    np.testing.assert_allclose(first["gvif"], second["gvif"], rtol=1e-8)
    np.testing.assert_allclose(first["gsif"], first["gvif"] ** (0.5 / first["df"]), rtol=CLOSED_FORM)
    assert first["df"].tolist() == [3, 1, 1]


def test_vif_of_one_moderator_is_one(effects):
    assert list(vif(fit(effects, "bond")).terms.values()) == [(3, 1.0)]
    with pytest.raises(DesignError, match="moderators"):
        vif(fit(effects, "1"))


def test_text_fits_a_terminal_and_json_takes_the_numbers(effects):
    for result in (
        pairwise(fit(effects, "bond * setting + year"), ["bond", "setting"], adjust="fdr_bh"),
        vif(fit(effects, "bond * setting + bs(year, df=3)")),
    ):
        assert max(map(len, str(result).splitlines())) <= 80
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert len(result.tidy())
