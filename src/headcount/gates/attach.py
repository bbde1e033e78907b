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

    For heads and neurons, the *input of the output projection* is multiplied. This works with every
    attention implementation, and a gate of one leaves the model bit for bit unchanged. With gates
    [B, N], one backward pass gives the gradient of each example.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> gates = Gates(model, hc.units(model, "head"))
        >>> gates.value = torch.zeros(12)         # no head contributes
        >>> _ = model(torch.tensor([[1, 2, 3]]))
        >>> gates.remove()
    """

    def __init__(self, model: nn.Module, units: UnitTable) -> None:
        """Attach gates; nothing is multiplied until ``value`` is set.

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
        """Multipliers, 1 = keep, [N] or [B, N]; None: nothing is multiplied."""
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
    """Whether any module of the model has a gate."""
    return any(
        isinstance(hook, _Gate)
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )


def gate_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of gates: float64 if the model has float64 parameters, else float32."""
    dtypes = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return torch.float64 if torch.float64 in dtypes else torch.float32


class _Gate:
    def __init__(self, gates: Gates, span: slice) -> None:
        self._gates, self._span = gates, span

    def _value(self, like: Tensor) -> Tensor | None:
        """The gates of the site, [H] or [B, H]; None if nothing is multiplied."""
        value = self._gates.value
        return None if value is None else value[..., self._span].to(like.device, like.dtype)


class _InputGate(_Gate):
    """Multiplies each unit's slice of a module's input."""

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
    """The same for an expert, whose input is a selection of tokens from all examples."""

    def _value(self, like: Tensor) -> Tensor | None:
        gate = super()._value(like)
        return None if gate is None else _of_all_examples(gate)


class _OutputGate(_Gate):
    """Multiplies a module's output by its one gate; of several outputs, the first."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        gate = self._value(first)
        if gate is None:
            return None
        gated = first * (_over_examples(gate, first) if gate.ndim == 2 else gate)
        return (gated, *rest) if isinstance(output, tuple) else gated


class _WeightGate(_Gate):
    """Multiplies the weight of the output projection, for one pass.

    For stock code that gives this weight to a function and does not call a module: WavLM's heads,
    and the neurons of experts that lie in one tensor.
    """

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
        # An instance attribute is found before the parameter of the same name, so that the stock
        # code reads the multiplied weight, and the parameter itself does not change.
        vars(self._holder)[part.name] = weight * factors.view(shape)

    def ungate(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Delete the multiplied weight, so that the parameter of its name is found again."""
        vars(self._holder).pop(self._part.name, None)


class _ResidualGate(_Gate):
    """Interpolates between a layer's input (gate 0) and its output (gate 1)."""

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
"""Names of a layer's first argument, in models that pass it by name."""


def _of_all_examples(gate: Tensor) -> Tensor:
    """Gates for the whole batch, [N].

    Raises:
        PruningError: the examples have different gates.
    """
    if gate.ndim == 2 and gate.shape[0] > 1:
        raise PruningError(
            f"gates: each of the {gate.shape[0]} examples has its own gates, but some units of "
            "the model (neurons of experts, heads of WavLM) can only have one gate for all "
            "examples. Give batches of one example each."
        )
    return gate.flatten()


def _over_examples(gate: Tensor, x: Tensor) -> Tensor:
    """Reshape gates [B, H] so that they broadcast over ``x``: [B, 1, H] for ``x`` [B, T, D].

    If a model has flattened the tokens of all examples to [B * T, D], each token gets the gates of
    its example.

    Raises:
        PruningError: ``x`` has another number of examples than the gates.
    """
    if x.ndim == 2 and gate.shape[0] > 1 and x.shape[0] % gate.shape[0] == 0:
        gate = gate.repeat_interleave(x.shape[0] // gate.shape[0], 0)
    if gate.shape[0] not in (1, x.shape[0]):
        raise PruningError(
            f"gates: the batch has {gate.shape[0]} examples, but the model reshapes it to "
            f"{x.shape[0]} rows (choices, windows or frames), which have no gates of their own. "
            "Give batches of one example each."
        )
    return gate.view(gate.shape[0], *(1,) * (x.ndim - 2), gate.shape[-1])
