"""Whether the stock class builds a model's shape from its configuration."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig


def is_stock(model: nn.Module, config: PreTrainedConfig) -> bool:
    """Whether the model's class, given the configuration, builds exactly this model.

    The class is built without memory, on the meta device, and compared: the same modules of the
    same classes, the same shapes, and the same numbers among the modules' attributes, on which
    scales and reshaping depend.

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
        with torch.device("meta"):
            stock = type(model)(copy.deepcopy(config))
    except Exception:
        return False
    return _account(stock) == _account(model)


def _account(model: nn.Module) -> dict[str, Any]:
    account: dict[str, Any] = {}
    for name, module in model.named_modules():
        numbers = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, int | float) and not key.startswith("_") and key != "training"
        }
        account[name] = (type(module).__name__, numbers)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        account[f"{name} shape"] = tuple(tensor.shape)
    return account
