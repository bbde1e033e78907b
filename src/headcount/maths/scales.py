"""Scales of what is kept, so that it stands in for what was removed: least squares."""

import torch
from jaxtyping import Float
from torch import Tensor


def contributions(
    second_moments: Float[Tensor, "i i"], weight: Float[Tensor, "i o"], *, width: int
) -> Float[Tensor, "k k"]:
    """Products of what units add to the output of a linear map, summed over all tokens.

    Unit u owns ``width`` inputs and adds ``x_u W_u``. As ``<x_i W_i, x_j W_j>`` of single inputs is
    ``x_i x_j (W W^T)_ij``, the products of all units need no more of the data than ``X^T X``:

    ``G_uv = sum_t <x_tu W_u, x_tv W_v> = sum over i in u, j in v of (X^T X)_ij (W W^T)_ij``.

    Args:
        second_moments: ``X^T X`` over all tokens.
        weight: what one input adds to the outputs, row by row.
        width: consecutive inputs of a unit; k is i / width.

    Example:
        >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> contributions(x.T @ x, w, width=1).tolist()
        [[1.0, 2.0], [2.0, 8.0]]
    """
    products = second_moments * (weight @ weight.T)
    return products.unflatten(0, (-1, width)).unflatten(-1, (-1, width)).sum((1, 3))


def fit_scales(
    products: Float[Tensor, "k k"], gaps: Float[Tensor, " k"], *, damping: float
) -> Float[Tensor, " k"]:
    """The scales s that bring the sum of all contributions nearest to a target.

    They make ``|| sum_u s_u a_u - b ||^2 + l || s - 1 ||^2`` least, with
    ``l = damping * mean(diag G)``. Solved for ``s - 1`` by Cholesky's factorisation of ``G + l I``,
    in float64. Damping bounds the condition number by ``1 + k / damping``, and leaves units alone
    that hardly contribute.

    Args:
        products: ``G_uv = <a_u, a_v>``, see ``contributions``.
        gaps: ``<a_u, b - sum_v a_v>``: how each contribution lies along what is missing when all
            scales are one.
        damping: above 0.

    Returns:
        The scales, float64; ones if nothing contributes.

    Example:
        >>> fit_scales(torch.eye(2), torch.tensor([1.0, 0.0]), damping=1e-9)
        tensor([2.0000, 1.0000], dtype=torch.float64)

    Source: Kwon et al. 2022, arXiv 2204.09656, mask tuning.
    Differs: the paper solves by LSMR with a damping of its own scale.
    """
    matrix, right = products.double(), gaps.double()
    mean = matrix.diagonal().mean()
    if not mean > 0:
        return torch.ones_like(right)
    factor = torch.linalg.cholesky(matrix + damping * mean * torch.eye(len(right)).to(matrix))
    return 1 + torch.cholesky_solve(right[:, None], factor)[:, 0]
