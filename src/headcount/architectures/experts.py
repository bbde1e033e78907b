"""Read the experts of a mixture whose weights are stacked in one tensor."""

from collections.abc import Iterator

from torch import nn

from headcount.architectures.feedforward import FeedForward
from headcount.architectures.layout import FeedForwardLayout
from headcount.architectures.maps import tensors
from headcount.architectures.tables import REFUSED
from headcount.units.site import Part

SWITCHES = ("has_gate", "has_bias", "is_transposed", "is_concatenated", "has_post_expert_norm")
"""Attributes by which transformers describes the layout of such tensors."""

DOWN = "down_proj"
"""Name of the down projection's tensor."""


def fused_experts_of(name: str, module: nn.Module) -> FeedForward | None:
    """Read experts that are stacked in one tensor; None for another module or another layout.

    Args:
        name: qualified name of the module.
        module: the experts, not the router.
    """
    values, weights = vars(module), tensors(module)
    if any(not isinstance(values.get(key), bool) for key in SWITCHES):
        return None
    # Without neurons, an expert with a norm behind it would not give its bias, but that normalised.
    if values["has_post_expert_norm"] or type(module).__name__ in REFUSED:
        return None
    up = "gate_up_proj" if values["has_gate"] else "up_proj"
    biases = {f"{up}_bias", f"{DOWN}_bias"} if values["has_bias"] else set()
    if weights.keys() != {up, DOWN, *biases}:
        return None
    num_experts = weights[DOWN].shape[0]
    each = weights[DOWN].shape[1 if values["is_transposed"] else 2]
    return FeedForward(
        name=name,
        row=FeedForwardLayout(up=(up,), down=DOWN, fused=2 if values["has_gate"] else 1),
        num_neurons=num_experts * each,
        neurons=tuple(_parts(name, module, up, each)),
        num_experts=num_experts,
    )


def _parts(name: str, module: nn.Module, up: str, each: int) -> Iterator[Part]:
    values, weights = vars(module), tensors(module)
    transposed = values["is_transposed"]
    both = 2 if values["has_gate"] else 1
    # (width, starts) of the neurons' slices: first all gates, then all values; or interleaved, the
    # gate and the value of a neuron side by side.
    if values["is_concatenated"]:
        spans = [(1, range(half * each, (half + 1) * each)) for half in range(both)]
    else:
        spans = [(both, range(0, both * each, both))]
    for tensor, dim in ((up, 2 if transposed else 1), (f"{up}_bias", 1)):
        for width, starts in spans if tensor in weights else ():
            yield Part(
                module=name,
                name=tensor,
                dim=dim,
                role="up",
                width=width,
                starts=starts,
                stacked=True,
            )
    yield Part(
        module=name,
        name=DOWN,
        dim=1 if transposed else 2,
        role="down",
        width=1,
        starts=range(each),
        stacked=True,
    )
