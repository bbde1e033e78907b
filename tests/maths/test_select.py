import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BudgetError
from headcount.maths.schedules import log_linear
from headcount.maths.select import select


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    floors = [draw(st.integers(0, size)) for size in sizes]
    ceilings = [draw(st.integers(floor, size)) for floor, size in zip(floors, sizes, strict=True)]
    num_keep = draw(st.integers(sum(floors), sum(ceilings)))
    total = sum(sizes)
    scores = draw(st.lists(st.integers(-3, 3), min_size=total, max_size=total))
    return sizes, floors, ceilings, num_keep, scores


@given(problems())
def test_the_best_keep_within_the_limits(problem):
    """Against all keeps there are: exact count, limits met, greatest sum."""
    sizes, floors, ceilings, num_keep, scores = problem
    layer = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    keep = select(
        torch.tensor(scores, dtype=torch.float64),
        num_keep,
        layer=layer,
        floors=floors,
        ceilings=ceilings,
    )
    counts = torch.bincount(layer[keep], minlength=len(sizes)).tolist()
    assert keep.sum() == num_keep
    assert all(a <= c <= b for a, c, b in zip(floors, counts, ceilings, strict=True))
    best = max(
        sum(scores[i] for i in chosen)
        for chosen in itertools.combinations(range(len(scores)), num_keep)
        if all(
            a <= sum(layer[i] == index for i in chosen) <= b
            for index, (a, b) in enumerate(zip(floors, ceilings, strict=True))
        )
    )
    assert sum(score for score, kept in zip(scores, keep.tolist(), strict=True) if kept) == best


@given(st.integers(0, 6))
def test_ties_go_to_the_lowest_index(num_keep):
    keep = select(
        torch.zeros(6), num_keep, layer=torch.zeros(6, dtype=torch.long), floors=[0], ceilings=[6]
    )
    assert keep.tolist() == [i < num_keep for i in range(6)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(BudgetError, match=r"scores of units \[1\] are not finite"):
        select(torch.tensor([0.0, bad]), 1, layer=torch.zeros(2).long(), floors=[0], ceilings=[2])


@pytest.mark.parametrize(("num_keep", "floors"), [(3, [0]), (-1, [0]), (1, [2]), (2, [3])])
def test_what_cannot_be_kept_is_refused(num_keep, floors):
    with pytest.raises(BudgetError, match="cannot be kept"):
        select(torch.zeros(2), num_keep, layer=torch.zeros(2).long(), floors=floors, ceilings=[2])


def test_the_temperature_falls_log_linearly_and_stays():
    values = [log_linear(i, start=1e3, end=1e-8, num_steps=11) for i in range(14)]
    assert values[0] == pytest.approx(1e3)
    ratios = [b / a for a, b in itertools.pairwise(values[:12])]
    assert ratios == pytest.approx([0.1] * 11)
    assert values[11:] == [1e-8] * 3
