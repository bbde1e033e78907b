"""Decide without training."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headcount.errors import TrainingError
from headcount.methods.method import Method
from headcount.training.session import Session
from headcount.units.budget import Budget
from headcount.units.decision import Decision


def decide(
    model: nn.Module,
    method: Method,
    budget: Budget,
    batches: Iterable[Mapping[str, Tensor]] | None = None,
    *,
    seed: int = 0,
) -> Decision:
    """The decision of a method that needs no training.

    Args:
        model: the model to prune; unchanged afterwards.
        method: for instance ``Random(seed=0)`` or ``Magnitude()``.
        budget: what must remain.
        batches: keyword arguments of the model with labels, on its device; only methods that look
            at data (``"gate_grads" in method.evidence``) use them.
        seed: seed of the method's generator.

    Returns:
        Exactly the asked number of units.

    Raises:
        TrainingError: the method learns by training, or needs batches and got none.
        BudgetError: the model cannot meet the budget.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> hc.decide(model, hc.Magnitude(), hc.Budget(heads=0.25)).num_kept
        6
    """
    if method.learns:
        raise TrainingError(
            f"decide(method={type(method).__name__}): this method learns its scores by training. "
            "Use PruningTrainer or attach."
        )
    with Session(model, method, budget, num_steps=0, seed=seed) as session:
        if "gate_grads" in method.evidence:
            _observe_gradients(session, batches)
        return session.decision()


def _observe_gradients(session: Session, batches: Iterable[Mapping[str, Any]] | None) -> None:
    method = session.method
    if batches is None:
        name = type(method).__name__
        raise TrainingError(f"decide(method={name}): the method looks at data. Give batches.")
    rounds = max(method.num_rounds(pool.units, pool.quota) for pool in session.pools)
    if rounds > 1 and iter(batches) is batches:  # can be gone through only once
        batches = list(batches)
    session.begin(rounds)
    was_training = session.model.training
    session.model.eval()
    for _ in range(rounds):
        gates = session.draw()
        for batch in batches:
            session.observe(gate_grads=_gate_grads(session, batch, gates))
        session.finish_round()
    session.model.train(was_training)


def _gate_grads(session: Session, batch: Mapping[str, Any], gates: Tensor) -> Tensor:
    size = next(value.shape[0] for value in batch.values() if isinstance(value, Tensor))
    device = next(session.model.parameters()).device
    own = gates.detach().to(device).expand(size, -1).clone().requires_grad_()
    with session.held(own):
        loss = session.model(**batch).loss
        (grads,) = torch.autograd.grad(loss * size, own)
    return grads
