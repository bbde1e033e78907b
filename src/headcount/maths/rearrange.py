"""Which units go together: swaps that lower what all removed units cost at once."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def removal_cost(grads: Float[Tensor, "batches n"], keep: Bool[Tensor, " n"]) -> float:
    """What the removed units R cost together, by the empirical Fisher information F.

    ``sum_b (sum of g_bi over i in R)^2 = m^T F m``, with ``F = g^T g`` and ``m`` one in R.

    Args:
        grads: gradient of each batch's loss with respect to the units' gates.
        keep: True where a unit stays; the others, R, are removed.

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
    """Swap removed units for kept ones as long as ``removal_cost`` falls; as many stay as before.

    The kept units are visited once, by ascending ``I_i = sum_b g_bi^2``. Each would be removed
    too, and of all that are then removed the one comes back without which the cost is least. With
    ``S`` the sum of the gradients of R and the visited unit, that is the i of the least
    ``||S||^2 - 2 <S, g_i> + ||g_i||^2``.

    On a tie nothing is swapped. A visit costs O(n), with products of all pairs of units made
    beforehand, [n, n] in float64.

    Args:
        grads: gradient of each batch's loss with respect to the gates of the units of one kind in
            one layer.
        keep: where to start, such as the keep of the largest ``I_i``.
        group: units are swapped within their group only; None for all alike.

    Returns:
        A keep whose cost is at most that of ``keep``, with as many units in every group.

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
    home = np.zeros(len(kept), dtype=int) if group is None else group.cpu().numpy()
    along = products[:, removed].sum(1)  # g_i along the sum of the removed
    for unit in np.flatnonzero(kept)[squares[kept].argsort(kind="stable")]:
        others = np.flatnonzero(removed & (home == home[unit]))
        if not len(others):
            continue
        with_unit = along + products[unit]
        costs = squares[others] - 2 * with_unit[others]
        best = costs.argmin()
        if costs[best] < squares[unit] - 2 * with_unit[unit]:
            back = others[best]
            along = with_unit - products[back]
            removed[unit], removed[back] = True, False
    return torch.from_numpy(~removed).to(keep.device)
