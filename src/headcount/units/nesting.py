"""Nesting of units: a head inside a removed sublayer or layer is removed too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from headcount.errors import BudgetError
from headcount.units.kinds import KIND, KINDS, WHOLE, in_words

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from headcount.units.quota import Quota
    from headcount.units.table import UnitTable


def holds(outer: str, kind: str, inner: str) -> bool:
    """Whether a unit in module ``outer`` contains the units of module ``inner``.

    A layer contains those of all modules below its own; a sublayer those of its own module.

    Example:
        >>> holds("h.0", "layer", "h.0.attn"), holds("h.0", "sublayer", "h.0.attn")
        (True, False)
    """
    return inner == outer or (KIND[kind].holds == "all below" and inner.startswith(f"{outer}."))


def parents(units: UnitTable) -> tuple[int, ...]:
    """For each site, the index of the innermost site around it in the same table; -1 for none.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> table = hc.units(model, "layer", "head")
        >>> [site.kind for site in table.sites], parents(table)
        (['head', 'head', 'layer', 'layer'], (2, 3, -1, -1))
    """
    outer = [(i, site) for i, site in enumerate(units.sites) if site.kind in WHOLE]
    found = []
    for site in units.sites:
        around = [
            (KINDS.index(other.kind), index)
            for index, other in outer
            if KINDS.index(other.kind) < KINDS.index(site.kind)
            and holds(other.module, other.kind, site.module)
        ]
        found.append(max(around)[1] if around else -1)
    return tuple(found)


def allowed(quota: Quota, removed: set[tuple[str, str]]) -> Bool[Tensor, " n"]:
    """True for the units of a quota that are not in a removed sublayer or layer.

    Args:
        quota: the quota.
        removed: (module, kind) of the removed sublayers and layers.
    """
    return torch.tensor(
        [
            not any(holds(name, kind, site.module) for name, kind in removed)
            for site in quota.units.sites
            for _ in range(site.num_units)
        ],
        dtype=torch.bool,
    )


def check_nesting(quotas: Sequence[Quota]) -> None:
    """Refuse numbers of inner units that some choice of outer units could not meet.

    Raises:
        BudgetError: with some choice of outer units, fewer inner units are left than asked for.
    """
    for inner in quotas:
        level = KINDS.index(kind_of(inner))
        outers = [
            outer
            for outer in quotas
            if kind_of(outer) in WHOLE and KINDS.index(kind_of(outer)) < level
        ]
        outers = [outer for outer in outers if any(_held(outer, inner))]
        if outers:
            _check_room(outers, inner)


def kind_of(quota: Quota) -> str:
    """The kind of the units of a ``CountQuota``."""
    return quota.units.sites[0].kind


def _held(outer: Quota, inner: Quota) -> list[int]:
    """For each unit of an outer quota, the number of units of an inner quota inside it."""
    return [
        sum(s.num_units for s in inner.units.sites if holds(o.module, o.kind, s.module))
        for o in outer.units.sites
    ]


def _check_room(outers: list[Quota], inner: Quota) -> None:
    """Refuse a number of inner units that the worst choice of outer units could not meet."""
    from headcount.units.quota import counted  # not needed to reload a model

    least, asked = len(inner.units), counted(inner, "a kind inside another")
    # The worst choice removes the outer units with the most inner ones.
    for outer in outers:
        gone = len(outer.units) - outer.target
        least -= sum(sorted(_held(outer, inner), reverse=True)[:gone])
    least = max(least, 0)
    # With sites of different group sizes, or floors, not every number up to ``least`` can be met
    # with every choice of outer units.
    uneven = len(set(asked.bundles)) > 1
    limits = any(asked.floors)
    if asked.num_keep > least or limits or (uneven and asked.num_keep):
        kind = KIND[kind_of(inner)]
        named = [f"{KIND[kind_of(outer)].plural}={outer.target}" for outer in outers]
        raise BudgetError(
            f"Budget({', '.join(named)}, {kind.plural}={asked.num_keep}): the "
            f"{in_words(map(kind_of, outers))} that stay may hold only {least} "
            f"{kind.nouns}{', not every number' if uneven else ''}. Give {kind.plural} 0 to "
            f"{least} without min_per_layer, or name places: "
            f"Budget({KIND[kind_of(outers[0])].plural}={{'self': ..., 'ffn': ...}})."
        )
