"""Attention and feed-forward networks that no row describes: listed, or refused.

A budget counts the units that are found. If somebody has changed one layer (an adapter wraps its
projection, pruning computes its weight, another module replaces it), its units are not found
although the layer has them: the count would be wrong, so this is an error. Models whose own layers
differ (Mamba between attention, experts between dense networks) are cut as far as rows fit, and
``UnitTable.left_out`` lists the rest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import GraphModule

from headcount.architectures.locations import layer_path
from headcount.architectures.maps import ORIGINAL, child, is_emptied, is_map
from headcount.architectures.match import near_fit, resolve, unexplained, why_refused
from headcount.architectures.state import KNOWN, oddities
from headcount.architectures.tables import ATTENTION, FEED_FORWARD, REFUSED
from headcount.errors import ArchitectureError

_ATTENTION = re.compile("attention|attn", re.IGNORECASE)
_FEED_FORWARD = re.compile("mlp|ffn|feed_?forward|experts", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A sublayer that fits a row: what this file needs to know about it."""

    name: str
    """Qualified name of the module."""
    maps: tuple[str, ...]
    """Qualified names of its projections."""
    attends: bool
    """Whether it is attention."""


def refuse_changed(model: nn.Module, found: tuple[Found, ...]) -> None:
    """Refuse a model with sublayers that were changed, so that they no longer fit a row.

    Args:
        model: the model.
        found: the sublayers that fit.

    Raises:
        ArchitectureError: a linear map of a sublayer is wrapped or computed, or a sublayer is
            built differently from its siblings. The message names module, part and way out.
    """
    for name, module in model.named_modules():
        reason = _wrapped(name, module) or _changed(model, name, module)
        if reason:
            raise ArchitectureError(f"units({type(model).__name__}): {reason}")
    # Attention is compared with attention, and networks with networks.
    for kind in (True, False):
        for name in _unlike_siblings(model, [sub for sub in found if sub.attends is kind]):
            module = model.get_submodule(name)
            raise ArchitectureError(
                f"units({type(model).__name__}): {name} ({type(module).__name__}) fits no row, "
                f"while other layers of its stack do: {_why(model, name, module)}. A budget would "
                "silently leave it out. Put the model's own module in its place."
            )


def left_out(model: nn.Module, found: tuple[Found, ...]) -> tuple[str, ...]:
    """The attention and feed-forward networks that fit no row: one line of text for each class."""
    # What lies inside found attention is part of it. A found network proves less: in some models
    # the whole layer is read as the network, and its attention is another matter.
    inside = {sub.name for sub in found if sub.attends}
    around = {path for sub in found for full in (sub.name, *sub.maps) for path in _prefixes(full)}
    groups: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        covered = name in around or any(path in inside for path in _prefixes(name))
        if not covered and _looks_like_a_sublayer(name, module):
            groups.setdefault(type(module).__name__, []).append(name)
    return tuple(
        f"{kind} ({where[0]}{f' and {len(where) - 1} more' * (len(where) > 1)}): "
        f"{_why(model, where[0], model.get_submodule(where[0]))}"
        for kind, where in groups.items()
    )


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _looks_like_a_sublayer(name: str, module: nn.Module) -> bool:
    """Whether a module's class name says attention or network, and it has two matrices or more.

    Of nested ones, the innermost attention and the innermost network in a layer count.
    """
    kind, inner = type(module).__name__, [type(sub).__name__ for sub in module.modules()][1:]
    matrices = sum(parameter.ndim > 1 for parameter in module.parameters())
    if isinstance(module, nn.ModuleList) or matrices < 2:
        return False
    if _ATTENTION.search(kind):
        return not any(_ATTENTION.search(each) for each in inner)
    return bool(_FEED_FORWARD.search(kind) and layer_path(name)) and not any(
        _FEED_FORWARD.search(each) or _ATTENTION.search(each) for each in inner
    )


def _wrapped(name: str, module: nn.Module) -> str:
    """Why nothing inside a module can be cut: it is compiled, traced, or holds PEFT's prefixes.

    Empty if none of this is the case.
    """
    kind = type(module).__name__
    if ORIGINAL in module._modules and name:
        return (
            f"{name} was compiled into a module of its own. Compile it in place: "
            "module.compile(), or compile the whole model."
        )
    inside = module.named_modules(prefix=name)
    traced = isinstance(module, GraphModule | torch.jit.ScriptModule)
    if traced and any(layer_path(inner) for inner, _ in inside):
        return (
            f"{name or 'the model'} ({kind}) was traced or scripted: its sizes are written "
            "into code. Give the model that it was made from."
        )
    package = type(module).__module__
    if package.startswith("peft.") and (kind == "PrefixEncoder" or kind.startswith("Adapted")):
        return (
            f"{name} ({kind}, PEFT) holds numbers for every head. Cut the model without it: "
            "model.get_base_model(), or model.unload()."
        )
    return ""


def _changed(model: nn.Module, name: str, module: nn.Module) -> str:
    """Say which map of a sublayer was wrapped, computed or replaced; empty if none was."""
    for path, mapping in _odd_maps(model, name, module).items():
        if _is_foreign(model, path, mapping):
            kind = f"{type(mapping).__module__}.{type(mapping).__name__}"
            what = "; ".join(oddities(mapping)) if isinstance(mapping, nn.Linear) else "wrapped"
            return (
                f"{path} is no plain linear map ({kind}: {what}), so the units "
                f"of {name} would be left out. {_way_out(mapping)}"
            )
    return ""


