"""A pruning session: a method at work on a live model, for one's own training loop."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.architectures.discover import units as find_units
from headcount.architectures.maps import uncompiled
from headcount.architectures.weights import weight_norms
from headcount.door.arguments import checks_arguments
from headcount.door.shape import Seed
from headcount.errors import (
    ArchitectureError,
    BudgetError,
    CheckpointError,
    TrainingError,
)
from headcount.evidence.evidence import Evidence
from headcount.gates.attach import Gates, gate_dtype
from headcount.gates.passes import Passes
from headcount.methods.method import Method, State, Step
from headcount.training.frozen import Frozen
from headcount.training.parallel import check_whole
from headcount.training.rerun import Reruns
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.kinds import WHOLE
from headcount.units.nesting import allowed
from headcount.units.quota import Quota
from headcount.units.table import UnitTable

logger = logging.getLogger("headcount")

LARGEST_GRAD = 1e15
"""Gradients of logits beyond this are scaled to one before they are clipped."""


class Session:
    """A method at work on a live model; made by ``attach``.

    In training mode each forward pass of the model draws the method's gates; in evaluation mode
    the gates are the hard, noise-free decision of the moment. The same goes for a pass of a part
    that holds layers, such as the encoder, which ``generate`` calls by itself. On ``close`` the
    model is as before.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> with hc.attach(model, hc.DSP(), hc.Budget(heads=3), num_steps=1) as session:
        ...     optimizer = torch.optim.AdamW(
        ...         [{"params": model.parameters()}, {"params": session.parameters(), "lr": 0.5}]
        ...     )
        ...     loss = model(torch.tensor([[1, 2]])).last_hidden_state.sum() + session.penalty()
        ...     loss.backward()
        ...     session.clip_grad()
        ...     optimizer.step()
        ...     session.step()
        >>> session.decision().num_kept
        3
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        budget: Budget,
        *,
        num_steps: int,
        seed: Seed = 0,
    ) -> None:
        """Attach; see ``attach``."""
        model = uncompiled(model)  # whose hooks run however it is called
        check_whole(model)
        self.model, self.method, self.budget = model, method, budget
        self._found = find_units(model)
        if not len(self._found):
            raise ArchitectureError(
                f"attach({type(model).__name__}): the model has no units left to choose from. "
                "Give a model that still has heads."
            )
        self.quotas = budget.quotas(self._found, additive=method.additive)
        self.units = UnitTable(sites=tuple(s for quota in self.quotas for s in quota.units.sites))
        self.num_steps, self.num_done = 0, 0
        self.generator = Generator().manual_seed(seed if method.seed is None else method.seed)
        self._provenance = {"method": method.describe(), "seed": seed}
        self.states = nn.ModuleList(method.init(quota, self.generator) for quota in self.quotas)
        if "weight_norms" in method.evidence:
            roles = ("value", "output", "up", "down")
            self.observe(weight_norms=weight_norms(model, self.units, roles=roles))
        self._dtype = gate_dtype(model)
        self._reruns = Reruns(self.generator)
        self._held: Tensor | None = None
        self._logged_keep = self.keep()
        self.gates = Gates(model, self.units)
        self._passes = Passes(model, self.units, self.gates, self._gates_of_a_pass)
        self._frozen = None if method.trains != "logits" else Frozen(model)
        self._fresh = {name: value.clone() for name, value in self.state_dict().items()}
        self.begin(num_steps)

    @checks_arguments
    def begin(self, num_steps: int) -> None:
        """Set the length of the run, from which schedules follow; notes about it are logged.

        Raises:
            TrainingError: a negative number of steps.
        """
        if num_steps < 0:
            self.close()
            raise TrainingError(f"attach(num_steps={num_steps}): give the number of steps, >= 0.")
        self.num_steps = num_steps
        for note in self.method.notes(num_steps) if num_steps else []:
            logger.warning(note)

    def restart(self) -> None:
        """Start anew: steps, noise and what the method learns are as they were; weights stay."""
        self.load_state_dict(self._fresh)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the method learns: give it to your optimizer, in a group without weight decay."""
        return self.states.parameters()

    def step(self) -> None:
        """Say that the optimizer has taken a step.

        Schedules move on, and the gradient of what the method learns is cleared, which the
        model's own ``zero_grad`` does not reach.
        """
        self.num_done += 1
        self.states.zero_grad()
        self._reruns.step()

    def clip_grad(self) -> None:
        """Clip the gradient of what the method learns, apart from that of the weights.

        To be called between ``backward`` and the optimizer's step. In data-parallel training the
        gradient is first averaged over the processes, so that all decide alike.
        """
        learnt = [p for p in self.states.parameters() if p.grad is not None]
        if not learnt:
            return
        if dist.is_available() and dist.is_initialized():
            device = next(self.model.parameters()).device
            for parameter in learnt:
                shared = cast(Tensor, parameter.grad).to(device, copy=True)
                dist.all_reduce(shared)
                cast(Tensor, parameter.grad).copy_(shared / dist.get_world_size())
        for parameter in learnt:
            largest = cast(Tensor, parameter.grad).abs().max()
            if largest > LARGEST_GRAD:  # its square would overflow in the norm
                cast(Tensor, parameter.grad).div_(largest)
        nn.utils.clip_grad_norm_(learnt, self.method.max_grad_norm)

    @property
    def progress(self) -> Step:
        """Where the run stands."""
        return Step(index=self.num_done, total=max(self.num_steps, self.num_done, 1))

    def penalty(self) -> Float[Tensor, ""]:
        """A scalar to add to the loss."""
        device = next(self.model.parameters()).device
        parts = [self.method.penalty(state, self.progress, Evidence()) for state in self.states]
        return torch.stack(parts).sum().to(device)

    def observe(self, **evidence: Tensor) -> None:
        """Hand evidence over all units, [..., N], to the method, quota by quota."""
        for state, span in zip(self.states, self._spans(), strict=True):
            own = {name: value[..., span] for name, value in evidence.items()}
            self.method.observe(state, Evidence(**own))

    def finish_round(self) -> None:
        """Say that a pass over the data the method looks at is done."""
        for state in self.states:
            self.method.finish_round(state, self.progress)
        self.step()

    def draw(self) -> Tensor:
        """The method's gates for one forward pass, [N]."""
        drawn = (self.method.gates(state, self.progress, self.generator) for state in self.states)
        return torch.cat([*drawn])

    def scores(self) -> Tensor:
        """The scores of the moment, [N]."""
        return torch.cat([self.method.scores(state) for state in self.states])

    def keep(self) -> Tensor:
        """The keep of the moment, exact; bool, [N]. What lies in a removed unit goes too."""
        removed: set[tuple[str, str]] = set()
        keeps = []
        for quota, state in zip(self.quotas, self.states, strict=True):
            keep = quota.keep(
                self.method.scores(state),
                allowed=allowed(quota, removed) if removed else None,
            )
            for site, span in zip(quota.units.sites, quota.units.slices, strict=True):
                if site.kind in WHOLE and not keep[span].any():
                    removed.add(site.key)
            keeps.append(keep)
        return torch.cat(keeps)

    def decision(self) -> Decision:
        """The decision of the moment, exact; a warning where the method has learnt nothing yet."""
        if self.num_steps and not self.num_done and any(True for _ in self.parameters()):
            logger.warning(
                "decision: after 0 of %d steps, %s decides by its random start. Call "
                "session.step() after each step of the optimizer.",
                *(self.num_steps, self.method.name),
            )
        budget = self.budget.describe()
        progress = {"steps": self.num_done, "num_steps": self.num_steps}
        keep = self.keep()
        reached: dict[str, Any] = {}
        for quota, span in zip(self.quotas, self._spans(), strict=True):
            reached |= quota.reached(keep[span])
        provenance = {**self._provenance, "budget": budget, **progress, **reached}
        return Decision.of(self.units, keep, self.scores(), provenance)

    @checks_arguments
    def decisions(self, budgets: Iterable[int | Budget]) -> list[Decision]:
        """What the same scores decide for other budgets, without training again.

        Args:
            budgets: budgets of the same units as the session's own; a number means heads.

        Raises:
            BudgetError: the model cannot meet a budget, or it is about other units.

        Example:
            >>> import headcount as hc, transformers
            >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
            >>> with hc.attach(model, hc.DSP(), hc.Budget(heads=3), num_steps=0) as session:
            ...     [decision.num_kept for decision in session.decisions([2, 4, 6])]
            [2, 4, 6]
        """
        asked = [Budget(heads=b) if isinstance(b, int) else b for b in budgets]
        return [self._decision_at(budget) for budget in asked]

    def _decision_at(self, budget: Budget) -> Decision:
        quotas = budget.quotas(self._found, additive=self.method.additive)
        about = [[site.key for site in quota.units.sites] for quota in quotas]
        if about != [[site.key for site in quota.units.sites] for quota in self.quotas]:
            raise BudgetError(
                f"decisions([{budget}]): the session has scores for {self.budget} only. Give "
                "budgets of the same kinds at the same places."
            )
        before = self.budget, self.quotas
        try:
            self._ask(budget, quotas)
            return self.decision()
        finally:
            self._ask(*before)

    def _ask(self, budget: Budget, quotas: tuple[Quota, ...]) -> None:
        """Make a budget the one that is asked for; the scores stay."""
        self.budget, self.quotas = budget, quotas
        for state, quota in zip(self.states, quotas, strict=True):
            cast(State, state).quota = quota

    def metrics(self) -> dict[str, float]:
        """Numbers worth a line in the log: temperature, entropy of the choice.

        With several numbers in the budget their names have kind and place in front.
        """
        named = {}
        for quota, state in zip(self.quotas, self.states, strict=True):
            place = [quota.units.sites[0].kind, *quota.place.split(".")]
            front = [] if len(self.quotas) == 1 else [part for part in place if part]
            for name, value in self.method.metrics(state, self.progress).items():
                named["_".join([*front, name])] = value
        return named

    def _spans(self) -> list[slice]:
        ends = torch.tensor([0] + [len(quota.units) for quota in self.quotas]).cumsum(0).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    @contextmanager
    def held(self, gates: Tensor) -> Iterator[None]:
        """With gates given from outside, [N] or [B, N], whatever the mode of the model."""
        self._held = gates
        try:
            yield
        finally:
            self._held = None

    def num_changed(self) -> int:
        """Units whose keep changed since this was last asked."""
        before, self._logged_keep = self._logged_keep, self.keep()
        return int((before != self._logged_keep).sum())

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that resumes it: plain values."""
        sites = [[s.module, s.kind, s.num_units, s.width] for s in self.units.sites]
        budget = self.budget.describe()
        return json.loads(json.dumps({**self._provenance, "budget": budget, "sites": sites}))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Without hooks and with nothing frozen, for a while."""
        frozen = nullcontext() if self._frozen is None else self._frozen.lifted()
        with frozen, self._passes.lifted(), self.gates.lifted():
            yield

    def close(self) -> None:
        """Take everything off the model again."""
        self.gates.remove()
        self._passes.remove()
        if self._frozen is not None:
            self._frozen.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """All that resuming needs, as tensors: the method's state, the step, the generator."""
        held = {f"state.{name}": value for name, value in self.states.state_dict().items()}
        return {
            **held,
            "num_done": torch.tensor(self.num_done),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            CheckpointError: the state is that of another method or model.
        """
        held = {k.removeprefix("state."): v for k, v in saved.items() if k.startswith("state.")}
        mine = {name: value.shape for name, value in self.states.state_dict().items()}
        if {name: value.shape for name, value in held.items()} != mine:
            raise CheckpointError(
                f"Session.load_state_dict: the state has {sorted(held)}, the method "
                f"{self.method.name} on this model needs {sorted(mine)} of its own shapes. "
                "Resume with the model, method and budget of the interrupted run."
            )
        self.states.load_state_dict(held)
        self.num_done = int(saved["num_done"])
        self.generator.set_state(saved["generator"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _gates_of_a_pass(self) -> Tensor:
        device = next(self.model.parameters()).device
        if self._held is not None:
            gates = self._held
        elif self.model.training:
            gates = self._reruns.gates(self.draw, device)
        else:
            gates = self.keep()
        return gates.to(device=device, dtype=self._dtype)


@checks_arguments
def attach(
    model: nn.Module, method: Method, budget: Budget, *, num_steps: int, seed: Seed = 0
) -> Session:
    """Put a method to work on a live model; the way to prune in one's own training loop.

    Args:
        model: the model to train; it is gated in place and restored by ``Session.close``.
        method: for instance ``DSP()``.
        budget: what must remain; checked against the model now.
        num_steps: optimizer steps of the whole run; schedules are stretched over them.
        seed: seed of the method's generator (start of the logits, noise), unless it has its own.

    Returns:
        The session, a context manager.

    Raises:
        ArgumentError: something of the wrong type, such as the name of a method.
        BudgetError: the model cannot meet the budget.
        ArchitectureError: the model has no known units.
        PruningError: the model has gates already.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> with hc.attach(model, hc.Random(seed=1), hc.Budget(heads=3), num_steps=0) as session:
        ...     session.decision().num_kept
        3
    """
    if method.phase == "from data":
        raise TrainingError(
            f"attach(method={type(method).__name__}): the method looks at data before it scores. "
            "Use decide, with batches."
        )
    return Session(model, method, budget, num_steps=num_steps, seed=seed)
