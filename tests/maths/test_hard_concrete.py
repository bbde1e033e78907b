"""Hard concrete gates: what the papers say of them, and what chance says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from headcount.maths.hard_concrete import (
    hard_concrete,
    log_alpha_of,
    noiseless_gate,
    open_chance,
    open_uniform,
)

LEANINGS = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, 4.0], dtype=torch.float64)


def by_hand(log_alpha, uniform, temperature):
    """One gate, as the formula is written."""
    s = 1 / (1 + math.exp(-(math.log(uniform / (1 - uniform)) + log_alpha) / temperature))
    return min(1.0, max(0.0, 1.2 * s - 0.1))


@pytest.mark.parametrize(("temperature", "closed"), [(1 / 3, 0.3102), (2 / 3, 0.1682)])
def test_the_chance_of_a_closed_gate_at_zero(temperature, closed):
    (chance,) = 1 - open_chance(torch.zeros(1, dtype=torch.float64), temperature)
    assert chance.item() == pytest.approx(closed, abs=5e-5)


@pytest.mark.parametrize("temperature", [0.33, 2 / 3])
def test_gates_are_open_as_often_as_the_chance_says(temperature):
    draws = 100_000
    uniform = open_uniform((draws, len(LEANINGS)), Generator().manual_seed(0))
    gates = hard_concrete(LEANINGS.expand(draws, -1), uniform, temperature)
    # A gate is 1 as often as one that leans the other way is closed.
    one = 1 - open_chance(-LEANINGS, temperature)
    for drawn, chance in ((gates > 0, open_chance(LEANINGS, temperature)), (gates == 1, one)):
        error = 4 * (chance * (1 - chance) / draws).sqrt()
        assert ((drawn.double().mean(0) - chance).abs() < error).all()


@given(
    log_alpha=st.floats(-6, 6),
    uniform=st.floats(1e-6, 1 - 1e-6),
    temperature=st.floats(0.1, 2),
)
def test_a_gate_is_what_the_formula_says(log_alpha, uniform, temperature):
    gate = hard_concrete(
        torch.tensor(log_alpha, dtype=torch.float64),
        torch.tensor(uniform, dtype=torch.float64),
        temperature,
    )
    assert gate.item() == pytest.approx(by_hand(log_alpha, uniform, temperature), abs=1e-9)


def test_the_gradient_of_gates_and_chances_with_fixed_noise():
    uniform = open_uniform((64,), Generator().manual_seed(0))
    log_alpha = torch.linspace(-3, 3, 64, dtype=torch.float64, requires_grad=True)
    gates = hard_concrete(log_alpha, uniform, 0.33)
    between = (gates > 0) & (gates < 1)
    assert 5 < between.sum() < 59
    assert torch.autograd.gradcheck(lambda a: hard_concrete(a, uniform, 0.33), log_alpha)
    assert torch.autograd.gradcheck(lambda a: open_chance(a, 0.33), log_alpha)
    (grad,) = torch.autograd.grad(gates.sum(), log_alpha)
    assert torch.equal(grad > 0, between)
    assert torch.equal(grad == 0, ~between)


@given(chance=st.floats(0.01, 0.99), temperature=st.floats(0.1, 2))
def test_log_alpha_of_a_chance_gives_that_chance(chance, temperature):
    log_alpha = torch.tensor([log_alpha_of(chance, temperature)], dtype=torch.float64)
    assert open_chance(log_alpha, temperature).item() == pytest.approx(chance, abs=1e-12)


def test_without_noise_a_gate_is_that_of_the_middle_draw_at_temperature_one():
    half = torch.full_like(LEANINGS, 0.5)
    assert torch.equal(noiseless_gate(LEANINGS), hard_concrete(LEANINGS, half, 1.0))
    edge = math.log(11)  # sigmoid = 11/12, stretched to 1
    ends = torch.tensor([-edge - 1e-6, edge + 1e-6], dtype=torch.float64)
    assert noiseless_gate(ends).tolist() == [0.0, 1.0]
    inside = noiseless_gate(torch.tensor([-edge + 1e-3, edge - 1e-3], dtype=torch.float64))
    assert ((inside > 0) & (inside < 1)).all()


def test_the_outermost_draws_give_finite_gates_and_gradients():
    uniform = torch.tensor([2.0**-54, 1 - 2.0**-53], dtype=torch.float64)
    log_alpha = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    gates = hard_concrete(log_alpha, uniform, 0.33)
    gates.sum().backward()
    assert gates.tolist() == [0.0, 1.0]
    assert log_alpha.grad.tolist() == [0.0, 0.0]


def test_draws_lie_strictly_between_zero_and_one_even_where_the_generator_gives_zero(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.zeros(3, dtype=torch.float64))
    assert open_uniform((3,), Generator()).logit().isfinite().all()


def test_the_same_seed_gives_the_same_draws():
    first, second = (open_uniform((5,), Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float64
