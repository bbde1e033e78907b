"""Attention without any head left: the residual and the output projection's bias remain."""

from functools import cache
from typing import Any

from torch import Tensor, nn


class BiasOnly(nn.Module):
    """A linear map from no inputs at all: its output is its bias.

    Example:
        >>> import torch
        >>> BiasOnly(nn.Linear(4, 2))(torch.zeros(1, 3, 0)).shape
        torch.Size([1, 3, 2])
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Keep the bias of ``linear`` and drop its weight."""
        super().__init__()
        self.out_features = linear.out_features
        self.bias: nn.Parameter | None = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """The bias at every position; [..., 0] -> [..., out_features]."""
        shape = (*x.shape[:-1], self.out_features)
        return x.new_zeros(shape) if self.bias is None else self.bias.expand(shape)


@cache
def empty_class(attention: type[nn.Module], output: str | None, *, caches: bool) -> type[nn.Module]:
    """The class of an attention module whose heads are all gone.

    It stays a subclass of ``attention``, so that whoever asks a model for its attention maps
    finds one for every layer; here it has zero heads.

    Args:
        attention: the class the module had.
        output: name of the output projection if the module applies it itself.
        caches: whether the module counts the tokens of a decoder's cache, which asks its first
            layer how many there are.

    Returns:
        The class, to be assigned to ``module.__class__``.
    """

    def forward(self: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        del args
        batch, length = hidden_states.shape[:2]
        past = kwargs.get("past_key_values")
        if caches and past is not None:
            seen = hidden_states.new_zeros(batch, 1, length, 1)
            getattr(past, "self_attention_cache", past).update(seen, seen, self.layer_idx)
        context: Tensor = hidden_states.new_zeros(batch, length, 0)
        if output is not None:
            context = self.get_submodule(output)(context)
        return context, hidden_states.new_zeros(batch, 0, length, length)

    return type(f"Empty{attention.__name__}", (attention,), {"forward": forward})
