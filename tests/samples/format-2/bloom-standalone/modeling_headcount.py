"""A pruned BloomForCausalLM: transformers' own class, made smaller before its weights are loaded.

Written by headcount. Load it with ``trust_remote_code=True``.
"""

import copy
import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WithoutWeight(nn.Module):
    """What is left of a linear map whose inputs or outputs are gone.

    Stock code may ask for the weight's type, or initialise it; what it gets has no numbers.
    """

    def __init__(self, out_features: int) -> None:
        """Only the width is remembered."""
        super().__init__()
        self.out_features = out_features
        self._like = torch.empty(out_features, 0)

    def named_modules(
        self, *args: Any, **kwargs: Any
    ) -> Generator[tuple[str, nn.Module], None, None]:
        """Itself; nothing for PEFT, which would put an adapter on it, or cannot, by its name.

        What an adapter adds would not be there without it, and a map that is gone adds nothing.
        """
        if not _asked_by("inject_adapter", "peft."):
            yield from super().named_modules(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._like = fn(self._like)
        return super()._apply(fn, recurse)

    @property
    def weight(self) -> Tensor:
        """An empty tensor of the model's type; not a parameter, never initialised or saved."""
        self._like._is_hf_initialized = True  # pyright: ignore[reportAttributeAccessIssue]
        return self._like


def _asked_by(function: str, package: str) -> bool:
    """Whether a function of a package goes through a model's modules just now."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("_asked_by", "named_modules"):
        frame = frame.f_back
    where = "" if frame is None else str(frame.f_globals.get("__name__"))
    return frame is not None and frame.f_code.co_name == function and where.startswith(package)


class Zeros(WithoutWeight):
    """A linear map whose outputs are all zero.

    Example:
        >>> Zeros(2)(torch.ones(1, 3, 4)).shape
        torch.Size([1, 3, 2])
    """

    @property
    def bias(self) -> Tensor:
        """As ``weight``: no numbers."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Zeros at every position; [..., n] -> [..., out_features]."""
        return x.new_zeros((*x.shape[:-1], self.out_features))


class BiasOnly(WithoutWeight):
    """A linear map without inputs: its output is its bias.

    Example:
        >>> BiasOnly(2, torch.zeros(2))(torch.zeros(1, 3, 0)).shape
        torch.Size([1, 3, 2])
    """

    def __init__(self, out_features: int, bias: Tensor | None) -> None:
        """Keep the bias, if there is one."""
        super().__init__(out_features)
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias)
        self.bias: nn.Parameter | None = bias

    def forward(self, x: Tensor) -> Tensor:
        """The bias at every position; [..., n] -> [..., out_features]."""
        shape = (*x.shape[:-1], self.out_features)
        return x.new_zeros(shape) if self.bias is None else self.bias.expand(shape).clone()


