"""The configuration's account of a model's shape, in the words transformers uses."""

from collections import defaultdict
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from headcount.architectures.discover import find_sites, layout_of
from headcount.units.site import Site

MARK = "headcount"
"""Key of the configuration that says who made an uneven model."""


def write_shape(model: nn.Module) -> None:
    """Make the configuration(s) of a model say how many units each layer has.

    The same number in every layer, where the stock class reads a head size: the plain keys, so
    that the checkpoint is a stock one. Otherwise ``per_layer_config``, which transformers knows
    but whose models it does not build: only with headcount imported does it load.

    Args:
        model: a model after surgery; modules without a configuration are left alone.
    """
    groups: dict[int, list[Site]] = defaultdict(list)
    configs: dict[int, PreTrainedConfig] = {}
    for site in find_sites(model):
        for config in _owners(model, site):
            groups[id(config)].append(site)
            configs[id(config)] = config
    for key, sites in groups.items():
        _write(model, configs[key], sites)


def is_uneven(model: nn.Module) -> bool:
    """Whether a model has layers that only headcount can build."""
    configs = (vars(module).get("config") for module in model.modules())
    return any(isinstance(config, PreTrainedConfig) and MARK in vars(config) for config in configs)


def per_layer_overrides(config: PreTrainedConfig) -> dict[int, dict[str, Any]]:
    """What each layer of an uneven model has other than the rest; empty for a uniform one."""
    overrides = config.to_dict().get("per_layer_config") or {}
    return {int(layer): dict(values) for layer, values in overrides.items()}


def _owners(model: nn.Module, site: Site) -> list[PreTrainedConfig]:
    """The configurations that describe a site, which composite models have several of.

    They are the nearest one, and those further out of the same model type.
    """
    path = site.module.split(".")
    inwards = (model.get_submodule(".".join(path[:depth])) for depth in range(len(path) + 1))
    found = [vars(module).get("config") for module in inwards]
    configs = [config for config in found if isinstance(config, PreTrainedConfig)]
    same = [config for config in configs if config.model_type == configs[-1].model_type]
    return list({id(config): config for config in same}.values())


def _write(model: nn.Module, config: PreTrainedConfig, sites: list[Site]) -> None:
    config.per_layer_config = None
    config.__dict__.pop(MARK, None)
    layers: dict[int | str, dict[str, Any]] = defaultdict(dict)
    for site in sites:
        dense = getattr(config, site.config_key, config.num_attention_heads)
        if site.num_units != dense:
            setattr(config, site.config_key, dense)
            layers[site.layer][site.config_key] = site.num_units
    if layers:
        _name_head_sizes(model, config, sites)
        if not _write_uniform(model, config, sites):
            config.per_layer_config = dict(layers)
            setattr(config, MARK, {"format": 1})


def _name_head_sizes(model: nn.Module, config: PreTrainedConfig, sites: list[Site]) -> None:
    """Say the size of a head, which would otherwise be derived from the number of heads."""
    for site in sites:
        row = layout_of(model.get_submodule(site.module))
        if row is not None and row.config_head_size is not None:
            setattr(config, row.config_head_size, site.width)


def _write_uniform(model: nn.Module, config: PreTrainedConfig, sites: list[Site]) -> bool:
    rows = [layout_of(model.get_submodule(site.module)) for site in sites]
    named = all(row is not None and row.config_head_size is not None for row in rows)
    numbers = {(site.config_key, site.num_units) for site in sites}
    sizes = {site.width for site in sites}
    (key, number), *others = numbers
    if not named or others or len(sizes) > 1 or number == 0:
        return False
    setattr(config, key, number)
    return True
