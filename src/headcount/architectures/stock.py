"""Whether the stock class builds a model's shape from its configuration."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CODE = "modeling_headcount"
"""Name of the module beside the weights of a standalone model, with copies of ``pieces``."""

STOCK = "_headcount_stock"
"""Attribute of the classes in a standalone folder: the class of transformers that they extend."""

_MAY_DIFFER = frozenset({"training", "gradient_checkpointing", "name_or_path", "skipped"})
_PLAIN = int | float | str | bool


def stock_class(kind: type[Any]) -> type[Any]:
    """The class of transformers that a class extends by the code of a standalone folder.

    Args:
        kind: the class of a model or of a configuration.

    Returns:
        ``kind`` itself where no such code made it.

    Example:
        >>> import transformers
        >>> stock_class(transformers.BertModel).__name__
        'BertModel'
    """
    return getattr(kind, STOCK, kind)


def is_stock(model: nn.Module, config: PreTrainedConfig) -> bool:
    """Whether the model's class, given the configuration, builds exactly this model.

    The configuration is written and read again, as saving and loading do, which validates it. Then
    the class is built without memory, on the meta device, and compared: the same modules of the
    same classes, the same shapes, and the same plain values among the modules' attributes, on
    which scales, windows and reshaping depend.

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
    except Exception:
        return False
    return _account(stock) == _account(model)


def _built(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        again = stock_class(type(config)).from_pretrained(folder)
    with torch.device("meta"):
        return kind(again)


def _account(model: nn.Module) -> dict[str, Any]:
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
    """A value as it comes out of a file, where a tuple is a list."""
    return [_as_saved(entry) for entry in value] if isinstance(value, list | tuple) else value
