"""How many units must remain, exactly."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from headcount.errors import BudgetError
from headcount.maths.select import Bundle, totals
from headcount.units.quota import Pool, Quota
from headcount.units.site import KINDS
from headcount.units.table import UnitTable

Amount = int | float
"""A count, or a fraction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What must remain, exactly.

    Each kind of unit has a count, or a fraction of the model's units of that kind (rounded to the
    nearest count, halves up), or numbers for several places. Kinds that are not named stay whole;
    so does what lies at places that are not named.

    Example:
        >>> Budget(heads=12)                      # 12 heads in all
        Budget(heads=12)
        >>> Budget(heads=0.25).heads              # a quarter of the heads
        0.25
        >>> Budget(heads=3, scope="layer").scope  # 3 heads in every layer
        'layer'
        >>> Budget(heads=24, where="cross")       # of the cross-attention heads
        Budget(heads=24, where='cross')
        >>> Budget(heads={"encoder": 6, "decoder.cross": 2}, rows=0.5).rows
        0.5

    Raises:
        BudgetError: a value that cannot be a budget, whatever the model.
    """

    heads: Amount | Mapping[str, Amount] | None = None
    """Query heads to keep. Where they share key-value heads, each of these keeps equally many."""
    groups: Amount | Mapping[str, Amount] | None = None
    """Key-value heads to keep, each with all its query heads."""
    rows: Amount | Mapping[str, Amount] | None = None
    """Neurons of feed-forward networks to keep."""
    modules: Amount | Mapping[str, Amount] | None = None
    """Attention modules and feed-forward networks to keep; places: ``self``, ``cross``, ``ffn``."""
    layers: Amount | Mapping[str, Amount] | None = None
    """Layers to keep."""
    scope: Literal["global", "layer"] = "global"
    """``global``: a number is for all layers together; ``layer``: for every layer alike."""
    min_per_layer: int = 0
    """At least so many units stay in every layer."""
    where: str = ""
    """Only units at this place: ``self``, ``cross``, ``encoder``, ``decoder``, the name of a
    tower, or several joined by dots. Everything else stays whole."""

    def __post_init__(self) -> None:
        if not any(True for _, value in self._amounts() for _ in _places(value)):
            raise BudgetError(
                "Budget(): nothing is asked. Give a number of heads, groups, rows, modules or "
                "layers to keep, such as Budget(heads=12)."
            )
        if self.heads is not None and self.groups is not None:
            raise BudgetError(
                f"Budget(heads={self.heads!r}, groups={self.groups!r}): give one of them. A group "
                "stays or goes with all its query heads."
            )
        for name, value in self._amounts():
            for place, amount in _places(value):
                if not isinstance(place, str):
                    raise BudgetError(
                        f"Budget({name}={{{place!r}: {amount!r}}}): {place!r} is no place. Give a "
                        "name such as 'cross' or 'decoder.self'."
                    )
                where = f"{{{place!r}: {amount!r}}}" if place else repr(amount)
                _check_amount(f"Budget({name}={where})", amount)
        if self.scope not in ("global", "layer"):
            raise BudgetError(f"Budget(scope={self.scope!r}): give 'global' or 'layer'.")
        if not isinstance(self.min_per_layer, int) or self.min_per_layer < 0:
            raise BudgetError(
                f"Budget(min_per_layer={self.min_per_layer!r}): give a whole number, 0 or more."
            )

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.describe().items())
        return f"Budget({given})"

    def describe(self) -> dict[str, Any]:
        """What was asked, as plain values.

        Example:
            >>> Budget(heads=12, min_per_layer=1).describe()
            {'heads': 12, 'min_per_layer': 1}
        """
        asked = {name: value for name, value in self._amounts() if value is not None}
        plain = {name: dict(v) if isinstance(v, Mapping) else v for name, v in asked.items()}
        extra = {"scope": self.scope, "min_per_layer": self.min_per_layer, "where": self.where}
        usual = {"scope": "global", "min_per_layer": 0, "where": ""}
        return plain | {name: v for name, v in extra.items() if v != usual[name]}

    def pools(self, units: UnitTable) -> tuple[Pool, ...]:
        """The exact counts this budget means for one model, the outermost kind first.

        Args:
            units: the units of the model.

        Returns:
            For each number that was asked, the units it is about and the quota.

        Raises:
            BudgetError: no keep of this model meets the budget; the message has the nearest
                values that can be met.
        """
        pools = []
        for name, value in self._amounts():
            for place, amount in _places(value):
                pools.append(self._pool(units, name, place, amount))
        _check_apart(pools)
        _check_nesting(pools)
        return tuple(sorted(pools, key=lambda pool: KINDS.index(_kind(pool))))

    def _amounts(self) -> Iterator[tuple[str, Amount | Mapping[str, Amount] | None]]:
        for kind in KINDS:
            yield f"{kind}s", getattr(self, f"{kind}s")

    def _pool(self, units: UnitTable, name: str, place: str, amount: Amount) -> Pool:
        kind = name.removesuffix("s")
        call = f"Budget({name}={amount!r})"
        own = units.only(kind)
        if not own.sites:
            has = ", ".join(f"{units.num(k)} {k}s" for k in KINDS if k in units.kinds)
            raise BudgetError(f"{call}: the model has no {name}. It has {has}: ask for these.")
        for part in (self.where, place):
            if part and not own.at(part).sites:
                raise BudgetError(
                    f"{call} at {part!r}: the model has no {name} there. It has {name} at: "
                    f"{', '.join(own.places)}. Give one of these, or several joined by dots."
                )
            own = own.at(part)
        quota = self._quota(own, call, amount, name)
        return Pool(own, quota, place)

    def _quota(self, units: UnitTable, call: str, amount: Amount, name: str) -> Quota:
        sizes = units.num_per_layer
        bundles = _bundles(units)
        homes = tuple(units.layers.index(site.place) for site in units.sites) if bundles else ()
        if self.scope == "layer":
            counts = tuple(
                _count(amount, size, call, f"a layer of the model has {size} {name}")
                for size in sizes
            )
            if bundles and isinstance(amount, float):
                inside = [
                    [b for b, home in zip(bundles, homes, strict=True) if home == layer]
                    for layer in range(len(sizes))
                ]
                counts = tuple(
                    _nearest(totals(own), amount * size)
                    for own, size in zip(inside, sizes, strict=True)
                )
            quota = Quota(
                num_keep=sum(counts), floors=counts, ceilings=counts, bundles=bundles, homes=homes
            )
            low = min(counts)
        else:
            num_keep = _count(amount, sum(sizes), call, f"the model has {sum(sizes)} {name}")
            floors = (self.min_per_layer,) * len(sizes)
            quota = Quota(
                num_keep=num_keep, floors=floors, ceilings=sizes, bundles=bundles, homes=homes
            )
            low = min(sizes)
        call = call.removesuffix(")")
        if self.min_per_layer > low:
            raise BudgetError(
                f"{call}, min_per_layer={self.min_per_layer}): some layer can only keep {low} "
                f"{name}. Give min_per_layer 0 to {low}."
            )
        if quota.num_keep < sum(quota.floors):
            raise BudgetError(
                f"{call}, min_per_layer={self.min_per_layer}): {len(sizes)} layers need "
                f"{sum(quota.floors)} {name}. Give {name} {sum(quota.floors)} to {sum(sizes)}, or "
                "a smaller min_per_layer."
            )
        return _legal(quota, units, f"{call})", amount, name) if bundles else quota


def _check_amount(call: str, amount: object) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise BudgetError(
            f"{call}: {type(amount).__name__} is not a number. Give a count such as 12, or a "
            "fraction such as 0.25."
        )
    if isinstance(amount, float) and not 0 <= amount <= 1:
        raise BudgetError(
            f"{call}: a fraction lies between 0.0 and 1.0. Give a whole number for a count."
        )
    if amount < 0:
        raise BudgetError(f"{call}: a count cannot be negative. Give 0 or more.")


def _places(value: Amount | Mapping[str, Amount] | None) -> Iterator[tuple[str, Amount]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif value is not None:
        yield "", value


def _count(amount: Amount, total: int, call: str, owner: str) -> int:
    if isinstance(amount, float):
        return math.floor(amount * total + 0.5)
    if amount > total:
        raise BudgetError(f"{call}: {owner}. Give 0 to {total}.")
    return amount


def _kind(pool: Pool) -> str:
    return pool.units.sites[0].kind


def _bundles(units: UnitTable) -> tuple[Bundle, ...]:
    """The sites' bundles if any of them has query heads that share key-value heads."""
    bundles = tuple((site.num_units, site.num_groups) for site in units.sites)
    return bundles if any(groups > 1 for _, groups in bundles) else ()


