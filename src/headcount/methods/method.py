"""What every pruning method is: five functions on a small state."""

import abc
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.units.quota import AnyQuota
from headcount.units.table import UnitTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where training stands.

    Example:
        >>> Step(index=50, total=200).fraction
        0.25
    """

    index: int
    """Optimizer steps done."""
    total: int
    """Optimizer steps of the whole run."""

    @property
    def fraction(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return self.index / self.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a method may look at; a method names the fields it wants in ``Method.evidence``."""

    weight_norms: Float[Tensor, " n"] | None = None
    """L2 norm of each unit's value and output weights."""
    gate_grads: Float[Tensor, "batch n"] | None = None
    """Gradient of each example's loss with respect to each unit's gate, where ``gates`` has it."""
    attention_maps: Float[Tensor, "batch query key n"] | None = None
    """What each head attends to: rows sum to one."""
    output_norms: Float[Tensor, " n"] | None = None
    """Mean norm of what each unit adds; in training it has a gradient."""


class Method(abc.ABC):
    """A pruning method: a frozen configuration with behaviour, and a state that PyTorch can save.

    ``init`` makes the state; ``gates`` are the multipliers of a training step; ``penalty`` is
    added to the loss; ``observe`` takes evidence in; ``scores`` rank the units. A method returns
    scores, never a keep: exactness is the business of ``Quota.keep`` alone. A state has the quota
    as its attribute ``quota``, and ``scores`` goes by it: to ask for another budget, the session
    exchanges it.
    """

    evidence: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``Evidence`` the method needs before it can score."""
    learns: ClassVar[bool] = False
    """Whether the scores come from training."""
    fixed: ClassVar[bool] = False
    """Whether the decision stands before the first step: only what stays is worth training."""
    scales: ClassVar[Literal["tuned", "ones"]] = "ones"
    """Where nothing is trained after the decision: whether the method tunes the scales of what
    stays (``headcount.training.rescale``)."""
    additive: ClassVar[bool] = False
    """Whether a score is the loss of removing its unit, so that scores add up. Else they rank: how
    much larger one is than another means nothing. Only a budget of a cost makes a difference."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def trains(self) -> Literal["weights", "logits", "weights and logits"]:
        """What a training run with this method changes."""
        return "weights"

    @property
    def looks(self) -> bool:
        """Whether the method decides by looking at data, instead of in a training run."""
        return "gate_grads" in self.evidence

    @property
    def rests(self) -> bool:
        """Whether the model's weights rest while the method decides.

        It then needs a model that is fine-tuned on the task already.
        """
        return self.looks or self.trains == "logits"

    @property
    def optimizer_group(self) -> dict[str, float]:
        """Optimizer settings of what the method learns beside the weights, such as ``lr``."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Name and settings as plain values, for provenance.

        Example:
            >>> from headcount.methods.random import Random
            >>> Random(seed=1).describe()
            {'name': 'random', 'seed': 1}
        """
        return {"name": self.name, **_settings(self)}

    seed: int | None = None
    """Seed of the method's generator; None for the run's own seed."""

    max_grad_norm: float = math.inf
    """Greatest norm of the gradient of what the method learns."""

    @abc.abstractmethod
    def init(self, units: UnitTable, quota: AnyQuota, generator: Generator) -> nn.Module:
        """The state at the start: parameters are what the method learns, buffers the rest."""

    @abc.abstractmethod
    def scores(self, state: nn.Module) -> Float[Tensor, " n"]:
        """Importance of each unit, higher = keep, [N]."""

    @abc.abstractmethod
    def gates(self, state: nn.Module, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """Multipliers for one forward pass in training, 1 = keep, [N]."""

    def penalty(self, state: nn.Module, step: Step) -> Float[Tensor, ""]:
        """A scalar to add to the loss; zero unless the method says otherwise."""
        del state, step
        return torch.zeros(())

    def observe(self, state: nn.Module, evidence: Evidence) -> None:
        """Take evidence into the state; called for what ``evidence`` names."""
        raise NotImplementedError(f"{type(self).__name__} asks for {sorted(self.evidence)}")

    def num_rounds(self, units: UnitTable, quota: AnyQuota) -> int:
        """Passes over the data that the method looks at; ``gates`` gets the round as its step."""
        del units, quota
        return 1

    def finish_round(self, state: nn.Module, step: Step) -> None:
        """Called when a pass over the data is done; nothing unless the method says otherwise."""
        del state, step

    def metrics(self, state: nn.Module, step: Step) -> dict[str, float]:
        """Numbers worth a line in the log."""
        del state, step
        return {}

    def notes(self, total: int) -> list[str]:
        """What the user should be told before a run of ``total`` steps."""
        del total
        return []


def _settings(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: {"name": type(value).__name__, **_settings(value)} if is_dataclass(value) else value
        for name, value in values.items()
    }
