"""Multiply the units of a live model by gates."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.errors import PruningError
from headcount.gates.hooks import Hooks
from headcount.units.site import Part
from headcount.units.table import UnitTable

if TYPE_CHECKING:
    from jaxtyping import Float


class Gates(Hooks):
    """Forward pre-hooks that multiply each site's units by the current gates.

    The *input of the output projection* is multiplied, unit by unit; so it works with every
    attention implementation, and a gate of one leaves the model bit for bit unchanged. A gate
    with a batch dimension gives a gradient for each example in one backward pass.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> gates = Gates(model, hc.units(model, "head"))
        >>> gates.value = torch.zeros(12)         # no head contributes
        >>> _ = model(torch.tensor([[1, 2, 3]]))
        >>> gates.remove()
    """

    def __init__(self, model: nn.Module, units: UnitTable) -> None:
        """Attach gates; they are open (no multiplication) until ``value`` is set.

        Raises:
            PruningError: the model has gates already.
        """
        if has_gates(model):
            raise PruningError(
                f"attach({type(model).__name__}): the model has gates already. Close the other "
                "session or masked block first."
            )
        self._model, self._units = model, units
        self.value: Float[Tensor, " n"] | Float[Tensor, "batch n"] | None = None
        """Multipliers, 1 = keep; [N] or [B, N]; None leaves the model alone."""
        super().__init__()

    def _hooks(self) -> Iterator[RemovableHandle]:
        for site, span in zip(self._units.sites, self._units.slices, strict=True):
            module = self._model.get_submodule(site.gate)
            if site.gated == "input":
                hook = _RoutedGate if site.routed else _InputGate
                yield module.register_forward_pre_hook(hook(self, span))
            elif site.gated == "output":
                yield module.register_forward_hook(_OutputGate(self, span))
            elif site.gated == "weight":
                part = next(part for part in site.parts if part.role in ("output", "down"))
                holder = self._model.get_submodule(part.module)
                gate = _WeightGate(self, span, holder, part)
                yield module.register_forward_pre_hook(gate)
                yield module.register_forward_hook(gate.ungate, always_call=True)
            else:
                hook = _ResidualGate(self, span)
                yield module.register_forward_hook(hook, prepend=True, with_kwargs=True)


def has_gates(model: nn.Module) -> bool:
    """Whether any module of the model is gated."""
    return any(
        isinstance(hook, _Gate)
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )


def gate_dtype(model: nn.Module) -> torch.dtype:
    """Float32, or better where the model is."""
    dtypes = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return torch.float64 if torch.float64 in dtypes else torch.float32


class _Gate:
    def __init__(self, gates: Gates, span: slice) -> None:
        self._gates, self._span = gates, span

    def _value(self, like: Tensor) -> Tensor | None:
        """The gates of the site, [H] or [B, H]; None when the gates are open."""
        value = self._gates.value
        return None if value is None else value[..., self._span].to(like.device, like.dtype)


class _InputGate(_Gate):
    """Multiplies the units' shares of a module's input."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x, *rest = args  # [B, T, H * D]
        gate = self._value(x)
        if gate is None:
            return None
        if gate.ndim == 2:
            gate = _over_examples(gate, x)
        gated = x.unflatten(-1, (gate.shape[-1], -1)) * gate[..., None]
        return (gated.flatten(-2), *rest)


class _RoutedGate(_InputGate):
    """The same, for an expert."""

    def _value(self, like: Tensor) -> Tensor | None:
        gate = super()._value(like)
        return None if gate is None else _of_all_examples(gate)


class _OutputGate(_Gate):
    """Multiplies a module's output, the first if there are several, by its one gate."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        gate = self._value(first)
        if gate is None:
            return None
        gated = first * (_over_examples(gate, first) if gate.ndim == 2 else gate)
        return (gated, *rest) if isinstance(output, tuple) else gated


class _WeightGate(_Gate):
    """Multiplies the weight that projects units back, of all experts or of heads, for one pass."""

    def __init__(self, gates: Gates, span: slice, holder: nn.Module, part: Part) -> None:
        super().__init__(gates, span)
        self._holder, self._part = holder, part

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        part = self._part
        weight = self._holder._parameters[part.name]
        assert weight is not None
        gate = self._value(weight)
        if gate is None:
            return
        shape = [1] * weight.ndim
        shape[part.dim] = weight.shape[part.dim]
        shape[0] = len(weight) if part.stacked else shape[0]
        factors = _of_all_examples(gate).repeat_interleave(part.width)
        vars(self._holder)[part.name] = weight * factors.view(shape)

    def ungate(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Take the multiplied weight away, which hid the parameter of its name."""
        vars(self._holder).pop(self._part.name, None)


class _ResidualGate(_Gate):
    """Between a layer's input (gate 0) and its output (gate 1)."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        gate = self._value(first)
        if gate is None:
            return None
        named = (kwargs[name] for name in OTHER_INPUTS if name in kwargs)
        x: Tensor = args[0] if args else next(named)
        if gate.ndim == 2:
            gate = _over_examples(gate, x)
        mixed = first * gate + x * (1 - gate)
        return (mixed, *rest) if isinstance(output, tuple) else mixed


OTHER_INPUTS = ("hidden_states", "hidden_state", "x")
"""Names of a layer's first argument, where it is not passed by position."""


def _of_all_examples(gate: Tensor) -> Tensor:
    """The gates that hold for the whole batch, [N].

    Raises:
        PruningError: each example has gates of its own.
    """
    if gate.ndim == 2 and gate.shape[0] > 1:
        raise PruningError(
            f"gates: each of the {gate.shape[0]} examples has gates of its own, and some units of "
            "the model (neurons of experts, heads whose weights one function takes) have one gate "
            "for all examples. Give batches of one example each."
        )
    return gate.flatten()


def _over_examples(gate: Tensor, x: Tensor) -> Tensor:
    """[B, H] -> [B, 1, H], with as many ones as ``x`` has dimensions between.

    Where a model has put the tokens of all examples one below the other, [B * T, D], each has the
    gates of its example.

    Raises:
        PruningError: ``x`` has another number of examples than the gates.
    """
    if x.ndim == 2 and gate.shape[0] > 1 and x.shape[0] % gate.shape[0] == 0:
        gate = gate.repeat_interleave(x.shape[0] // gate.shape[0], 0)
    if gate.shape[0] not in (1, x.shape[0]):
        raise PruningError(
            f"gates: the batch has {gate.shape[0]} examples, and {x.shape[0]} rows inside the "
            "model, where choices, windows or frames stand side by side. Give batches of one "
            "example each."
        )
    return gate.view(gate.shape[0], *(1,) * (x.ndim - 2), gate.shape[-1])
