"""Attributes of modules that hold a number of heads or neurons, or a width that follows."""

from collections.abc import Mapping
from typing import Any

from headcount.architectures import names
from headcount.architectures.attention import Attention
from headcount.surgery.draft import Draft


def new_counts(
    values: Mapping[str, Any], found: Attention, num_heads: int, num_groups: int
) -> dict[str, int]:
    """The new values of a module's attributes that depend on its number of heads.

    An attribute changes if its name is in ``headcount.architectures.names`` and its value is the
    one that follows from the old number of heads.

    Args:
        values: the module's attributes.
        found: the attention before the cut.
        num_heads: query heads after it.
        num_groups: key-value heads after it.

    Returns:
        Attribute -> new value.
    """
    size = found.head_size
    # The value is compared as well, since one name means different things: embed_dim is the width
    # of all heads in BART, and that of the residual stream elsewhere.
    rules = (
        (names.NUM_HEADS, found.num_heads, num_heads),
        (names.NUM_GROUPS, found.num_groups, num_groups),
        (names.ALL_HEADS_SIZE, found.num_heads * size, num_heads * size),
        (names.ALL_GROUPS_SIZE, found.num_groups * size, num_groups * size),
    )
    new = {
        name: after
        for options, before, after in rules
        for name in options
        if before and values.get(name) == before and name not in found.row.not_counts
    }
    share = num_heads // num_groups if num_groups else 1
    return new | {name: share for name in names.HEADS_PER_GROUP if name in values}


def choose_width(draft: Draft, found: Attention, num_heads: int) -> None:
    """Wrap attention that takes its input's width for that of all heads, and set the latter."""
    draft.wrap(found.name, "own_width", found.row.width, found.row.width_at)
    draft.set(found.name, {"width_of_heads": num_heads * found.head_size})


def new_neurons(values: Mapping[str, Any], before: int, after: int) -> dict[str, int]:
    """The new values of a feed-forward network's attributes that count its neurons."""
    return {name: after for name in names.NUM_NEURONS if before and values.get(name) == before}
