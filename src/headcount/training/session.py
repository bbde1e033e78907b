"""A pruning session: a method at work on a live model, for your own training loop."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headcount.architectures.discover import units as find_units
from headcount.architectures.maps import uncompiled
from headcount.door.arguments import checks_arguments
from headcount.door.shape import Seed
from headcount.errors import ArchitectureError, CheckpointError, TrainingError
from headcount.evidence.collector import Call
from headcount.evidence.watch import COLLECTORS, Watch, check_evidence
from headcount.evidence.weights import WeightNorms
from headcount.gates.attach import Gates, gate_dtype
from headcount.gates.passes import Passes
from headcount.methods.method import Method, Step
from headcount.training.choice import Choice
from headcount.training.frozen import Frozen
from headcount.training.parallel import average_buffers, average_gradients, check_whole
from headcount.training.rerun import Reruns
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.quota import Quota

logger = logging.getLogger("headcount")

LARGEST_GRAD = 1e15
"""A gradient with a larger entry is divided by that entry before it is clipped."""


class Session:
    """A method at work on a live model; made by ``attach``.

    In training mode, every forward pass of the model draws the method's gates. In evaluation mode,
    the gates are the current decision: hard and without noise. The same holds for a pass through a
    part that has layers of its own, such as the encoder, which ``generate`` calls by itself.
    ``close`` restores the model.

    One step of a training loop, and who does what::

        loop                         session
        loss = model(batch).loss     evidence of the whole model, if the method asks for it
                                     gates are drawn and multiply the units of this pass
                                     evidence of the gated pass
        loss += session.penalty()    the method's penalty, which sees the evidence of this pass
        loss.backward()              gradients reach the logits through the gates
        session.clip_grad()          averaged over processes, then clipped apart from the weights
        optimizer.step()             weights and logits
        session.step()               schedules move on, gradients of the logits are cleared

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
        self, model: nn.Module, method: Method, budget: Budget, *, num_steps: int, seed: Seed = 0
    ) -> None:
        """Attach; see ``attach``."""
        check_evidence(type(method).__name__, method.phase, method.evidence)
        model = uncompiled(model)  # hooks here run for the compiled model too
        check_whole(model)
        self.model, self.method = model, method
        found = find_units(model)
        if not len(found):
            raise ArchitectureError(
                f"attach({type(model).__name__}): the model has no units left to choose from. "
                "Give a model that still has heads."
            )
        self.choice = Choice(found, method, budget, seed=seed)
        self.units, self.states = self.choice.units, self.choice.states
        self.generator = self.choice.generator
        self.num_steps, self.num_done = 0, 0
        self._observed: dict[str, Any] = {}
        if WeightNorms.field in method.evidence:
            self.observe(weight_norms=WeightNorms.take(model, self.units))
        self._once = self._observed  # weights are measured once; this evidence outlives each pass
        self._dtype = gate_dtype(model)
        self._reruns = Reruns(self.generator)
        self._held: Tensor | None = None
        self._looking = False
        self._logged_keep = self.keep()
        self.gates = Gates(model, self.units)
        try:
            self._watch = Watch(model, self.units, method.evidence)
        except BaseException:  # the model must not stay gated by a session that nobody holds
            self.gates.remove()
            raise
        self._passes = Passes(model, self.units, self.gates, self._begin_pass, self._end_pass)
        self._frozen = None if method.trains != "logits" else Frozen(model)
        self._fresh = {name: value.clone() for name, value in self.state_dict().items()}
        self.begin(num_steps)

    @property
    def budget(self) -> Budget:
        """What must remain."""
        return self.choice.budget

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """The budget's numbers as quotas, checked against the model."""
        return self.choice.quotas

    @checks_arguments
    def begin(self, num_steps: int) -> None:
        """Set the number of steps that schedules are stretched over; log the method's notes on it.

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
        """Reset steps, noise and the method's state to their start; the weights stay."""
        self.load_state_dict(self._fresh)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The method's parameters: give them to your optimizer, in a group without weight decay."""
        return self.states.parameters()

    def step(self) -> None:
        """Say that the optimizer has taken a step.

        Schedules move on. The gradient of the method's parameters is cleared, because the model's
        own ``zero_grad`` does not reach it. In data-parallel training, what the method remembers of
        its evidence is averaged over the processes, so that all decide alike.
        """
        self.num_done += 1
        if self.method.learns and self.method.evidence:  # each process saw its own examples
            average_buffers(self.states, next(self.model.parameters()).device)
        self.states.zero_grad()
        self._reruns.step()
        self._observed = self._once  # evidence of a pass holds its graph in memory

    def clip_grad(self) -> None:
        """Clip the gradient of the method's parameters, apart from that of the weights.

        Call it between ``backward`` and the optimizer's step. Clipped together, the larger of the
        two gradients would shrink the other. In data-parallel training the gradient is first
        averaged over the processes, so that all decide alike.
        """
        learnt = [p for p in self.states.parameters() if p.grad is not None]
        if not learnt:
            return
        average_gradients(learnt, next(self.model.parameters()).device)
        for parameter in learnt:
            largest = cast(Tensor, parameter.grad).abs().max()
            if largest > LARGEST_GRAD:  # squared, it would overflow in the norm
                cast(Tensor, parameter.grad).div_(largest)
        nn.utils.clip_grad_norm_(learnt, self.method.max_grad_norm)

    @property
    def progress(self) -> Step:
        """The steps done, and their total."""
        return Step(index=self.num_done, total=max(self.num_steps, self.num_done, 1))

    def penalty(self) -> Float[Tensor, ""]:
        """A scalar to add to the loss; the method sees the evidence of the last pass.

        Raises:
            TrainingError: the penalty needs evidence of a pass, and there was none since the last
                step.
        """
        missing = sorted(self.method.evidence - {*self._observed})
        if missing and type(self.method).penalty is not Method.penalty:
            raise TrainingError(
                f"Session.penalty: {self.method.name} needs {missing[0]} of a forward pass. Call "
                "the model in training mode first, once for each penalty."
            )
        device = next(self.model.parameters()).device
        return self.choice.penalty(self.progress, self._observed).to(device)

    def observe(self, **evidence: Any) -> None:
        """Hand evidence to the method; the fields that it names are handed on without this call.

        Args:
            **evidence: fields of ``Evidence``, over all units of the session, [..., N].

        Raises:
            TrainingError: there is no field of this name.
        """
        unknown = sorted({*evidence} - {*COLLECTORS})
        if unknown:
            raise TrainingError(
                f"Session.observe({unknown[0]}=...): no such evidence. Give {sorted(COLLECTORS)}."
            )
        self._observed = {**self._observed, **evidence}
        self.choice.observe(evidence)

    def finish_round(self) -> None:
        """Say that a round over the data is done."""
        self.choice.finish_round(self.progress)
        self.step()

    def draw(self) -> Tensor:
        """The method's gates for one forward pass, [N]."""
        return self.choice.draw(self.progress)

    def scores(self) -> Tensor:
        """The current scores, [N]."""
        return self.choice.scores()

    def keep(self) -> Tensor:
        """The current keep, exact; bool, [N]. Units inside a removed unit are removed too."""
        return self.choice.keep()

    def decision(self) -> Decision:
        """The current decision, exact; a warning is logged if the method has learnt nothing yet."""
        if self.num_steps and not self.num_done and any(True for _ in self.parameters()):
            logger.warning(
                "decision: after 0 of %d steps, %s decides by its random start. Call "
                "session.step() after each step of the optimizer.",
                *(self.num_steps, self.method.name),
            )
        return self.choice.decision({"steps": self.num_done, "num_steps": self.num_steps})

    @checks_arguments
    def decisions(self, budgets: Iterable[int | Budget]) -> list[Decision]:
        """Decisions by the same scores for other budgets, without training again.

        Args:
            budgets: budgets of the same units as the session's own; a number means heads.

        Raises:
            BudgetError: the model cannot meet a budget, or a budget is about other units.

        Example:
            >>> import headcount as hc, transformers
            >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
            >>> with hc.attach(model, hc.DSP(), hc.Budget(heads=3), num_steps=0) as session:
            ...     [decision.num_kept for decision in session.decisions([2, 4, 6])]
            [2, 4, 6]
        """
        asked = [Budget(heads=b) if isinstance(b, int) else b for b in budgets]
        found = []
        for budget in asked:
            with self.choice.at(budget):
                found.append(self.decision())
        return found

    def metrics(self) -> dict[str, float]:
        """Numbers worth a line in the log: temperature, entropy of the choice.

        If the budget has several numbers, kind and place precede each name.
        """
        return self.choice.metrics(self.progress)

    @contextmanager
    def held(self, gates: Tensor) -> Iterator[None]:
        """Use these gates inside the block, [N] or [B, N], in training and in evaluation mode."""
        self._held = gates
        try:
            yield
        finally:
            self._held = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Take evidence around every pass inside the block, also in evaluation mode."""
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

    def num_changed(self) -> dict[str, int]:
        """Kind -> the number of its units whose keep has changed since the last call."""
        before, self._logged_keep = self._logged_keep, self.keep()
        changed, counts = before != self._logged_keep, dict[str, int]()
        for site, span in zip(self.units.sites, self.units.slices, strict=True):
            counts[site.kind] = counts.get(site.kind, 0) + int(changed[span].sum())
        return counts

    def fingerprint(self) -> dict[str, Any]:
        """Settings that a checkpoint must share with the run that resumes it: plain values."""
        sites = [[s.module, s.kind, s.num_units, s.width] for s in self.units.sites]
        budget = self.budget.describe()
        # Through JSON, to equal what is read from a checkpoint: tuples become lists, for instance.
        return json.loads(json.dumps({**self.choice.provenance, "budget": budget, "sites": sites}))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Take hooks and freezing off the model inside the block."""
        frozen = nullcontext() if self._frozen is None else self._frozen.lifted()
        with frozen, self._passes.lifted(), self._watch.lifted(), self.gates.lifted():
            yield

    def close(self) -> None:
        """Take hooks and freezing off the model for good."""
        self.gates.remove()
        self._passes.remove()
        self._watch.remove()
        if self._frozen is not None:
            self._frozen.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """What resuming needs, as tensors: the method's state, the step, the generator."""
        held = {f"state.{name}": value for name, value in self.states.state_dict().items()}
        return {
            **held,
            "num_done": torch.tensor(self.num_done),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            CheckpointError: the state belongs to another method or model.
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

    def _begin_pass(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Take the evidence that precedes a pass; return its gates."""
        device = next(self.model.parameters()).device
        if self._looking or (self.model.training and self._held is None):
            self._observed = self._once
            self._take(self._watch.before(Call(module, args, kwargs)))
        if self._held is not None:
            gates = self._held
        elif self.model.training:
            gates = self._reruns.gates(self.draw, device)
        else:
            gates = self.keep()
        return gates.to(device=device, dtype=self._dtype)

    def _end_pass(self, output: Any) -> None:
        self._take(self._watch.after(output))

    def _take(self, evidence: dict[str, Any]) -> None:
        if evidence:
            self.observe(**evidence)
