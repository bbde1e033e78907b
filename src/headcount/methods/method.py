"""What every pruning method is: a frozen configuration, and functions on a small state."""

import abc
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.evidence.evidence import Evidence
from headcount.units.quota import Quota

Phase = Literal["at once", "from data", "in training"]
"""When a method chooses: before it sees any data, from labelled batches, or while it trains."""
Trains = Literal["nothing", "weights", "logits", "weights and logits"]
"""What a run with a method changes: the weights, what the method learns, both, or neither."""


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


class State(nn.Module):
    """What a method holds for one quota; subclasses add parameters and buffers.

    Parameters are what the method learns, buffers what it remembers. Checkpoints hold both.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> (quota,) = hc.Budget(heads=3).quotas(hc.units(model))
        >>> len(State(quota).units)
        12
    """

    def __init__(self, quota: Quota) -> None:
        """Hold a quota.

        Args:
            quota: what must remain, and of which units. The session exchanges it to ask for
                another budget of the same units (``Session.decisions``).
        """
        super().__init__()
        self.quota = quota
        self.units = quota.units


S = TypeVar("S", bound=State)


class Method(abc.ABC, Generic[S]):
    """A pruning method: a frozen configuration with behaviour. See the page "Your own method".

    A session calls, for each number of the budget:

    1. ``init`` once, which makes the state;
    2. ``observe`` whenever evidence arrives that ``evidence`` names;
    3. ``gates`` before each forward pass in training: the multipliers of the units;
    4. ``penalty`` after it: a scalar that is added to the loss;
    5. ``scores`` whenever a decision is asked for. A method returns scores, never a keep: only
       ``Quota.keep`` chooses, so that the number is exact for every method.
    """

    phase: ClassVar[Phase] = "in training"
    """When the method chooses. ``at once``: ``init`` (and weight norms) settle it, so the model is
    cut before it is trained. ``from data``: ``decide`` shows it labelled batches, in rounds, while
    the weights rest. ``in training``: it chooses while the model trains, and the model is cut at
    the end."""
    evidence: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``Evidence`` that the method needs."""
    scales: ClassVar[Literal["tuned", "ones"]] = "ones"
    """Where nothing is trained after the decision: whether the method tunes the scales of what
    stays (``headcount.post_training.rescale``)."""
    additive: ClassVar[bool] = False
    """Whether a score is the loss of removing its unit, so that scores add up. Else they rank: how
    much larger one is than another means nothing. Only a budget of a cost makes a difference."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def trains(self) -> Trains:
        """What a run with this method changes."""
        return "nothing" if self.phase == "from data" else "weights"

    @property
    def learns(self) -> bool:
        """Whether the scores come from training, so that they mean nothing before it."""
        return self.phase == "in training" and (bool(self.evidence) or "logits" in self.trains)

    @property
    def rests(self) -> bool:
        """Whether the model's weights rest while the method decides.

        It then needs a model that is fine-tuned on the task already.
        """
        return "weights" not in self.trains

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
    def init(self, quota: Quota, generator: Generator) -> S:
        """The state at the start.

        Args:
            quota: what must remain, and of which units.
            generator: draws all that the method draws, now and later.
        """

    @abc.abstractmethod
    def scores(self, state: S) -> Float[Tensor, " n"]:
        """Importance of each unit, higher = keep, [N]."""

    @abc.abstractmethod
    def gates(self, state: S, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """Multipliers for one forward pass in training, 1 = keep, [N]."""

    def penalty(self, state: S, step: Step, evidence: Evidence) -> Float[Tensor, ""]:
        """A scalar to add to the loss; zero unless the method says otherwise.

        Args:
            state: the state.
            step: where training stands.
            evidence: what was observed in the last pass.
        """
        return torch.zeros(())

    def observe(self, state: S, evidence: Evidence) -> None:
        """Take evidence into the state; called whenever some of what ``evidence`` names arrives."""
        raise NotImplementedError(f"{type(self).__name__} asks for {sorted(self.evidence)}")

    def num_rounds(self, quota: Quota) -> int:
        """Passes over the data that the method looks at; ``gates`` gets the round as its step."""
        return 1

    def finish_round(self, state: S, step: Step) -> None:
        """Called when a pass over the data is done; nothing unless the method says otherwise."""

    def metrics(self, state: S, step: Step) -> dict[str, float]:
        """Numbers worth a line in the log."""
        return {}

    def notes(self, total: int) -> list[str]:
        """What the user should be told before a run of ``total`` steps."""
        return []


def _settings(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: {"name": type(value).__name__, **_settings(value)} if is_dataclass(value) else value
        for name, value in values.items()
    }
