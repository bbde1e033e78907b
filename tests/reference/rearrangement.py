"""Rearrangement as it is told: every vector sum is made anew."""

from itertools import combinations

from torch import Tensor


def cost(grads: Tensor, removed: list[int]) -> float:
    return grads[:, removed].sum(1).square().sum().item()


def one_by_one(grads: Tensor, keep: Tensor) -> list[bool]:
    """The kept units ascending; each time the one that is best not removed comes back."""
    removed = (~keep).nonzero().flatten().tolist()
    if not removed:
        return keep.tolist()
    importance = grads.square().sum(0)
    for unit in importance.argsort(stable=True).tolist():
        if keep[unit]:
            tried = [*removed, unit]
            costs = [cost(grads, [u for u in tried if u != back]) for back in tried]
            best = min(range(len(tried)), key=lambda i: (costs[i], i != len(tried) - 1))
            del tried[best]
            removed = tried
    return [unit not in removed for unit in range(len(keep))]


def least_cost(grads: Tensor, num_removed: int) -> float:
    """Over all sets of so many units."""
    return min(
        cost(grads, [*chosen]) for chosen in combinations(range(grads.shape[1]), num_removed)
    )