def _legal(quota: Quota, units: UnitTable, call: str, amount: Amount, name: str) -> Quota:
    """The quota if its counts can be met with equally many query heads for each key-value head.

    Raises:
        BudgetError: they cannot; the message has the nearest totals.
    """
    groups = max(group for _, group in quota.bundles)
    total, possible, owner = quota.num_keep, quota.totals(), "the model"
    if quota.floors == quota.ceilings and total not in possible:
        one = _layer_that_cannot(quota, units)
        total, owner = quota.floors[one], "a layer"
        inside = [b for b, home in zip(quota.bundles, quota.homes, strict=True) if home == one]
        possible, groups = totals(inside), max(group for _, group in inside)
    if total in possible:
        return quota
    below = max((count for count in possible if count < total), default=None)
    above = min((count for count in possible if count > total), default=None)
    if isinstance(amount, float):
        return replace(quota, num_keep=_nearest(possible, amount * len(units)))
    options = " or ".join(str(count) for count in (below, above) if count is not None)
    raise BudgetError(
        f"{call}: {owner} cannot keep exactly {total} {name}: each of the {groups} key-value heads "
        f"of a layer keeps equally many query heads. Give {options}, or a budget of groups, which "
        "takes whole key-value heads."
    )


def _nearest(counts: Iterable[int], asked: float) -> int:
    """The count that is nearest to what was asked; of two, the greater."""
    return min(counts, key=lambda count: (abs(count - asked), -count))


