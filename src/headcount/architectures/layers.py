"""Which layers can be removed whole."""

from collections.abc import Mapping

from torch import nn

from headcount.architectures import names
from headcount.architectures.match import class_names
from headcount.architectures.tables import LAYERS


def is_removable(model: nn.Module, path: str, layer: nn.Module) -> bool:
    """Whether a layer can be removed: it returns hidden states of the shape of its input.

    Args:
        model: the model.
        path: qualified name of the layer.
        layer: the layer.
    """
    # transformers' layers have a common base class; timm's are listed. Those that return more
    # than hidden states are listed too, since a stand-in returns its input alone.
    classes = class_names(layer)
    siblings = model.get_submodule(path.rpartition(".")[0])
    return (
        any(name in ("GradientCheckpointingLayer", *LAYERS) for name in classes)
        and not any(name in names.TUPLE_LAYERS for name in classes)
        and isinstance(siblings, nn.ModuleList | nn.Sequential)
        and _keeps_shape(vars(layer))
    )


def _keeps_shape(values: Mapping[str, object]) -> bool:
    """Whether a layer returns as many tokens as it gets, of the same width."""
    same = values.get("dim_out", values.get("dim")) == values.get("dim")
    return same and all(values.get(name) in (None, 1, (1, 1)) for name in names.STRIDES)
