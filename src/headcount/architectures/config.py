"""Write the shape of a cut model into its configuration.

The key ``headcount``, the mark, says how many units each site has left; reloading reads it. If the
stock class can build the cut shape from plain keys, these are written instead of the mark, and the
saved folder is a stock checkpoint.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from headcount.architectures import names
from headcount.architectures.depth import MOVED, Shorter
from headcount.architectures.discover import Discovery, discover
from headcount.architectures.locations import owner_of, parts_of
from headcount.architectures.maps import is_emptied, is_piece, is_run_apart
from headcount.architectures.mark import FORMAT, MARK, Left, mark_of
from headcount.architectures.stock import STOCK, is_stock, stock_class
from headcount.errors import SurgeryError
from headcount.pieces import PART, Overridden
from headcount.units.kinds import SLICES
from headcount.units.site import Site


def write_shape(model: nn.Module, found: Discovery, changed: Iterable[tuple[str, str]]) -> None:
    """Write into a model's configurations how many units each layer has.

    Args:
        model: a model after surgery. Modules without a configuration are skipped.
        found: what was discovered in it after the surgery.
        changed: the sites (module, kind) that were cut just now.
    """
    sites = {site.key: site for site in found.sites}
    # Sites by the configuration they belong to. ``changed`` as well: a removed layer has no sites
    # any more, but its entry must be in the mark.
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
    _try_stock(model, list(configs.values()), found)
    _flag_parts(model, configs.values())


def _flag_parts(model: nn.Module, owners: Iterable[PreTrainedConfig]) -> None:
    """Flag the configurations of parts whose units are recorded in the mark of the whole.

    This holds for parts that are not models with their own configuration. A class that builds such
    a part alone reads only the part's configuration; by the flag it can refuse.
    """
    for owner in owners:
        left = [*(mark_of(owner) or {}).get("left", ())]
        # [0] is the owner itself. A flag of an earlier cut is dropped first: it may be set no more.
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
    """Turn a model whose class is from a standalone folder into one of the stock class.

    The code in that folder builds the shape that was saved there, not the one the model has now.
    """
    for kept in (model, vars(model).get("config")):
        if kept is not None and hasattr(type(kept), STOCK):
            kept.__class__ = stock_class(type(kept))
            vars(kept).pop("auto_map", None)


def own_configs(model: nn.Module) -> None:
    """Give a model its own copies of its configurations.

    Args:
        model: a model that is cut in place. Its modules refer to the copies afterwards.
    """
    # One memo, so that modules that shared a configuration share the copy.
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, PreTrainedConfig) or is_piece(Overridden, value):
                vars(module)[name] = copy.deepcopy(value, memo)


def is_uneven(model: nn.Module) -> bool:
    """Whether a configuration of the model has a mark: only headcount can build its shape."""
    return any(mark_of(vars(module).get("config")) for module in model.modules())


def check_unclaimed(model: nn.Module, call: str) -> None:
    """Refuse a model whose configuration uses the name of the mark for something else.

    Raises:
        SurgeryError: there is such an attribute, which the mark would overwrite.
    """
    for part in parts_of(vars(model).get("config")):
        if hasattr(part, MARK) and mark_of(part) is None:
            raise SurgeryError(
                f"{call}: {type(part).__name__} has an attribute {MARK!r} of its own. headcount "
                "records under this name what was cut. Rename the attribute."
            )


def relative(model: nn.Module, name: str) -> str:
    """A module's name relative to the base model, which is the same for all task heads.

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
    """Write the mark of one configuration, for the sites ``keys`` that belong to it."""
    before: Left = (mark_of(config) or {}).get("left", {})
    config.__dict__.pop(MARK, None)
    left: Left = copy.deepcopy(before)
    for name, kind in keys:
        path = relative(model, name)
        # Entries of an earlier cut are counted again, since an outer unit may have gone now.
        if (name, kind) in cut_now or kind in before.get(path, {}):
            left.setdefault(path, {})[kind] = _left(model, sites.get((name, kind)))
            module = vars(model.get_submodule(name)) if (name, kind) in sites else {}
            if kind == "head" and module.get("own_bias"):
                left[path]["own_bias"] = 1
            # Biases made outside are selected by number, so it must be known which heads are left.
            if kind == "kv_head" and module.get("heads_with_slopes"):
                left[path]["head"] = _left(model, sites.get((name, "head")))
    if left:
        setattr(config, MARK, {"format": FORMAT, "left": left})


