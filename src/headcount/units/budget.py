"""Budgets: numbers of units, which are met exactly, or a cost that is not exceeded."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from headcount.door.arguments import check_fields, check_value
from headcount.errors import BudgetError
from headcount.maths.select import Bundle, totals
from headcount.maths.shares import exactly, halves_up
from headcount.units.cost_budget import CURRENCIES, CostBudget
from headcount.units.kinds import ALL, BY_FIELD, KIND, KINDS, counted
from headcount.units.latency import LatencyTable
from headcount.units.nesting import check_nesting, kind_of
from headcount.units.quota import CountQuota, Quota, bundles_of
from headcount.units.table import UnitTable

Amount = int | float
"""A count, or a fraction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What must remain: exact numbers of units, or a greatest cost.

    The number of a kind is a count, or a fraction of the model's units of that kind (rounded to the
    nearest count, halves up: 0.58 of 25 is 15), or a number for each of several places. Kinds and
    places that are not named stay whole.

    Instead of numbers of units there may be one cost: ``params``, ``macs`` or ``latency``. Then the
    best units stay whose cost is at most that, and no further unit fits.

    Example:
        >>> Budget(heads=12)                      # 12 heads in all
        Budget(heads=12)
        >>> Budget(heads=0.25).heads              # a quarter of the heads
        0.25
        >>> Budget(heads=3, scope="layer").scope  # 3 heads in every layer
        'layer'
        >>> Budget(heads=24, place="cross")       # 24 of the cross-attention heads
        Budget(heads=24, place='cross')
        >>> Budget(heads={"encoder": 6, "decoder.cross": 2}, neurons=0.5).neurons
        0.5
        >>> Budget(params=0.6)                    # 60% of the model's parameters, at most
        Budget(params=0.6)
        >>> Budget(macs=0.5, kinds=("neuron",))      # half of the MACs of all neurons, at most
        Budget(macs=0.5, kinds=['neuron'])

    Raises:
        BudgetError: a value is wrong for every model, such as a negative count.
        ArgumentError: ``costs`` is not a ``LatencyTable``.
    """

    heads: Amount | Mapping[str, Amount] | None = None
    """Query heads to keep. If they share key-value heads, each of these keeps the same number."""
    kv_heads: Amount | Mapping[str, Amount] | None = None
    """Key-value heads to keep, each with all its query heads."""
    neurons: Amount | Mapping[str, Amount] | None = None
    """Neurons of feed-forward networks to keep."""
    sublayers: Amount | Mapping[str, Amount] | None = None
    """Attentions and feed-forward networks to keep; their places: ``self``, ``cross``, ``ffn``."""
    layers: Amount | Mapping[str, Amount] | None = None
    """Layers to keep."""
    params: Amount | None = None
    """The most parameters: a number, or a fraction of all parameters, embeddings included."""
    macs: Amount | None = None
    """The most multiply-accumulates for one sequence: a number, or a fraction of those of all units
    of the ``kinds``."""
    latency: float | None = None
    """The greatest latency, as a fraction of the model's own; needs the measured ``costs``."""
    kinds: tuple[str, ...] | None = None
    """For a cost: the kinds of unit that may be removed. None: neurons and heads, or key-value
    heads instead of heads where query heads share them."""
    length: int = 128
    """For ``macs``: tokens of the sequence."""
    costs: LatencyTable | None = None
    """For ``latency``: the table that ``latency_table`` has measured."""
    scope: Literal["global", "layer"] = "global"
    """``global``: a number is for all layers together; ``layer``: for each layer."""
    min_per_layer: int = 0
    """At least this many units stay in every layer; with a cost, this many of each kind."""
    place: str = ""
    """Only units at this place: ``self``, ``cross``, ``encoder``, ``decoder``, the name of a
    tower, or several joined by dots. Everything else stays whole."""

    def __post_init__(self) -> None:
        check_value("Budget", "kinds", self.kinds, Collection[str] | None)
        counts = (kind.plural for kind in ALL)
        check_fields(self, but=(*counts, *CURRENCIES, "scope", "min_per_layer"))
        if self.kinds is not None:
            object.__setattr__(self, "kinds", tuple(self.kinds))
        if self.scope not in ("global", "layer"):
            raise BudgetError(f"Budget(scope={self.scope!r}): give 'global' or 'layer'.")
        if not isinstance(self.min_per_layer, int) or self.min_per_layer < 0:
            raise BudgetError(
                f"Budget(min_per_layer={self.min_per_layer!r}): give a whole number, 0 or more."
            )
        self._check_cost()
        if self.cost is None:
            self._check_counts()

    def _check_cost(self) -> None:
        """Refuse two costs, counts beside a cost, and fields that belong to another cost."""
        given = [name for name in CURRENCIES if getattr(self, name) is not None]
        if len(given) > 1:
            named = ", ".join(f"{name}={getattr(self, name)!r}" for name in given)
            raise BudgetError(f"Budget({named}): give one of them.")
        counts = [f"{name}={value!r}" for name, value in self._amounts() if value is not None]
        if given and counts:
            raise BudgetError(
                f"Budget({given[0]}={getattr(self, given[0])!r}, {', '.join(counts)}): give "
                "numbers of units, or one cost. kinds=(...) says what may go for a cost."
            )
        if given and self.scope == "layer":
            raise BudgetError(
                f"Budget({given[0]}={getattr(self, given[0])!r}, scope='layer'): a cost is for the "
                "whole model. Give min_per_layer to keep units in every layer."
            )
        for name, belongs in _BELONGS.items():
            value = getattr(self, name)
            if value not in (None, _USUAL.get(name)) and not {*belongs} & {*given}:
                raise BudgetError(
                    f"Budget({name}=...): it goes with {' or '.join(belongs)} only, such as "
                    f"Budget({belongs[-1]}=0.5, {name}=...)."
                )

    @property
    def cost(self) -> CostBudget | None:
        """The budget of a cost; None if this is a budget of numbers of units."""
        for name in CURRENCIES:
            amount = getattr(self, name)
            if amount is not None:
                return CostBudget(
                    currency=name,
                    amount=amount,
                    kinds=self.kinds,
                    length=self.length,
                    floor=self.min_per_layer,
                    table=self.costs,
                )
        return None

    @property
    def about(self) -> tuple[str, ...]:
        """The kinds of unit that are asked for, or that may be removed for a cost.

        Example:
            >>> Budget(layers=2, heads=3).about, Budget(macs=0.5, kinds=("neuron",)).about
            (('layer', 'head'), ('neuron',))
            >>> Budget(params=0.6).about  # key-value heads where query heads share them
            ('kv_head', 'head', 'neuron')
        """
        if self.cost is not None:
            return self.kinds or tuple(kind.name for kind in ALL if kind.usual)
        return tuple(kind.name for kind in ALL if getattr(self, kind.plural) is not None)

    def _check_counts(self) -> None:
        if not any(True for _, value in self._amounts() for _ in _places(value)):
            *inner, outermost = (kind.plural for kind in reversed(ALL))
            raise BudgetError(
                "Budget(): nothing is asked. Give a number of "
                f"{', '.join(inner)} or {outermost} to keep, such "
                "as Budget(heads=12), or a cost, such as Budget(params=0.6)."
            )
        if self.heads is not None and self.kv_heads is not None:
            raise BudgetError(
                f"Budget(heads={self.heads!r}, kv_heads={self.kv_heads!r}): give one of them. "
                "A key-value head stays or goes with all its query heads."
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

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.describe().items())
        return f"Budget({given})"

    def describe(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain values.

        Example:
            >>> Budget(heads=12, min_per_layer=1).describe()
            {'heads': 12, 'min_per_layer': 1}
        """
        asked = {name: value for name, value in self._amounts() if value is not None}
        plain = {name: dict(v) if isinstance(v, Mapping) else v for name, v in asked.items()}
        names = ("params", "macs", "latency", "kinds", "length", "scope", "min_per_layer", "place")
        extra = {name: getattr(self, name) for name in names}
        extra["kinds"] = None if self.kinds is None else [*self.kinds]
        extra = {name: value for name, value in extra.items() if value != _USUAL.get(name)}
        return plain | extra | ({"costs": self.costs.describe()} if self.costs else {})

    def quotas(self, units: UnitTable, *, additive: bool = False) -> tuple[Quota, ...]:
        """The quotas of this budget for one model, the outermost kind first.

        Args:
            units: the units of the model.
            additive: for a cost: whether scores are losses that add up; if not, they rank.

        Returns:
            One quota for each number of the budget. A cost has one quota, for which several kinds
            compete.

        Raises:
            BudgetError: no keep of this model meets the budget; the message names the nearest
                values that can be met.
        """
        if self.cost is not None:
            return (self.cost.quota(self._at(units), additive=additive),)
        quotas = []
        for name, value in self._amounts():
            for place, amount in _places(value):
                quotas.append(self._quota(units, name, place, amount))
        _check_apart(quotas)
        check_nesting(quotas)
        # Outermost first: what a removed layer holds is gone before its heads are chosen.
        return tuple(sorted(quotas, key=lambda quota: KINDS.index(kind_of(quota))))

    def _at(self, units: UnitTable) -> UnitTable:
        if self.place and not units.has(self.place):
            raise BudgetError(
                f"{self} at {self.place!r}: the model has no units there. It has units at: "
                f"{', '.join(units.places)}. Give one of these, or several joined by dots."
            )
        return units.at(self.place)

    def _amounts(self) -> Iterator[tuple[str, Amount | Mapping[str, Amount] | None]]:
        for kind in ALL:
            yield kind.plural, getattr(self, kind.plural)

    def _quota(self, units: UnitTable, name: str, place: str, amount: Amount) -> CountQuota:
        kind = BY_FIELD[name]
        call = f"Budget({name}={amount!r})"
        own = units.only(kind.name)
        if not own.sites:
            has = ", ".join(counted(units.num(k), k) for k in KINDS if k in units.kinds)
            raise BudgetError(
                f"{call}: the model has no {kind.nouns}. It has {has}: ask for these."
            )
        for part in (self.place, place):
            if part and not own.has(part):
                raise BudgetError(
                    f"{call} at {part!r}: the model has no {kind.nouns} there. It has {kind.nouns} "
                    f"at: {', '.join(own.places)}. Give one of these, or several joined by dots."
                )
            own = own.at(part)
        return replace(self._counted(own, call, amount, name), place=place)

    def _counted(self, units: UnitTable, call: str, amount: Amount, name: str) -> CountQuota:
        sizes = units.num_per_layer
        bundles = bundles_of(units)
        homes = tuple(units.layers.index(site.layer_key) for site in units.sites) if bundles else ()
        if self.scope == "layer":
            counts = tuple(
                _count(amount, size, call, f"a layer of the model has {size} {name}")
                for size in sizes
            )
            if bundles and isinstance(amount, float):
                counts = _nearest_in_layers(amount, sizes, bundles, homes)
            quota = CountQuota(
                units=units,
                num_keep=sum(counts),
                floors=counts,
                ceilings=counts,
                bundles=bundles,
                homes=homes,
            )
            low = min(counts)
        else:
            num_keep = _count(amount, sum(sizes), call, f"the model has {sum(sizes)} {name}")
            quota = CountQuota(
                units=units,
                num_keep=num_keep,
                floors=(self.min_per_layer,) * len(sizes),
                ceilings=sizes,
                bundles=bundles,
                homes=homes,
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
        return _legal(quota, f"{call})", amount, name) if bundles else quota


_BELONGS = {"kinds": CURRENCIES, "length": ("macs",), "costs": ("latency",)}
"""Field -> the costs that it goes with."""
_USUAL = {"length": 128, "scope": "global", "min_per_layer": 0, "place": ""}
"""Defaults, which ``describe`` leaves out."""


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
    # The fraction that is meant, not the binary number of the float: 0.58 of 25 is 14.5.
    if isinstance(amount, float):
        return halves_up(exactly(amount) * total)
    if amount > total:
        raise BudgetError(f"{call}: {owner}. Give 0 to {total}.")
    return amount


def _legal(quota: CountQuota, call: str, amount: Amount, name: str) -> CountQuota:
    """The quota, after a check that each group of a site can keep the same number of units.

    The count of a fraction is replaced by the nearest one that can be met.

    Raises:
        BudgetError: a count cannot be met; the message has the nearest ones.
    """
    groups = max(group for _, group in quota.bundles)
    total, possible, owner = quota.num_keep, quota.totals(), "the model"
    if quota.floors == quota.ceilings and total not in possible:
        one = quota.layer_that_cannot()
        total, owner = quota.floors[one], "a layer"
        inside = [b for b, home in zip(quota.bundles, quota.homes, strict=True) if home == one]
        possible, groups = totals(inside), max(group for _, group in inside)
    if total in possible:
        return quota
    below = max((count for count in possible if count < total), default=None)
    above = min((count for count in possible if count > total), default=None)
    if isinstance(amount, float):
        return replace(quota, num_keep=_nearest(possible, exactly(amount) * len(quota.units)))
    options = " or ".join(str(count) for count in (below, above) if count is not None)
    if quota.units.kinds == {"neuron"}:
        why = f"each of the {groups} experts of a layer keeps equally many neurons. Give {options}."
    else:
        why = (
            f"each of the {groups} key-value heads of a layer keeps equally many query heads. Give "
            f"{options}, or Budget(kv_heads=...), which takes a key-value head with all of them."
        )
    raise BudgetError(f"{call}: {owner} cannot keep exactly {total} {name}: {why}")


def _nearest(counts: Iterable[int], asked: Fraction) -> int:
    """The count that is nearest to the one asked for; of two, the greater."""
    return min(counts, key=lambda count: (abs(count - asked), -count))


def _nearest_in_layers(
    share: float, sizes: Iterable[int], bundles: Sequence[Bundle], homes: Sequence[int]
) -> tuple[int, ...]:
    """The count of each layer that is nearest to a share of it, of those that bundles can make."""
    return tuple(
        _nearest(
            totals([b for b, home in zip(bundles, homes, strict=True) if home == layer]),
            exactly(share) * size,
        )
        for layer, size in enumerate(sizes)
    )


def _check_apart(quotas: Sequence[Quota]) -> None:
    """Refuse a budget with two numbers for the same units."""
    seen: set[tuple[str, str]] = set()
    for quota in quotas:
        for site in quota.units.sites:
            if site.key in seen:
                raise BudgetError(
                    f"Budget: two numbers are given for the {KIND[site.kind].nouns} of "
                    f"{site.module}. Give places that have no units in common."
                )
            seen.add(site.key)
