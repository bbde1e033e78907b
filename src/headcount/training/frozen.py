"""Freeze the weights of a model while only logits are trained."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.gates.hooks import Hooks


@final
class Frozen(Hooks):
    """While this is attached, the parameters of a model do not require gradients.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> frozen = Frozen(model)
        >>> model.weight.requires_grad
        False
        >>> frozen.remove()
        >>> model.weight.requires_grad
        True
    """

    def __init__(self, model: nn.Module) -> None:
        """Freeze all parameters that require gradients now."""
        self._model = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._attached = False
        super().__init__()

    @property
    def attached(self) -> bool:
        """Whether the parameters are frozen."""
        return self._attached

    def _hooks(self) -> Iterator[RemovableHandle]:
        self._attached = True
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        for module in {id(module): module for module in self._embeddings()}.values():
            yield module.register_forward_hook(self._give_gradient)

    def remove(self) -> None:
        """Let the frozen parameters require gradients again."""
        super().remove()
        self._attached = False
        for parameter in self._parameters:
            parameter.requires_grad_(True)

    def _embeddings(self) -> Iterator[nn.Module]:
        for module in self._model.modules():
            find = getattr(module, "get_input_embeddings", None)
            try:
                found = find() if find is not None else None
            except (NotImplementedError, AttributeError):
                continue  # this part has no embeddings
            if isinstance(found, nn.Module):
                yield found

    def _give_gradient(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Let gradients reach the gates inside checkpointed layers.

        With ``use_reentrant=True``, a checkpointed layer has a gradient only if its input requires
        one. With frozen embeddings no input does, so the embeddings' output is made to.
        """
        modules = self._model.modules()
        if not any(vars(module).get("gradient_checkpointing", False) for module in modules):
            return None
        if not isinstance(output, Tensor) or output.requires_grad or not torch.is_grad_enabled():
            return None
        return output.detach().requires_grad_().clone()  # code may add to it in place
