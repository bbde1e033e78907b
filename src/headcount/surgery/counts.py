"""Attributes of attention modules that count heads, or follow from their number."""

from collections.abc import Mapping
from typing import Any

from headcount.architectures import names
from headcount.architectures.attention import Attention
from headcount.surgery.draft import Draft


def new_counts(
    values: Mapping[str, Any], found: Attention, num_heads: int, num_groups: int
) -> dict[str, int]:
    """The attributes of a module that change with its heads.

    An attribute changes if it has one of the names in ``headcount.architectures.names`` and the
    value that the old number of heads gives.

    Args:
        values: the attributes that the module has.
        found: the attention before the cut.
        num_heads: query heads after it.
        num_groups: key-value heads after it.

    Returns:
        The new values.
    """
    size = found.head_size
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
    """Code that reads the width of its heads off its input is told what they have."""
    draft.wrap(found.name, "own_width", found.row.width, found.row.width_at)
    draft.set(found.name, {"width_of_heads": num_heads * found.head_size})


def new_neurons(values: Mapping[str, Any], before: int, after: int) -> dict[str, int]:
    """The attributes of a feed-forward network that change with its neurons."""
    return {name: after for name in names.NUM_NEURONS if before and values.get(name) == before}
