"""What lies in what: a head inside a removed sublayer or layer is removed too."""

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
    """Whether an outer unit holds what sits in a module: all below its own, or in the same.

    Example:
        >>> holds("h.0", "layer", "h.0.attn"), holds("h.0", "sublayer", "h.0.attn")
        (True, False)
    """
    return inner == outer or (KIND[kind].holds == "all below" and inner.startswith(f"{outer}."))


def parents(units: UnitTable) -> tuple[int, ...]:
    """The place of each site's innermost outer site in the same table; -1 for none.

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
    """The units of a quota that do not lie in removed sublayers or layers (module, kind)."""
    return torch.tensor(
        [
            not any(holds(name, kind, site.module) for name, kind in removed)
            for site in quota.units.sites
            for _ in range(site.num_units)
        ],
        dtype=torch.bool,
    )


def check_nesting(quotas: Sequence[Quota]) -> None:
    """Refuse inner units that may not be there any more once outer ones are removed.

    Raises:
        BudgetError: there may be no room for as many as are asked.
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
    """The kind of a quota whose units are counted."""
    return quota.units.sites[0].kind


def _held(outer: Quota, inner: Quota) -> list[int]:
    """How many units of a quota lie in each of the units of an outer one."""
    return [
        sum(s.num_units for s in inner.units.sites if holds(o.module, o.kind, s.module))
        for o in outer.units.sites
    ]


def _check_room(outers: list[Quota], inner: Quota) -> None:
    """Refuse what the worst choice of outer units has no room for."""
    from headcount.units.quota import counted  # not needed to reload a model

    least, asked = len(inner.units), counted(inner, "a kind inside another")
    for outer in outers:
        gone = len(outer.units) - outer.target
        least -= sum(sorted(_held(outer, inner), reverse=True)[:gone])
    least = max(least, 0)
    uneven = len(set(asked.bundles)) > 1
    limits = any(asked.floors)
    if asked.num_keep > least or limits or (uneven and asked.num_keep):
        kind = KIND[kind_of(inner)]
        named = [f"{KIND[kind_of(outer)].plural}={outer.target}" for outer in outers]
        raise BudgetError(
            f"Budget({', '.join(named)}, {kind.plural}={asked.num_keep}): the "
            f"{in_words(map(kind_of, outers))} that stay may hold only {least} "
            f"{kind.nouns}{', not any number of them' if uneven else ''}. Give {kind.plural} 0 to "
            f"{least} without min_per_layer, or name places: "
            f"Budget({KIND[kind_of(outers[0])].plural}={{'self': ..., 'ffn': ...}})."
        )
