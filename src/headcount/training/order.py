"""In which order a run sees its training data."""

from collections.abc import Iterator
from typing import final

import torch
from numpy.random import SeedSequence
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


@final
class GroupedByLength(Sampler[int]):
    """Batches of like length, in an order that the seed and the number of the epoch decide alone.

    ``LengthGroupedSampler`` as the Trainer makes it draws from torch's global generator. That has a
    new state after a restart, and moves with every call of dropout: a run resumed after its first
    epoch would see some examples twice and others never, and two methods would part after an epoch.

    Args:
        inner: what groups the examples.
        seed: the run's.

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
        """Told by the Trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[int]:
        (mixed,) = SeedSequence([self._seed, self._epoch]).generate_state(1)
        self._inner.generator = torch.Generator().manual_seed(int(mixed))
        return iter(self._inner)
