"""A method that looks at data before it scores, as simple as one can be."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from headcount.methods.fixed import FixedMethod, FixedState
from headcount.methods.method import Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Looking(FixedMethod):
    """Scores are sums of absolute gate gradients, over ``rounds`` passes."""

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})
    rounds: int = 1

    @property
    def name(self):
        return "looking"

    def init(self, quota, generator):
        return FixedState(torch.zeros(len(quota.units), dtype=torch.float64), quota)

    def gates(self, state, step, generator):
        return torch.ones_like(state.get_buffer("scores"))

    def num_rounds(self, quota):
        return self.rounds

    def observe(self, state, evidence):
        state.get_buffer("scores").add_(evidence.gate_grads.abs().sum(0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Failing(FixedMethod):
    """Cannot begin."""

    @property
    def name(self):
        return "failing"

    def init(self, quota, generator):
        raise KeyError("nothing to go by")
