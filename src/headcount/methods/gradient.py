"""Gradient importance: the sensitivity of the loss to each unit's gate, scored in rounds."""

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
    """The scores of the last round, and the sums of this one."""

    scores: Tensor
    sums: Tensor
    count: Tensor

    def __init__(self, quota: Quota) -> None:
        """Start with zeros, in buffers, so that checkpoints have them."""
        super().__init__(quota)
        units = quota.units
        self.register_buffer("scores", torch.zeros(len(units), dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(len(units), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def on(self, step: Step) -> Bool[Tensor, " n"]:
        """The units that are on in a round: first all, then fewer of the best in each round."""
        if step.index == 0:
            return torch.ones_like(self.scores, dtype=torch.bool)
        quota = self.quota.between(lambda start, end: size_at(step, start, end))
        return quota.keep(self.scores)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class GradientImportance(Method[Importance]):
    r"""Keeps the units to whose gates the loss is most sensitive; removes the others in rounds.

    The importance of a unit is ``I_n = mean over examples x of |d loss(x) / d gate_n|`` at gates of
    one, in evaluation mode, divided by the L2 norm of the importances of its layer. After each pass
    over the data the least important units are removed for good. The next pass scores the rest with
    these off. The weights are not trained, so the model should be fine-tuned already.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=2)
        >>> model = transformers.BertForSequenceClassification(config)
        >>> batch = {"input_ids": torch.tensor([[5, 6], [7, 8]]), "labels": torch.tensor([0, 1])}
        >>> method = GradientImportance(share=0.5)
        >>> hc.decide(model, method, hc.Budget(heads=5), [batch]).num_kept
        5

    Source: Michel, Levy, Neubig 2019, arXiv 1905.10650, section 4; in rounds: the comparison in
        Li, Cotterell, Sachan 2021, arXiv 2108.04657, which removes 12 of 144 heads in each.
    Differs: a round removes at most a tenth; the norm is over the units of a layer that are still
        on; it is left out if no layer has two of them, since all importances would be one; a layer
        without any gradient scores zero; there are limits per layer and units of every kind.
    """

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})

    average: Literal["example", "batch"] = "example"
    """``example``: the mean over examples of the absolute gradient, as in the paper. ``batch``: the
    mean over batches of the absolute gradient of the batch's mean loss, as in the public code."""
    normalise: Literal["layer", "none"] = "layer"
    """``layer``: divide importances by the L2 norm of their layer; ``none``: do not divide."""
    share: float = 0.1
    """The largest share of all units (rounded up) that is removed in a round; 1.0: one round, on
    the whole model."""

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
        """``gradient``, then ``-batch``, ``-raw`` (not normalised) and ``-once`` (one round)."""
        batch = "-batch" if self.average == "batch" else ""
        raw = "-raw" if self.normalise == "none" else ""
        return f"gradient{batch}{raw}{'-once' if self.share == 1 else ''}"

    def init(self, quota: Quota, generator: Generator) -> Importance:
        """A state without scores: they come with the evidence."""
        return Importance(quota)

    def num_rounds(self, quota: Quota) -> int:
        """``ceil((N - K) / ceil(share N))``, at least one.

        For a cost, (N - K) / N is the share of the cost that is removed.
        """
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
            PruningError: the evidence has no gradients.
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
        """Score the units that are on by this round's gradients, above all removed units.

        Raises:
            PruningError: there were no gradients in this round.
        """
        if not state.count:
            raise PruningError(
                "GradientImportance.finish_round: no gradient was observed in this round. Call "
                "observe first."
            )
        on, importance = state.on(step), state.sums / state.count
        layer = state.units.layer_of_unit
        most_in_a_layer = torch.bincount(layer[on], minlength=1).max()
        # With one unit in each layer, dividing by the norm would make all importances one.
        if self.normalise == "layer" and most_in_a_layer > 1:
            importance = over_layer_norm(importance, layer=layer, on=on)
        state.scores.copy_(above_removed(state.scores, importance, on=on))
        state.sums.zero_()
        state.count.zero_()

    def scores(self, state: Importance) -> Float[Tensor, " n"]:
        """Importances of the last round; negative for removed units, the lower the earlier."""
        return state.scores


def size_at(step: Step, start: Amount, end: Amount) -> Amount:
    """The size in a round, falling evenly; rounded (halves up) if ``end`` is a whole number.

    Args:
        step: the round, and the number of rounds.
        start: the size in the first round.
        end: the size after the last round.

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
        Numbers between 0 and 1; zeros in a layer whose importances are all zero.

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
    """The importance of the units that are on; negative scores for the removed, in their order.

    Args:
        scores: the scores of the round before.
        importance: not negative, [N].
        on: the units that are on.

    Returns:
        The importance of the units that are on. Removed units get negative scores in the order of
        removal. They are spaced so widely that no sum of scores gains by a removed unit: query
        heads that share key-value heads are chosen by sums.

    Example:
        >>> above_removed(torch.tensor([-4.0, 0.1, 0.9]), torch.tensor([5.0, 5.0, 2.0]),
        ...               on=torch.tensor([False, False, True]))
        tensor([-10.,  -5.,   2.])
    """
    levels, place = torch.unique(scores[~on], return_inverse=True)
    placed = importance.clone()
    placed[~on] = (place - len(levels)) * (1 + 2 * importance[on].sum())
    return placed
