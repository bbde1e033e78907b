"""Refuse continuous batching of uneven models: its paged cache has one size for all layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from headcount.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import nn

ENTRY = "init_continuous_batching"
"""The method with which all of transformers' continuous batching starts, on every model."""


def asking(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The entry to continuous batching that asks first whether its cache fits the model."""

    @wraps(stock)
    def init_continuous_batching(self: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_uneven_cache(self)
        return stock(self, *args, **kwargs)

    return init_continuous_batching


def refuse_uneven_cache(model: nn.Module) -> None:
    """Refuse a cut model with another number of key-value heads in a layer than configured.

    Otherwise the worker of continuous batching would fail in its thread, and answers would be
    empty, without an error.

    Raises:
        ArchitectureError: a layer has another number of key-value heads.
    """
    from headcount.architectures.config import is_uneven
    from headcount.architectures.locations import nearest_config
    from headcount.architectures.maps import is_skipped
    from headcount.architectures.sublayers import find_sublayers

    if not is_uneven(model):
        return
    found = [sub for sub in find_sublayers(model) if sub.attention is not None]
    found = [sub for sub in found if sub.location.branch == "self"]
    kept = [0 if sub.attention is None else sub.attention.num_groups for sub in found]
    # A removed layer has no attention to be found, but the cache has room for it.
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
