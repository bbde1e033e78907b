"""What it means that a model can be cut: asked of a model whose weights are all random."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

import headcount as hc
from headcount.zoo.checks import telling_decision
from headcount.zoo.outputs import equal_bits, largest_difference

GIVEN = {"method": {"name": "given"}}


def randomised(model: nn.Module) -> nn.Module:
    """In evaluation mode, with no weight that is zero, one, or small."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return model.eval()


def assert_exact(
    model: nn.Module, inputs: Callable[[nn.Module], dict[str, Tensor]], *kinds: str
) -> nn.Module:
    """Masked equals cut, twice over, with and without empty sites; the last cut is returned.

    Args:
        model: in float32.
        inputs: makes the named inputs of a model.
        kinds: the kinds of unit to remove, all if none are given.
    """

    def outputs(other: nn.Module) -> object:
        torch.manual_seed(0)
        with torch.no_grad():
            return other(**inputs(other))

    model = copy.deepcopy(model).double()
    ones = torch.ones(len(hc.units(model, *kinds)))
    whole = hc.Decision.of(hc.units(model, *kinds), ones.bool(), ones.double(), GIVEN)
    reference = outputs(model)
    with hc.masked(model, whole):
        assert equal_bits(outputs(model), reference)
    for empty in (False, True):
        small = model
        for _ in range(2):
            decision = telling_decision(hc.units(small, *kinds), empty=empty)
            with hc.masked(small, decision):
                expected = outputs(small)
            small = hc.cut(small, decision)
            assert largest_difference(expected, outputs(small)) < 1e-10
    return small
