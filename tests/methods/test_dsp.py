"""Subset pruning draws as many units as the step of the run says."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

import headcount as hc
from cases import TINY
from headcount.methods.method import Step

UNITS = hc.units(
    transformers.BertModel(transformers.BertConfig(**{**TINY, "num_hidden_layers": 3}))
)
ESTIMATORS = (hc.RelaxedTopK(), hc.StraightThrough())


def sizes(method, budget, total):
    """The sum of the gates at every step of a run, and at its end."""
    generator = Generator().manual_seed(0)
    state = method.init(UNITS, budget.resolve(UNITS), generator)
    return [
        method.gates(state, Step(index=index, total=total), generator).sum().item()
        for index in range(total + 1)
    ]


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(0, 12),
    total=st.integers(1, 40),
    hold=st.floats(0, 0.5),
    length=st.floats(0.1, 0.5),
    estimator=st.sampled_from(ESTIMATORS),
)
def test_the_gates_sum_to_a_size_that_falls_from_all_to_the_budget(
    heads, total, hold, length, estimator
):
    shrinking = hc.Shrinking(hold=hold, end=hold + length)
    method = hc.DSP(estimator=estimator, shrinking=shrinking)
    drawn = sizes(method, hc.Budget(heads=heads), total)
    whole = [round(size) for size in drawn]
    assert drawn == pytest.approx(whole, abs=1e-6)
    assert whole[: round(hold * total)] == [12] * round(hold * total)
    assert whole == sorted(whole, reverse=True)
    assert whole[-1] == heads


def test_the_size_shrinks_in_every_layer_where_the_budget_is_per_layer():
    method, budget = hc.DSP(), hc.Budget(heads=1, scope="layer")
    generator = Generator().manual_seed(0)
    state = method.init(UNITS, budget.resolve(UNITS), generator)
    for index in (0, 4, 9, 20):
        gates = method.gates(state, Step(index=index, total=20), generator)
        per_layer = gates.reshape(3, 4).sum(1)
        assert per_layer.tolist() == pytest.approx([per_layer[0].round().item()] * 3)
    assert per_layer.tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "arguments", [{"shrinking": None}, {"training": "pipelined"}], ids=["constant", "pipelined"]
)
def test_the_size_is_that_of_the_budget_all_along(estimator, arguments):
    method = hc.DSP(estimator=estimator, **arguments)
    assert sizes(method, hc.Budget(heads=5), 20) == pytest.approx([5] * 21, abs=1e-6)


def test_all_units_on_leave_the_logits_a_gradient_of_zero():
    method = hc.DSP()
    generator = Generator().manual_seed(0)
    state = method.init(UNITS, hc.Budget(heads=5).resolve(UNITS), generator)
    gates = method.gates(state, Step(index=0, total=20), generator)
    assert gates.tolist() == [1] * 12
    (gates @ torch.arange(12, dtype=gates.dtype)).backward()
    assert state.logits.grad.tolist() == [0] * 12


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "dsp"),
        ({"shrinking": None}, "dsp-constant"),
        ({"training": "pipelined"}, "dsp-pipelined"),
        ({"training": "pipelined", "shrinking": None}, "dsp-pipelined"),
        ({"estimator": hc.RelaxedTopK()}, "dsp-relaxed"),
        ({"estimator": hc.RelaxedTopK(), "shrinking": None}, "dsp-relaxed-constant"),
        ({"estimator": hc.RelaxedTopK(), "training": "pipelined"}, "dsp-relaxed-pipelined"),
    ],
)
def test_names(arguments, name):
    assert hc.DSP(**arguments).name == name
