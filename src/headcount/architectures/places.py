"""Where in a model a module stands: its tower, its stack, its layer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures import names


@dataclass(frozen=True, slots=True)
class Place:
    """Tower, stack, self or cross; and the path of the layer the module is in."""

    tower: str
    stack: str
    where: str
    layer_path: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The model that a module belongs to, as far as configurations go."""

    path: str
    """Qualified name of the model inside the whole."""
    config: PreTrainedConfig
    """Its configuration, a part of the whole's."""


def owner_of(model: nn.Module, name: str) -> Owner | None:
    """The innermost model around a module whose configuration is saved with the whole.

    Composite models are made of models; each is built from its own part of the configuration. But
    some are built from a copy that nobody saves, and two may be built from the same: then the model
    further out is the owner.

    Args:
        model: the whole.
        name: qualified name of a module, which may be gone.

    Returns:
        The outermost model with the owner's configuration; None if there is no configuration.
    """
    outer = vars(model).get("config")
    saved = {id(part) for part in parts_of(outer)} if outer is not None else None
    found: list[Owner] = []
    for path, module in _inwards(model, name):
        config = vars(module).get("config")
        if not isinstance(module, PreTrainedModel) or not isinstance(config, PreTrainedConfig):
            continue
        if saved is None or (id(config) in saved and not _is_shared(model, path, config)):
            found.append(Owner(path, config))
    if not found:
        return None
    return next(owner for owner in found if owner.config is found[-1].config)


def nearest_config(model: nn.Module, name: str) -> PreTrainedConfig | None:
    """The configuration nearest to a module."""
    found = [vars(module).get("config") for _, module in _inwards(model, name)]
    configs = [config for config in found if isinstance(config, PreTrainedConfig)]
    return configs[-1] if configs else None


def _is_shared(model: nn.Module, path: str, config: PreTrainedConfig) -> bool:
    """Whether a model beside that at a path has its configuration, as Video-LLaVA's towers do."""
    parent, _, leaf = path.rpartition(".")
    beside = (child for name, child in model.get_submodule(parent)._modules.items() if name != leaf)
    models = (child for child in beside if isinstance(child, PreTrainedModel))
    return bool(path) and any(vars(child).get("config") is config for child in models)


def parts_of(config: object) -> list[PreTrainedConfig]:
    """A configuration and all those inside it."""
    if not isinstance(config, PreTrainedConfig):
        return []
    return [config, *(part for value in vars(config).values() for part in parts_of(value))]


def _inwards(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules on the way to a name, as far as it is there, with their names."""
    path = ""
    yield path, model
    for step in name.split(".") if name else ():
        if step not in model._modules:
            return
        model = model.get_submodule(step)
        path = f"{path}.{step}" if path else step
        yield path, model


def place_of(model: nn.Module, name: str, module: nn.Module) -> Place:
    """Where a sublayer stands."""
    tokens = name.split(".")
    values = vars(module)
    crosses = (
        any(token in names.CROSS or token.lower() == "crossattention" for token in tokens)
        or bool(values.get("is_cross_attention"))
        or "CrossAttention" in type(module).__name__
    )
    owner = owner_of(model, name)
    return Place(
        tower=owner.path if owner is not None else "",
        stack="decoder" if crosses or _is_decoder(model, tokens, values) else "encoder",
        where="cross" if crosses else "self",
        layer_path=layer_path(name),
    )


def layer_path(name: str) -> str:
    """The path of the layer that a module is in; of a list inside a layer, the layer.

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
    name = re.sub(r"\.experts\..*|(?<=\d)\.(attns|ffns)\..*", "", name)
    name = re.sub(r"(block\.\d+)\.layer\.\d+.*", r"\1", name)
    found = re.match(r"(?:.*\.)?\d+(?=\.|$)", name)
    return found.group(0) if found else ""


def _is_decoder(model: nn.Module, tokens: list[str], values: dict[str, object]) -> bool:
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
