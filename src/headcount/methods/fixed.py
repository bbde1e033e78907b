"""The base of methods whose choice is made before training: their gates do not change."""

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
        """Store the scores as a buffer, so that checkpoints have them."""
        super().__init__(quota)
        self.register_buffer("scores", scores)


class FixedMethod(Method[FixedState]):
    """A method whose keep is fixed before the first step; training adapts the weights to it."""

    phase: ClassVar[Phase] = "at once"

    def gates(self, state: FixedState, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """The hard keep: one for each of the K best units, zero for the others."""
        return state.quota.keep(self.scores(state)).to(torch.float64)

    def scores(self, state: FixedState) -> Float[Tensor, " n"]:
        """The scores in the state."""
        return state.get_buffer("scores")

    @abc.abstractmethod
    def init(self, quota: Quota, generator: Generator) -> FixedState:
        """The initial state."""
