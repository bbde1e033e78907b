"""Scales of kept units that make up for the removed ones, by least squares."""

import torch
from jaxtyping import Float
from torch import Tensor


def contributions(
    second_moments: Float[Tensor, "i i"], weight: Float[Tensor, "i o"], *, width: int
) -> Float[Tensor, "k k"]:
    """Inner products of the units' contributions to the output of a linear map, over all tokens.

    Unit u owns ``width`` inputs and contributes ``x_u W_u``. Two single inputs contribute with the
    product ``<x_i W_i, x_j W_j> = x_i x_j (W W^T)_ij``. So of the data only ``X^T X`` is needed:

    ``G_uv = sum_t <x_tu W_u, x_tv W_v> = sum over i in u, j in v of (X^T X)_ij (W W^T)_ij``.

    Args:
        second_moments: ``X^T X`` over all tokens.
        weight: row i is what input i adds to the outputs.
        width: consecutive inputs of a unit; k is i / width.

    Example:
        >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> contributions(x.T @ x, w, width=1).tolist()
        [[1.0, 2.0], [2.0, 8.0]]
    """
    # Input by input first, then summed over the width x width block of each pair of units.
    products = second_moments * (weight @ weight.T)
    return products.unflatten(0, (-1, width)).unflatten(-1, (-1, width)).sum((1, 3))


def fit_scales(
    products: Float[Tensor, "k k"], gaps: Float[Tensor, " k"], *, damping: float
) -> Float[Tensor, " k"]:
    """The scales s with which the sum of all contributions comes closest to a target b.

    They minimise ``|| sum_u s_u a_u - b ||^2 + l || s - 1 ||^2`` with
    ``l = damping * mean(diag G)``. The solution for ``s - 1`` uses the Cholesky factorisation of
    ``G + l I``, in float64. Damping bounds the condition number by ``1 + k / damping``, and the
    scales of units that hardly contribute stay near one.

    Args:
        products: ``G_uv = <a_u, a_v>``, see ``contributions``.
        gaps: ``<a_u, b - sum_v a_v>``: the product of each contribution with what is missing of b
            when all scales are one.
        damping: above 0.

    Returns:
        The scales, float64; ones if no unit contributes anything.

    Example:
        >>> fit_scales(torch.eye(2), torch.tensor([1.0, 0.0]), damping=1e-9)
        tensor([2.0000, 1.0000], dtype=torch.float64)

    Source: Kwon et al. 2022, arXiv 2204.09656, mask tuning.
    Differs: the paper solves by LSMR with a damping of its own scale.
    """
    # Solved for s - 1, so that damping pulls the scales towards one, not towards zero.
    matrix, right = products.double(), gaps.double()
    mean = matrix.diagonal().mean()
    if not mean > 0:
        return torch.ones_like(right)
    factor = torch.linalg.cholesky(matrix + damping * mean * torch.eye(len(right)).to(matrix))
    return 1 + torch.cholesky_solve(right[:, None], factor)[:, 0]
