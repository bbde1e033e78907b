"""The configuration's account of a model's shape.

A cut model's configuration says what every site has left, under the key ``headcount``: that is
what reloading reads. If the stock class can build the cut model's shape from plain keys, these are
written instead, and the folder is a stock checkpoint.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from headcount.architectures import names
from headcount.architectures.depth import MOVED, Shorter
from headcount.architectures.discover import find_sites
from headcount.architectures.maps import is_emptied, is_piece, is_run_apart
from headcount.architectures.mark import FORMAT, MARK, Left, mark_of
from headcount.architectures.places import owner_of, parts_of
from headcount.architectures.stock import STOCK, is_stock, stock_class
from headcount.errors import SurgeryError
from headcount.pieces import PART, Overridden
from headcount.units.kinds import SLICES
from headcount.units.site import Site


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
    _try_stock(model, list(configs.values()))
    _flag_parts(model, configs.values())


def _flag_parts(model: nn.Module, owners: Iterable[PreTrainedConfig]) -> None:
    """Say it in the configurations of parts whose account stands in that of the whole.

    A part that is no model of its own has its units there. A class that builds such a part alone
    reads its configuration, and no more.
    """
    for owner in owners:
        left = [*(mark_of(owner) or {}).get("left", ())]
        for part in [*parts_of(owner)][1:]:
            vars(part).pop(PART, None)
            holders = (
                relative(model, name)
                for name, module in model.named_modules()
                if name and left and vars(module).get("config") is part
            )
            inside = any(path == h or path.startswith(f"{h}.") for h in holders for path in left)
            if inside and mark_of(part) is None:
                setattr(part, PART, True)


def leave_standalone(model: nn.Module) -> None:
    """Make a model of a class that lies beside its weights one of the stock class.

    The code there builds the shape that the model was saved with, not the one it has now.
    """
    for kept in (model, vars(model).get("config")):
        if kept is not None and hasattr(type(kept), STOCK):
            kept.__class__ = stock_class(type(kept))
            vars(kept).pop("auto_map", None)


def own_configs(model: nn.Module) -> None:
    """Give a model configurations of its own, which no other model shares.

    Args:
        model: about to be cut in place. Its modules refer to the copies afterwards.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, PreTrainedConfig) or is_piece(Overridden, value):
                vars(module)[name] = copy.deepcopy(value, memo)


def is_uneven(model: nn.Module) -> bool:
    """Whether a model has layers that only headcount can build."""
    return any(mark_of(vars(module).get("config")) for module in model.modules())


def check_unclaimed(model: nn.Module, call: str) -> None:
    """Refuse a model whose configuration uses the name of the mark for something else.

    Raises:
        SurgeryError: it does; the mark would overwrite it.
    """
    for part in parts_of(vars(model).get("config")):
        if hasattr(part, MARK) and mark_of(part) is None:
            raise SurgeryError(
                f"{call}: {type(part).__name__} has an attribute {MARK!r} of its own. headcount "
                "says under this name what was cut. Rename the attribute."
            )


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
    before: Left = (mark_of(config) or {}).get("left", {})
    config.__dict__.pop(MARK, None)
    left: Left = copy.deepcopy(before)
    for name, kind in keys:
        path = relative(model, name)
        if (name, kind) in cut_now or kind in before.get(path, {}):
            left.setdefault(path, {})[kind] = _left(model, sites.get((name, kind)))
            module = vars(model.get_submodule(name)) if (name, kind) in sites else {}
            if kind == "head" and module.get("own_bias"):
                left[path]["own_bias"] = 1
            if kind == "kv_head" and module.get("heads_with_slopes"):  # how many is not enough
                left[path]["head"] = _left(model, sites.get((name, "head")))
    if left:
        setattr(config, MARK, {"format": FORMAT, "left": left})


def _left(model: nn.Module, site: Site | None) -> int | list[int]:
    """How many units a site has left; which, where what they share is made outside of them."""
    if site is None or not site.num_units:
        return 0
    module = model.get_submodule(site.module)
    options = {"head": names.QUERY_NORMS, "kv_head": names.KEY_NORMS}.get(site.kind, ())
    norms = (vars(module._modules[name]) for name in options if name in module._modules)
    chosen = next((norm["handed_on"] for norm in norms if "handed_on" in norm), None)
    if chosen is None and site.kind == "head":
        chosen = vars(module).get("heads_with_slopes")
    return site.num_units if chosen is None else list(chosen)


def _try_stock(model: nn.Module, configs: list[PreTrainedConfig]) -> None:
    """Write plain keys if the stock class builds just this shape from them."""
    marked = [config for config in configs if mark_of(config)]
    if not marked or not isinstance(vars(model).get("config"), PreTrainedConfig):
        return
    shorter = Shorter(model)
    if not shorter.possible:
        _say_plainly(model, marked)
        return
    for _ in shorter.attempts():
        if _say_plainly(model, marked):
            vars(model)[MOVED] = dict(shorter.moved)
            return


def _say_plainly(model: nn.Module, marked: list[PreTrainedConfig]) -> bool:
    """Whether plain keys say it all; if so, they are written and the marks are gone."""
    if any(is_emptied(module) or is_run_apart(module) for module in model.modules()):
        return False
    owned = [(site, owner_of(model, site.module)) for site in find_sites(model)]
    found = [
        _uniform([s for s, owner in owned if owner is not None and owner.config is config])
        for config in marked
    ]
    plain = [shape for shape in found if shape is not None]
    if len(plain) < len(marked):
        return False
    kept = [(config, dict(vars(config))) for config in marked]
    for unnamed in ("", "head_dim"):  # some classes read a name that their configuration lacks
        for config, shape in zip(marked, plain, strict=True):
            _write_plain(config, *shape, unnamed)
        if is_stock(model, vars(model)["config"]):
            return True
        for config, values in kept:
            config.__dict__.clear()
            config.__dict__.update(values)
    return False


def _write_plain(config: PreTrainedConfig, counts: dict[str, Any], size: int, unnamed: str) -> None:
    known = [name for name in names.CONFIG_HEAD_SIZE if name in vars(config)]
    config.__dict__.pop(MARK, None)
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
        if site.kind in SLICES and site.where != "cross":
            counts[site.config_key].add(site.configured)
        if site.kind == "head":
            sizes.add(site.width)
    if any(len(values) > 1 for values in counts.values()) or len(sizes) != 1:
        return None
    return {key: min(values) for key, values in counts.items()}, min(sizes)
