"""The interface of a pruning method: a frozen configuration, and functions on a small state."""

import abc
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.evidence.evidence import Evidence
from headcount.units.budget import Budget
from headcount.units.quota import Quota

Phase = Literal["at once", "from data", "in training"]
"""When a method chooses: before it sees any data, from labelled batches, or while it trains."""
Trains = Literal["nothing", "weights", "logits", "weights and logits"]
"""What a run with a method trains: the weights, the method's own parameters, both, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of a training run.

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
    """The state of a method for one quota; subclasses add parameters and buffers.

    Parameters are what the method learns. Buffers are what it remembers. Checkpoints have both.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> (quota,) = hc.Budget(heads=3).quotas(hc.units(model))
        >>> len(State(quota).units)
        12
    """

    def __init__(self, quota: Quota) -> None:
        """Store the quota.

        Args:
            quota: the units, and how much of them must remain. The session replaces it to get a
                decision for another budget of the same units (``Session.decisions``).
        """
        super().__init__()
        self.quota = quota
        self.units = quota.units


S = TypeVar("S", bound=State)


class Method(abc.ABC, Generic[S]):
    """A pruning method: a frozen configuration with behaviour. See the page "Your own method".

    A session first calls ``check``, which refuses a budget that the method cannot serve. Then it
    calls, for each number of the budget:

    1. ``init`` once, which makes the state;
    2. ``observe`` whenever there is new evidence of a kind that ``evidence`` names;
    3. ``gates`` before each forward pass in training: the multipliers of the units;
    4. ``penalty`` after each forward pass: a scalar that is added to the loss;
    5. ``scores`` whenever a decision is needed. A method returns scores, never a keep. Only
       ``Quota.keep`` chooses units, so that the number is exact for every method.

    Example:
        >>> import headcount as hc, transformers
        >>> class FirstUnits(hc.Method):
        ...     name, phase = "first-units", "at once"
        ...     def describe(self):
        ...         return {"name": self.name}
        ...     def init(self, quota, generator):
        ...         return hc.State(quota)
        ...     def scores(self, state):
        ...         return -torch.arange(len(state.units)).double()
        ...     def gates(self, state, step, generator):
        ...         return state.quota.keep(self.scores(state)).double()
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> hc.decide(model, FirstUnits(), hc.Budget(heads=3)).sites[0].kept
        (0, 1, 2)
    """

    phase: ClassVar[Phase] = "in training"
    """When the method chooses. ``at once``: ``init`` (and weight norms) fix the choice, so the
    model is cut before it is trained. ``from data``: ``decide`` gives it labelled batches, in
    rounds, and the weights do not change. ``in training``: it chooses while the model trains, and
    the model is cut at the end."""
    evidence: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``Evidence`` that the method needs."""
    scales: ClassVar[Literal["tuned", "ones"]] = "ones"
    """The scales of the kept units if nothing is trained after the decision: ``tuned`` by
    ``headcount.post_training.rescale``, or ``ones``."""
    additive: ClassVar[bool] = False
    """Whether a score is the loss of removing its unit, so that scores add up. If not, scores only
    rank, and the size of a difference means nothing. This matters only for a budget of a cost."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def trains(self) -> Trains:
        """What a run with this method trains."""
        return "nothing" if self.phase == "from data" else "weights"

    @property
    def learns(self) -> bool:
        """Whether the scores come from training; they then mean nothing before it."""
        return self.phase == "in training" and (bool(self.evidence) or "logits" in self.trains)

    @property
    def rests(self) -> bool:
        """Whether the model's weights stay unchanged while the method decides.

        Such a method needs a model that is fine-tuned on the task already.
        """
        return "weights" not in self.trains

    @property
    def optimizer_group(self) -> dict[str, float]:
        """Optimizer settings for the method's own parameters, such as ``lr``."""
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
    """Seed of the method's generator; None for the run's seed."""

    max_grad_norm: float = math.inf
    """The gradient of the method's own parameters is clipped to this norm."""

    def check(self, budget: Budget) -> None:
        """Refuse a budget that the method cannot serve, whatever the model; by default none.

        It is called before data are read, and whenever the method is attached. ``budget.about``
        names the kinds of unit.

        Raises:
            BudgetError: the method cannot serve the budget.
        """

    @abc.abstractmethod
    def init(self, quota: Quota, generator: Generator) -> S:
        """The initial state.

        Args:
            quota: the units, and how much of them must remain.
            generator: the source of all random numbers of the method, now and later.
        """

    @abc.abstractmethod
    def scores(self, state: S) -> Float[Tensor, " n"]:
        """Importance of each unit, higher = keep, [N]."""

    @abc.abstractmethod
    def gates(self, state: S, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """Multipliers for one forward pass in training, 1 = keep, [N]."""

    def penalty(self, state: S, step: Step, evidence: Evidence) -> Float[Tensor, ""]:
        """A scalar to add to the loss; zero by default.

        Args:
            state: the state.
            step: the training step.
            evidence: the evidence of the last forward pass.
        """
        return torch.zeros(())

    def observe(self, state: S, evidence: Evidence) -> None:
        """Update the state with new evidence of a kind that the field ``evidence`` names."""
        raise NotImplementedError(f"{type(self).__name__} asks for {sorted(self.evidence)}")

    def num_rounds(self, quota: Quota) -> int:
        """The number of passes over the data; ``gates`` gets the number of the round as its step.

        Only for the phase "from data".
        """
        return 1

    def finish_round(self, state: S, step: Step) -> None:
        """Called after each pass over the data; does nothing by default."""

    def metrics(self, state: S, step: Step) -> dict[str, float]:
        """Numbers for the log."""
        return {}

    def notes(self, total: int) -> list[str]:
        """Messages for the user before a run of ``total`` steps."""
        return []


def _settings(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: {"name": type(value).__name__, **_settings(value)} if is_dataclass(value) else value
        for name, value in values.items()
    }
