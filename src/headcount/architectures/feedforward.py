"""Read the neurons of a feed-forward network."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from headcount.architectures.layout import FeedForwardLayout
from headcount.architectures.maps import child, is_map, output_dim, tensors, width
from headcount.architectures.match import why_listed
from headcount.architectures.tables import FEED_FORWARD
from headcount.units.site import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """The neurons of a feed-forward network."""

    name: str
    """Qualified name of the module that holds its projections."""
    row: FeedForwardLayout
    """The table row that fits it."""
    num_neurons: int
    """Neurons, those of all experts together; 0 if an earlier cut removed all."""
    neurons: tuple[Part, ...]
    """The slices that are cut with a neuron."""
    num_experts: int = 0
    """Experts that are stacked in one tensor, each with equally many neurons; 0 for a plain
    network."""


def feed_forward_of(name: str, module: nn.Module) -> FeedForward | None:
    """Read a feed-forward network; None if no row fits the module."""
    # The names of children first, which is cheap: this runs for every module of a model.
    here = module._modules.keys()
    if why_listed(module):
        return None
    read = (_read(name, module, row) for needed, row in _NEEDED if needed <= here)
    return next((found for found in read if found is not None), None)


_NEEDED = tuple(
    (frozenset(path.partition(".")[0] for path in (*row.up, row.down)), row) for row in FEED_FORWARD
)
"""The children that a row needs, by name, and the row."""


def _read(name: str, module: nn.Module, row: FeedForwardLayout) -> FeedForward | None:
    down = child(module, row.down)
    ups = {path: child(module, path) for path in row.up}
    if not is_map(down) or not all(is_map(up) for up in ups.values()) or down is None:
        return None
    # Up projections must make just the inputs of the down projection: a pair of maps of other
    # widths is something else.
    num_neurons = width(down, 1)
    if {_outputs(up) for up in ups.values() if up is not None} != {max(1, num_neurons) * row.fused}:
        return None
    if _norm_between(module, row, num_neurons) or _between(module, row):
        return None
    return FeedForward(
        name=name,
        row=row,
        num_neurons=num_neurons,
        neurons=tuple(_parts(name, module, row, num_neurons)),
    )


def _outputs(mapping: nn.Module) -> int:
    """The width of a map's output. A map without weights has the width of one neuron."""
    return width(mapping, 0) or vars(mapping).get("out_features", 0)


def _norm_between(module: nn.Module, row: FeedForwardLayout, num_neurons: int) -> bool:
    """Whether a norm takes all neurons together before the down projection.

    Without the removed neurons it would scale the others differently.
    """
    # A weight as long as the number of neurons is a norm's. If that equals the output's width, the
    # norm may as well be the layer's, on the residual stream.
    taken = {path.split(".")[0] for path in (*row.up, row.down)}
    others = [sub for key, sub in module.named_children() if key not in taken]
    weights = [tensors(sub).get("weight") for sub in others if not is_map(sub)]
    size = width(module.get_submodule(row.down), 0)
    return any(w is not None and w.shape == (num_neurons,) and num_neurons != size for w in weights)


def _between(module: nn.Module, row: FeedForwardLayout) -> list[nn.Module]:
    """Modules between the projections, in module order, that may mix neurons.

    These are modules with weights, such as a convolution, and norms without weights.
    """
    order = list(module._modules)
    first, last = (order.index(path.partition(".")[0]) for path in (row.up[0], row.down))
    taken = {path.partition(".")[0] for path in row.up}
    inner = [
        sub
        for key, sub in list(module._modules.items())[first + 1 : last]
        if key not in taken and sub is not None
    ]
    return [
        sub
        for sub in inner
        if any(True for _ in sub.parameters()) or hasattr(sub, "normalized_shape")
    ]


def _parts(
    name: str, module: nn.Module, row: FeedForwardLayout, num_neurons: int
) -> Iterator[Part]:
    for path in row.up:
        mapping = module.get_submodule(path)
        # Gate and value in one projection: neuron i owns row i of each half.
        for half in range(row.fused):
            starts = range(half * num_neurons, (half + 1) * num_neurons)
            for tensor in tensors(mapping):
                dim = output_dim(mapping) if tensor == "weight" else 0
                full = f"{name}.{path}" if name else path
                yield Part(module=full, name=tensor, dim=dim, role="up", width=1, starts=starts)
    mapping = module.get_submodule(row.down)
    full = f"{name}.{row.down}" if name else row.down
    if "weight" in tensors(mapping):
        yield Part(
            module=full, name="weight", dim=1 - output_dim(mapping), role="down", width=1,
            starts=range(num_neurons),
        )  # fmt: skip
