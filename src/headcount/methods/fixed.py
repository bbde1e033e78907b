"""Gates of a decision that is made before training: the base of methods that do not learn."""

import abc
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.methods.method import Method, Step
from headcount.units.quota import AnyQuota
from headcount.units.table import UnitTable


class FixedState(nn.Module):
    """Scores that do not change in training."""

    def __init__(self, scores: Float[Tensor, " n"], units: UnitTable, quota: AnyQuota) -> None:
        """Keep scores as a buffer, so that checkpoints hold them."""
        super().__init__()
        self.register_buffer("scores", scores)
        self.layer, self.quota = units.layer_of_unit, quota


class FixedMethod(Method):
    """A method whose hard decision stands from the first step; training adapts the weights."""

    fixed: ClassVar[bool] = True

    def gates(self, state: nn.Module, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """The hard decision: one for each of the K best scores, zero for the others."""
        del step, generator
        fixed = cast(FixedState, state)
        keep = fixed.quota.keep(self.scores(state), layer=fixed.layer)
        return keep.to(torch.float64)

    def scores(self, state: nn.Module) -> Float[Tensor, " n"]:
        """The scores the state holds."""
        return state.get_buffer("scores")

    @abc.abstractmethod
    def init(self, units: UnitTable, quota: AnyQuota, generator: Generator) -> FixedState:
        """The state at the start."""
