"""How values are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.reports.wording import budget_words, duration, machine_words, per_layer, short


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (999_950, "1 M"),
        (999_940, "999.9 k"),
        (109_482_240, "109.5 M"),
        (3.2e15, "3.2 P"),
    ],
)
def test_short(number, words):
    assert short(number) == words
    assert short(number, "B") == (f"{words}B" if words[-1].isalpha() else f"{words} B")


@given(st.integers(0, 10**17))
def test_short_is_right_to_four_digits(number):
    value, _, prefix = short(number).partition(" ")
    scale = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}[prefix]
    assert float(value) * 10**scale == pytest.approx(number, rel=6e-4)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 µs"),
        (2.5e-6, "2.5 µs"),
        (0.00123456, "1.235 ms"),
        (1, "1 s"),
        (119.9, "119.9 s"),
        (120, "2 min 0 s"),
        (3599.9, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("counts", "words"),
    [((), ""), ((3,), "3"), ((2, 2), "2 in each of 2 layers"), ((0, 3, 1), "0 3 1")],
)
def test_per_layer(counts, words):
    assert per_layer(counts) == words


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"heads": 1}, "1 head"),
        ({"heads": 0}, "0 heads"),
        ({"heads": 1.0, "scope": "global", "min_per_layer": 0}, "100% of the heads"),
        ({"heads": 3, "scope": "layer", "min_per_layer": 0}, "3 heads in every layer"),
        ({"heads": 0.125, "min_per_layer": 2}, "12.5% of the heads, at least 2 in every layer"),
        ({"neurons": 8, "scope": "global"}, "8 neurons"),
        ({"heads": 12, "neurons": 0.5}, "12 heads, 50% of the neurons"),
        ({"kv_heads": 1, "layers": 3, "sublayers": 2}, "3 layers, 2 sublayers, 1 key-value head"),
        ({"heads": {"self": 1, "cross": 0.5}}, "1 head at self, 50% of the heads at cross"),
        ({"heads": 3, "scope": "layer", "place": "decoder"}, "3 heads in every layer at decoder"),
        ({"poems": 8, "scope": "global"}, "poems=8, scope=global"),
        ({}, ""),
    ],
)
def test_budget_words(budget, words):
    assert budget_words(budget) == words


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cpu", "Abacus (1 thread)"),
        ("cuda:0", "Quipu"),
        ("mps", "mps"),
        (None, "Abacus (1 thread), Quipu"),
    ],
)
def test_machine_words(device, words):
    environment = {"processor": "Abacus", "num_threads": 1, "gpu": "Quipu"}
    assert machine_words(environment, device) == words
    assert machine_words({}, None) == ""
