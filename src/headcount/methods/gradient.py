"""Gradient importance: how much the loss reacts to each unit's gate, re-scored in rounds."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError, PruningError
from headcount.evidence.evidence import Evidence
from headcount.maths.shares import exactly, halves_up
from headcount.methods.method import Method, Phase, State, Step
from headcount.units.quota import Quota

Amount = TypeVar("Amount", int, float)


class Importance(State):
    """Scores of the last round, and what has been seen in this one."""

    scores: Tensor
    sums: Tensor
    count: Tensor

    def __init__(self, quota: Quota) -> None:
        """Nothing seen yet; all in buffers, so that checkpoints hold it."""
        super().__init__(quota)
        units = quota.units
        self.register_buffer("scores", torch.zeros(len(units), dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(len(units), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def on(self, step: Step) -> Bool[Tensor, " n"]:
        """The units that are on in a round: all in the first, then the best, fewer each time."""
        if step.index == 0:
            return torch.ones_like(self.scores, dtype=torch.bool)
        quota = self.quota.between(lambda start, end: size_at(step, start, end))
        return quota.keep(self.scores)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class GradientImportance(Method[Importance]):
    r"""Keeps the units whose gates the loss reacts to most; the least important go in rounds.

    ``I_n = mean over examples x of |d loss(x) / d gate_n|`` at gates of one, in evaluation mode,
    divided by the L2 norm of the importances of its layer. After each pass over the data a share of
    the units goes for good, and those that are left are scored again, without the others. The
    model's weights are not trained; it should be fine-tuned already.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=2)
        >>> model = transformers.BertForSequenceClassification(config)
        >>> batch = {"input_ids": torch.tensor([[5, 6], [7, 8]]), "labels": torch.tensor([0, 1])}
        >>> method = GradientImportance(share=0.5)
        >>> hc.decide(model, method, hc.Budget(heads=5), [batch]).num_kept
        5

    Source: Michel, Levy, Neubig 2019, arXiv 1905.10650, section 4; in rounds: the comparison in
        Li, Cotterell, Sachan 2021, arXiv 2108.04657, where 12 of 144 heads go in each.
    Differs: a share of a tenth; the norm is over the units of a layer that are still on; where no
        layer has two of them, all would be one, and are left as they are; a layer whose units have
        no gradient at all scores zero; limits per layer, units of every kind.
    """

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})

    average: Literal["example", "batch"] = "example"
    """``example``: the mean over examples of the absolute gradient, as in the paper; ``batch``: the
    mean over batches of the absolute gradient of the batch's loss, as public code has it."""
    normalise: Literal["layer", "none"] = "layer"
    """``layer``: importances are divided by the L2 norm of their layer's; ``none``: they stay."""
    share: float = 0.1
    """At most this share of all units (rounded up) goes before the others are scored again; 1.0:
    all are scored once, on the whole model."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.average not in ("example", "batch"):
            raise BudgetError(
                f"GradientImportance(average={self.average!r}): give 'example' or 'batch'."
            )
        if self.normalise not in ("layer", "none"):
            raise BudgetError(
                f"GradientImportance(normalise={self.normalise!r}): give 'layer' or 'none'."
            )
        if not 0 < self.share <= 1:
            raise BudgetError(
                f"GradientImportance(share={self.share!r}): give a share of the units, above 0 and "
                "at most 1."
            )

    @property
    def name(self) -> str:
        """``gradient``, with ``-batch``, ``-raw`` (not normalised) or ``-once`` (one round)."""
        batch = "-batch" if self.average == "batch" else ""
        raw = "-raw" if self.normalise == "none" else ""
        return f"gradient{batch}{raw}{'-once' if self.share == 1 else ''}"

    def init(self, quota: Quota, generator: Generator) -> Importance:
        """No scores yet: they come with the evidence."""
        return Importance(quota)

    def num_rounds(self, quota: Quota) -> int:
        """``ceil((N - K) / ceil(share N))``, at least one; in shares of the whole for costs."""
        num, whole = len(quota.units), quota.whole
        at_once = math.ceil(exactly(self.share) * num)
        gone = (whole - quota.target) * num
        return max(1, -(-gone // (at_once * whole))) if whole else 1

    def gates(self, state: Importance, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """One for each unit that is on in the round, zero for the others."""
        return state.on(step).to(torch.float64)

    def observe(self, state: Importance, evidence: Evidence) -> None:
        """Add a batch's gradients, [B, N].

        Raises:
            PruningError: the evidence has none.
        """
        if evidence.gate_grads is None:
            raise PruningError("GradientImportance.observe: the evidence has no gate_grads.")
        grads = evidence.gate_grads.detach().to(state.sums)
        if self.average == "example":
            state.sums += grads.abs().sum(0)
            state.count += len(grads)
        else:
            state.sums += grads.mean(0).abs()
            state.count += 1

    def finish_round(self, state: Importance, step: Step) -> None:
        """Score the units that are on by what was seen, above all that went before.

        Raises:
            PruningError: nothing was seen.
        """
        if not state.count:
            raise PruningError(
                "GradientImportance.finish_round: no gradient was observed in this round. Call "
                "observe first."
            )
        on, importance = state.on(step), state.sums / state.count
        layer = state.units.layer_of_unit
        most_in_a_layer = torch.bincount(layer[on], minlength=1).max()
        if self.normalise == "layer" and most_in_a_layer > 1:  # else all would be one
            importance = over_layer_norm(importance, layer=layer, on=on)
        state.scores.copy_(above_removed(state.scores, importance, on=on))
        state.sums.zero_()
        state.count.zero_()

    def scores(self, state: Importance) -> Float[Tensor, " n"]:
        """Importances of the last round; below zero for units that went before, last gone first."""
        return state.scores


def size_at(step: Step, start: Amount, end: Amount) -> Amount:
    """What is left in a round, falling evenly; a whole number (halves up) if ``end`` is one.

    Args:
        step: the round, and the number of rounds.
        start: what is there in the first round.
        end: what stays after the last.

    Example:
        >>> [size_at(Step(index=i, total=3), 12, 4) for i in range(4)]
        [12, 9, 7, 4]
        >>> size_at(Step(index=1, total=2), 1.0, 0.5)
        0.75
    """
    if isinstance(end, int):
        return end + halves_up(Fraction(start - end) * (1 - Fraction(step.index, step.total)))
    return end + (start - end) * (1 - step.fraction)


def over_layer_norm(
    importance: Float[Tensor, " n"], *, layer: Int[Tensor, " n"], on: Bool[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Importances divided by the L2 norm over the units of their layer that are on.

    Args:
        importance: not negative, [N].
        layer: the layer of each unit.
        on: the units that count; the others get zero.

    Returns:
        Between 0 and 1; a layer without any importance stays at zero.

    Example:
        >>> over_layer_norm(torch.tensor([3.0, 4.0, 9.0, 0.0]), layer=torch.tensor([0, 0, 0, 1]),
        ...                 on=torch.tensor([True, True, False, True]))
        tensor([0.6000, 0.8000, 0.0000, 0.0000])

    Source: Michel, Levy, Neubig 2019, arXiv 1905.10650, section 4, after Molchanov et al. 2017,
        arXiv 1611.06440.
    """
    counted = importance * on
    squares = torch.zeros(int(layer.max()) + 1, dtype=counted.dtype)
    norm = squares.index_add(0, layer, counted**2).sqrt()[layer]
    return torch.where(norm == 0, 0.0, counted / norm)


def above_removed(
    scores: Float[Tensor, " n"], importance: Float[Tensor, " n"], *, on: Bool[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """New scores of the units that are on, above those of the removed, which keep their order.

    Args:
        scores: those of the round before.
        importance: not negative, [N].
        on: the units that are on.

    Returns:
        The importance of the units that are on; below zero for the others, by rank, in steps so
        great that a sum of scores (by which query heads that share key-value heads are chosen)
        never gains by taking one of them.

    Example:
        >>> above_removed(torch.tensor([-4.0, 0.1, 0.9]), torch.tensor([5.0, 5.0, 2.0]),
        ...               on=torch.tensor([False, False, True]))
        tensor([-10.,  -5.,   2.])
    """
    levels, place = torch.unique(scores[~on], return_inverse=True)
    placed = importance.clone()
    placed[~on] = (place - len(levels)) * (1 + 2 * importance[on].sum())
    return placed