def _layer_that_cannot(quota: Quota, units: UnitTable) -> int:
    """The first layer whose count its sites cannot keep."""
    for layer in range(len(units.layers)):
        inside = [b for b, home in zip(quota.bundles, quota.homes, strict=True) if home == layer]
        if quota.floors[layer] not in totals(inside):
            return layer
    return 0


def _check_apart(pools: list[Pool]) -> None:
    """Refuse two numbers for the same units."""
    seen: dict[tuple[str, str], Pool] = {}
    for pool in pools:
        for site in pool.units.sites:
            if site.key in seen:
                raise BudgetError(
                    f"Budget: two numbers are given for the {site.kind}s of {site.module}. Give "
                    "places that have no units in common."
                )
            seen[site.key] = pool


def _check_nesting(pools: list[Pool]) -> None:
    """Refuse inner units that may not be there any more once outer ones are removed."""
    for inner in pools:
        level = KINDS.index(_kind(inner))
        outers = [
            outer
            for outer in pools
            if _kind(outer) in ("layer", "module") and KINDS.index(_kind(outer)) < level
        ]
        outers = [outer for outer in outers if any(_held(outer, inner))]
        if outers:
            _check_room(outers, inner)


def _held(outer: Pool, inner: Pool) -> list[int]:
    """How many units of a pool lie in each of the units of an outer one."""
    return [
        sum(s.num_units for s in inner.units.sites if holds(o.module, o.kind, s.module))
        for o in outer.units.sites
    ]


def _check_room(outers: list[Pool], inner: Pool) -> None:
    """Refuse what the worst choice of outer units has no room for."""
    least = len(inner.units)
    for outer in outers:
        gone = len(outer.units) - outer.quota.num_keep
        least -= sum(sorted(_held(outer, inner), reverse=True)[:gone])
    least = max(least, 0)
    uneven = len(set(inner.quota.bundles)) > 1
    limits = any(inner.quota.floors)
    if inner.quota.num_keep > least or limits or (uneven and inner.quota.num_keep):
        named = ", ".join(f"{_kind(outer)}s={outer.quota.num_keep}" for outer in outers)
        kinds = " and ".join(f"{_kind(outer)}s" for outer in outers)
        raise BudgetError(
            f"Budget({named}, {_kind(inner)}s={inner.quota.num_keep}): the {kinds} that stay may "
            f"hold only {least} {_kind(inner)}s{', not any number of them' if uneven else ''}. "
            f"Give {_kind(inner)}s 0 to {least} without min_per_layer, or name places: "
            f"Budget({_kind(outers[0])}s={{'self': ..., 'ffn': ...}})."
        )


def holds(outer: str, kind: str, inner: str) -> bool:
    """Whether an outer unit holds what sits in a module: a layer all below it, else the same.

    Example:
        >>> holds("h.0", "layer", "h.0.attn"), holds("h.0", "module", "h.0.attn")
        (True, False)
    """
    return inner == outer or (kind == "layer" and inner.startswith(f"{outer}."))


def allowed(pool: Pool, removed: set[tuple[str, str]]) -> Bool[Tensor, " n"]:
    """The units of a pool that do not lie in removed modules or layers (module, kind)."""
    return torch.tensor(
        [
            not any(holds(name, kind, site.module) for name, kind in removed)
            for site in pool.units.sites
            for _ in range(site.num_units)
        ],
        dtype=torch.bool,
    )
