"""A constraint as part of a loss: multipliers ascend while the optimizer descends."""

from jaxtyping import Float
from torch import Tensor


def lagrangian(
    excess: Float[Tensor, ""], linear: Float[Tensor, ""], quadratic: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    r"""The term ``lambda1 e + lambda2 e^2``, which drives the excess e to zero.

    The gradient of both multipliers is reversed, so that one optimizer serves for all: it descends
    in ``e`` and ascends in the multipliers. lambda1 rises while ``e`` is positive and falls while
    it is negative; lambda2 only rises.

    Args:
        excess: e, by how much the constraint is missed, with its sign.
        linear: lambda1.
        quadratic: lambda2.

    Example:
        >>> import torch
        >>> lambda1 = torch.zeros((), requires_grad=True)
        >>> lagrangian(torch.tensor(-0.25), lambda1, torch.tensor(4.0)).backward()
        >>> lambda1.grad  # descent takes lambda1 below zero
        tensor(0.2500)

    Source: Wang, Wohlwend, Lei 2020, arXiv 1910.04732 (for the size of a model); Xia, Zhong, Chen
        2022, arXiv 2204.00408.
    """
    return _climbing(linear) * excess + _climbing(quadratic) * excess.square()


def _climbing(multiplier: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The value of the multiplier, with the sign of its gradient reversed."""
    # The value is 2m - m = m; of the two terms, only -m has a gradient.
    return 2 * multiplier.detach() - multiplier
