"""The axis of a comparison: the field of a budget whose amount differs from cell to cell."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from headcount.door.shape import Between, Count
from headcount.errors import BudgetError
from headcount.reports.wording import NOUNS, short
from headcount.units.budget import Budget
from headcount.units.kinds import BY_FIELD, counted

AXES = (*BY_FIELD, "params", "macs")
"""Every axis."""
HEADS = "heads"
"""The axis of comparisons that older versions have begun."""
Amount = Count | Annotated[float, Between(0, 1)]
"""A count, or a fraction."""


def budget_at(axis: str, amount: float, within: Mapping[str, Any]) -> Budget:
    """The budget of a cell.

    Args:
        axis: one of ``AXES``.
        amount: a count, or a fraction.
        within: further fields of the budget, which all cells share.

    Raises:
        BudgetError: there is no such axis, or the budget is invalid.

    Example:
        >>> budget_at("neurons", 0.5, {"place": "decoder"})
        Budget(neurons=0.5, place='decoder')
    """
    if axis == "latency":
        raise BudgetError(
            "compare(axis='latency'): a budget of latency needs a table that is measured for each "
            "model. Give macs or params; the latency of every cell is measured in any case."
        )
    if axis not in AXES:
        raise BudgetError(f"compare(axis={axis!r}): give one of {', '.join(AXES)}.")
    return Budget(**{axis: amount, **within})


def check_alike(amounts: Collection[float]) -> None:
    """Refuse counts and fractions on one axis: 1 and 1.0 would be taken for the same.

    Raises:
        BudgetError: there are both.

    Example:
        >>> check_alike((12, 6))
    """
    if len({isinstance(amount, float) for amount in amounts}) > 1:
        raise BudgetError(
            f"compare(amounts={tuple(amounts)}): give counts or fractions in one comparison, not "
            "both."
        )


def in_name(axis: str, amount: float) -> str:
    """An amount in the name of a cell.

    Example:
        >>> in_name("heads", 12), in_name("neurons", 0.5)
        ('12', 'neurons0.5')
    """
    return str(amount) if axis == HEADS else f"{axis.replace('_', '-')}{amount}"


def in_column(axis: str, amount: float | None) -> str:
    """An amount as the heading of a column; None stands for the dense model.

    Example:
        >>> in_column("heads", 12), in_column("macs", 0.35), in_column("params", 66_000_000)
        ('12', '35%', '66 M')
        >>> in_column("heads", None)
        'all'
    """
    if amount is None:
        return "all"
    if isinstance(amount, float):
        return f"{100 * amount:.4g}%"
    return str(amount) if axis in BY_FIELD else short(amount)


def in_words(axis: str, amounts: Collection[float] = ()) -> str:
    """What the axis measures.

    Args:
        axis: one of ``AXES``.
        amounts: amounts of the axis, which are counts or fractions.

    Example:
        >>> in_words("heads", [12]), in_words("kv_heads", [0.5]), in_words("macs", [0.5])
        ('heads kept', 'share of key-value heads kept', 'greatest share of MACs')
    """
    is_share = any(isinstance(amount, float) for amount in amounts)
    if axis in BY_FIELD:
        return f"{'share of ' if is_share else ''}{BY_FIELD[axis].nouns} kept"
    return f"greatest {'share' if is_share else 'number'} of {NOUNS[axis]}"


def in_title(axis: str, amount: float) -> str:
    """An amount with its unit, above a panel.

    Example:
        >>> in_title("heads", 12), in_title("neurons", 0.5), in_title("macs", 0.5)
        ('12 heads', '50% of neurons', '50% of MACs')
    """
    if axis in BY_FIELD and isinstance(amount, int):
        return counted(amount, BY_FIELD[axis].name)
    noun = BY_FIELD[axis].nouns if axis in BY_FIELD else NOUNS[axis]
    return f"{in_column(axis, amount)}{' of' if isinstance(amount, float) else ''} {noun}"
