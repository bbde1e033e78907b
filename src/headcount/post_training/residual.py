"""Find where the output of a sublayer is added to the residual stream."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from headcount.architectures.locations import layer_path
from headcount.post_training.replay import Reached

TOLERANCE = 1e-2
"""Relative error allowed: a sum moves by exactly the noise, up to rounding."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The place of a tensor that is a sublayer's output plus a term independent of it.

    Example:
        >>> Sum("norm", "input").of((torch.ones(2),), torch.zeros(2))
        tensor([1., 1.])
    """

    module: str
    """Qualified name of a module."""
    side: Literal["input", "output"]
    """Whether the sum is the module's input or its output."""

    def of(self, args: tuple[Any, ...], output: Any) -> Tensor:
        """The sum, from the arguments and the output of a call of the module."""
        return _first(args if self.side == "input" else output)


def find_sum(model: nn.Module, batch: Mapping[str, Any], gate: str) -> Sum | None:
    """Find the sum within a layer that the output of a projection is added to.

    It is found by a trial, not by names. Noise is added to the output. The first tensor in the
    layer that changes by exactly this noise, and is not the output itself, is the sum.

    Args:
        model: the model, in evaluation mode.
        batch: keyword arguments of the model.
        gate: qualified name of the projection, which must be called only once.

    Returns:
        None if no sum is found: the output is scaled or normalised before it is added, or the sum
        is not the first input or output of a module in the layer.

    Example:
        >>> import transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2)).eval()
        >>> batch = {"input_ids": torch.tensor([[1, 2, 3]])}
        >>> find_sum(model, batch, "encoder.layer.1.output.dense")
        Sum(module='encoder.layer.1.output.LayerNorm', side='input')
    """
    layer = layer_path(gate)
    if not layer:
        return None
    noise: list[Tensor] = []

    def add_noise(output: Tensor) -> Tensor:
        # As large as the output: smaller noise is lost in rounding, larger leaves the usual range.
        drawn = torch.randn(output.shape, generator=Generator().manual_seed(0))
        noise.append(drawn.to(output) * output.std())
        return output + noise[0]

    plain, moved = _Watch(gate, layer, lambda output: output), _Watch(gate, layer, add_noise)
    for watch in (plain, moved):
        watch.run(model, batch)
    own = next(tensor for place, tensor in plain.seen if place == Sum(gate, "output"))
    for (place, before), (_, after) in zip(plain.seen, moved.seen, strict=True):
        # Dropout and the like pass the output on as it is: that moves as well, but is no sum.
        other = before.shape == own.shape and not torch.equal(before, own)
        if other and (after - before - noise[0]).norm() <= TOLERANCE * noise[0].norm():
            return place
    return None


class _Watch:
    """Records inputs and outputs of a layer's modules, from a projection's output on."""

    def __init__(self, gate: str, layer: str, change: Callable[[Tensor], Tensor]) -> None:
        self._gate, self._layer, self._change = gate, layer, change
        self.seen: list[tuple[Sum, Tensor]] = []

    def run(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        """Run a forward pass up to the end of the layer."""
        with ExitStack() as hooks, torch.no_grad():
            for path, module in model.get_submodule(self._layer).named_modules():
                name = f"{self._layer}.{path}" if path else self._layer
                before = module.register_forward_pre_hook(partial(self._enter, name))
                after = module.register_forward_hook(partial(self._leave, name))
                hooks.callback(before.remove)
                hooks.callback(after.remove)
            hooks.enter_context(suppress(Reached))
            model(**batch)

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self.seen:
            self._note(Sum(name, "input"), args)

    def _leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.seen or name == self._gate:
            self._note(Sum(name, "output"), output)
        if self.seen and name == self._layer:
            raise Reached
        return self._change(output) if name == self._gate else None

    def _note(self, place: Sum, values: Any) -> None:
        tensor = _first(values)
        if isinstance(tensor, Tensor):
            self.seen.append((place, tensor.clone()))  # code may add to it in place


def _first(values: Any) -> Any:
    """The first value of a tuple; any other value itself."""
    return values[0] if isinstance(values, tuple) and values else values
