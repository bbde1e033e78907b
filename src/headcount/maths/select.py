"""Exact selection: the one function that turns scores into a keep."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.errors import BudgetError


def select(
    scores: Float[Tensor, " n"],
    num_keep: int,
    *,
    layer: Int[Tensor, " n"],
    floors: Sequence[int],
    ceilings: Sequence[int],
) -> Bool[Tensor, " n"]:
    r"""Keep exactly ``num_keep`` units of the highest scores, within limits per layer.

    Of all keeps with exactly ``num_keep`` units and between ``floors[l]`` and ``ceilings[l]`` of
    them in each layer ``l``, this one has the greatest sum of scores. Ties go to the lowest index.
    The limits form a laminar matroid, on which taking the best first is optimal: first the
    ``floors[l]`` best of each layer, then the best of the rest as long as its layer has room.

    Args:
        scores: importance of each unit, higher = keep; finite.
        num_keep: K, the number of units to keep.
        layer: the layer of each unit, 0 to L - 1.
        floors: least number of units to keep in each layer, [L].
        ceilings: greatest number of units to keep in each layer, [L].

    Returns:
        True where the unit stays; its sum is ``num_keep``.

    Raises:
        BudgetError: a score is not finite, or no keep meets the limits.

    Example:
        >>> select(torch.tensor([0.9, 0.8, 0.1, 0.2]), 2, layer=torch.tensor([0, 0, 1, 1]),
        ...        floors=[0, 1], ceilings=[2, 2])
        tensor([ True, False, False,  True])

    Source: Edmonds, "Matroids and the greedy algorithm", Mathematical Programming 1 (1971).
    """
    if not scores.isfinite().all():
        where = (~scores.isfinite()).nonzero().flatten().tolist()
        raise BudgetError(
            f"select: the scores of units {where[:8]} are not finite. Give a number for each "
            "unit; look for a loss or a gradient that is not finite."
        )
    sizes = torch.bincount(layer, minlength=len(floors)).tolist()
    room = [min(ceiling, size) for ceiling, size in zip(ceilings, sizes, strict=True)]
    if not sum(floors) <= num_keep <= sum(room) or any(
        f > r for f, r in zip(floors, room, strict=True)
    ):
        raise BudgetError(
            f"select: {num_keep} units cannot be kept with {list(floors)} to {room} of them in "
            f"the layers. Give {sum(floors)} to {sum(room)}."
        )
    owed, free = list(floors), num_keep - sum(floors)
    keep = torch.zeros(len(scores), dtype=torch.bool)
    ranking = scores.detach().cpu().argsort(descending=True, stable=True).tolist()
    layers = layer.tolist()
    for unit in ranking:
        home = layers[unit]
        if owed[home]:
            owed[home] -= 1
        elif free and room[home]:
            free -= 1
        else:
            continue
        room[home] -= 1
        keep[unit] = True
    return keep
