"""Classes that modules of a cut model have instead of the stock ones."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from headcount.pieces.modules import Overridden

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
def gated_bias(kind: type[nn.Module]) -> type[nn.Module]:
    """WavLM's attention, whose heads gate their position biases by their shares of the input.

    Stock code hands all weights to one function, which takes the width of its input for that of
    all heads. Here the projections run as modules; each head that is left still reads the share of
    the input that was its own. Source: WavLM (Chen et al. 2022), section III-B.
    """

    def forward(
        self: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        del args, kwargs
        batch, length = hidden_states.shape[:2]
        given = position_bias is not None
        of_all = position_bias if given else self.compute_bias(length, length).repeat(batch, 1, 1)
        scores = _bias_gates(self, hidden_states) * of_all.unflatten(0, (batch, -1))  # [B, H, T, T]
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask.ne(1)[:, None, None], -torch.inf)
        maps = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (
            project(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in maps
        )
        weights = (query * self.scaling @ key.transpose(-1, -2) + scores).softmax(-1)
        weights = nn.functional.dropout(weights, self.dropout, self.training)
        context = (weights @ value).transpose(1, 2).flatten(-2)
        mean = weights.mean(1, keepdim=True).expand_as(weights)  # what stock code gives as maps
        return self.out_proj(context), mean, of_all

    return type(f"GatedBias{kind.__name__}", (kind,), {"forward": forward})


def _bias_gates(attention: Any, hidden_states: Tensor) -> Tensor:
    """What the position biases of the heads are multiplied by, [B, H, T, 1]."""
    heads = torch.tensor(attention.heads_with_slopes, device=hidden_states.device)
    shares = hidden_states.unflatten(-1, (attention.num_slopes, -1)).index_select(-2, heads)
    projected = attention.gru_rel_pos_linear(shares.transpose(1, 2))
    update, reset = projected.unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
    return update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0


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
        maps = hidden_states.new_zeros(batch, 0, length, length)
        return (context, maps, None) if returns == "context, map and bias" else (context, maps)

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
    "gated_bias": gated_bias,
    "whole_inputs": whole_inputs,
    "own_width": own_width,
    "without_heads": without_heads,
    "without_neurons": without_neurons,
    "skipped": skipped,
    "silent": silent,
}
"""Name of a wrapper -> from a module's class to the class it has after the cut."""
