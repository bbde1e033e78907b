"""Serving with a paged cache: it has room for the same key-value heads in every layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from headcount.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import nn

ENTRY = "init_continuous_batching"
"""The method of every model through which all of transformers' continuous batching begins."""


def asking(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The entry to continuous batching that asks first whether its cache fits the model."""

    @wraps(stock)
    def init_continuous_batching(self: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_uneven_cache(self)
        return stock(self, *args, **kwargs)

    return init_continuous_batching


def refuse_uneven_cache(model: nn.Module) -> None:
    """Refuse a cut model whose layers do not keep the key-value heads that its configuration says.

    The worker of continuous batching would fail in a thread of its own: the answers are empty.

    Raises:
        ArchitectureError: they do not.
    """
    from headcount.architectures.config import is_uneven
    from headcount.architectures.discover import find_sublayers
    from headcount.architectures.maps import is_skipped
    from headcount.architectures.places import nearest_config

    if not is_uneven(model):
        return
    found = [sub for sub in find_sublayers(model) if sub.attention is not None]
    found = [sub for sub in found if sub.place.where == "self"]
    kept = [0 if sub.attention is None else sub.attention.num_groups for sub in found]
    kept += [0 for module in model.modules() if is_skipped(module)]
    config = nearest_config(model, found[0].name) if found else None
    names = ("num_key_value_heads", "num_attention_heads")
    numbers = (getattr(config, name, None) for name in names)
    asked = next((number for number in numbers if number is not None), None)
    if {*kept} != {asked}:
        raise ArchitectureError(
            f"generate_batch({type(model).__name__}): the layers keep {kept} key-value heads, and "
            f"the paged cache of continuous batching has {asked} for each. Use generate(), or "
            "keep the same number in every layer: Budget(..., scope='layer')."
        )
