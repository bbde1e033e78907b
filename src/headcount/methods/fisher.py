"""Fisher: the expected rise of the loss when a unit is removed, from a few labelled batches."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError, PruningError
from headcount.evidence.evidence import Evidence
from headcount.maths.rearrange import rearrange
from headcount.methods.method import Method, Phase, State, Step
from headcount.units.quota import Quota


class Gradients(State):
    """The gradients of the gates so far, one row for each batch (or example)."""

    def __init__(self, quota: Quota) -> None:
        """Start without gradients."""
        super().__init__(quota)
        units = quota.units
        self.register_buffer("gradients", torch.zeros(0, len(units)))
        self.register_buffer("done", torch.tensor(False))
        self.groups = tuple(
            torch.arange(site.num_units) * site.num_groups // site.num_units for site in units.sites
        )
        """For each site, the group of each unit; units are swapped only within a group. Query heads
        that share a key-value head are a group."""

    def add(self, rows: Float[Tensor, "rows n"]) -> None:
        """Add rows."""
        before = self.get_buffer("gradients")
        self.gradients = torch.cat([before, rows.detach().to(before.device)])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Fisher(Method[Gradients]):
    """Post-training masks by the empirical Fisher information.

    ``g_bi`` is the gradient of the mean loss of batch b with respect to the gate of unit i. The
    importance of a unit is ``I_i = sum_b g_bi^2``, and the units with the greatest sum of
    importances stay. Then units are swapped within each module, so that
    ``sum_b (sum of g_bi over the removed i)^2`` falls. The swaps do not change how many units a
    module keeps.

    Units of several kinds may share one quota, since the gradients of their gates are comparable.
    Nothing is trained. ``prune_post_training`` does all steps, with scales.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertForSequenceClassification(
        ...     transformers.BertConfig(num_hidden_layers=1))
        >>> batches = [{"input_ids": torch.arange(40).view(4, 10), "labels": torch.arange(4) % 2}]
        >>> hc.decide(model, hc.Fisher(), hc.Budget(heads=5, neurons=100), batches).num_kept
        105

    Source: Kwon, Kim, Mahoney, Hassoun, Keutzer, Gholami, "A Fast Post-Training Pruning Framework
        for Transformers", 2022, arXiv 2204.09656.
    Differs: budgets may also be counts; ``average="example"``; query heads that share a key-value
        head are swapped only among themselves, so that each key-value head keeps the same number.
    """

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})
    scales: ClassVar[Literal["tuned", "ones"]] = "tuned"
    additive: ClassVar[bool] = True
    """Importance is an expected rise of the loss, so it adds up over units."""

    order: Literal["rearranged", "diagonal"] = "rearranged"
    """``rearranged``: with swaps within each module. ``diagonal``: by the importance of each unit
    alone."""
    average: Literal["batch", "example"] = "batch"
    """``batch``: one gradient for the mean loss of each batch, as in the paper. ``example``: one
    for the loss of each example, which needs N numbers of memory for each."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.order not in ("rearranged", "diagonal"):
            raise BudgetError(f"Fisher(order={self.order!r}): give 'rearranged' or 'diagonal'.")
        if self.average not in ("batch", "example"):
            raise BudgetError(f"Fisher(average={self.average!r}): give 'batch' or 'example'.")

    @property
    def name(self) -> str:
        """``fisher`` or ``fisher-diagonal``, followed by ``-example`` if gradients are of those."""
        order = "" if self.order == "rearranged" else f"-{self.order}"
        return f"fisher{order}{'' if self.average == 'batch' else '-example'}"

    def init(self, quota: Quota, generator: Generator) -> Gradients:
        """No gradients yet."""
        return Gradients(quota)

    def observe(self, state: Gradients, evidence: Evidence) -> None:
        """Add the gradients of one batch."""
        if evidence.gate_grads is None:
            raise PruningError("Fisher.observe: the evidence has no gate_grads.")
        grads = evidence.gate_grads  # [B, N]
        rows = grads.mean(0, keepdim=True) if self.average == "batch" else grads
        state.add(rows)

    def finish_round(self, state: Gradients, step: Step) -> None:
        """Note that the gradients are complete."""
        state.get_buffer("done").fill_(True)

    def gates(self, state: Gradients, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """One for every unit while gradients are taken; the hard keep afterwards."""
        if not state.get_buffer("done"):
            return torch.ones(len(state.units), dtype=torch.float64)
        return state.quota.keep(self.scores(state)).double()

    def importance(self, state: Gradients) -> Float[Tensor, " n"]:
        """The diagonal of the Fisher information: each unit's sum of squared gradients."""
        return state.get_buffer("gradients").double().square().sum(0)

    def scores(self, state: Gradients) -> Float[Tensor, " n"]:
        """The importance. After rearranging, kept units get 2 * (sum of all importances) on top.

        The top K under the same quota is therefore exactly the rearranged keep.
        """
        importance = self.importance(state)
        total = importance.sum()
        if self.order == "diagonal" or not total:
            return importance
        keep = state.quota.keep(importance)
        grads = state.get_buffer("gradients")
        parts = [
            rearrange(grads[:, span], keep[span], group=group)
            for span, group in zip(state.units.slices, state.groups, strict=True)
        ]
        return importance + 2 * total * torch.cat(parts)
