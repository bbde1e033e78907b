"""Plan what belongs to heads outside of the projections: position biases and norms."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention, whole_norms
from headcount.architectures.lists import is_of_queries, lists_of
from headcount.architectures.maps import child
from headcount.architectures.match import resolve
from headcount.surgery.draft import Draft

OWN_BIAS = "own_bias"
"""Used in place of a kind: each layer of this stack owns its position-bias table."""

Heads = Mapping[str, tuple[int, ...]]
"""Attention module -> the query heads that stay."""


def pick_from_lists(draft: Draft, found: Attention, heads: tuple[int, ...]) -> None:
    """Shorten lists that hold one norm for each head (StableLM) to the heads that stay."""
    share = found.num_heads // found.num_groups
    # The key-value heads that stay, in order: each query head's, once.
    groups = tuple(dict.fromkeys(head // share for head in heads))
    for path in lists_of(draft.model, found):
        stay = heads if is_of_queries(path) else groups
        parent = f"{found.name}.{path.rpartition('.')[0]}"
        draft.pick(f"{found.name}.{path}", stay)
        draft.set(parent, {"num_heads": len(stay)})


def choose_norms(draft: Draft, found: Attention, heads: tuple[int, ...]) -> None:
    """Let a norm over all heads (OLMo 2) stay whole and return only the heads that stay.

    Removed heads count in its mean square: without them the other heads would be scaled otherwise.
    """
    attention = draft.model.get_submodule(found.name)
    share = found.num_heads // found.num_groups
    groups = tuple(dict.fromkeys(head // share for head in heads))
    for path in whole_norms(found):
        norm = vars(attention.get_submodule(path))
        queries = path in names.QUERY_NORMS
        every = found.num_heads if queries else found.num_groups
        # The norm keeps its dense width, so after an earlier cut indices refer to the dense heads.
        before = norm.get("handed_on", list(range(every)))
        left = [before[unit] for unit in (heads if queries else groups)]
        name = f"{found.name}.{path}"
        draft.set(name, {"handed_on": left, "handed_on_size": found.size_of_query})
        draft.wrap(name, "chosen_features")


def choose_slopes(draft: Draft, found: Attention, heads: tuple[int, ...]) -> None:
    """Let attention select its heads' biases from an argument that has those of all heads.

    Such biases are computed outside of attention, for every dense head (ALiBi).
    """
    dims = [[argument, dim] for argument, dim in found.row.slopes.items()]
    taker = resolve(found.name, found.row.slopes_at)
    draft.wrap(taker, "own_slopes", *dims)
    # Attention too: the mark and the next cut read there which heads are left.
    for name in {found.name, taker}:
        draft.set(name, _which_heads(draft, found, heads))


def replace_forward(draft: Draft, found: Attention, heads: tuple[int, ...]) -> None:
    """Give the module a forward method that runs with fewer heads; the stock one does not."""
    draft.wrap(found.name, found.row.own_forward)
    draft.set(found.name, _which_heads(draft, found, heads))


def _which_heads(draft: Draft, found: Attention, heads: tuple[int, ...]) -> dict[str, Any]:
    """Attributes that say which of the dense model's heads are left, and how many it has.

    Standalone folders that were saved earlier contain these attribute names in their code. So the
    names stay, although not every such bias is a slope.
    """
    values = vars(draft.model.get_submodule(found.name))
    before = values.get("heads_with_slopes", list(range(found.num_heads)))
    total = values.get("num_slopes", found.num_heads)
    # Without heads, attention runs on with one head of zeros, which takes the first head's bias.
    return {"heads_with_slopes": [before[head] for head in heads] or [0], "num_slopes": total}


def own_biases(
    draft: Draft, members: list[Attention], left: Heads, gone: set[str], *, forced: bool
) -> None:
    """Give each layer its own position-bias table, if the layers of a stack keep different heads.

    Args:
        draft: the draft to write to.
        members: the attention modules of one stack; the first has the table for all.
        left: the heads that stay, by module. Modules not named keep all.
        gone: modules inside removed layers.
        forced: whether each layer needs its own table even if all seem to keep the same heads.
    """
    table = members[0].row.bias_table
    modules = {found.name: draft.model.get_submodule(found.name) for found in members}
    with_table = [found for found in members if child(modules[found.name], table) is not None]
    heads = {found.name: left.get(found.name, tuple(range(found.num_heads))) for found in members}
    takers = [found for found in members if found.num_heads and found not in with_table]
    # With equal heads everywhere the first table is sliced like any weight and stays shared. Only
    # a table whose heads are all gone is deleted.
    if not takers or (len(set(heads.values())) == 1 and not forced):
        for found in with_table:
            if found.num_heads and not heads[found.name]:
                draft.lose(f"{found.name}.{table}")
                _says_it_has_one(draft, modules[found.name], found, has=False)
        return
    source = f"{with_table[0].name}.{table}" if with_table else ""
    for found in members:
        if found.name not in gone:
            _own_bias(draft, modules[found.name], found, source, heads[found.name])


def _own_bias(
    draft: Draft, module: nn.Module, found: Attention, source: str, heads: tuple[int, ...]
) -> None:
    draft.wrap(found.name, "own_bias", found.row.bias_argument)
    draft.set(found.name, {OWN_BIAS: True})
    # No table in this model: nothing to copy from.
    if not source:
        return
    target = f"{found.name}.{found.row.bias_table}"
    if heads:
        draft.table(target, source, heads)
    elif target == source:
        draft.lose(target)
    _says_it_has_one(draft, module, found, has=bool(heads))


def _says_it_has_one(draft: Draft, module: nn.Module, found: Attention, *, has: bool) -> None:
    if "has_relative_attention_bias" in vars(module):
        draft.set(found.name, {"has_relative_attention_bias": has})
