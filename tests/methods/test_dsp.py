"""Subset pruning draws as many units as the step of the run says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

import headcount as hc
from cases import bert, llama, toy_units
from headcount.methods.estimators import relaxed_keep
from headcount.methods.method import Step
from headcount.units.quota import CountQuota

UNITS, GROUPED = hc.units(bert(), "head"), hc.units(llama(), "head")
ESTIMATORS = (hc.RelaxedTopK(), hc.StraightThrough(), hc.CentredStraightThrough())


def started(method, budget, units=UNITS):
    """The method's state at the start, and the generator that goes on."""
    generator = Generator().manual_seed(0)
    (quota,) = budget.quotas(units)
    return method.init(quota, generator), generator


def run(method, budget, total, units=UNITS):
    """The gates at every step of a run, and at its end."""
    state, generator = started(method, budget, units)
    steps = (Step(index=index, total=total) for index in range(total + 1))
    return [method.gates(state, step, generator).detach() for step in steps]


def sizes(method, budget, total):
    """The sum of the gates at every step of a run, and at its end."""
    return [gates.sum().item() for gates in run(method, budget, total)]


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
    state, generator = started(method, budget)
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
    state, generator = started(method, hc.Budget(heads=5))
    gates = method.gates(state, Step(index=0, total=20), generator)
    assert gates.tolist() == [1] * 12
    (gates @ torch.arange(12, dtype=gates.dtype)).backward()
    assert state.logits.grad.tolist() == [0] * 12


def equal_in_groups(gates):
    """Whether the four key-value heads of each layer keep equally many query heads."""
    counts = gates.reshape(3, 4, 2).sum(-1)
    return bool((counts == counts[:, :1]).all())


@settings(max_examples=30, deadline=None)
@given(share=st.integers(0, 6), total=st.integers(1, 30), shrinks=st.booleans())
def test_the_size_falls_over_totals_that_shared_key_value_heads_can_have(share, total, shrinks):
    method = hc.DSP() if shrinks else hc.DSP(shrinking=None)
    drawn = run(method, hc.Budget(heads=4 * share), total, GROUPED)
    assert all(equal_in_groups(gates) for gates in drawn)
    whole = [int(gates.sum()) for gates in drawn]
    assert whole == sorted(whole, reverse=True)
    assert whole[-1] == 4 * share
    assert whole[0] == (24 if shrinks else 4 * share)


@pytest.mark.parametrize("heads", [0, 4, 8])
def test_shared_key_value_heads_come_down_to_equal_counts_in_every_layer(heads):
    drawn = run(hc.DSP(), hc.Budget(heads=heads, scope="layer"), 20, GROUPED)
    assert all(equal_in_groups(gates) for gates in drawn)
    assert drawn[0].sum() == 24
    assert drawn[-1].reshape(3, 8).sum(1).tolist() == [heads] * 3


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "dsp"),
        ({"shrinking": None}, "dsp-constant"),
        ({"shrinking": hc.Sampling()}, "dsp-sampled"),
        ({"estimator": hc.StraightThrough()}, "dsp-ste"),
        ({"estimator": hc.StraightThrough(), "shrinking": None}, "dsp-ste-constant"),
        ({"training": "pipelined"}, "dsp-pipelined"),
        ({"training": "pipelined", "shrinking": None}, "dsp-pipelined"),
        ({"estimator": hc.RelaxedTopK()}, "dsp-relaxed"),
        ({"estimator": hc.RelaxedTopK(), "shrinking": None}, "dsp-relaxed-constant"),
        ({"estimator": hc.RelaxedTopK(), "training": "pipelined"}, "dsp-relaxed-pipelined"),
    ],
)
def test_names(arguments, name):
    assert hc.DSP(**arguments).name == name


@pytest.mark.parametrize(
    ("annealing", "soft"),
    [
        ({}, False),
        ({"cooldown": 1.0}, True),
        ({"cooldown": 1}, False),
        ({"cooldown": 50}, True),
        ({"cooldown": 49}, False),
        ({"end": 5.0}, True),
        ({"start": 1000.0, "end": 1e-8}, False),
    ],
)
def test_gates_that_stay_soft_are_said(annealing, soft):
    notes = hc.DSP(estimator=hc.RelaxedTopK(annealing=hc.Annealing(**annealing))).notes(50)
    assert [("soft to the end of the run" in note) for note in notes] == [True] * soft


def test_logits_start_between_the_bounds_of_xavier():
    """sqrt(6 / (L + H)) over the table of layers by heads; here of 3 and 4."""
    units = hc.units(bert(), "head")
    (quota,) = hc.Budget(heads=5).quotas(units)
    bound = math.sqrt(6 / 7)
    drawn = [hc.DSP().init(quota, Generator().manual_seed(s)) for s in range(50)]
    logits = torch.cat([state.logits.detach() for state in drawn])
    assert logits.abs().max() <= bound
    assert logits.min() < -0.9 * bound
    assert logits.max() > 0.9 * bound
    assert logits.mean().abs() < 0.1