class Overridden:
    """A configuration with other values for some of its names.

    Example:
        >>> from types import SimpleNamespace
        >>> view = Overridden(SimpleNamespace(heads=4, size=8), {"heads": 2})
        >>> view.heads, view.size
        (2, 8)
    """

    def __init__(self, base: Any, values: Mapping[str, Any]) -> None:
        """Look names up in ``values`` first, then in ``base``."""
        self.__dict__.update(values)
        self.__dict__["_base"] = base

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_base":
            raise AttributeError(name)
        return getattr(self.__dict__["_base"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Overridden":
        values = {name: value for name, value in vars(self).items() if name != "_base"}
        return Overridden(copy.deepcopy(self._base, memo), values)



import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


Maker = Callable[..., type[nn.Module]]
"""From a module's class, and plain values, to the class it has after the cut."""


def remembered(make: Maker) -> Maker:
    """Make each class once, and let its instances be pickled: by what it was made of.

    A pickle names classes, and nobody finds a class by name that is made as the program runs.
    """
    classes: dict[tuple[type, str], type[nn.Module]] = {}

    @wraps(make)
    def once(kind: type[nn.Module], *arguments: Any) -> type[nn.Module]:
        key = kind, repr(arguments)
        if key not in classes:
            made = make(kind, *arguments)
            setattr(made, "made_of", (kind, make.__name__, arguments))
            setattr(made, "__reduce_ex__", _reduce)
            classes[key] = made
        return classes[key]

    return once


def _reduce(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    del protocol
    steps: list[tuple[str, tuple[Any, ...]]] = []
    kind: type = type(module)
    while "made_of" in vars(kind):
        kind, wrapper, arguments = vars(kind)["made_of"]
        steps.insert(0, (wrapper, arguments))
    return _unpickled, (kind, steps), module.__getstate__()


def _unpickled(kind: type[nn.Module], steps: list[tuple[str, tuple[Any, ...]]]) -> nn.Module:
    """An instance as it is before it has any attributes."""
    for wrapper, arguments in steps:
        kind = WRAPPERS[wrapper](kind, *arguments)
    return kind.__new__(kind)


@remembered
def chosen_features(kind: type[nn.Module]) -> type[nn.Module]:
    """A normalisation over all heads that hands on some of them only."""

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        normed = kind.forward(self, *args, **kwargs)
        heads = torch.tensor(self.handed_on, device=normed.device)
        by_head = normed.unflatten(-1, (-1, self.handed_on_size))
        return by_head.index_select(-2, heads).flatten(-2)

    return type(f"Chosen{kind.__name__}", (kind,), {"forward": forward})


@remembered
def own_bias(kind: type[nn.Module], argument: str) -> type[nn.Module]:
    """An attention that makes its position bias itself instead of taking the first layer's."""
    signature = inspect.signature(kind.forward)

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        if argument in bound.arguments:
            bound.arguments[argument] = None
        return kind.forward(*bound.args, **bound.kwargs)

    return type(f"OwnBias{kind.__name__}", (kind,), {"forward": forward})


@remembered
def own_slopes(kind: type[nn.Module], *dims: list[Any]) -> type[nn.Module]:
    """An attention that takes the biases of its own heads out of those of all heads.

    They come in the named arguments; the heads lie along the dimension given with each, or with the
    batch along the first if that is -1.
    """
    signature = inspect.signature(kind.forward)

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        for argument, dim in dims:
            every = bound.arguments.get(argument)
            if every is not None:
                bound.arguments[argument] = _own(every, dim, self)
        return kind.forward(*bound.args, **bound.kwargs)

    return type(f"OwnSlopes{kind.__name__}", (kind,), {"forward": forward})


def _own(every: Tensor, dim: int, attention: Any) -> Tensor:
    heads = torch.tensor(attention.heads_with_slopes, device=every.device)
    if dim == -1:
        by_head = every.unflatten(0, (-1, attention.num_slopes))
        return by_head.index_select(1, heads).flatten(0, 1)
    if every.ndim > dim and every.shape[dim] == attention.num_slopes:
        return every.index_select(dim, heads)
    return every  # one for all heads alike


@remembered
def whole_inputs(kind: type[nn.Module], method: str) -> type[nn.Module]:
    """An attention that rotates its inputs, before any projection, in as many parts as before.

    A part is as wide as a head; there are more of them than heads that are left.
    """
    rotate = getattr(kind, method)

    @wraps(rotate)
    def rotated(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = hidden_states.shape[-1] // self.head_size
        return rotate(Overridden(self, {"num_heads": parts}), hidden_states, *args, **kwargs)

    return type(f"WholeInputs{kind.__name__}", (kind,), {method: rotated})


@remembered
def own_width(kind: type[nn.Module], variable: str, at: str) -> type[nn.Module]:
    """An attention that takes the width of its heads for that of all heads, not its input's.

    Stock code reads it off the input, into a variable of its forward method. The method is compiled
    anew with one statement more, which sets the variable before it is used.
    """
    stock = inspect.unwrap(kind.forward)
    tree = ast.parse(textwrap.dedent(inspect.getsource(stock)))
    (method,) = tree.body
    assert isinstance(method, ast.FunctionDef)
    uses = [i for i, line in enumerate(method.body) if _reads(line, variable)]
    (setting,) = ast.parse(f"{variable} = self.width_of_heads").body
    method.body.insert(uses[0] if at == "first" else uses[-1], setting)
    ast.increment_lineno(tree, stock.__code__.co_firstlineno - 1)
    made: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(tree), inspect.getsourcefile(stock) or "", "exec")
    exec(code, stock.__globals__, made)
    return type(f"OwnWidth{kind.__name__}", (kind,), {"forward": made[method.name]})


def _reads(line: ast.stmt, variable: str) -> bool:
    """Whether a statement uses a variable, for anything but to check it."""
    names = (node for node in ast.walk(line) if isinstance(node, ast.Name))
    read = any(node.id == variable and isinstance(node.ctx, ast.Load) for node in names)
    return read and not isinstance(line, ast.Assert)


@remembered
def without_heads(
    kind: type[nn.Module], output: str, returns: str = "context and map"
) -> type[nn.Module]:
    """An attention without heads: a context of no width through the output projection.

    The keys and values it would have kept in a cache are counted there, because a cache asks its
    first layer how many tokens there are.
    """

    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        del args
        batch, length = hidden_states.shape[:2]
        past = kwargs.get("past_key_values")
        if self.counts_tokens and past is not None:
            count_tokens(past, hidden_states, self.layer_idx)
        context = hidden_states.new_zeros(batch, length, 0)
        if output:
            context = self.get_submodule(output)(context)
        if returns == "context":
            return context
        return context, hidden_states.new_zeros(batch, 0, length, length)

    return type(f"WithoutHeads{kind.__name__}", (kind,), {"forward": forward})


@remembered
def without_neurons(kind: type[nn.Module]) -> type[nn.Module]:
    """Experts without neurons: each gives its bias, if it has one."""

    def forward(self: Any, hidden_states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        bias = getattr(self, "down_proj_bias", None)
        if bias is None:
            return torch.zeros_like(hidden_states)
        every = torch.cat([bias, torch.zeros_like(bias[:1])])  # the last is for no expert
        return (every[chosen] * weights[..., None]).sum(-2).to(hidden_states.dtype)

    return type(f"WithoutNeurons{kind.__name__}", (kind,), {"forward": forward})


@remembered
def skipped(kind: type[nn.Module]) -> type[nn.Module]:
    """A layer that hands its input on."""
    signature = inspect.signature(kind.forward)

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        given = signature.bind_partial(self, *args, **kwargs).arguments
        _, hidden_states, *_ = given.values()
        given = given | given.get("kwargs", {})
        past = given.get("past_key_values", given.get("layer_past"))
        if self.counts_tokens and past is not None:  # a stack that runs again has more places
            count_tokens(past, hidden_states, self.layer_idx + given.get("cycle_offset", 0))
        other = given.get("encoder_hidden_states")
        for name in self.silent if other is not None else ():
            self.get_submodule(name)(hidden_states, other)
            if self.counts_tokens and past is not None:
                count_others(past, other, self.layer_idx)
        return hidden_states

    return type(f"Skipped{kind.__name__}", (kind,), {"forward": forward})


@remembered
def silent(kind: type[nn.Module]) -> type[nn.Module]:
    """The cross-attention of a skipped layer: where maps are asked for, it gives one of no heads.

    So maps have the numbers of their layers, by which word timestamps find them.
    """

    def forward(self: Any, hidden_states: Tensor, other: Tensor) -> tuple[Tensor, Tensor | None]:
        config = getattr(self, "config", None)
        if getattr(config, "_attn_implementation", None) != "eager":
            return hidden_states, None
        shape = (hidden_states.shape[0], 0, hidden_states.shape[1], other.shape[1])
        return hidden_states, hidden_states.new_zeros(shape)

    return type(f"Silent{kind.__name__}", (kind,), {"forward": forward})


def count_tokens(past: Any, hidden_states: Tensor, layer: int) -> None:
    """Put keys and values of no meaning into a cache, one for each token."""
    batch, length = hidden_states.shape[:2]
    seen = hidden_states.new_zeros(batch, 1, length, 1)
    getattr(past, "self_attention_cache", past).update(seen, seen, layer)


def count_others(past: Any, other: Any, layer: int) -> None:
    """The same for what cross-attention reads, once."""
    updated = getattr(past, "is_updated", None)
    if updated is not None and not updated.get(layer):
        seen = other.new_zeros(other.shape[0], 1, other.shape[1], 1)
        past.cross_attention_cache.update(seen, seen, layer)
        updated[layer] = True


WRAPPERS: dict[str, Maker] = {
    "chosen_features": chosen_features,
    "own_bias": own_bias,
    "own_slopes": own_slopes,
    "whole_inputs": whole_inputs,
    "own_width": own_width,
    "without_heads": without_heads,
    "without_neurons": without_neurons,
    "skipped": skipped,
    "silent": silent,
}
"""Name of a wrapper -> from a module's class to the class it has after the cut."""



from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


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



from typing import Any

GUARD = (
    "this model was pruned by headcount, and transformers alone cannot build its shape: "
    "pip install headcount and import headcount before from_pretrained; or, where "
    "modeling_headcount.py lies in the folder, load it with trust_remote_code=True"
)
"""What transformers shows where it meets the configuration of a cut model alone.

The entry says whether it stands alone: an empty ``per_layer_config`` is not the same as none.
"""

PART = "headcount_part"
"""Key of the configuration of a part: what is left of it stands in the mark of the whole."""

PER_LAYER = "per_layer_config"
"""Key of configurations whose keys transformers reads as integers, so that a sentence fails."""


def guarded(written: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a dictionary, with the guard wherever it says that units were cut.

    Example:
        >>> list(guarded({"headcount": {"left": {}}})["per_layer_config"]) == [GUARD]
        True
    """
    given = {
        key: guarded(value) if isinstance(value, dict) and key != "headcount" else value
        for key, value in written.items()
    }
    mark = given.get("headcount")
    cut = given.get(PART) is True or (isinstance(mark, dict) and "left" in mark)
    if cut and GUARD not in given.get(PER_LAYER, {}):
        given[PER_LAYER] = {GUARD: {"alone": PER_LAYER not in given}, **given.get(PER_LAYER, {})}
    return given


def unguarded(written: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a dictionary, without guards.

    Example:
        >>> unguarded(guarded({"headcount": {"left": {}}}))
        {'headcount': {'left': {}}}
    """
    given = {
        key: unguarded(value) if isinstance(value, dict) else value
        for key, value in written.items()
        if key != GUARD
    }
    layers = written.get(PER_LAYER)
    if isinstance(layers, dict) and layers.get(GUARD, {}).get("alone"):
        del given[PER_LAYER]
    return given


from transformers.models.bloom.configuration_bloom import BloomConfig  # noqa: E402

from transformers.models.bloom.modeling_bloom import BloomForCausalLM  # noqa: E402

from transformers.models.bloom.modeling_bloom import BloomModel  # noqa: E402


class HeadcountBloomConfig(BloomConfig):
    """``BloomConfig`` that says what was cut."""

    _headcount_stock = BloomConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **unguarded(kwargs))

    def to_dict(self):
        return guarded(super().to_dict())



STRUCTURE = {'attributes': {'transformer.h.0.self_attention': {'heads_with_slopes': [0],
                                                   'hidden_size': 4,
                                                   'num_heads': 1,
                                                   'num_slopes': 4,
                                                   'split_size': 4},
                'transformer.h.1.self_attention': {'heads_with_slopes': [0],
                                                   'hidden_size': 4,
                                                   'num_heads': 1,
                                                   'num_slopes': 4,
                                                   'split_size': 4},
                'transformer.h.2.mlp.dense_4h_to_h': {'in_features': 48, 'out_features': 16},
                'transformer.h.2.mlp.dense_h_to_4h': {'in_features': 16, 'out_features': 48},
                'transformer.h.2.self_attention': {'heads_with_slopes': [0, 2],
                                                   'hidden_size': 8,
                                                   'num_heads': 2,
                                                   'num_slopes': 4,
                                                   'split_size': 8},
                'transformer.h.2.self_attention.dense': {'in_features': 8, 'out_features': 16},
                'transformer.h.2.self_attention.query_key_value': {'in_features': 16,
                                                                   'out_features': 24}},
 'shapes': {'transformer.h.2.mlp.dense_4h_to_h.weight': [16, 48],
            'transformer.h.2.mlp.dense_h_to_4h.bias': [48],
            'transformer.h.2.mlp.dense_h_to_4h.weight': [48, 16],
            'transformer.h.2.self_attention.dense.weight': [16, 8],
            'transformer.h.2.self_attention.query_key_value.bias': [24],
            'transformer.h.2.self_attention.query_key_value.weight': [24, 16]},
 'wrappers': {'transformer.h.0.self_attention': [['own_slopes', [['alibi', -1]]]],
              'transformer.h.1.self_attention': [['own_slopes', [['alibi', -1]]]],
              'transformer.h.2.self_attention': [['own_slopes', [['alibi', -1]]]]},
 'zeros': {'transformer.h.0.mlp.dense_4h_to_h': 16,
           'transformer.h.0.mlp.dense_h_to_4h': 1,
           'transformer.h.0.self_attention.dense': 16,
           'transformer.h.0.self_attention.query_key_value': 12,
           'transformer.h.1.mlp.dense_4h_to_h': 16,
           'transformer.h.1.mlp.dense_h_to_4h': 1,
           'transformer.h.1.self_attention.dense': 16,
           'transformer.h.1.self_attention.query_key_value': 12}}


class HeadcountBloomForCausalLM(BloomForCausalLM):
    """``BloomForCausalLM`` with the shape that ``STRUCTURE`` describes."""

    config_class = HeadcountBloomConfig
    _headcount_stock = BloomForCausalLM

    def post_init(self):
        super().post_init()
        with torch.device("cpu"):
            rebuild(self, STRUCTURE)



BASE_STRUCTURE = {'attributes': {'h.0.self_attention': {'heads_with_slopes': [0],
                                       'hidden_size': 4,
                                       'num_heads': 1,
                                       'num_slopes': 4,
                                       'split_size': 4},
                'h.1.self_attention': {'heads_with_slopes': [0],
                                       'hidden_size': 4,
                                       'num_heads': 1,
                                       'num_slopes': 4,
                                       'split_size': 4},
                'h.2.mlp.dense_4h_to_h': {'in_features': 48, 'out_features': 16},
                'h.2.mlp.dense_h_to_4h': {'in_features': 16, 'out_features': 48},
                'h.2.self_attention': {'heads_with_slopes': [0, 2],
                                       'hidden_size': 8,
                                       'num_heads': 2,
                                       'num_slopes': 4,
                                       'split_size': 8},
                'h.2.self_attention.dense': {'in_features': 8, 'out_features': 16},
                'h.2.self_attention.query_key_value': {'in_features': 16, 'out_features': 24}},
 'shapes': {'h.2.mlp.dense_4h_to_h.weight': [16, 48],
            'h.2.mlp.dense_h_to_4h.bias': [48],
            'h.2.mlp.dense_h_to_4h.weight': [48, 16],
            'h.2.self_attention.dense.weight': [16, 8],
            'h.2.self_attention.query_key_value.bias': [24],
            'h.2.self_attention.query_key_value.weight': [24, 16]},
 'wrappers': {'h.0.self_attention': [['own_slopes', [['alibi', -1]]]],
              'h.1.self_attention': [['own_slopes', [['alibi', -1]]]],
              'h.2.self_attention': [['own_slopes', [['alibi', -1]]]]},
 'zeros': {'h.0.mlp.dense_4h_to_h': 16,
           'h.0.mlp.dense_h_to_4h': 1,
           'h.0.self_attention.dense': 16,
           'h.0.self_attention.query_key_value': 12,
           'h.1.mlp.dense_4h_to_h': 16,
           'h.1.mlp.dense_h_to_4h': 1,
           'h.1.self_attention.dense': 16,
           'h.1.self_attention.query_key_value': 12}}


class HeadcountBloomModel(BloomModel):
    """``BloomModel`` with the shape that ``BASE_STRUCTURE`` describes."""

    config_class = HeadcountBloomConfig
    _headcount_stock = BloomModel

    def post_init(self):
        super().post_init()
        with torch.device("cpu"):
            rebuild(self, BASE_STRUCTURE)
