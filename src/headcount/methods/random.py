"""Random heads: the control that every other method has to beat."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.methods.fixed import FixedMethod, FixedState
from headcount.units.quota import Quota


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Random(FixedMethod):
    """Draws scores from the uniform distribution.

    Every keep of K units is equally likely, unless there are limits per layer or query heads that
    share key-value heads.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> hc.decide(model, hc.Random(seed=3), hc.Budget(heads=5)).num_kept
        5

    Source: the control of Michel, Levy, Neubig 2019, arXiv 1905.10650.
    """

    seed: int | None = None
    """Seed of the draw; None for the run's seed."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.seed is not None and (isinstance(self.seed, bool) or self.seed < 0):
            raise BudgetError(f"Random(seed={self.seed!r}): give a whole number, 0 or more.")

    @property
    def name(self) -> str:
        """``random``."""
        return "random"

    def init(self, quota: Quota, generator: Generator) -> FixedState:
        """Draw the scores."""
        scores = torch.rand(len(quota.units), generator=generator, dtype=torch.float64)
        return FixedState(scores, quota)
