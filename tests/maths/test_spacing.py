"""Evenly spaced: ends in, gaps alike, for every length and number."""

from itertools import pairwise

import pytest

from headcount.maths.spacing import evenly_spaced


@pytest.mark.parametrize("num", range(1, 41))
def test_places_are_spread_from_end_to_end_with_gaps_alike(num):
    for num_keep in range(num + 1):
        places = evenly_spaced(num, num_keep)
        assert len(places) == num_keep
        assert set(places) <= set(range(num))
        gaps = {b - a for a, b in pairwise(places)}
        assert all(gap >= 1 for gap in gaps)
        assert max(gaps, default=0) - min(gaps, default=0) <= 1
        assert places[:1] == (() if num_keep == 0 else (0,))
        if num_keep > 1:
            assert places[-1] == num - 1


@pytest.mark.parametrize(
    ("num", "num_keep", "places"),
    [
        (12, 2, (0, 11)),
        (12, 3, (0, 6, 11)),  # 5.5 goes up
        (12, 4, (0, 4, 7, 11)),
        (12, 6, (0, 2, 4, 7, 9, 11)),
        (5, 3, (0, 2, 4)),
        (1, 1, (0,)),
    ],
)
def test_by_hand(num, num_keep, places):
    assert evenly_spaced(num, num_keep) == places
