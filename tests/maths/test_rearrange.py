"""Swaps lower what removed units cost together, and keep the counts."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from headcount.maths.rearrange import rearrange, removal_cost
from reference.rearrangement import cost, least_cost, one_by_one

WORKED = torch.tensor([[1.0, 1.5, -1.6, 0.0], [0.0, 0.0, 0.0, 5.0]])
"""Columns x = (1, 0), y = (1.5, 0), z = (-1.6, 0), w = (0, 5)."""


def largest(grads, num_keep):
    """The keep of the largest sums of squares."""
    keep = torch.zeros(grads.shape[1], dtype=torch.bool)
    keep[grads.square().sum(0).argsort(descending=True, stable=True)[:num_keep]] = True
    return keep


@st.composite
def problems(draw, most=7):
    """Gradients of a few batches, and how many units to keep."""
    n, batches = draw(st.integers(1, most)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 10_000))
    grads = torch.randn(batches, n, generator=Generator().manual_seed(seed), dtype=torch.float64)
    if draw(st.booleans()):  # many ties, many units that cancel
        grads = grads.round()
    return grads, draw(st.integers(0, n))


def test_the_worked_example():
    """By importance alone x and y go; y and z cancel, and no other pair costs less."""
    diagonal = largest(WORKED, 2)
    assert diagonal.tolist() == [False, False, True, True]
    assert removal_cost(WORKED, diagonal) == 6.25
    rearranged = rearrange(WORKED, diagonal)
    assert rearranged.tolist() == [True, False, False, True]
    assert removal_cost(WORKED, rearranged) == pytest.approx(0.01)
    assert least_cost(WORKED.double(), 2) == pytest.approx(0.01)


@given(problems())
def test_never_worse_than_the_start_and_never_better_than_all_choices(problem):
    grads, num_keep = problem
    before = largest(grads, num_keep)
    after = rearrange(grads, before)
    assert after.sum() == num_keep
    found = removal_cost(grads, after)
    assert found <= removal_cost(grads, before) + 1e-9
    assert found >= least_cost(grads, len(before) - num_keep) - 1e-9


@given(problems(most=12))
def test_the_same_as_with_every_sum_made_anew(problem):
    """Up to rounding, where two choices cost the same."""
    grads, num_keep = problem
    before = largest(grads, num_keep)
    after = rearrange(grads, before)
    slow = one_by_one(grads, before)
    if after.tolist() != slow:
        removed = [unit for unit, kept in enumerate(slow) if not kept]
        assert removal_cost(grads, after) == pytest.approx(cost(grads, removed), abs=1e-9)


def test_small_problems_are_mostly_solved():
    """The greedy pass finds the best of all choices in about half of these."""
    generator = Generator().manual_seed(0)
    exact = gained = 0
    for _ in range(40):
        grads = torch.randn(3, 8, generator=generator, dtype=torch.float64)
        before = largest(grads, 4)
        found = removal_cost(grads, rearrange(grads, before))
        exact += found == pytest.approx(least_cost(grads, 4), abs=1e-9)
        gained += found < removal_cost(grads, before)
    assert exact >= 18
    assert gained >= 33


@given(problems(), st.integers(0, 10_000))
def test_every_group_keeps_as_many(problem, seed):
    grads, num_keep = problem
    group = torch.randint(3, (grads.shape[1],), generator=Generator().manual_seed(seed))
    before = largest(grads, num_keep)
    after = rearrange(grads, before, group=group)
    assert [int(after[group == g].sum()) for g in range(3)] == [
        int(before[group == g].sum()) for g in range(3)
    ]
    assert removal_cost(grads, after) <= removal_cost(grads, before) + 1e-9


def test_a_swap_across_groups_is_not_made():
    keep = largest(WORKED, 2)
    group = torch.tensor([0, 0, 1, 1])
    assert torch.equal(rearrange(WORKED, keep, group=group), keep)


def test_nothing_is_swapped_without_gain():
    """The first two cost the same."""
    grads = torch.tensor([[1.0, 1.0, 3.0]])
    for keep in ([True, False, True], [False, True, True]):
        assert rearrange(grads, torch.tensor(keep)).tolist() == keep


@pytest.mark.parametrize("keep", [[True] * 4, [False] * 4])
def test_all_or_nothing_stays(keep):
    assert rearrange(WORKED, torch.tensor(keep)).tolist() == keep


def test_without_gradients_nothing_is_swapped():
    keep = torch.tensor([True, False, True])
    assert torch.equal(rearrange(torch.zeros(0, 3), keep), keep)


def test_a_layer_of_many_rows_takes_little_time():
    """1536 rows and 64 batches, as in a small encoder: a tenth of a second; the limit is loose."""
    grads = torch.randn(64, 1536, generator=Generator().manual_seed(0))
    keep = largest(grads, 768)
    began = time.perf_counter()
    after = rearrange(grads, keep)
    assert time.perf_counter() - began < 10
    assert removal_cost(grads, after) < 0.1 * removal_cost(grads, keep)