def _odd_maps(model: nn.Module, name: str, module: nn.Module) -> dict[str, nn.Module]:
    """The parts of a module that a row names but that are not linear maps, by qualified name."""
    # A row of attention whose names fit; else, inside a layer, a row of feed-forward networks.
    row, paths = near_fit(model, name, module), []
    if row is not None:
        paths = [*row.projections, row.output]
    elif layer_path(name) and type(module).__name__ not in REFUSED:
        rows = ([*layout.up, layout.down] for layout in FEED_FORWARD)
        has = (paths for paths in rows if all(child(module, path) is not None for path in paths))
        paths = next(has, [])
    found = {full: child(model, full) for full in (resolve(name, path) for path in paths)}
    return {full: sub for full, sub in found.items() if sub is not None and not is_map(sub)}


def _is_foreign(model: nn.Module, name: str, mapping: nn.Module) -> bool:
    """Whether a linear map was replaced, or its weight is computed."""
    computed = any(text.endswith("computed") for text in oddities(mapping))
    return computed or not _is_known(model, name, mapping)


def _way_out(mapping: nn.Module) -> str:
    parameters = {name for name, _ in mapping.named_parameters()}
    if hasattr(mapping, "parametrizations"):
        return (
            "Write the weight into it: torch.nn.utils.parametrize.remove_parametrizations(module, "
            "'weight')."
        )
    for ending, call in _OLD_STYLE.items():
        if any(name.endswith(ending) for name in parameters):
            return f"Write the weight into it: torch.nn.utils.{call}."
    if type(mapping).__module__.startswith("peft."):
        return "Merge the adapter: model = model.merge_and_unload()."
    return (
        "Merge an adapter (model.merge_and_unload()), load quantised weights unquantised, or put "
        "an nn.Linear in its place."
    )


_OLD_STYLE = {
    "weight_g": "remove_weight_norm(module)",
    "weight_orig": "prune.remove(module, 'weight'), or remove_spectral_norm(module)",
    "bias_orig": "prune.remove(module, 'bias')",
}
"""Ending of the parameters from which a weight is computed -> the call that undoes it."""


def _unlike_siblings(model: nn.Module, found: list[Found]) -> Iterator[str]:
    """Names of modules that fit no row, where a sibling layer has a sublayer that does."""
    inside = {sub.name for sub in found}
    layers_of = {name: layer_path(name) for name in inside}
    # (list of layers, path inside a layer) of every sublayer that was found.
    places = {
        (layer.rpartition(".")[0], name.removeprefix(layer).removeprefix("."))
        for name, layer in layers_of.items()
        if layer
    }
    for around, inner in sorted(places):
        layers = child(model, around)
        for number, layer in layers.named_children() if layers is not None else ():
            name = ".".join(part for part in (around, number, inner) if part)
            module = child(layer, inner)
            if module is None or name in inside or is_emptied(layer) or is_emptied(module):
                continue
            if any(full.startswith(f"{name}.") for full in inside) or not _has_matrices(module):
                continue
            # A class of the model's own is meant to differ (Mamba, experts): it is left out.
            if _odd_maps(model, name, module) or not _is_known(model, name, module):
                yield name


def _has_matrices(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _is_known(model: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether a module's class belongs to the model.

    It does if it is from PyTorch or transformers, or from the file that defines the layer.
    """
    # Classes that surgery has wrapped count as what they were.
    kind: type = type(module)
    while "made_of" in vars(kind):
        kind = vars(kind)["made_of"][0]
    home = type(model.get_submodule(layer_path(name))).__module__
    return kind.__module__.startswith(KNOWN) or kind.__module__ == home


def _why(model: nn.Module, name: str, module: nn.Module) -> str:
    """Say why no row fits a module."""
    refused = why_refused(module)
    if refused:
        return refused
    for path, mapping in _odd_maps(model, name, module).items():
        return f"{path} is a {type(mapping).__name__}"
    row = near_fit(model, name, module)
    extra = unexplained(module, row) if row is not None else []
    if row is not None and extra:
        return f"like {row.name!r} but with {', '.join(extra[:3])}"
    parts = ", ".join(key for key, _ in module.named_children()) or "no modules"
    return f"no row has its parts ({parts})"


def nothing_found(model: nn.Module) -> str:
    """The message for a model without known attention: what was looked for, and what it has."""
    classes = {type(module).__name__: module for module in model.modules()}
    attention = [name for name in sorted(classes) if re.search("attention|attn", name.lower())]
    if attention:
        shown = "; ".join(_describe(name, classes[name]) for name in attention[:6])
        rows = ", ".join(row.name for row in ATTENTION)
        return (
            f"units({type(model).__name__}): no table describes how its attention is built. Found "
            f"{shown}. Looked for the layouts {rows}. To add one, write a row in "
            "headcount/architectures/tables (docs/architecture.md, 'Adding an architecture')."
        )
    return (
        f"units({type(model).__name__}): the model has no attention heads. Looked for modules that "
        f"fit the layouts in headcount/architectures/tables; found "
        f"{', '.join(sorted(classes)[:12])}."
    )


def _describe(name: str, module: nn.Module) -> str:
    """A class in words: its name, its children, and the part that no row explains."""
    if why_refused(module):
        return f"{name} ({why_refused(module)})"
    children = ", ".join(key for key, _ in module.named_children()) or "no children"
    parts = {path: child(module, path) for row in ATTENTION for path in row.projections}
    odd = {path: sub for path, sub in parts.items() if sub is not None and not is_map(sub)}
    if odd:
        path, sub = next(iter(odd.items()))
        return (
            f"{name}, whose {path} is a {type(sub).__name__} and no linear map that can be cut: "
            "if the weights are quantised, load the model unquantised"
        )
    rows = [r for r in ATTENTION if all(is_map(child(module, p)) for p in r.projections)]
    extra = unexplained(module, rows[0]) if rows else []
    text = f"{name} ({children})"
    return f"{text}, like {rows[0].name!r} but with {', '.join(extra[:4])}" if extra else text
