"""The order in which training examples are seen."""

from collections.abc import Iterator
from typing import final

import torch
from numpy.random import SeedSequence
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


@final
class GroupedByLength(Sampler[int]):
    """Batches of similar length, in an order that depends only on the seed and the epoch.

    The Trainer's own ``LengthGroupedSampler`` draws from torch's global generator. Restarting
    changes the state of that generator, and so does every call of dropout. A run resumed after its
    first epoch would see some examples twice and others never, and two methods would see different
    orders from the second epoch on.

    Args:
        inner: the sampler that groups examples by length.
        seed: seed of the run.

    Example:
        >>> order = GroupedByLength(LengthGroupedSampler(2, lengths=[3, 5, 2, 4]), seed=0)
        >>> first = list(order)
        >>> order.set_epoch(1)
        >>> second = list(order)
        >>> order.set_epoch(0)
        >>> list(order) == first, sorted(second)
        (True, [0, 1, 2, 3])
    """

    def __init__(self, inner: LengthGroupedSampler, seed: int) -> None:
        self._inner, self._seed, self._epoch = inner, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the Trainer calls this before each one."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[int]:
        (mixed,) = SeedSequence([self._seed, self._epoch]).generate_state(1)
        self._inner.generator = torch.Generator().manual_seed(int(mixed))
        return iter(self._inner)
