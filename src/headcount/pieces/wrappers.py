"""Wrappers: subclasses of stock classes, which modules of a cut model get as their class."""

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
"""A function from a module's class, and plain values, to its class after the cut."""


def remembered(make: Maker) -> Maker:
    """Make each class once, and let its instances be pickled.

    A pickle finds classes by name, and classes that are made at run time have no name to be found
    by. So it stores the stock class and the wrappers instead.
    """
    classes: dict[tuple[type, str], type[nn.Module]] = {}

    @wraps(make)
    def once(kind: type[nn.Module], *arguments: Any) -> type[nn.Module]:
        key = kind, repr(arguments)  # as text, since arguments may be lists, which have no hash
        if key not in classes:
            made = make(kind, *arguments)
            setattr(made, "made_of", (kind, make.__name__, arguments))
            setattr(made, "__reduce_ex__", _reduce)
            classes[key] = made
        return classes[key]

    return once


def _reduce(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    del protocol
    # Wrappers may be nested. They are listed from the inside out, the order of making them again.
    steps: list[tuple[str, tuple[Any, ...]]] = []
    kind: type = type(module)
    while "made_of" in vars(kind):
        kind, wrapper, arguments = vars(kind)["made_of"]
        steps.insert(0, (wrapper, arguments))
    return _unpickled, (kind, steps), module.__getstate__()


def _unpickled(kind: type[nn.Module], steps: list[tuple[str, tuple[Any, ...]]]) -> nn.Module:
    """An instance without attributes; pickle sets these afterwards."""
    for wrapper, arguments in steps:
        kind = WRAPPERS[wrapper](kind, *arguments)
    return kind.__new__(kind)


@remembered
def chosen_features(kind: type[nn.Module]) -> type[nn.Module]:
    """A norm over all heads of the dense model that returns only the heads that are left."""

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        # All heads first: removed ones count in the mean square.
        normed = kind.forward(self, *args, **kwargs)
        heads = torch.tensor(self.handed_on, device=normed.device)
        by_head = normed.unflatten(-1, (-1, self.handed_on_size))
        return by_head.index_select(-2, heads).flatten(-2)

    return type(f"Chosen{kind.__name__}", (kind,), {"forward": forward})


@remembered
def own_bias(kind: type[nn.Module], argument: str) -> type[nn.Module]:
    """Attention that computes its own position bias instead of taking the first layer's.

    It ignores the argument. Stock code then uses the module's own table.
    """
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
    """Attention that selects its heads' biases from arguments with those of all dense heads.

    ``dims`` lists (argument, dimension of the heads); -1: dimension 0 holds batch x heads.
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
    return every  # one for all heads: it has no dimension of heads, or one of size 1


@remembered
def gated_bias(kind: type[nn.Module]) -> type[nn.Module]:
    """WavLM's attention, in which each head gates its position bias by its share of the input.

    Stock code passes all weights to one function, which requires that all heads together are as
    wide as the input. Here the projections run as modules, and each head that is left reads the
    same share of the input as before. Source: WavLM (Chen et al. 2022), section III-B.
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
        # The first layer computes the bias of all heads and returns it; the others are given it.
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
        mean = weights.mean(1, keepdim=True).expand_as(weights)  # as stock code returns maps
        return self.out_proj(context), mean, of_all

    return type(f"GatedBias{kind.__name__}", (kind,), {"forward": forward})


def _bias_gates(attention: Any, hidden_states: Tensor) -> Tensor:
    """The factors of the heads' position biases, [B, H, T, 1]."""
    heads = torch.tensor(attention.heads_with_slopes, device=hidden_states.device)
    shares = hidden_states.unflatten(-1, (attention.num_slopes, -1)).index_select(-2, heads)
    projected = attention.gru_rel_pos_linear(shares.transpose(1, 2))
    update, reset = projected.unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
    return update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0


@remembered
def whole_inputs(kind: type[nn.Module], method: str) -> type[nn.Module]:
    """Attention that rotates its inputs before the projections, split into as many parts as before.

    A part is as wide as a head. The width of the input gives their number, since ``num_heads``
    counts only the heads that are left.
    """
    rotate = getattr(kind, method)

    @wraps(rotate)
    def rotated(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = hidden_states.shape[-1] // self.head_size
        return rotate(Overridden(self, {"num_heads": parts}), hidden_states, *args, **kwargs)

    return type(f"WholeInputs{kind.__name__}", (kind,), {method: rotated})


@remembered
def own_width(kind: type[nn.Module], variable: str, at: str) -> type[nn.Module]:
    """Attention that uses the width of its own heads where stock code uses the input's.

    Stock code sets a variable of its forward method to the width of the input. The method is
    compiled again with one more statement, which sets the variable before it is used.
    """
    # The source is changed since the variable is local: no argument or attribute reaches it.
    stock = inspect.unwrap(kind.forward)
    tree = ast.parse(textwrap.dedent(inspect.getsource(stock)))
    (method,) = tree.body
    assert isinstance(method, ast.FunctionDef)
    # An assertion that compares the variable with the input's width has to see that width, so the
    # new value is set behind it.
    uses = [i for i, line in enumerate(method.body) if _reads(line, variable)]
    (setting,) = ast.parse(f"{variable} = self.width_of_heads").body
    method.body.insert(uses[0] if at == "first" else uses[-1], setting)
    # File and line numbers are those of the stock code, so that errors show the right lines.
    ast.increment_lineno(tree, stock.__code__.co_firstlineno - 1)
    made: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(tree), inspect.getsourcefile(stock) or "", "exec")
    exec(code, stock.__globals__, made)
    return type(f"OwnWidth{kind.__name__}", (kind,), {"forward": made[method.name]})


def _reads(line: ast.stmt, variable: str) -> bool:
    """Whether a statement reads a variable, other than in an assertion."""
    names = (node for node in ast.walk(line) if isinstance(node, ast.Name))
    read = any(node.id == variable and isinstance(node.ctx, ast.Load) for node in names)
    return read and not isinstance(line, ast.Assert)


@remembered
def without_heads(
    kind: type[nn.Module], output: str, returns: str = "context and map"
) -> type[nn.Module]:
    """Attention without heads: a context of width 0 goes through the output projection.

    The cache still gets an entry for each token, since generation asks the first layer of the cache
    how many tokens there are.
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
        maps = hidden_states.new_zeros(batch, 0, length, length)  # of no heads
        return (context, maps, None) if returns == "context, map and bias" else (context, maps)

    return type(f"WithoutHeads{kind.__name__}", (kind,), {"forward": forward})


@remembered
def without_neurons(kind: type[nn.Module]) -> type[nn.Module]:
    """Experts without neurons: each returns its bias, if it has one."""

    def forward(self: Any, hidden_states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        bias = getattr(self, "down_proj_bias", None)
        if bias is None:
            return torch.zeros_like(hidden_states)
        every = torch.cat([bias, torch.zeros_like(bias[:1])])  # last row: index of "no expert"
        return (every[chosen] * weights[..., None]).sum(-2).to(hidden_states.dtype)

    return type(f"WithoutNeurons{kind.__name__}", (kind,), {"forward": forward})


@remembered
def skipped(kind: type[nn.Module]) -> type[nn.Module]:
    """The stand-in of a removed layer, which returns its input."""
    signature = inspect.signature(kind.forward)

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        # The first argument after self is the hidden states, whatever its name.
        given = signature.bind_partial(self, *args, **kwargs).arguments
        _, hidden_states, *_ = given.values()
        given = given | given.get("kwargs", {})  # keyword arguments that the method does not name
        past = given.get("past_key_values", given.get("layer_past"))
        # A stack that runs several times has a layer of the cache for each run.
        if self.counts_tokens and past is not None:
            count_tokens(past, hidden_states, self.layer_idx + given.get("cycle_offset", 0))
        # The empty cross-attention is called for the hooks that collect attention maps.
        other = given.get("encoder_hidden_states")
        for name in self.silent if other is not None else ():
            self.get_submodule(name)(hidden_states, other)
            if self.counts_tokens and past is not None:
                count_others(past, other, self.layer_idx)
        return hidden_states

    return type(f"Skipped{kind.__name__}", (kind,), {"forward": forward})


@remembered
def silent(kind: type[nn.Module]) -> type[nn.Module]:
    """The cross-attention of a removed layer: it returns a map of no heads if maps are wanted.

    So the list of maps has an entry for every layer, and word timestamps find maps by their layer.
    """

    def forward(self: Any, hidden_states: Tensor, other: Tensor) -> tuple[Tensor, Tensor | None]:
        # Only eager attention returns maps; all others return None.
        config = getattr(self, "config", None)
        if getattr(config, "_attn_implementation", None) != "eager":
            return hidden_states, None
        shape = (hidden_states.shape[0], 0, hidden_states.shape[1], other.shape[1])
        return hidden_states, hidden_states.new_zeros(shape)

    return type(f"Silent{kind.__name__}", (kind,), {"forward": forward})


def count_tokens(past: Any, hidden_states: Tensor, layer: int) -> None:
    """Put keys and values of width 1 into a cache, one for each token; nobody reads them."""
    batch, length = hidden_states.shape[:2]
    seen = hidden_states.new_zeros(batch, 1, length, 1)
    # A cache of an encoder-decoder model holds two; any other is the cache itself.
    getattr(past, "self_attention_cache", past).update(seen, seen, layer)


def count_others(past: Any, other: Any, layer: int) -> None:
    """The same for the cache of cross-attention, once: the encoder's output does not change."""
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
