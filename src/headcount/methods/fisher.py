"""Fisher: how much the loss is expected to rise when a unit goes, from a few labelled batches."""

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
    """The gradients of the gates that were seen, one row for each batch (or example)."""

    def __init__(self, quota: Quota) -> None:
        """None yet."""
        super().__init__(quota)
        units = quota.units
        self.register_buffer("gradients", torch.zeros(0, len(units)))
        self.register_buffer("done", torch.tensor(False))
        self.groups = tuple(
            torch.arange(site.num_units) * site.num_groups // site.num_units for site in units.sites
        )
        """For each site, the group of query heads within which units may be swapped."""

    def add(self, rows: Float[Tensor, "rows n"]) -> None:
        """Take more rows in."""
        before = self.get_buffer("gradients")
        self.gradients = torch.cat([before, rows.detach().to(before.device)])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Fisher(Method[Gradients]):
    """Post-training masks by the empirical Fisher information.

    With ``g_bi`` the gradient of the mean loss of batch b with respect to the gate of unit i, the
    importance of a unit is ``I_i = sum_b g_bi^2``. The budget's quota keeps the greatest sum of
    importance that it may. Then, in each module, removed units that add up are swapped for others,
    so that ``sum_b (sum of g_bi over the removed i)^2`` falls; every module keeps as many.

    Units of several kinds may be in one pool: their gates are alike. Nothing is trained; for the
    whole way, scales included, see ``prune_post_training``.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertForSequenceClassification(
        ...     transformers.BertConfig(num_hidden_layers=1))
        >>> batches = [{"input_ids": torch.arange(40).view(4, 10), "labels": torch.arange(4) % 2}]
        >>> hc.decide(model, hc.Fisher(), hc.Budget(heads=5, neurons=100), batches).num_kept
        105

    Source: Kwon, Kim, Mahoney, Hassoun, Keutzer, Gholami, "A Fast Post-Training Pruning Framework
        for Transformers", 2022, arXiv 2204.09656.
    Differs: budgets of counts beside MACs; ``average="example"``; query heads that share key-value
        heads are swapped within their group only, which keeps equally many in each.
    """

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})
    scales: ClassVar[Literal["tuned", "ones"]] = "tuned"
    additive: ClassVar[bool] = True
    """Importance is what the loss is expected to rise by, so it adds up over units."""

    order: Literal["rearranged", "diagonal"] = "rearranged"
    """``rearranged``: with swaps within each module; ``diagonal``: by importance alone, as
    if units did not know of each other."""
    average: Literal["batch", "example"] = "batch"
    """What one gradient is of: ``batch``, the mean loss of a batch, as in the paper; ``example``,
    the loss of each example, which needs a row of memory for each."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.order not in ("rearranged", "diagonal"):
            raise BudgetError(f"Fisher(order={self.order!r}): give 'rearranged' or 'diagonal'.")
        if self.average not in ("batch", "example"):
            raise BudgetError(f"Fisher(average={self.average!r}): give 'batch' or 'example'.")

    @property
    def name(self) -> str:
        """``fisher``, or ``fisher-diagonal``, with ``-example`` behind."""
        order = "" if self.order == "rearranged" else f"-{self.order}"
        return f"fisher{order}{'' if self.average == 'batch' else '-example'}"

    def init(self, quota: Quota, generator: Generator) -> Gradients:
        """No gradients yet."""
        return Gradients(quota)

    def observe(self, state: Gradients, evidence: Evidence) -> None:
        """Take the gradients of one batch in."""
        if evidence.gate_grads is None:
            raise PruningError("Fisher.observe: the evidence has no gate_grads.")
        grads = evidence.gate_grads  # [B, N]
        rows = grads.mean(0, keepdim=True) if self.average == "batch" else grads
        state.add(rows)

    def finish_round(self, state: Gradients, step: Step) -> None:
        """The gradients are complete."""
        state.get_buffer("done").fill_(True)

    def gates(self, state: Gradients, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """One for every unit while gradients are taken; the hard decision afterwards."""
        if not state.get_buffer("done"):
            return torch.ones(len(state.units), dtype=torch.float64)
        return state.quota.keep(self.scores(state)).double()

    def importance(self, state: Gradients) -> Float[Tensor, " n"]:
        """The diagonal of the Fisher information: the sum of squares of each unit's gradients."""
        return state.get_buffer("gradients").double().square().sum(0)

    def scores(self, state: Gradients) -> Float[Tensor, " n"]:
        """The importance; rearranged, the units that stay are lifted above all others.

        So whoever takes the best by these scores, within the same quota, takes exactly them.
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
