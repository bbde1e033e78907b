"""Whether the stock class can build a model's shape from its configuration."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CODE = "modeling_headcount"
"""Name of the Python module in a standalone folder, which contains copies of ``pieces``."""

STOCK = "_headcount_stock"
"""Attribute of the classes in a standalone folder: the transformers class that they extend."""

_MAY_DIFFER = frozenset({"training", "gradient_checkpointing", "name_or_path", "skipped"})
_PLAIN = int | float | str | bool


def stock_class(kind: type[Any]) -> type[Any]:
    """The transformers class behind a class from a standalone folder.

    Args:
        kind: the class of a model or of a configuration.

    Returns:
        ``kind`` itself if it is not from a standalone folder.

    Example:
        >>> import transformers
        >>> stock_class(transformers.BertModel).__name__
        'BertModel'
    """
    return getattr(kind, STOCK, kind)


def is_stock(model: nn.Module, config: PreTrainedConfig) -> bool:
    """Whether the model's class builds exactly this model from the configuration.

    The configuration is saved and loaded first, since that validates it. The class then builds a
    model on the meta device, which takes no memory. The two must have the same modules of the same
    classes, the same shapes, and the same plain values (numbers, strings, bools) among the modules'
    attributes, since scales, windows and reshaping depend on these.

    Args:
        model: the model as it is.
        config: the configuration to try.

    Example:
        >>> import transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1)
        >>> is_stock(transformers.BertModel(config), config)
        True
    """
    try:
        stock = _built(stock_class(type(model)), config)
    # A configuration may be refused in any way: by its validation, or by an error in the class.
    except Exception:
        return False
    return _account(stock) == _account(model)


def _built(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    # Through a file, since reading it may change a configuration: validation, defaults, old keys.
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        again = stock_class(type(config)).from_pretrained(folder)
    with torch.device("meta"):
        return kind(again)


def _account(model: nn.Module) -> dict[str, Any]:
    """All that is compared: classes, plain attributes and shapes, by name."""
    account: dict[str, Any] = {}
    for name, module in model.named_modules():
        values = {
            key: _as_saved(value)
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in _MAY_DIFFER and _is_plain(value)
        }
        account[name] = (stock_class(type(module)).__name__, values)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        account[f"{name} shape"] = tuple(tensor.shape)
    return account


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    return isinstance(value, _PLAIN)


def _as_saved(value: Any) -> Any:
    """A value as JSON returns it: tuples become lists."""
    return [_as_saved(entry) for entry in value] if isinstance(value, list | tuple) else value
