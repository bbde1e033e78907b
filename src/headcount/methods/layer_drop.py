"""LayerDrop: random layers are skipped in training, so that any can be removed afterwards."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.maths.spacing import evenly_spaced
from headcount.methods.method import Method, State, Step
from headcount.units.budget import Budget
from headcount.units.kinds import WHOLE, in_words
from headcount.units.quota import Quota


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LayerDrop(Method[State]):
    """Skips random layers in training; keeps evenly spaced ones.

    The choice does not depend on the training. So one model that was trained with LayerDrop can be
    cut to any number of layers afterwards, with ``decide``.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=5))
        >>> decision = hc.decide(model, hc.LayerDrop(), hc.Budget(layers=3))
        >>> [site.layer for site in decision.sites if site.kept]
        [0, 2, 4]

    Source: Fan, Grave, Joulin 2020, arXiv 1909.11556.
    Differs: the layers that stay are spread from the first to the last. The paper removes every
        other layer, or every third, by index.
    """

    drop: float = 0.2
    """Probability that a unit is skipped in a forward pass. The paper trains with 0.2, and with
    0.5 if few layers are to stay."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.drop < 1:
            raise BudgetError(
                f"LayerDrop(drop={self.drop!r}): give a probability, 0 <= drop < 1, such as 0.2."
            )

    @property
    def name(self) -> str:
        """``layer-drop``."""
        return "layer-drop"

    def check(self, budget: Budget) -> None:
        """Refuse kinds that are not skipped: all but layers and sublayers."""
        others = {*budget.about} - {*WHOLE}
        if others:
            raise BudgetError(
                f"LayerDrop(): the budget is about {in_words(others)}, and LayerDrop only removes "
                "layers or sublayers. Give Budget(layers=...), Budget(sublayers=...), or another "
                "method."
            )

    def init(self, quota: Quota, generator: Generator) -> State:
        """A state with nothing but the quota."""
        return State(quota)

    def gates(self, state: State, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """Independent for each unit: zero with probability ``drop``, else one; no rescaling."""
        num = len(state.units)
        uniform = torch.rand(num, generator=generator, dtype=torch.float64)
        return (uniform >= self.drop).double()

    def scores(self, state: State) -> Float[Tensor, " n"]:
        """One for each unit of the largest evenly spaced choice within the quota, else zero."""
        num = len(state.units)
        # For a cost the number is not known beforehand: the largest choice that fits is taken.
        choices = (_indicator(num, num_keep) for num_keep in range(num, -1, -1))
        fitting = (scores for scores in choices if self._fits(scores, state.quota))
        return next(fitting, torch.zeros(num, dtype=torch.float64))

    @staticmethod
    def _fits(scores: Float[Tensor, " n"], quota: Quota) -> bool:
        return quota.expected(scores).item() <= quota.target


def _indicator(num: int, num_keep: int) -> Float[Tensor, " n"]:
    """A vector with ones at evenly spaced indices and zeros elsewhere."""
    scores = torch.zeros(num, dtype=torch.float64)
    scores[list(evenly_spaced(num, num_keep))] = 1
    return scores