@pytest.mark.parametrize("num_keep", [1, 5, 11])
def test_the_gradient_of_straight_through_is_that_of_the_gates(num_keep):
    units = toy_units(12)
    quota = CountQuota(units=units, num_keep=num_keep, floors=(0,), ceilings=(12,))
    logits = torch.randn(12, generator=Generator().manual_seed(num_keep), requires_grad=True)
    wanted = torch.randn(12, generator=Generator().manual_seed(9))
    gates = hc.StraightThrough().gates(
        logits,
        quota,
        step=Step(index=0, total=9),
        generator=Generator(),
    )
    (gates * wanted).sum().backward()
    assert torch.equal(logits.grad, wanted)
    assert gates.sum() == num_keep


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=4),
    st.integers(0, 20),
)
def test_relaxed_floors_become_the_exact_choice(seed, layers, more):
    """At a temperature near zero; and at any, a layer that stays whole has gates of one."""
    sizes = [size for size, _ in layers]
    floors = tuple(min(size, floor) for size, floor in layers)
    num_keep = min(sum(sizes), sum(floors) + more)
    units = toy_units(*sizes)
    quota = CountQuota(units=units, num_keep=num_keep, floors=floors, ceilings=tuple(sizes))
    layer = units.layer_of_unit
    logits = torch.randn(len(layer), generator=Generator().manual_seed(seed), dtype=torch.float64)
    hard = relaxed_keep(logits, quota, temperature=1e-8)
    assert hard.round().bool().tolist() == quota.keep(logits).tolist()
    soft = relaxed_keep(logits, quota, temperature=100.0)
    assert soft.sum().item() == pytest.approx(num_keep, abs=1e-9)
    if any(floors):
        for index, (size, floor) in enumerate(zip(sizes, floors, strict=True)):
            if size == floor:
                assert soft[layer == index].tolist() == [1.0] * size


@pytest.mark.parametrize("heads", [0, 2, 12])
@pytest.mark.parametrize("limits", [{}, {"scope": "layer"}], ids=["global", "layer"])
def test_sampled_sizes_lie_between_the_budget_and_all_units(heads, limits):
    """Each comes up in a long run, small ones more often than their share of all numbers."""
    heads = heads // 3 if limits else heads
    drawn = sizes(hc.DSP(shrinking=hc.Sampling()), hc.Budget(heads=heads, **limits), 200)
    whole, least = [round(size) for size in drawn], 3 * heads if limits else heads
    assert whole[:20] == [12] * 20
    assert min(whole) == least
    assert max(whole[20:]) == 12
    if heads == 2 and not limits:
        assert set(whole) == set(range(2, 13))
        assert sum(size <= 4 for size in whole[20:]) > 180 * 3 / 11


def test_sampled_sizes_depend_on_the_step_alone():
    method = hc.DSP(shrinking=hc.Sampling(hold=0.0))
    assert sizes(method, hc.Budget(heads=1), 30) == sizes(method, hc.Budget(heads=1), 30)


def test_a_sampling_that_never_draws_is_refused():
    with pytest.raises(hc.BudgetError, match=r"Sampling\(hold=1.0\): give a share of the run"):
        hc.Sampling(hold=1.0)


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_a_gradient_that_all_units_share_moves_no_centred_logit(shift):
    """The forward pass is that of straight-through, and the logits keep their mean."""
    logits = torch.arange(12.0, requires_grad=True)
    (quota,) = hc.Budget(heads=5).quotas(UNITS)
    step = Step(index=0, total=1)
    gates, plain = (
        estimator.gates(logits, quota, step=step, generator=Generator())
        for estimator in (hc.CentredStraightThrough(), hc.StraightThrough())
    )
    assert torch.equal(gates, plain)
    slope = torch.tensor([3.0, -1.0] * 6)
    (gates * (slope + shift)).sum().backward()
    assert torch.allclose(logits.grad, slope - 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"estimator": hc.RelaxedTopK},
            r"estimator=RelaxedTopK\): a class is no Estimator\. Give an",
        ),
        ({"estimator": "relaxed"}, r"estimator='relaxed'\): a str is no Estimator"),
        (
            {"shrinking": hc.Sampling},
            r"shrinking=Sampling\): a class is no Sizes\. Give",
        ),
    ],
)
def test_a_class_is_no_instance(given, message):
    with pytest.raises(hc.ArgumentError, match=rf"DSP\({message}"):
        hc.DSP(**given)
