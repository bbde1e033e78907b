"""Decide without training, at once or from data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headcount.door.arguments import check_value, checks_arguments
from headcount.door.shape import Seed
from headcount.errors import ArgumentError, TrainingError, check_argument
from headcount.evidence.gate_grads import GateGrads, without_labels
from headcount.gates.modes import evaluating
from headcount.methods.method import Method, Step
from headcount.training.parallel import check_alone
from headcount.training.session import Session
from headcount.units.budget import Budget
from headcount.units.decision import Decision

Batches = Iterable[Mapping[str, Any]]


@checks_arguments
def decide(
    model: nn.Module,
    method: Method,
    budget: Budget,
    batches: Batches | None = None,
    *,
    seed: Seed = 0,
    progress: Callable[[Step], None] | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> Decision:
    """Decide with a method that needs no training.

    Args:
        model: the model to prune; unchanged afterwards.
        method: for instance ``Random(seed=0)`` or ``Magnitude()``.
        budget: what must remain.
        batches: keyword arguments of the model with labels, on its device; used only by
            methods that decide from data (``method.phase`` is "from data"). Each round goes
            through them once; with several rounds, an iterator is first made a list.
        seed: seed of the method's generator; the method's own ``seed`` comes first.
        progress: called after each round, with the rounds done and their total.
        loss: the loss of (outputs, labels), a mean over the batch; the model is then not shown the
            labels. None for the model's own loss.

    Returns:
        Exactly the asked number of units.

    Raises:
        ArgumentError: something of the wrong type, such as one batch for ``batches``.
        TrainingError: the method learns by training; it needs batches and got none; the model
            gives no loss, or one that is not finite; or there are several processes, each with
            its own part of the data.
        PruningError: the model splits an example into several rows (choices, windows), and a batch
            has more than one example.
        BudgetError: the model cannot meet the budget.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> hc.decide(model, hc.Magnitude(), hc.Budget(heads=0.25)).num_kept
        6
    """
    with deciding(
        model, method, budget, batches, seed=seed, progress=progress, loss=loss
    ) as session:
        return session.decision()


@contextmanager
def deciding(
    model: nn.Module,
    method: Method,
    budget: Budget,
    batches: Batches | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Step], None] | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> Iterator[Session]:
    """A session whose method has looked at the data, ready to decide; arguments as in ``decide``.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> with deciding(model, hc.Magnitude(), hc.Budget(heads=0.25)) as session:
        ...     [decision.num_kept for decision in session.decisions([6, 5])]
        [6, 5]
    """
    check_batches("decide", batches)
    if method.learns:
        raise TrainingError(
            f"decide(method={type(method).__name__}): this method learns its scores by training. "
            "Use PruningTrainer or attach."
        )
    if method.phase == "from data":
        check_alone(f"decide(method={type(method).__name__})")
    with Session(model, method, budget, num_steps=0, seed=seed) as session:
        if method.phase == "from data":
            _observe_gradients(session, batches, progress, loss)
        yield session


def check_batches(call: str, batches: object, *, needed: bool = False) -> None:
    """Refuse a single batch in place of a list of batches.

    Args:
        call: the function that was called.
        batches: the argument to check.
        needed: also refuse what is not iterable, such as None.

    Raises:
        ArgumentError: a mapping was given; or batches are needed and missing.
    """
    if needed:
        check_argument(call, "batches", batches, Iterable, "a list of batches: [batch]")
    if isinstance(batches, Mapping):
        raise ArgumentError(
            f"{call}(batches={type(batches).__name__}): this is one batch. Give a list of them: "
            "[batch]."
        )
    check_value(call, "batches", batches, Batches | None)


def each(call: str, batches: Batches) -> Iterator[Mapping[str, Any]]:
    """Yield the batches, each after a check.

    Raises:
        ArgumentError: a batch is no mapping of names to tensors.
    """
    for batch in batches:
        check_argument(call, "batches", batch, Mapping, "batches as the model takes them by name")
        yield batch


def _observe_gradients(
    session: Session,
    batches: Batches | None,
    progress: Callable[[Step], None] | None,
    loss: Callable[..., Tensor] | None,
) -> None:
    """Show the data to the method, once for each of its rounds."""
    method = session.method
    if batches is None:
        raise TrainingError(f"{_call(session)}: the method looks at data. Give batches.")
    rounds = max(method.num_rounds(quota) for quota in session.quotas)
    if rounds > 1 and iter(batches) is batches:  # an iterator, which can be used only once
        batches = list(batches)
    session.begin(rounds)
    with evaluating(session.model):
        for _ in range(rounds):
            _look(session, batches, loss)
            if progress is not None:
                progress(session.progress)


def _look(session: Session, batches: Batches, loss: Callable[..., Tensor] | None) -> None:
    """One round over the data."""
    gates, num_batches = session.draw(), 0
    for num_batches, batch in enumerate(each("decide", batches), 1):
        _look_at(session, batch, gates, f"batch {num_batches}", loss)
    if not num_batches:
        now = session.progress
        raise TrainingError(
            f"{_call(session)}: there are no batches in round {now.index + 1} of {now.total}. Give "
            "a list, or a loader that can be gone through again."
        )
    session.finish_round()


def _look_at(
    session: Session,
    batch: Mapping[str, Any],
    gates: Tensor,
    place: str,
    loss: Callable[..., Tensor] | None,
) -> None:
    """Show one batch; the session observes the evidence of each pass by itself."""
    with session.looking():
        # ``GateGrads`` runs the model itself, forward and backward; the rest needs no gradient.
        if GateGrads.field in session.method.evidence:
            grads = GateGrads.take(
                session.model,
                batch,
                gates,
                held=session.held,
                call=_call(session),
                place=place,
                loss=loss,
            )
            session.observe(gate_grads=grads)
        else:
            with torch.no_grad(), session.held(gates):
                session.model(**(batch if loss is None else without_labels(batch)))


def _call(session: Session) -> str:
    return f"decide(method={type(session.method).__name__})"
