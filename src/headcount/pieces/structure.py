"""Give a dense model the shape of a cut one."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from headcount.pieces.modules import BiasOnly, Overridden, Zeros
from headcount.pieces.wrappers import WRAPPERS

TIES = "all_tied_weights_keys"
"""Attribute of a model: name of a weight -> name of the one that it shares its values with."""


def rebuild(model: nn.Module, structure: Mapping[str, Any]) -> None:
    """Give a dense model the shape of a cut one; the weights' values are not looked after.

    Args:
        model: dense, on any device; changed in place.
        structure: as plain values: ``shapes`` {parameter: shape}, ``tables`` {module: [rows,
            columns]}, ``bias_only`` {module: [outputs, has a bias]}, ``zeros`` {module: width},
            ``lists`` {list of modules: [those that stay]}, ``identities`` [module],
            ``buffers`` {buffer: length}, ``removed`` [parameter, table, or layer to be emptied],
            ``attributes`` {module: {name: value}}, ``config`` {module: {name: value}},
            ``wrappers`` {module: [[wrapper, arguments]]}.
    """
    for key, step in _STEPS.items():
        entries = structure.get(key, {})
        for name in entries:
            step(model, name, entries[name] if isinstance(entries, Mapping) else None)
    _spare_empty(model)
    _forget_ties(model)


def _forget_ties(model: nn.Module) -> None:
    """Drop what transformers noted about tied weights where one of the two is gone."""
    for module in model.modules():
        ties = vars(module).get(TIES)
        if ties:
            here = {name for name, _ in module.named_parameters(remove_duplicate=False)}
            kept = {name: other for name, other in ties.items() if {name, other} <= here}
            vars(module)[TIES] = kept


def _spare_empty(model: nn.Module) -> None:
    """Keep stock code from initialising what is empty: some of it divides by the width."""
    for module in model.modules():
        for inner in (module, *module.children()):
            weight = getattr(inner, "weight", None)
            if isinstance(weight, Tensor) and not weight.numel():
                vars(module)["_is_hf_initialized"] = True


def _bias_only(model: nn.Module, name: str, value: Any) -> None:
    width, has_bias = value
    bias = model.get_submodule(name).get_parameter("bias") if has_bias else None
    _replace(model, name, BiasOnly(width, bias))


def _zeros(model: nn.Module, name: str, width: Any) -> None:
    _replace(model, name, Zeros(width))


def _identity(model: nn.Module, name: str, value: Any) -> None:
    del value
    _replace(model, name, nn.Identity())


def _pick(model: nn.Module, name: str, stay: Any) -> None:
    modules = [*model.get_submodule(name)._modules.values()]
    _replace(model, name, nn.ModuleList(modules[index] for index in stay))


def _attributes(model: nn.Module, name: str, values: Any) -> None:
    module = model.get_submodule(name)
    for key, value in values.items():
        setattr(module, key, value)


def _config(model: nn.Module, name: str, values: Any) -> None:
    module = vars(model.get_submodule(name))
    base = module["config"]
    module["config"] = Overridden(getattr(base, "_base", base), values)


def _wrap(model: nn.Module, name: str, wrappers: Any) -> None:
    module = model.get_submodule(name)
    for wrapper, arguments in wrappers:
        module.__class__ = WRAPPERS[wrapper](type(module), *arguments)
        if wrapper in ("skipped", "silent", "without_heads", "without_neurons"):
            vars(module)["_is_hf_initialized"] = True  # it lacks what stock code would initialise


def _remove(model: nn.Module, name: str, value: Any) -> None:
    """Take a parameter or a table away; empty a layer, or an attention that is to stand in it."""
    del value
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    module = owner._modules.get(leaf)
    if module is None or isinstance(module, nn.Embedding):
        delattr(owner, leaf)
        vars(owner)["_is_hf_initialized"] = True  # it lacks what stock code would initialise
        return
    _empty(module)
    vars(module)["emptied"] = True


def _empty(module: nn.Module) -> None:
    """All that is below goes, but for what was emptied before."""
    for name, child in [*module.named_children()]:
        if not any(vars(inner).get("emptied") for inner in child.modules()):
            delattr(module, name)
        elif not vars(child).get("emptied"):
            _empty(child)
    for name in [*module._parameters]:
        delattr(module, name)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _resize(model: nn.Module, name: str, shape: Any) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    old = module.get_parameter(leaf)
    if list(old.shape) != list(shape):
        new = nn.Parameter(old.new_empty(shape), requires_grad=old.requires_grad)
        module.register_parameter(leaf, new)


def _narrow(model: nn.Module, name: str, value: Any) -> None:
    """Shorten a buffer whose entries are all alike."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    kept = leaf not in module._non_persistent_buffers_set
    module.register_buffer(leaf, module.get_buffer(leaf)[:value].clone(), persistent=kept)


def _add_table(model: nn.Module, name: str, value: Any) -> None:
    num_rows, num_columns = value
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    before = owner._modules.get(leaf)
    if before is None or before.get_parameter("weight").shape != (num_rows, num_columns):
        like = next(model.parameters())
        table = nn.Embedding(num_rows, num_columns, device="meta", dtype=like.dtype)
        owner.add_module(leaf, table.to_empty(device=like.device))


_STEPS: dict[str, Callable[[nn.Module, str, Any], None]] = {
    "shapes": _resize,
    "tables": _add_table,
    "bias_only": _bias_only,
    "zeros": _zeros,
    "lists": _pick,
    "identities": _identity,
    "buffers": _narrow,
    "removed": _remove,
    "attributes": _attributes,
    "config": _config,
    "wrappers": _wrap,
}
"""The keys of a structure, in the order in which they are worked off."""
