import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BudgetError
from headcount.maths.schedules import log_linear
from headcount.maths.select import select, totals


def layers_of(sizes):
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))


def within(chosen, layer, floors, ceilings):
    """Whether the numbers of chosen units meet the limits of each layer."""
    counts = [sum(layer[i] == index for i in chosen) for index in range(len(floors))]
    return all(a <= count <= b for a, count, b in zip(floors, counts, ceilings, strict=True))


def equal_in_groups(chosen, bundles):
    """Whether every group of a site has equally many chosen units."""
    start = 0
    for units, groups in bundles:
        size = units // groups
        ends = [(start + g * size, start + (g + 1) * size) for g in range(groups)]
        if len({sum(a <= i < b for i in chosen) for a, b in ends}) > 1:
            return False
        start += units
    return True


def best_keep(scores, num_keep, layer, floors, ceilings, bundles=(), allowed=None):
    """Of all keeps there are, the first of the greatest sum; None if none meets the limits."""
    candidates = [i for i in range(len(scores)) if allowed is None or allowed[i]]
    exact = [int(Fraction(score) * 2**60) for score in scores]
    keeps = [
        (sum(exact[i] for i in chosen), tuple(-i for i in chosen))
        for chosen in itertools.combinations(candidates, num_keep)
        if within(chosen, layer, floors, ceilings) and equal_in_groups(chosen, bundles)
    ]
    return [-i for i in max(keeps)[1]] if keeps else None


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
    layer = layers_of(sizes)
    keep = select(
        torch.tensor(scores, dtype=torch.float64),
        num_keep,
        layer=layer,
        floors=floors,
        ceilings=ceilings,
    )
    chosen = keep.nonzero().flatten().tolist()
    assert len(chosen) == num_keep
    assert within(chosen, layer, floors, ceilings)
    assert chosen == best_keep(scores, num_keep, layer.tolist(), floors, ceilings)


@given(problems(), st.data())
def test_the_best_keep_of_what_is_allowed(problem, data):
    """Against all keeps there are; refused exactly if there is none."""
    sizes, floors, ceilings, num_keep, scores = problem
    layer = layers_of(sizes)
    allowed = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    arguments = {"layer": layer, "floors": floors, "ceilings": ceilings}
    arguments |= {"allowed": torch.tensor(allowed)}
    best = best_keep(scores, num_keep, layer.tolist(), floors, ceilings, allowed=allowed)
    if best is None:
        with pytest.raises(BudgetError, match=f"{num_keep} units cannot be kept"):
            select(torch.tensor(scores, dtype=torch.float64), num_keep, **arguments)
        return
    keep = select(torch.tensor(scores, dtype=torch.float64), num_keep, **arguments)
    chosen = keep.nonzero().flatten().tolist()
    assert len(chosen) == num_keep
    assert all(allowed[i] for i in chosen)
    assert within(chosen, layer, floors, ceilings)
    assert chosen == best


@st.composite
def bundled(draw):
    """Sites of groups of units, each in a layer of its own or two in one."""
    bundles = draw(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda p: (p[0] * p[1], p[1])),
            min_size=1,
            max_size=3,
        ).filter(lambda bundles: sum(units for units, _ in bundles) <= 13)
    )
    total = sum(units for units, _ in bundles)
    num_keep = draw(st.integers(0, total))
    tenths = st.integers(-3, 3).map(lambda tenth: tenth / 10)  # whose sums are rounded
    score = draw(st.sampled_from([st.integers(-3, 3), tenths, st.just(0.1)]))
    scores = draw(st.lists(score, min_size=total, max_size=total))
    return bundles, num_keep, scores


def check_bundles(bundles, num_keep, scores, layer, floors, ceilings, allowed):
    """Against all keeps there are; refused exactly if there is none."""
    arguments = {"layer": torch.tensor(layer), "floors": floors, "ceilings": ceilings}
    arguments |= {"bundles": bundles, "allowed": torch.tensor(allowed)}
    values = torch.tensor(scores, dtype=torch.float64)
    best = best_keep(scores, num_keep, layer, floors, ceilings, bundles, allowed)
    if best is None:
        with pytest.raises(BudgetError, match=f"{num_keep} units cannot be kept"):
            select(values, num_keep, **arguments)
        return
    chosen = select(values, num_keep, **arguments).nonzero().flatten().tolist()
    assert len(chosen) == num_keep
    assert all(allowed[i] for i in chosen)
    assert within(chosen, layer, floors, ceilings)
    assert equal_in_groups(chosen, bundles)
    assert chosen == best


