"""Prune a fine-tuned model without training it again."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from headcount.door.arguments import checks_arguments
from headcount.door.shape import Seed
from headcount.errors import BudgetError
from headcount.evidence.gate_grads import without_labels
from headcount.methods.method import Method
from headcount.post_training.decide import check_batches, decide, each
from headcount.post_training.rescale import rescale
from headcount.surgery.cut import cut
from headcount.surgery.fold import fold
from headcount.units.budget import Budget
from headcount.units.decision import Decision

M = TypeVar("M", bound=nn.Module)


@checks_arguments
def prune_post_training(
    model: M,
    method: Method,
    budget: Budget,
    batches: Iterable[Mapping[str, Any]],
    *,
    scales: Literal["tuned", "ones"] = "tuned",
    seed: Seed = 0,
    report: Callable[[str], None] | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> tuple[M, Decision]:
    """Decide, fit scales for the units that stay, cut, and fold the scales in: in minutes.

    Args:
        model: a fine-tuned model; not changed.
        method: one that needs no training, such as ``Fisher()``.
        budget: what must remain.
        batches: keyword arguments of the model with labels, on its device; about 2,000 examples
            of the training data are plenty.
        scales: ``tuned`` by ``rescale``, or ``ones``.
        seed: seed of the method's generator.
        report: called with a line at each stage, for instance ``console.print``.
        loss: see ``decide``.

    Returns:
        The smaller model, in evaluation mode, and the decision. The model is an ordinary one: save
        it, or train it further.

    Raises:
        ArgumentError: something of the wrong type, such as one batch for ``batches``.
        TrainingError: the method learns by training, or a loss is not finite.
        BudgetError: the model cannot meet the budget.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertForSequenceClassification(
        ...     transformers.BertConfig(num_hidden_layers=1))
        >>> batches = [{"input_ids": torch.arange(40).view(4, 10), "labels": torch.arange(4) % 2}]
        >>> small, decision = hc.prune_post_training(
        ...     model, hc.Fisher(), hc.Budget(heads=4, neurons=500), batches)
        >>> hc.units(small).num("head"), hc.units(small).num("neuron")
        (4, 500)

    Source: Kwon et al. 2022, arXiv 2204.09656.
    """
    if scales not in ("tuned", "ones"):
        raise BudgetError(f"prune_post_training(scales={scales!r}): give 'tuned' or 'ones'.")
    check_batches("prune_post_training", batches, needed=True)
    say = report or (lambda line: None)
    # Deciding and fitting go through the batches several times: an iterator would be used up.
    inputs = list(each("prune_post_training", batches))
    began = perf_counter()
    decision = decide(model, method, budget, inputs, seed=seed, loss=loss)
    say(f"{method.name}: {decision.num_kept} units stay, {perf_counter() - began:.1f} s")
    return cut_post_training(model, decision, inputs, scales=scales, report=report, loss=loss)


def cut_post_training(
    model: M,
    decision: Decision,
    batches: Iterable[Mapping[str, Any]],
    *,
    scales: Literal["tuned", "ones"],
    report: Callable[[str], None] | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> tuple[M, Decision]:
    """The part of ``prune_post_training`` after the decision: fit scales, cut, fold.

    Args:
        model: a fine-tuned model; not changed.
        decision: the units that stay.
        batches: a list of batches, as in ``prune_post_training``.
        scales: ``tuned`` or ``ones``.
        report: called with a line at each stage.
        loss: see ``decide``.

    Returns:
        The smaller model, in evaluation mode, and the decision, which says if scales were tuned.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> decision = hc.decide(model, hc.Random(), hc.Budget(heads=3))
        >>> hc.units(cut_post_training(model, decision, [], scales="ones")[0]).num("head")
        3
    """
    if scales == "ones":
        return cut(model, decision).eval(), decision
    began = perf_counter()
    if loss is not None:  # the model takes no labels
        batches = [without_labels(batch) for batch in batches]
    tuned = rescale(model, decision, batches, report=report)
    decision = replace(decision, provenance={**decision.provenance, "scales": "tuned"})
    if report is not None:
        report(f"scales tuned, {perf_counter() - began:.1f} s")
    return fold(cut(model, decision), decision, tuned, in_place=True).eval(), decision
