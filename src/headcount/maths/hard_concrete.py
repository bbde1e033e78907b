"""Hard concrete gates: random numbers in [0, 1] that are exactly 0 or 1 with some probability."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

LOW, HIGH = -0.1, 1.1
"""The interval to which a number in (0, 1) is stretched before it is clipped to [0, 1]."""


def open_uniform(shape: Sequence[int], generator: Generator) -> Float[Tensor, "..."]:
    """Independent draws, uniform on the doubles between 0 and 1, both excluded.

    Args:
        shape: shape of the result.
        generator: the source of randomness; its state advances.

    Returns:
        The draws in float64, on the generator's device.

    Example:
        >>> open_uniform((2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    home = generator.device
    uniform = torch.rand(tuple(shape), generator=generator, dtype=torch.float64, device=home)
    return uniform.clamp(min=2.0**-54)  # torch.rand never gives 1, but may give 0


def hard_concrete(
    log_alpha: Float[Tensor, "*n"], uniform: Float[Tensor, "*n"], temperature: float
) -> Float[Tensor, "*n"]:
    r"""Gates drawn from the hard concrete distribution, with a gradient.

    ``s = sigmoid((logit(u) + log alpha) / T)``, ``gate = clip(1.2 s - 0.1, 0, 1)``

    Where a gate is clipped, its gradient is zero.

    Args:
        log_alpha: the higher, the likelier a gate is open.
        uniform: u, in (0, 1).
        temperature: T > 0; the lower, the more gates are exactly 0 or 1.

    Returns:
        The gates, in [0, 1].

    Example:
        >>> half = torch.full((3,), 0.5)
        >>> hard_concrete(torch.tensor([-9.0, 0.0, 9.0]), half, 0.33)
        tensor([0.0000, 0.5000, 1.0000])

    Source: Louizos, Welling, Kingma 2018, arXiv 1712.01312, equations 10 and 11.
    """
    # Stretched beyond [0, 1] and clipped, so that both ends have a positive probability.
    s = torch.sigmoid((torch.logit(uniform) + log_alpha) / temperature)
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def open_chance(log_alpha: Float[Tensor, "*n"], temperature: float) -> Float[Tensor, "*n"]:
    r"""The probability that a hard concrete gate is not zero.

    ``P(open) = sigmoid(log alpha - T ln(0.1 / 1.1))``

    Args:
        log_alpha: the higher, the likelier a gate is open.
        temperature: T > 0, as in ``hard_concrete``.

    Example:
        >>> 1 - open_chance(torch.zeros(1, dtype=torch.float64), 1 / 3)
        tensor([0.3102], dtype=torch.float64)

    Source: Louizos, Welling, Kingma 2018, arXiv 1712.01312, equation 12.
    """
    return torch.sigmoid(log_alpha - temperature * math.log(-LOW / HIGH))


def log_alpha_of(chance: float, temperature: float) -> float:
    """The log alpha of gates that are open with a given probability: inverts ``open_chance``.

    Args:
        chance: P(open), in (0, 1).
        temperature: T > 0, as in ``hard_concrete``.

    Example:
        >>> start = torch.tensor([log_alpha_of(0.9, 0.33)])
        >>> open_chance(start, 0.33)
        tensor([0.9000])
    """
    return math.log(chance / (1 - chance)) + temperature * math.log(-LOW / HIGH)


def noiseless_gate(log_alpha: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""The gate without noise, which the papers use at test time.

    ``gate = clip(1.2 sigmoid(log alpha) - 0.1, 0, 1)``

    Example:
        >>> noiseless_gate(torch.tensor([-2.5, 0.0, 2.5]))
        tensor([0.0000, 0.5000, 1.0000])

    Source: Louizos, Welling, Kingma 2018, arXiv 1712.01312, equation 13.
    """
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)
