import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headcount.maths.knapsack import Stream, approach, choose, cost, fill, settle, value
from reference.knapsack import every_choice, highs


@st.composite
def streams(draw, most=4, nested=True):
    """Up to four streams of up to three units; some lie in others, which come later."""
    found = []
    number = draw(st.integers(1, most))
    for index in range(number):
        units = draw(st.integers(0, 3))
        outer = draw(st.integers(-1, number - 1)) if nested else -1
        steps = draw(st.lists(st.integers(0, 9), min_size=units, max_size=units))
        worth = draw(st.lists(st.integers(0, 9), min_size=units, max_size=units))
        found.append((steps, worth, outer if outer > index else -1))
    parents = {outer for *_, outer in found}
    return [
        Stream(
            np.array([0, *(worth[:1] if i in parents else worth)], dtype=float).cumsum(),
            np.array([0, *(steps[:1] if i in parents else steps)]).cumsum(),
            outer if outer >= 0 and found[outer][0] else -1,
        )
        for i, (steps, worth, outer) in enumerate(found)
    ]


def check(given, counts, room):
    """Within the room and the nesting, and full."""
    assert cost(given, counts) <= room
    assert all(0 <= k < len(s.costs) for s, k in zip(given, counts, strict=True))
    chosen = zip(given, counts, strict=True)
    assert all(counts[s.parent] for s, k in chosen if k and s.parent >= 0)
    assert fill(given, counts, room) == counts


@settings(max_examples=400)
@given(streams(), st.integers(0, 60))
def test_the_choice_is_the_best_of_all(given, room):
    counts = choose(given, room)
    check(given, counts, room)
    assert value(given, counts) == every_choice(given, room)


@settings(max_examples=200)
@given(streams(), st.integers(0, 60))
def test_what_it_begins_with_is_within_the_room_and_full(given, room):
    counts = approach(given, room)
    check(given, counts, room)
    assert value(given, counts) <= every_choice(given, room)


@settings(max_examples=200)
@given(streams(most=2, nested=False), st.integers(0, 60))
def test_the_sweep_of_two_is_the_best_of_all(given, room):
    counts = choose(given, room)
    check(given, counts, room)
    assert value(given, counts) == every_choice(given, room)


@settings(max_examples=100)
@given(streams())
def test_a_room_of_exactly_the_best_choice_holds_it(given):
    counts = choose(given, 12)
    again = choose(given, cost(given, counts))
    assert value(given, again) == value(given, counts)


@settings(max_examples=200)
@given(streams(), st.integers(0, 60), st.data())
def test_alike_streams_are_taken_in_their_order(given, room, data):
    """As good as before; and swapping two alike ones never brings the earlier one more."""
    places = data.draw(st.permutations(range(len(given))))
    before = choose(given, room)
    counts = settle(given, before, places)
    assert sorted(counts) == sorted(before) or len({s.parent for s in given}) > 1
    assert (value(given, counts), cost(given, counts)) == (
        value(given, before),
        cost(given, before),
    )
    check(given, counts, room)
    parents = {stream.parent for stream in given}
    for one, other in itertools.permutations(range(len(given)), 2):
        a, b = given[one], given[other]
        leaves = not {one, other} & parents and a.parent == b.parent
        if leaves and np.array_equal(a.values, b.values) and np.array_equal(a.costs, b.costs):
            assert counts[one] >= counts[other] or places[one] > places[other]


def fill_one_by_one(given, counts, room):
    """The same, a unit at a time."""
    full = list(counts)
    while True:
        fitting = [
            (stream.values[k + 1] - stream.values[k], -index)
            for index, (stream, k) in enumerate(zip(given, full, strict=True))
            if k + 1 < len(stream.costs)
            and cost(given, full) + stream.costs[k + 1] - stream.costs[k] <= room
            and (stream.parent < 0 or full[stream.parent])
        ]
        if not fitting:
            return full
        full[-max(fitting)[1]] += 1


@settings(max_examples=300)
@given(streams(), st.integers(0, 60))
def test_what_is_filled_in_runs_is_what_is_filled_one_by_one(given, room):
    none = [0] * len(given)
    assert fill(given, none, room) == fill_one_by_one(given, none, room)


def test_many_units_that_cost_nothing_are_filled_at_once():
    flat = Stream(np.zeros(400_001), np.zeros(400_001, dtype=np.int64))
    bent = Stream(np.arange(5.0), np.array([0, 3, 6, 10, 14]))
    assert fill([flat, bent], [0, 0], 9) == [400_000, 2]


def sorted_stream(rng, units, price, *, fixed=0, parent=-1, sums=False):
    """Units of one price, worth their score times the price, or a score of a long tail."""
    score = np.sort(rng.random(units))[::-1]
    worth = 100 * score**4 if sums else score * price
    steps = np.arange(units + 1) * price
    steps[1:] += fixed
    return Stream(np.concatenate(([0.0], worth.cumsum())), steps, parent)


def classes(rng, sums):
    """Three classes whose units may stand in for each other."""
    prices = ((24, 19_683), (96, 1_537), (60, 4_099))
    return [sorted_stream(rng, n, price, sums=sums) for n, price in prices]


def modules(rng, sums):
    """Heads and rows that lie in modules."""
    inner = [
        sorted_stream(rng, n, price, parent=8 + i, sums=sums)
        for i, (n, price) in enumerate([(6, 9_841), (40, 769)] * 4)
    ]
    return [*inner, *(sorted_stream(rng, 1, 64, sums=sums) for _ in inner)]


def shared(rng, sums):
    """Heads that share tensors with the others of their module, and rows."""
    heads = [sorted_stream(rng, 6, 9_841, fixed=4_500, sums=sums) for _ in range(4)]
    return [*heads, sorted_stream(rng, 160, 769, sums=sums)]


@pytest.mark.parametrize("sums", [False, True], ids=["ranks", "sums"])
@pytest.mark.parametrize("make", [classes, modules, shared])
@pytest.mark.parametrize("share", [0.75, 0.4])
def test_a_solver_of_integer_programs_finds_nothing_better(make, sums, share):
    given = make(np.random.default_rng(7), sums)
    room = int(share * cost(given, [len(s.costs) - 1 for s in given]))
    counts = choose(given, room)
    check(given, counts, room)
    assert value(given, counts) == pytest.approx(highs(given, room), rel=1e-6)


def test_curves_that_are_bent_are_chosen_from_exactly():
    rng = np.random.default_rng(3)
    given = []
    for units in (12, 40) * 3:
        bends = np.interp(np.arange(units + 1), [0, units / 4, units / 2, units], [0, 9, 200, 210])
        worth = np.sort(rng.random(units))[::-1] * 5
        given.append(Stream(np.concatenate(([0.0], worth.cumsum())), bends.astype(np.int64)))
    for room in (100, 500, 900):
        counts = choose(given, room)
        check(given, counts, room)
        assert value(given, counts) == pytest.approx(highs(given, room), rel=1e-9)


def test_nothing_to_take_and_nothing_of_worth():
    assert choose([], 5) == []
    empty = Stream(np.zeros(1), np.zeros(1, dtype=np.int64))
    idle = Stream(np.zeros(4), np.array([0, 2, 4, 6]))
    assert choose([empty, idle, idle], 5) == [0, 2, 0]
    assert choose([empty, idle, idle], 0) == [0, 0, 0]
