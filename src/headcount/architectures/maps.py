"""Linear maps as models have them: which way the weight lies, and how wide they are."""

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headcount.architectures import names
from headcount.architectures.state import oddities
from headcount.architectures.stock import CODE
from headcount.pieces import Overridden, WithoutWeight

ORIGINAL = "_orig_mod"
"""What ``torch.compile`` calls the module inside of the one that it makes."""


def is_map(module: nn.Module | None) -> bool:
    """Whether a module is a linear map whose weight can be cut, or what is left of one."""
    if isinstance(module, nn.Linear | Conv1D):
        return not any(oddities(module))
    return is_piece(WithoutWeight, module)


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that ``torch.compile`` was given, or the very model.

    Example:
        >>> import torch
        >>> linear = nn.Linear(2, 3)
        >>> uncompiled(torch.compile(linear, backend="eager")) is uncompiled(linear) is linear
        True
    """
    inner = model._modules.get(ORIGINAL)
    return model if inner is None else uncompiled(inner)


def is_skipped(module: nn.Module | None) -> bool:
    """Whether a module is a layer that was removed; no module, as lists may hold, is none."""
    return module is not None and bool(vars(module).get("skipped"))


def is_emptied(module: nn.Module) -> bool:
    """Whether a module stands for something that was removed as a whole."""
    return is_piece(WithoutWeight, module) or is_skipped(module)


def is_run_apart(module: nn.Module) -> bool:
    """Whether experts are run in another way than the configuration says, which they cannot be."""
    config = vars(module).get("config")
    return is_piece(Overridden, config) and names.EXPERTS in vars(config)


def is_piece(kind: type, thing: object) -> bool:
    """Whether something is of a class of ``pieces``, or of the copy beside standalone weights."""
    classes = type(thing).__mro__
    copied = (cls for cls in classes if cls.__module__.rpartition(".")[2] == CODE)
    return kind in classes or any(cls.__name__ == kind.__name__ for cls in copied)


def output_dim(module: nn.Module) -> int:
    """The dimension of the weight along which a linear map's outputs lie.

    Example:
        >>> output_dim(nn.Linear(2, 3)), output_dim(Conv1D(3, 2))
        (0, 1)
    """
    return 1 if isinstance(module, Conv1D) else 0


def width(module: nn.Module, axis: int) -> int:
    """How many outputs (axis 0) or inputs (axis 1) a linear map has; 0 if its weight is gone.

    Example:
        >>> width(nn.Linear(2, 3), 0), width(nn.Linear(2, 3), 1)
        (3, 2)
    """
    weight = tensors(module).get("weight")
    if weight is None:
        return 0
    return weight.shape[axis if output_dim(module) == 0 else 1 - axis]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that a module itself holds, by name."""
    return dict(module.named_parameters(recurse=False))


def child(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, or None."""
    for name in path.split(".") if path else ():
        found = module._modules.get(name)
        if found is None:
            return None
        module = found
    return module
