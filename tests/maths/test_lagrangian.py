"""Multipliers climb while the rest descends."""

import pytest
import torch

from headcount.maths.lagrangian import lagrangian


def numbers(*values):
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


@pytest.mark.parametrize("excess", [-0.25, 0.0, 0.5])
def test_value_and_gradients(excess):
    e, linear, quadratic = numbers(excess, -2.0, 3.0)
    loss = lagrangian(e, linear, quadratic)
    loss.backward()
    assert loss.item() == -2.0 * excess + 3.0 * excess**2
    assert e.grad.item() == -2.0 + 2 * 3.0 * excess
    assert linear.grad.item() == -excess  # reversed
    assert quadratic.grad.item() == -(excess**2)


@pytest.mark.parametrize(("sparsity", "target", "sign"), [(0.1, 0.5, -1), (0.5, 0.1, 1)])
def test_too_little_sparsity_drives_lambda1_down_from_zero_and_too_much_up(sparsity, target, sign):
    (linear,) = numbers(0.0)
    excess = torch.tensor(sparsity - target, dtype=torch.float64)
    lagrangian(excess, linear, torch.tensor(1.0, dtype=torch.float64)).backward()
    torch.optim.SGD([linear], lr=0.5).step()
    assert sign * linear.item() == pytest.approx(0.2)


def test_one_optimizer_finds_the_constrained_minimum_and_its_price():
    """The smallest (x - 1)^2 with x = 3: its slope there, 4, is what lambda1 has to hold."""
    x, linear, quadratic = numbers(0.0, 0.0, 1.0)
    optimizer = torch.optim.SGD([x, linear, quadratic], lr=0.1)
    for _ in range(1500):
        optimizer.zero_grad()
        ((x - 1) ** 2 + lagrangian(x - 3, linear, quadratic)).backward()
        optimizer.step()
    assert x.item() == pytest.approx(3, abs=1e-3)
    assert linear.item() == pytest.approx(-4, abs=1e-2)
    assert quadratic.item() > 1
