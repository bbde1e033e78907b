import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from headcount.maths.bootstrap import paired_difference
from reference.bootstrap import every_resample


def interval(one, other, seed=0, **settings):
    generator = np.random.default_rng(seed)
    tables = (np.asarray(table, dtype=float) for table in (one, other))
    return paired_difference(*tables, generator=generator, **settings)


def answers(generator, shape, chance):
    return (generator.random(shape) < chance).astype(float)


@pytest.mark.parametrize("shape", [(1, 5), (2, 4), (3, 3), (3, 1)])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_resamples_are_those_of_the_slow_twin(shape, level):
    generator = np.random.default_rng(7)
    difference = generator.normal(size=shape)
    found = interval(difference, np.zeros(shape), num_resamples=60_000, level=level)
    means = every_resample(difference)
    for end, share in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
        below, up_to = (means < end - 1e-9).mean(), (means <= end + 1e-9).mean()
        assert below - 0.02 <= share <= up_to + 0.02
    assert found.mean == pytest.approx(means.mean())


def test_the_spread_is_that_of_a_crossed_design():
    """Variance of the mean: that of the seeds' means, of the examples' means, and of the rest."""
    generator = np.random.default_rng(3)
    seeds, examples = generator.normal(size=(4, 1)), generator.normal(size=(1, 300))
    difference = seeds + examples
    found = interval(difference, np.zeros_like(difference), num_resamples=50_000, level=0.68)
    expected = np.sqrt(seeds.var() / 4 + examples.var() / 300)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.06)


def test_identical_inputs_differ_by_nothing():
    right = answers(np.random.default_rng(1), (3, 200), 0.7)
    found = interval(right, right.copy())
    assert (found.mean, found.low, found.high) == (0, 0, 0)


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 30)),
    binary=st.booleans(),
)
def test_exchanging_the_two_turns_the_interval_round(seed, shape, binary):
    generator = np.random.default_rng(seed)
    if binary:
        one, other = answers(generator, shape, 0.6), answers(generator, shape, 0.5)
    else:
        one, other = generator.normal(size=shape), generator.normal(size=shape)
    there = interval(one, other, num_resamples=300)
    back = interval(other, one, num_resamples=300)
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    assert there.low == pytest.approx(-back.high, abs=1e-12)
    assert there.high == pytest.approx(-back.low, abs=1e-12)


@given(seed=st.integers(0, 10_000), num_seeds=st.integers(1, 4))
def test_the_interval_lies_within_the_data(seed, num_seeds):
    generator = np.random.default_rng(seed)
    one, other = (answers(generator, (num_seeds, 20), 0.5) for _ in range(2))
    found = interval(one, other, num_resamples=200)
    difference = one - other
    assert difference.min() <= found.low <= found.high <= difference.max()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for trial in range(300):
        generator = np.random.default_rng(trial)
        seeds, examples = generator.normal(size=(15, 1)), generator.normal(size=(1, 60))
        one = 0.4 + seeds + 2 * examples + generator.normal(size=(15, 60))
        found = interval(one, np.zeros((15, 60)), seed=trial, num_resamples=400)
        covered += found.low <= 0.4 <= found.high
    assert 0.89 <= covered / 300 <= 0.98


def test_more_examples_narrow_the_interval():
    generator = np.random.default_rng(0)
    one, other = answers(generator, (1, 6400), 0.7), answers(generator, (1, 6400), 0.6)
    widths = []
    for num in (400, 6400):
        found = interval(one[:, :num], other[:, :num])
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.15)


def test_one_column_resamples_the_seeds_alone():
    found = interval([[0.8], [0.9]], [[0.7], [0.7]], num_resamples=4000)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.2))
    assert found.mean == pytest.approx(0.15)


def test_the_same_generator_gives_the_same_interval_in_blocks_too(monkeypatch):
    generator = np.random.default_rng(5)
    one, other = generator.normal(size=(2, 60)), generator.normal(size=(2, 60))
    assert interval(one, other, seed=3) == interval(one, other, seed=3)
    whole = interval(one, other, num_resamples=20_000)
    monkeypatch.setattr("headcount.maths.bootstrap._BLOCK", 6000)
    parts = interval(one, other, num_resamples=20_000)
    assert parts.low == pytest.approx(whole.low, abs=0.02)
    assert parts.high == pytest.approx(whole.high, abs=0.02)


@pytest.mark.parametrize(
    ("one", "other", "settings", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), {}, r"shapes are \(2, 3\) and \(2, 4\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), {}, "one of each at least"),
        (np.zeros((2, 3)), np.zeros((2, 3)), {"num_resamples": 0}, "num_resamples=0"),
        (np.zeros((2, 3)), np.zeros((2, 3)), {"level": 1.0}, "level=1.0"),
    ],
)
def test_bad_input_is_refused(one, other, settings, message):
    with pytest.raises(hc.PruningError, match=message):
        interval(one, other, **settings)
