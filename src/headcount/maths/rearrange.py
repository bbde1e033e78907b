"""Rearrange a keep: swap removed units for kept ones so that the removed ones cancel out."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def removal_cost(grads: Float[Tensor, "batches n"], keep: Bool[Tensor, " n"]) -> float:
    """The loss expected from removing all units R at once, by the empirical Fisher information F.

    ``sum_b (sum of g_bi over i in R)^2 = m^T F m``, with ``F = g^T g`` and ``m`` one in R.

    Args:
        grads: gradient of each batch's loss with respect to the units' gates.
        keep: True where a unit stays; the others are R.

    Example:
        >>> grads = torch.tensor([[1.0, 1.5, -1.6, 0.0], [0.0, 0.0, 0.0, 5.0]])
        >>> removal_cost(grads, torch.tensor([False, False, True, True]))
        6.25

    Source: Kwon et al. 2022, arXiv 2204.09656: the second-order term of the loss, with the
        Hessian replaced by the Fisher information.
    """
    return grads.double()[:, ~keep].sum(1).square().sum().item()


def rearrange(
    grads: Float[Tensor, "batches n"],
    keep: Bool[Tensor, " n"],
    *,
    group: Int[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    """Swap removed units for kept ones where that lowers ``removal_cost``; the number stays.

    Each kept unit is visited once, by ascending importance ``I_i = sum_b g_bi^2``. It is put among
    the removed units, and the one whose return makes the cost lowest comes back; that may be the
    visited unit. With ``S`` the sum of the gradients of R and the visited unit, it is the i with
    the least ``||S||^2 - 2 <S, g_i> + ||g_i||^2``.

    On a tie nothing is swapped. The products of all pairs of units are computed first, [n, n] in
    float64; a visit then takes O(n).

    Args:
        grads: gradient of each batch's loss with respect to the gates of the units of one kind in
            one layer.
        keep: the keep to start from, such as that of the largest ``I_i``.
        group: a number for each unit; only units of one group are swapped. None: one group.

    Returns:
        A keep whose cost is at most that of ``keep``, with equally many units in every group.

    Example:
        >>> grads = torch.tensor([[1.0, 1.5, -1.6, 0.0], [0.0, 0.0, 0.0, 5.0]])
        >>> keep = rearrange(grads, torch.tensor([False, False, True, True]))
        >>> keep.tolist(), round(removal_cost(grads, keep), 6)
        ([True, False, False, True], 0.01)

    Source: Kwon et al. 2022, arXiv 2204.09656, mask rearrangement.
    Differs: a tie changes nothing; groups.
    """
    vectors = grads.detach().double().cpu().numpy()
    products = vectors.T @ vectors
    squares = np.ascontiguousarray(products.diagonal())
    kept = keep.cpu().numpy()
    removed = ~kept
    # Experts, for example, must keep equally many neurons each, so swaps stay within one.
    home = np.zeros(len(kept), dtype=int) if group is None else group.cpu().numpy()
    along = products[:, removed].sum(1)  # <g_i, sum of the removed units' gradients>, kept current
    for unit in np.flatnonzero(kept)[squares[kept].argsort(kind="stable")]:
        others = np.flatnonzero(removed & (home == home[unit]))
        if not len(others):
            continue
        # ||S||^2 is the same for every candidate, so it is left out of the comparison.
        with_unit = along + products[unit]
        costs = squares[others] - 2 * with_unit[others]
        best = costs.argmin()
        # Only if another unit's return is strictly better than the visited unit's own.
        if costs[best] < squares[unit] - 2 * with_unit[unit]:
            back = others[best]
            along = with_unit - products[back]
            removed[unit], removed[back] = True, False
    return torch.from_numpy(~removed).to(keep.device)
