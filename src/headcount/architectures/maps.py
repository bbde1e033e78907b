"""Linear maps as models have them: how the weight is laid out, and how wide they are."""

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headcount.architectures import names
from headcount.architectures.state import oddities
from headcount.architectures.stock import CODE
from headcount.pieces import Overridden, WithoutWeight

ORIGINAL = "_orig_mod"
"""Name of the original module inside the one that ``torch.compile`` makes."""


def is_map(module: nn.Module | None) -> bool:
    """Whether a module is a linear map whose weight can be cut, or one that lost its weight."""
    # A subclass of nn.Linear may compute its weight, or hold another one beside it (adapters).
    if isinstance(module, nn.Linear | Conv1D):
        return not any(oddities(module))
    return is_piece(WithoutWeight, module)


def uncompiled(model: nn.Module) -> nn.Module:
    """The model inside a compiled one; a model that is not compiled is returned as it is.

    Example:
        >>> import torch
        >>> linear = nn.Linear(2, 3)
        >>> uncompiled(torch.compile(linear, backend="eager")) is uncompiled(linear) is linear
        True
    """
    inner = model._modules.get(ORIGINAL)
    return model if inner is None else uncompiled(inner)


def is_skipped(module: nn.Module | None) -> bool:
    """Whether a module is the stand-in of a removed layer. Lists may hold None, which is not."""
    return module is not None and bool(vars(module).get("skipped"))


def is_emptied(module: nn.Module) -> bool:
    """Whether a module is the stand-in of a removed layer, or a map that lost its weight."""
    return is_piece(WithoutWeight, module) or is_skipped(module)


def is_run_apart(module: nn.Module) -> bool:
    """Whether experts run one by one although the configuration asks for grouped products.

    They do if they have a number of neurons that the grouped product cannot take.
    """
    config = vars(module).get("config")
    return is_piece(Overridden, config) and names.EXPERTS in vars(config)


def is_piece(kind: type, thing: object) -> bool:
    """Whether something is of a class of ``pieces``, or of its copy in a standalone folder."""
    # The copy is another class object with the same name, in the module of the folder.
    classes = type(thing).__mro__
    copied = (cls for cls in classes if cls.__module__.rpartition(".")[2] == CODE)
    return kind in classes or any(cls.__name__ == kind.__name__ for cls in copied)


def output_dim(module: nn.Module) -> int:
    """The dimension of the weight that counts the outputs of a linear map.

    ``nn.Linear`` stores [outputs, inputs], GPT-2's ``Conv1D`` [inputs, outputs].

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
    """A module's own parameters, without those of its children, by name."""
    return dict(module.named_parameters(recurse=False))


def child(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a path below ``module``; None if there is none."""
    for name in path.split(".") if path else ():
        found = module._modules.get(name)
        if found is None:
            return None
        module = found
    return module