def _left(model: nn.Module, site: Site | None) -> int | list[int]:
    """The number of units that a site has left, or their indices in the dense model.

    Indices are needed where a cut module selects its heads from something dense: from a norm over
    all heads, or from biases that are made outside of attention.
    """
    if site is None or not site.num_units:
        return 0
    module = model.get_submodule(site.module)
    options = {"head": names.QUERY_NORMS, "kv_head": names.KEY_NORMS}.get(site.kind, ())
    norms = (vars(module._modules[name]) for name in options if name in module._modules)
    chosen = next((norm["handed_on"] for norm in norms if "handed_on" in norm), None)
    if chosen is None and site.kind == "head":
        chosen = vars(module).get("heads_with_slopes")
    return site.num_units if chosen is None else list(chosen)


def _try_stock(model: nn.Module, configs: list[PreTrainedConfig], found: Discovery) -> None:
    """Replace the marks by plain keys if the stock class builds exactly this shape from them."""
    marked = [config for config in configs if mark_of(config)]
    if not marked or not isinstance(vars(model).get("config"), PreTrainedConfig):
        return
    shorter = Shorter(model)
    if not shorter.possible:
        if not _is_beyond_stock(model):
            _say_plainly(model, marked, found)
        return
    # Each attempt takes the stand-ins of removed layers out of their lists, and puts them back
    # unless the loop is left.
    for _ in shorter.attempts():
        # Modules and configurations have moved, so what was found before names other modules.
        if not _is_beyond_stock(model) and _say_plainly(model, marked, discover(model)):
            vars(model)[MOVED] = dict(shorter.moved)
            return


def _is_beyond_stock(model: nn.Module) -> bool:
    """Whether a module is one that no stock class builds.

    Stock classes build neither stand-ins nor experts that run apart from the configuration.
    """
    return any(is_emptied(module) or is_run_apart(module) for module in model.modules())


def _say_plainly(model: nn.Module, marked: list[PreTrainedConfig], found: Discovery) -> bool:
    """Try to replace the marks by plain keys; whether that worked. If not, nothing is changed."""
    owned = [(site, owner_of(model, site.module)) for site in found.sites]
    shapes = [
        _uniform([s for s, owner in owned if owner is not None and owner.config is config])
        for config in marked
    ]
    plain = [shape for shape in shapes if shape is not None]
    if len(plain) < len(marked):
        return False
    kept = [(config, dict(vars(config))) for config in marked]
    # Some classes read head_dim although their configuration does not list it. Setting it helps
    # there, but is not tried first, since elsewhere it would be a strange key in the file.
    for unnamed in ("", "head_dim"):
        for config, shape in zip(marked, plain, strict=True):
            _write_plain(config, *shape, unnamed)
        if is_stock(model, vars(model)["config"]):
            return True
        for config, values in kept:
            config.__dict__.clear()
            config.__dict__.update(values)
    return False


def _write_plain(config: PreTrainedConfig, counts: dict[str, Any], size: int, unnamed: str) -> None:
    """Write counts and the head size as plain keys.

    The head size must be explicit: by default it is the model's width over the number of heads.
    """
    known = [name for name in names.CONFIG_HEAD_SIZE if name in vars(config)]
    config.__dict__.pop(MARK, None)
    for key, value in {**counts, **dict.fromkeys(known[:1] or [unnamed], size)}.items():
        if key and not isinstance(getattr(type(config), key, None), property):
            before = vars(config).get(config.attribute_map.get(key, key))
            staged = isinstance(before, list | tuple)  # one number for each stage (Swin)
            setattr(config, key, type(before)([value] * len(before)) if staged else value)


def _uniform(sites: list[Site]) -> tuple[dict[str, Any], int] | None:
    """The counts by configuration key, and the head size, if they are equal in all layers.

    None if they differ, so that plain keys cannot say them.
    """
    counts: dict[str, set[int]] = defaultdict(set)
    sizes = set()
    for site in sites:
        if site.kind in SLICES and site.branch != "cross":
            counts[site.config_key].add(site.configured)
        if site.kind == "head":
            sizes.add(site.width)
    if any(len(values) > 1 for values in counts.values()) or len(sizes) != 1:
        return None
    return {key: min(values) for key, values in counts.items()}, min(sizes)
