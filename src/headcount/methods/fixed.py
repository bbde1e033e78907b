"""Gates of a decision that is made before training: the base of methods that do not learn."""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from headcount.methods.method import Method, Phase, State, Step
from headcount.units.quota import Quota


class FixedState(State):
    """Scores that do not change in training."""

    def __init__(self, scores: Float[Tensor, " n"], quota: Quota) -> None:
        """Keep scores as a buffer, so that checkpoints hold them."""
        super().__init__(quota)
        self.register_buffer("scores", scores)


class FixedMethod(Method[FixedState]):
    """A method whose hard decision stands from the first step; training adapts the weights."""

    phase: ClassVar[Phase] = "at once"

    def gates(self, state: FixedState, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """The hard decision: one for each of the K best scores, zero for the others."""
        return state.quota.keep(self.scores(state)).to(torch.float64)

    def scores(self, state: FixedState) -> Float[Tensor, " n"]:
        """The scores the state holds."""
        return state.get_buffer("scores")

    @abc.abstractmethod
    def init(self, quota: Quota, generator: Generator) -> FixedState:
        """The state at the start."""
