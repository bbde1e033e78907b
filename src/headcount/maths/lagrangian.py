"""A constraint as part of a loss: multipliers that climb while everything else descends."""

from jaxtyping import Float
from torch import Tensor


def lagrangian(
    excess: Float[Tensor, ""], linear: Float[Tensor, ""], quadratic: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    r"""What holds ``excess`` at zero: ``lambda1 e + lambda2 e^2``.

    The gradient of both multipliers is reversed. So one optimizer that descends on this makes
    ``e`` smaller in the loss and lets the multipliers ascend: lambda1 goes down as long as ``e``
    is negative, up as long as it is positive; lambda2 only goes up.

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
    """The multiplier itself, with its gradient reversed."""
    return 2 * multiplier.detach() - multiplier
