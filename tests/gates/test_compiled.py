"""Compiled code heeds gates that come and go, however and whenever the model was compiled."""

import copy

import pytest
import torch

import headcount as hc
from cases import bert

IDS = torch.arange(2, 10)[None]


def compiled(model, how):
    """A model of which all is compiled, or its layers one by one."""
    if how == "whole":
        return torch.compile(model, backend="eager")
    for part in [model] if how == "in place" else model.bert.encoder.layer:
        part.compile(backend="eager")
    return model


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "how", ["layers", *(pytest.param(how, marks=pytest.mark.slow) for how in ("whole", "in place"))]
)
@torch.no_grad()
def test_a_compiled_model_is_masked_and_cut(how):
    model = bert().double()
    dense = copy.deepcopy(model)
    running = compiled(model, how)
    expected = running(IDS).logits
    decision = hc.decide(running, hc.Magnitude(), hc.Budget(heads=5, neurons=40))
    assert decision == hc.decide(dense, hc.Magnitude(), hc.Budget(heads=5, neurons=40))
    small = hc.cut(running, decision)
    assert type(small) is type(dense)
    with hc.masked(running, decision) as masked:
        assert masked is running
        torch.testing.assert_close(running(IDS).logits, small(IDS).logits, atol=1e-10, rtol=0)
    assert torch.equal(running(IDS).logits, expected)
    assert hc.cut(running, decision, in_place=True) is running
    torch.testing.assert_close(running(IDS).logits, small(IDS).logits, atol=1e-10, rtol=0)
    assert hc.units(running) == hc.units(small)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:Dynamo")
@pytest.mark.parametrize("first", [True, False], ids=["compiled before", "compiled after"])
def test_a_method_learns_on_a_compiled_model_as_on_any(first):
    dense, found = bert().double().train(), []
    for how in ("", "whole"):
        model = copy.deepcopy(dense)
        running = compiled(model, how) if how and first else model
        running(IDS)
        given = running if first else model
        with hc.attach(given, hc.DSP(), hc.Budget(heads=5), num_steps=3, seed=1) as session:
            running = compiled(model, how) if how and not first else running
            for _ in range(3):
                session.step()
                torch.manual_seed(0)  # dropout
                (running(IDS, labels=torch.tensor([1])).loss + session.penalty()).backward()
            (logits,) = session.parameters()
            assert logits.grad.any()
            model.eval()
            found.append((logits.grad.clone(), running(IDS).logits))
    torch.testing.assert_close(*(grad for grad, _ in found), atol=1e-10, rtol=0)
    torch.testing.assert_close(*(logits for _, logits in found), atol=1e-10, rtol=0)
