"""Gumbel noise: the K highest logits with noise are a random draw without replacement."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def gumbel_noise(
    shape: Sequence[int],
    generator: Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, "..."]:
    r"""Independent draws of the standard Gumbel distribution, G = -log(-log U), always finite.

    U is uniform on the doubles between 0 and 1, both excluded, so G lies between -3.63 and 36.8.
    The draw is made in float64 on the generator's device: the same seed gives the same noise
    whatever the dtype and the device asked for.

    Args:
        shape: shape of the result.
        generator: the source of randomness; its state advances.
        dtype: floating dtype of the result.
        device: device of the result; that of the generator unless given.

    Returns:
        The noise, of the given shape.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> gumbel_noise((2, 3), generator).shape
        torch.Size([2, 3])

    Source: Gumbel, "Statistical theory of extreme values and some practical applications", 1954;
        for draws of K out of N, Kool, van Hoof and Welling, 2019, arXiv 1903.06059.
    """
    home = generator.device
    uniform = torch.rand(tuple(shape), generator=generator, dtype=torch.float64, device=home)
    # torch.rand gives multiples of 2^-53 from 0 to 1 - 2^-53; zero moves up by half a step.
    noise = -torch.log(-torch.log(uniform.clamp(min=2.0**-54)))
    return noise.to(device or home, dtype)
