"""Multiply the units of a live model by gates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headcount.errors import PruningError
from headcount.units.table import UnitTable


class Gates:
    """Forward pre-hooks that multiply each site's units by the current gates.

    The *input of the output projection* is multiplied, unit by unit; so it works with every
    attention implementation, and a gate of one leaves the model bit for bit unchanged. A gate
    with a batch dimension gives a gradient for each example in one backward pass.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> gates = Gates(model, hc.units(model))
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
        self._handles: list[Any] = []
        self._attach()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Without the hooks for a while."""
        self.remove()
        try:
            yield
        finally:
            self._attach()

    def _attach(self) -> None:
        for site, span in zip(self._units.sites, self._units.slices, strict=True):
            hook = _SiteGate(self, span)
            module = self._model.get_submodule(site.gate)
            self._handles.append(module.register_forward_pre_hook(hook))


def has_gates(model: nn.Module) -> bool:
    """Whether any module of the model is gated."""
    return any(
        isinstance(hook, _SiteGate)
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
    )


def gate_dtype(model: nn.Module) -> torch.dtype:
    """Float32, or better where the model is."""
    dtypes = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    return torch.float64 if torch.float64 in dtypes else torch.float32


class _SiteGate:
    def __init__(self, gates: Gates, span: slice) -> None:
        self._gates, self._span = gates, span

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        value = self._gates.value
        if value is None:
            return None
        x, *rest = args  # [B, T, H * D]
        gate = value[..., self._span].to(x.dtype)  # [H] or [B, H]
        if gate.ndim == 2:
            gate = gate[:, None, :]
        gated = x.unflatten(-1, (gate.shape[-1], -1)) * gate[..., None]
        return (gated.flatten(-2), *rest)
