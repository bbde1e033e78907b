"""The configuration's account of a model's shape, in the words transformers uses.

A cut model's configuration says what every site has left, under the key ``headcount``: that is
what reloading reads. A saved ``config.json`` says the same in ``per_layer_config``, where
transformers has words for it; this makes a transformers without headcount refuse the folder
instead of loading it wrongly. If the stock class can build the cut model's shape from plain keys,
these are written instead, and the folder is a stock checkpoint.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from headcount.architectures import names
from headcount.architectures.discover import find_sites
from headcount.architectures.maps import is_emptied
from headcount.architectures.places import owner_of
from headcount.architectures.stock import is_stock
from headcount.units.site import Site

MARK = "headcount"
"""Key of the configuration with what each site of a cut model has left."""

FORMAT = 2

Left = dict[str, dict[str, int | list[int]]]
"""Module, relative to the base model -> kind -> how many units are left, or which."""


def write_shape(model: nn.Module, changed: Iterable[tuple[str, str]]) -> None:
    """Make the configuration(s) of a model say how many units each layer has.

    Args:
        model: a model after surgery; modules without a configuration are left alone.
        changed: the sites (module, kind) that were cut just now.
    """
    sites = {site.key: site for site in find_sites(model)}
    groups: dict[int, list[tuple[str, str]]] = defaultdict(list)
    configs: dict[int, PreTrainedConfig] = {}
    for key in dict.fromkeys([*changed, *sites]):
        owner = owner_of(model, key[0])
        if owner is not None:
            groups[id(owner.config)].append(key)
            configs[id(owner.config)] = owner.config
    cut_now = set(changed)
    for owner, keys in groups.items():
        _write(model, configs[owner], keys, cut_now, sites)
    _try_stock(model, list(configs.values()), sites)


def is_uneven(model: nn.Module) -> bool:
    """Whether a model has layers that only headcount can build."""
    configs = (vars(module).get("config") for module in model.modules())
    return any(isinstance(config, PreTrainedConfig) and MARK in vars(config) for config in configs)


def take_mark(config: PreTrainedConfig) -> Left:
    """What the mark of a configuration says is left; the mark is taken off."""
    mark = config.__dict__.pop(MARK, None)
    return mark["left"] if mark else {}


def relative(model: nn.Module, name: str) -> str:
    """A module's name as seen from the base model, which heads of all tasks share.

    Example:
        >>> import transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1)
        >>> relative(transformers.BertForMaskedLM(config), "bert.encoder.layer.0")
        'encoder.layer.0'
    """
    owner = owner_of(model, name)
    path = owner.path if owner is not None else ""
    inner = name.removeprefix(f"{path}.") if path else name
    prefix = getattr(model.get_submodule(path), "base_model_prefix", "")
    return inner.removeprefix(f"{prefix}.") if prefix else inner


def _write(
    model: nn.Module,
    config: PreTrainedConfig,
    keys: list[tuple[str, str]],
    cut_now: set[tuple[str, str]],
    sites: Mapping[tuple[str, str], Site],
) -> None:
    before: Left = (vars(config).get(MARK) or {}).get("left", {})
    config.__dict__.pop(MARK, None)
    left: Left = copy.deepcopy(before)
    for name, kind in keys:
        path = relative(model, name)
        if (name, kind) in cut_now or kind in before.get(path, {}):
            left.setdefault(path, {})[kind] = _left(model, sites.get((name, kind)))
            module = vars(model.get_submodule(name)) if (name, kind) in sites else {}
            if kind == "head" and module.get("own_bias"):
                left[path]["own_bias"] = 1
            if kind == "group" and module.get("heads_with_slopes"):  # how many is not enough
                left[path]["head"] = _left(model, sites.get((name, "head")))
    if left:
        setattr(config, MARK, {"format": FORMAT, "left": left})


def _left(model: nn.Module, site: Site | None) -> int | list[int]:
    """How many units a site has left; which, where what they share is made outside of them."""
    if site is None or not site.num_units:
        return 0
    module = model.get_submodule(site.module)
    options = {"head": names.QUERY_NORMS, "group": names.KEY_NORMS}.get(site.kind, ())
    norms = (vars(module._modules[name]) for name in options if name in module._modules)
    chosen = next((norm["handed_on"] for norm in norms if "handed_on" in norm), None)
    if chosen is None and site.kind == "head":
        chosen = vars(module).get("heads_with_slopes")
    return site.num_units if chosen is None else list(chosen)


def per_layer_keys(model: nn.Module) -> list[tuple[Left, dict[str, dict[str, Any]]]]:
    """What transformers' ``per_layer_config`` can say of each marked configuration of a model.

    Returns:
        For each mark what is left, and the keys: layer -> name -> number. Where a name has several
        meanings in a layer (encoder and decoder), the first has it. A mark always comes with a key:
        without one, transformers alone would fill in weights for what was removed as a whole.
    """
    configs = [vars(module).get("config") for module in model.modules()]
    parts = {id(c): c for c in configs if isinstance(c, PreTrainedConfig) and MARK in vars(c)}
    keys: dict[int, dict[str, dict[str, Any]]] = {key: defaultdict(dict) for key in parts}
    for site in find_sites(model):
        owner = owner_of(model, site.module)
        if owner is not None and id(owner.config) in keys:
            left = vars(owner.config)[MARK]["left"].get(relative(model, site.module), {})
            count = 0 if left.get("module") == 0 else site.num_units
            if site.kind in ("head", "group", "row") and (site.kind in left or "module" in left):
                _say(keys[id(owner.config)], owner.config, site.layer, site.config_key, count)
    for key, config in parts.items():
        _say_what_is_gone(keys[key], config)
    return [(vars(config)[MARK]["left"], keys[key]) for key, config in parts.items()]


def _say_what_is_gone(keys: dict[str, dict[str, Any]], config: PreTrainedConfig) -> None:
    """Removed layers, which have no sites any more; and some key in any case."""
    for path, kinds in vars(config)[MARK]["left"].items():
        number = path.rpartition(".")[2]
        if kinds.get("layer") == 0 and number.isdecimal():
            _say(keys, config, int(number), _heads_name(config), 0)
    if not keys:
        _say(keys, config, 0, _heads_name(config), 0)


def _say(
    keys: dict[str, dict[str, Any]], config: PreTrainedConfig, layer: int, name: str, count: int
) -> None:
    """Write a number down, if the configuration has a number of that name and such a layer."""
    known = vars(config).get(config.attribute_map.get(name, name))
    total = getattr(config, "num_hidden_layers", 0)
    if isinstance(total, int) and layer < total and isinstance(known, int) and known != count:
        keys[str(layer)].setdefault(name, count)


def _heads_name(config: PreTrainedConfig) -> str:
    """What a configuration calls the number of heads."""
    known = (*vars(config), *config.attribute_map)
    return next((name for name in names.CONFIG_HEADS if name in known), names.CONFIG_HEADS[0])


def _try_stock(
    model: nn.Module, configs: list[PreTrainedConfig], sites: Mapping[tuple[str, str], Site]
) -> None:
    """Write plain keys if the stock class builds just this shape from them."""
    marked = [config for config in configs if MARK in vars(config)]
    outer = vars(model).get("config")
    replaced = any(map(is_emptied, model.modules()))
    if not marked or replaced or not isinstance(outer, PreTrainedConfig):
        return
    owned = [(site, owner_of(model, site.module)) for site in sites.values()]
    found = [
        _uniform([s for s, owner in owned if owner is not None and owner.config is config])
        for config in marked
    ]
    plain = [shape for shape in found if shape is not None]
    if len(plain) < len(marked):
        return
    kept = [(config, dict(vars(config))) for config in marked]
    for unnamed in ("", "head_dim"):  # some classes read a name that their configuration lacks
        for config, shape in zip(marked, plain, strict=True):
            _write_plain(config, *shape, unnamed)
        if is_stock(model, outer):
            return
        for config, values in kept:
            config.__dict__.clear()
            config.__dict__.update(values)


def _write_plain(config: PreTrainedConfig, counts: dict[str, Any], size: int, unnamed: str) -> None:
    known = [name for name in names.CONFIG_HEAD_SIZE if name in vars(config)]
    take_mark(config)
    for key, value in {**counts, **dict.fromkeys(known[:1] or [unnamed], size)}.items():
        if key and not isinstance(getattr(type(config), key, None), property):
            before = vars(config).get(config.attribute_map.get(key, key))
            staged = isinstance(before, list | tuple)  # a number for each stage
            setattr(config, key, type(before)([value] * len(before)) if staged else value)


def _uniform(sites: list[Site]) -> tuple[dict[str, Any], int] | None:
    """The plain counts, and the size of a head, of a shape that is the same in all layers.

    None if it is not.
    """
    counts: dict[str, set[int]] = defaultdict(set)
    sizes = set()
    for site in sites:
        if site.kind in ("head", "group", "row") and site.where != "cross":
            counts[site.config_key].add(site.num_units)
        if site.kind == "head":
            sizes.add(site.width)
    if any(len(values) > 1 for values in counts.values()) or len(sizes) != 1:
        return None
    return {key: min(values) for key, values in counts.items()}, min(sizes)
