"""Where a module is in a model: its tower, its stack, its layer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures import names


@dataclass(frozen=True, slots=True)
class Location:
    """Tower, stack, ``self`` or ``cross``, and the path of the layer that the module is in."""

    tower: str
    stack: str
    branch: str
    layer_path: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The model whose configuration describes a module."""

    path: str
    """Qualified name of that model inside the whole; empty for the whole."""
    config: PreTrainedConfig
    """Its configuration: the whole's, or a part of it."""


def owner_of(model: nn.Module, name: str) -> Owner | None:
    """The innermost model around a module whose configuration is saved with the whole.

    Composite models consist of models, each with its own part of the configuration. Some of these
    models hold a private copy that is never saved, and sometimes two share one configuration. In
    both cases the enclosing model owns the module.

    Args:
        model: the whole.
        name: qualified name of a module, which may have been removed.

    Returns:
        The outermost model with the owner's configuration; None if there is no configuration.
    """
    outer = vars(model).get("config")
    saved = {id(part) for part in parts_of(outer)} if outer is not None else None
    # From the outside in; the last one that passes is the innermost.
    found: list[Owner] = []
    for path, module in _inwards(model, name):
        config = vars(module).get("config")
        if not isinstance(module, PreTrainedModel) or not isinstance(config, PreTrainedConfig):
            continue
        if saved is None or (id(config) in saved and not _is_shared(model, path, config)):
            found.append(Owner(path, config))
    if not found:
        return None
    # A model with a head and its base model have one configuration: the name is seen from outside.
    return next(owner for owner in found if owner.config is found[-1].config)


def nearest_config(model: nn.Module, name: str) -> PreTrainedConfig | None:
    """The configuration of the innermost module around a name that has one."""
    found = [vars(module).get("config") for _, module in _inwards(model, name)]
    configs = [config for config in found if isinstance(config, PreTrainedConfig)]
    return configs[-1] if configs else None


def _is_shared(model: nn.Module, path: str, config: PreTrainedConfig) -> bool:
    """Whether a sibling of the model at a path has the same configuration (Video-LLaVA's towers).

    Then the configuration cannot say what one of the two has left.
    """
    parent, _, leaf = path.rpartition(".")
    # The configuration objects are compared, not their values: equal ones may be separate.
    beside = (child for name, child in model.get_submodule(parent)._modules.items() if name != leaf)
    models = (child for child in beside if isinstance(child, PreTrainedModel))
    return bool(path) and any(vars(child).get("config") is config for child in models)


def parts_of(config: object) -> list[PreTrainedConfig]:
    """A configuration and all configurations inside it."""
    if not isinstance(config, PreTrainedConfig):
        return []
    return [config, *(part for value in vars(config).values() for part in parts_of(value))]


def _inwards(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) on the way from the model to a name, from the outside in.

    The way ends early where a module is missing.
    """
    path = ""
    yield path, model
    for step in name.split(".") if name else ():
        if step not in model._modules:
            return
        model = model.get_submodule(step)
        path = f"{path}.{step}" if path else step
        yield path, model


def location_of(model: nn.Module, name: str, module: nn.Module) -> Location:
    """The place of an attention module or feed-forward network."""
    tokens = name.split(".")
    values = vars(module)
    # Families mark cross-attention in different ways: by path, by attribute or by class.
    crosses = (
        any(token in names.CROSS or token.lower() == "crossattention" for token in tokens)
        or bool(values.get("is_cross_attention"))
        or "CrossAttention" in type(module).__name__
    )
    owner = owner_of(model, name)
    return Location(
        tower=owner.path if owner is not None else "",
        stack="decoder" if crosses or _is_decoder(model, tokens, values) else "encoder",
        branch="cross" if crosses else "self",
        layer_path=layer_path(name),
    )


def layer_path(name: str) -> str:
    """The path of the layer that a module is in; a list inside a layer is part of the layer.

    Example:
        >>> layer_path("encoder.block.3.layer.0.SelfAttention")
        'encoder.block.3'
        >>> layer_path("model.layers.2.mlp.experts.1")
        'model.layers.2'
        >>> layer_path("blocks.0.attns.1.attn")
        'blocks.0'
        >>> layer_path("transformer.ffns.0")
        'transformer.ffns.0'
    """
    # Numbers inside a layer (experts, parallel branches, T5's sublayers) are no layer numbers.
    name = re.sub(r"\.experts\..*|(?<=\d)\.(attns|ffns)\..*", "", name)
    name = re.sub(r"(block\.\d+)\.layer\.\d+.*", r"\1", name)
    found = re.match(r"(?:.*\.)?\d+(?=\.|$)", name)
    return found.group(0) if found else ""


def _is_decoder(model: nn.Module, tokens: list[str], values: dict[str, object]) -> bool:
    """Whether self-attention belongs to a decoder.

    In this order: the module says so; its path does; the module or the path says the opposite; it
    knows its layer of a cache; the model's configuration says so.
    """
    for key in ("is_decoder", "is_causal"):
        if isinstance(values.get(key), bool) and values[key]:
            return True
    if "decoder" in tokens:
        return True
    known = isinstance(values.get("is_decoder"), bool) or isinstance(values.get("is_causal"), bool)
    if known or "encoder" in tokens:
        return False
    return values.get("layer_idx") is not None or _model_is_decoder(model)


def _model_is_decoder(model: nn.Module) -> bool:
    config = vars(model).get("config")
    return bool(getattr(config, "is_decoder", False))
