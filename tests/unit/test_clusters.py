"""Clusters as stacks of row numbers."""

from __future__ import annotations

import numpy as np

from alliance_meta.core.dependent import codes, components, nested, stacks


def test_codes_follow_first_appearance():
    assert codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_stacks_hold_every_row_once_and_clusters_whole():
    cluster = codes([3, 1, 3, 2, 2, 1, 9])
    found = stacks(cluster)
    assert [s.shape for s in found] == [(1, 1), (3, 2)]
    assert sorted(np.concatenate([s.ravel() for s in found])) == list(range(7))
    for stack in found:
        assert (cluster[stack] == cluster[stack[:, :1]]).all()


def test_nested():
    school, district = codes([1, 1, 2, 3]), codes([1, 1, 1, 2])
    assert nested(school, district)
    assert not nested(district, school)


def test_components_join_what_any_grouping_joins():
    assert components(codes([1, 1, 2, 3]), codes([1, 2, 2, 3])).tolist() == [0, 0, 0, 1]


def test_components_follow_a_long_chain():
    left = codes(np.arange(200) // 2)
    right = codes((np.arange(200) + 1) // 2)
    assert components(left, right).max() == 0
