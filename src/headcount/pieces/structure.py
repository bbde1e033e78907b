"""Give a dense model the shape of a cut one, as a structure of plain values describes it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from headcount.pieces.modules import BiasOnly, Overridden, Zeros
from headcount.pieces.wrappers import WRAPPERS

TIES = "all_tied_weights_keys"
"""Attribute of transformers' models: name of a weight -> name of the weight it is tied to."""


def rebuild(model: nn.Module, structure: Mapping[str, Any]) -> None:
    """Give a dense model the shape of a cut one. The values of resized weights are undefined.

    Args:
        model: the dense model, on any device; changed in place.
        structure: plain values: ``shapes`` {parameter: shape}, ``tables`` {module: [rows,
            columns]}, ``bias_only`` {module: [outputs, has a bias]}, ``zeros`` {module: width},
            ``lists`` {list of modules: [indices that stay]}, ``identities`` [module],
            ``buffers`` {buffer: length}, ``removed`` [parameter, table, or layer to be emptied],
            ``attributes`` {module: {name: value}}, ``config`` {module: {name: value}},
            ``wrappers`` {module: [[wrapper, arguments]]}.
    """
    # Some keys list names only, others map names to values.
    for key, step in _STEPS.items():
        entries = structure.get(key, {})
        for name in entries:
            step(model, name, entries[name] if isinstance(entries, Mapping) else None)
    _spare_empty(model)
    _forget_ties(model)


def _forget_ties(model: nn.Module) -> None:
    """Drop transformers' notes about tied weights if one of the two weights is gone."""
    for module in model.modules():
        ties = vars(module).get(TIES)
        if ties:
            here = {name for name, _ in module.named_parameters(remove_duplicate=False)}
            kept = {name: other for name, other in ties.items() if {name, other} <= here}
            vars(module)[TIES] = kept


def _spare_empty(model: nn.Module) -> None:
    """Keep stock code from initialising modules with an empty weight: some divides by its width."""
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
    # A model that is cut again has such a view already, whose counts are old.
    module["config"] = Overridden(getattr(base, "_base", base), values)


def _wrap(model: nn.Module, name: str, wrappers: Any) -> None:
    # The class changes, not the module: weights, hooks and names stay, and isinstance holds.
    module = model.get_submodule(name)
    for wrapper, arguments in wrappers:
        module.__class__ = WRAPPERS[wrapper](type(module), *arguments)
        if wrapper in ("skipped", "silent", "without_heads", "without_neurons"):
            vars(module)["_is_hf_initialized"] = True  # stock code would initialise what is gone


def _remove(model: nn.Module, name: str, value: Any) -> None:
    """Delete a parameter or a table, or empty a layer or an attention module that stays in it."""
    del value
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    module = owner._modules.get(leaf)
    if module is None or isinstance(module, nn.Embedding):
        delattr(owner, leaf)
        vars(owner)["_is_hf_initialized"] = True  # stock code would initialise what is gone
        return
    _empty(module)
    vars(module)["emptied"] = True


def _empty(module: nn.Module) -> None:
    """Delete everything below a module, except modules that were emptied before (see _remove)."""
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
    # In ``cut``, deepcopy has put the slice in place already; reloading makes an empty tensor.
    if list(old.shape) != list(shape):
        new = nn.Parameter(old.new_empty(shape), requires_grad=old.requires_grad)
        module.register_parameter(leaf, new)


def _narrow(model: nn.Module, name: str, value: Any) -> None:
    """Shorten a buffer whose entries are all equal, so that any of them may stay."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    # A buffer that is saved with the weights must stay one that is saved.
    kept = leaf not in module._non_persistent_buffers_set
    module.register_buffer(leaf, module.get_buffer(leaf)[:value].clone(), persistent=kept)


def _add_table(model: nn.Module, name: str, value: Any) -> None:
    num_rows, num_columns = value
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    before = owner._modules.get(leaf)
    # A table of this size may be there already, such as the first layer's if all its heads stay.
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
"""The keys of a structure and what each does, in the order of execution."""