@given(bundled())
def test_the_best_keep_with_equally_many_in_each_group(problem):
    bundles, num_keep, scores = problem
    sizes = [units for units, _ in bundles]
    layer, everything = layers_of(sizes).tolist(), [True] * sum(sizes)
    check_bundles(bundles, num_keep, scores, layer, [0] * len(sizes), sizes, everything)


@given(bundled(), st.data())
def test_the_best_keep_with_groups_and_limits_and_whole_sites_left_out(problem, data):
    bundles, num_keep, scores = problem
    sizes = [units for units, _ in bundles]
    layer = layers_of(sizes).tolist()
    floors = [data.draw(st.integers(0, size)) for size in sizes]
    ceilings = [data.draw(st.integers(a, size)) for a, size in zip(floors, sizes, strict=True)]
    stays = [data.draw(st.booleans()) for _ in bundles]
    allowed = [stays[home] for home in layer]
    check_bundles(bundles, num_keep, scores, layer, floors, ceilings, allowed)


@given(bundled(), st.data())
def test_limits_hold_for_a_layer_with_two_sites_of_groups(problem, data):
    """Self- and cross-attention of a decoder's layer are two sites in one layer."""
    bundles, num_keep, scores = problem
    homes = [index // 2 for index in range(len(bundles))]
    layer = [home for home, (units, _) in zip(homes, bundles, strict=True) for _ in range(units)]
    sizes = [layer.count(home) for home in range(homes[-1] + 1)]
    floors = [data.draw(st.integers(0, size)) for size in sizes]
    ceilings = [data.draw(st.integers(a, size)) for a, size in zip(floors, sizes, strict=True)]
    check_bundles(bundles, num_keep, scores, layer, floors, ceilings, [True] * len(scores))


@given(bundled())
def test_sites_of_one_group_are_chosen_as_without_groups(problem):
    """The two ways to choose agree where both can."""
    bundles, num_keep, scores = problem
    sizes = [units for units, _ in bundles]
    arguments = {"layer": layers_of(sizes), "floors": [0] * len(sizes), "ceilings": sizes}
    values = torch.tensor(scores, dtype=torch.float64)
    values += torch.arange(len(values)) / 64  # no ties
    plain = select(values, num_keep, **arguments)
    assert torch.equal(
        select(values, num_keep, **arguments, bundles=[(n, 1) for n in sizes]), plain
    )


@given(bundled())
def test_totals_are_those_that_can_be_kept(problem):
    bundles, _, scores = problem
    layer, sizes = [0] * len(scores), [len(scores)]
    possible = [
        total
        for total in range(len(scores) + 1)
        if best_keep(scores, total, layer, [0], sizes, bundles) is not None
    ]
    assert totals(bundles) == possible


@pytest.mark.parametrize(
    ("bundles", "expected"),
    [
        ([], [0]),
        ([(3, 1)], [0, 1, 2, 3]),
        ([(4, 4), (6, 3)], [0, 3, 4, 6, 7, 10]),
        ([(8, 4)] * 3, [0, 4, 8, 12, 16, 20, 24]),
    ],
)
def test_totals_written_out(bundles, expected):
    assert totals(bundles) == expected


def test_a_total_that_groups_cannot_have_is_refused_with_those_they_can():
    with pytest.raises(BudgetError, match=r"3 units cannot be kept .* Give one of \[0, 2, 4\]"):
        select(
            torch.zeros(4),
            3,
            layer=torch.zeros(4).long(),
            floors=[0],
            ceilings=[4],
            bundles=[(4, 2)],
        )


@given(st.integers(0, 6))
def test_ties_go_to_the_lowest_index(num_keep):
    keep = select(
        torch.zeros(6), num_keep, layer=torch.zeros(6, dtype=torch.long), floors=[0], ceilings=[6]
    )
    assert keep.tolist() == [i < num_keep for i in range(6)]


@pytest.mark.parametrize("bundles", [(), ((2, 1),)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(bad, bundles):
    with pytest.raises(BudgetError, match=r"scores of units \[1\] are not finite"):
        select(
            torch.tensor([0.0, bad]),
            1,
            layer=torch.zeros(2).long(),
            floors=[0],
            ceilings=[2],
            bundles=bundles,
        )


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
