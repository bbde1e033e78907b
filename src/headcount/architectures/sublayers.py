"""Find the attention modules and feed-forward networks of a model: the walk over its modules."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from headcount.architectures.attention import Attention, attention_of
from headcount.architectures.experts import fused_experts_of
from headcount.architectures.feedforward import FeedForward, feed_forward_of
from headcount.architectures.left_out import Found
from headcount.architectures.locations import Location, layer_path, location_of
from headcount.architectures.match import resolve


@dataclass(frozen=True, slots=True)
class Sublayer:
    """An attention module or a feed-forward network, and its location in the model."""

    name: str
    attention: Attention | None
    feed_forward: FeedForward | None
    location: Location
    layer: int

    @property
    def gate(self) -> str:
        """Qualified name of the projection whose input is gated."""
        if self.attention is not None:
            return resolve(self.name, self.attention.row.output)
        assert self.feed_forward is not None
        if self.feed_forward.num_experts:
            return self.name
        return resolve(self.name, self.feed_forward.row.down)

    @property
    def hooked(self) -> str:
        """Qualified name of the module whose forward pass gets the hooks of the gates."""
        weight = self.attention is not None and self.attention.row.gated == "weight"
        return self.name if weight else self.gate

    @property
    def projections(self) -> tuple[str, ...]:
        """Qualified names of the projections before the gate."""
        if self.attention is not None:
            return tuple(resolve(self.name, path) for path in self.attention.row.projections)
        assert self.feed_forward is not None
        if self.feed_forward.num_experts:
            return ()
        return tuple(resolve(self.name, path) for path in self.feed_forward.row.up)

    @property
    def found(self) -> Found:
        """Its name and maps, for the check that looks for sublayers without a row."""
        return Found(self.name, (*self.projections, self.gate), self.attention is not None)


def find_sublayers(model: nn.Module) -> tuple[Sublayer, ...]:
    """The attention modules and feed-forward networks of a model, in module order."""
    found: list[tuple[str, Attention | None, FeedForward | None, Location]] = []
    # Attention first: a layer's attention output may look like the projection back of a network.
    claimed: set[str] = set()
    for name, module in model.named_modules():
        attention = attention_of(model, name, module)
        if attention is not None:
            found.append((name, attention, None, location_of(model, name, module)))
            claimed.add(resolve(name, attention.row.output))
    for name, module in model.named_modules():
        feed_forward = None
        if layer_path(name):
            feed_forward = fused_experts_of(name, module) or feed_forward_of(name, module)
        if feed_forward is not None and resolve(name, feed_forward.row.down) not in claimed:
            found.append((name, None, feed_forward, location_of(model, name, module)))
    return tuple(_numbered(model, found))


def _numbered(
    model: nn.Module, found: list[tuple[str, Attention | None, FeedForward | None, Location]]
) -> Iterator[Sublayer]:
    """Sublayers in module order, each with the number of its layer."""
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    found = sorted(found, key=lambda entry: order[entry[0]])
    # Only attention tells encoder from decoder (is_decoder, is_causal); a network takes the stack
    # of the attention in its layer.
    paths: dict[tuple[str, str], dict[str, int]] = {}
    stacks: dict[str, str] = {}
    for _, attention, _, location in found:
        if attention is not None:
            stacks.setdefault(location.layer_path, location.stack)
    for name, attention, feed_forward, location in found:
        stack, branch = location.stack, location.branch
        if attention is None:
            stack, branch = stacks.get(location.layer_path, stack), "ffn"
        settled = replace(location, stack=stack, branch=branch)
        layers = paths.setdefault((location.tower, stack), {})
        layers.setdefault(location.layer_path, len(layers))
        yield Sublayer(name, attention, feed_forward, settled, _index(location, layers))


def _index(location: Location, layers: dict[str, int]) -> int:
    """The number in the layer's path if the stack is one list of layers; else a running number.

    Swin's stages, say, each count their layers from 0: there, paths do not number the layers.
    """
    prefix, _, number = location.layer_path.rpartition(".")
    lists = {path.rpartition(".")[0] for path in layers}
    plain = len(lists) == 1 and not re.search(r"(?:^|\.)\d+(?:\.|$)", prefix)
    return int(number) if plain and number else layers[location.layer_path]
