"""Budgets of a cost: a limit on parameters, multiply-accumulates or latency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np

from headcount.errors import BudgetError
from headcount.maths.shares import exactly
from headcount.units.cost_limit import CostLimit
from headcount.units.costs import Costs, latency_of, macs_of, params_of
from headcount.units.kinds import ALL, KIND, KINDS, WHOLE, counted, in_words
from headcount.units.latency import LatencyTable
from headcount.units.site import Site
from headcount.units.table import UnitTable

CURRENCIES = ("params", "macs", "latency")
NOUNS = {"params": "parameters", "macs": "MACs", "latency": "nanoseconds"}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CostBudget:
    """The greatest cost of a model, and which kinds of unit may be removed to meet it.

    Example:
        >>> CostBudget(currency="macs", amount=0.5).length
        128

    Raises:
        BudgetError: a value is wrong for every model, such as a fraction above 1.
    """

    currency: str
    """``params``, ``macs`` or ``latency``."""
    amount: int | float
    """A number of parameters or MACs, or a fraction of the whole."""
    kinds: tuple[str, ...] | None = None
    """The kinds that may be removed; None: neurons, and heads or key-value heads."""
    length: int = 128
    """Tokens of the sequence for which MACs are counted."""
    floor: int = 0
    """This many units of each kind stay in every layer."""
    table: LatencyTable | None = None
    """Measured latencies."""

    def __post_init__(self) -> None:
        self._check_amount()
        self._check_kinds()
        if isinstance(self.length, bool) or not isinstance(self.length, int) or self.length < 1:
            raise BudgetError(
                f"Budget(length={self.length!r}): give a number of tokens, 1 or more."
            )
        if self.floor and set(WHOLE) & set(self.kinds or ()):
            raise BudgetError(
                f"Budget({self.currency}={self.amount!r}, kinds={self.kinds}, min_per_layer="
                f"{self.floor}): a layer or sublayer that goes takes its units along. "
                "Give min_per_layer=0, or kinds without 'layer' and 'sublayer'."
            )

    @property
    def call(self) -> str:
        """The budget as a call, for messages."""
        return f"Budget({self.currency}={self.amount!r})"

    def quota(self, units: UnitTable, *, additive: bool) -> CostLimit:
        """The quota for one model.

        Args:
            units: the units of the model, at the budget's place.
            additive: whether the scores will be losses that add up; if not, they rank.

        Raises:
            BudgetError: the model has no unit of a kind, or costs more even without any unit.
        """
        sites = removable(units, self.kinds, self.call)
        chosen = UnitTable(sites=sites, num_params=units.num_params)
        self._check_floor(chosen)
        costs = self._costs(chosen)
        limit = self._limit(costs)
        return CostLimit(
            costs=costs, limit=limit, amount=self.amount, floor=self.floor, additive=additive
        )

    def _costs(self, units: UnitTable) -> Costs:
        if self.currency == "params":
            return params_of(units)
        if self.currency == "macs":
            return macs_of(units, self.length)
        if self.table is None:
            raise BudgetError(
                f"{self.call}: latencies have to be measured first. Give Budget(latency="
                f"{self.amount!r}, costs=latency_table(model))."
            )
        curves = {site.key: self.table.steps(site) for site in units.sites}
        return latency_of(units, curves, self.table.whole_ns)

    def _limit(self, costs: Costs) -> int:
        whole, noun = costs.whole, NOUNS[self.currency]
        if isinstance(self.amount, int):
            limit = self.amount
            if limit > whole:
                raise BudgetError(f"{self.call}: the model has {whole} {noun}. Give 0 to {whole}.")
        else:  # the decimal fraction as it is written: 0.29 of 100 is 29, not 28
            limit = math.floor(exactly(self.amount) * whole)
        least = costs.base + self._forced(costs)
        if limit < least:
            names = in_words(costs.units.kinds)
            share = math.ceil(Fraction(10_000 * max(least, 0), whole)) / 10_000
            nearest = f"{share}" if self.currency == "latency" else f"{share} or {least}"
            part = 100 * (whole - costs.base) / whole
            few = f"With {self.floor} of each in every layer" if self.floor else "Without them"
            raise BudgetError(
                f"{self.call}: the {names} are {part:.3g}% of the model's {noun} "
                f"({whole - costs.base} of {whole}). {few}, {least} are left: give at least "
                f"{nearest}{', or let more kinds go' if costs.base else ''}."
            )
        return limit

    def _forced(self, costs: Costs) -> int:
        """The greatest cost of the units of the floor, whichever these will be."""
        places: dict[object, list[np.ndarray]] = {}
        for site, steps in zip(costs.units.sites, costs.steps, strict=True):
            places.setdefault((site.layer_key, site.kind), []).append(steps)
        return sum(_dearest(curves, self.floor) for curves in places.values())

    def _check_amount(self) -> None:
        amount = self.amount
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise BudgetError(
                f"{self.call}: {type(amount).__name__} is not a number. Give a fraction such as "
                "0.5."
            )
        if isinstance(amount, float) and not 0 <= amount <= 1:
            raise BudgetError(f"{self.call}: a fraction lies between 0.0 and 1.0.")
        if isinstance(amount, int) and self.currency == "latency":
            raise BudgetError(
                f"{self.call}: give a fraction of the model's own latency, such as 0.7."
            )
        if amount < 0:
            raise BudgetError(f"{self.call}: it cannot be negative. Give 0 or more.")

    def _check_kinds(self) -> None:
        if self.kinds is None:
            return
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len({*self.kinds}) < len(self.kinds):
            raise BudgetError(
                f"Budget(kinds={self.kinds}): give some of {', '.join(KINDS)}, each once."
            )
        if {"head", "kv_head"} <= {*self.kinds}:
            raise BudgetError(
                f"Budget(kinds={self.kinds}): give 'head' or 'kv_head'. A key-value head goes with "
                "all its query heads."
            )
        if self.currency == "latency" and {*self.kinds} & {*WHOLE}:
            raise BudgetError(
                f"{self.call[:-1]}, kinds={self.kinds}): latencies are measured for "
                f"{in_words(kind.name for kind in ALL if not kind.whole)}. Give some of these."
            )

    def _check_floor(self, units: UnitTable) -> None:
        for kind in sorted(units.kinds) if self.floor else ():
            low = min(units.only(kind).num_per_layer)
            if self.floor > low:
                raise BudgetError(
                    f"{self.call[:-1]}, min_per_layer={self.floor}): some layer has only {low} "
                    f"{KIND[kind].nouns}. Give min_per_layer 0 to {low}."
                )


def _dearest(curves: Sequence[np.ndarray], number: int) -> int:
    """The greatest cost of ``number`` units from sites with these curves.

    Example:
        >>> _dearest([np.array([0, 7, 14]), np.array([0, 4, 8])], 3)
        18
    """
    most = np.zeros(1, dtype=np.int64)
    for curve in curves:
        longer = np.full(min(number, len(most) + len(curve) - 2) + 1, -1, dtype=np.int64)
        for count, price in enumerate(curve[: number + 1].tolist()):
            end = min(len(longer), count + len(most))
            longer[count:end] = np.maximum(longer[count:end], most[: end - count] + price)
        most = longer
    return int(most[-1])


def removable(
    units: UnitTable, kinds: tuple[str, ...] | None = None, call: str = "Budget"
) -> tuple[Site, ...]:
    """The sites whose units may be removed to meet a cost.

    Args:
        units: the units of a model.
        kinds: the kinds that may be removed. None: neurons, except those of experts in one tensor,
            and heads, or key-value heads where query heads share them.
        call: the call, for messages.

    Raises:
        BudgetError: the model has no unit of a kind, or units of a kind cannot be removed one by
            one: query heads that share key-value heads, and neurons of experts in one tensor.

    Example:
        >>> import headcount as hc, transformers
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        >>> [site.kind for site in removable(table)]
        ['neuron', 'head']
    """
    bundled = {site.module for site in units.sites if site.kind == "head" and site.num_groups > 1}
    experts = [site.module for site in units.sites if site.kind == "neuron" and site.num_groups > 1]
    if kinds is None:
        wanted = [
            site
            for site in units.sites
            if KIND[site.kind].usual
            and site.kind != ("head" if site.module in bundled else "kv_head")
            and site.module not in experts
        ]
        if not wanted:
            raise BudgetError(f"{call}: the model has no heads or neurons there. Give kinds.")
        return tuple(wanted)
    missing = [kind for kind in kinds if kind not in units.kinds]
    if missing:
        has = ", ".join(counted(units.num(k), k) for k in KINDS if k in units.kinds)
        raise BudgetError(
            f"{call[:-1]}, kinds={kinds}): the model has no {KIND[missing[0]].nouns} there. It has "
            f"{has}: ask for these."
        )
    if "head" in kinds and bundled:
        raise BudgetError(
            f"{call[:-1]}, kinds={kinds}): query heads share key-value heads in "
            f"{sorted(bundled)[0]}, where each of these has to keep equally many. Give 'kv_head' "
            "instead of 'head', or a number of heads: Budget(heads=...)."
        )
    if "neuron" in kinds and experts:
        raise BudgetError(
            f"{call[:-1]}, kinds={kinds}): the neurons of experts lie in one tensor in "
            f"{experts[0]}, where each expert has to keep equally many. Give kinds without "
            "'neuron', or a number of neurons: Budget(neurons=...)."
        )
    return units.only(*kinds).sites
