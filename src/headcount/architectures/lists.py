"""Lists inside attention with one module for each head: StableLM's norms."""

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention
from headcount.architectures.maps import child
from headcount.units.cost import NOTHING, Cost


def lists_of(model: nn.Module, found: Attention) -> dict[str, list[nn.Module]]:
    """The lists of an attention module: path from there -> the modules in the list."""
    attention = model.get_submodule(found.name)
    lists = {path: child(attention, path) for path in names.PER_HEAD_LISTS}
    return {path: list(each.children()) for path, each in lists.items() if each is not None}


def is_of_queries(path: str) -> bool:
    """Whether a list is for query heads; else it is for key-value heads."""
    return path.partition(".")[0] in names.QUERY_NORMS


def cost_in_lists(model: nn.Module, found: Attention, kind: str) -> Cost:
    """The cost of one head or key-value head in the lists."""
    share = found.num_heads // found.num_groups if found.num_groups else 1
    cost = NOTHING
    for path, modules in lists_of(model, found).items():
        # A key-value head takes the norms of its query heads along. A query head takes a norm of
        # keys along only if its key-value head is its own.
        each = share if kind == "kv_head" else 1
        if not is_of_queries(path):
            each = int(kind == "kv_head" or share == 1)
        params = sum(parameter.numel() for parameter in modules[0].parameters())
        cost = cost.plus(Cost(params=params, macs_per_token=0), each)
    return cost
