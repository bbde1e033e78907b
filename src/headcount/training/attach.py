"""Put a method to work on a live model."""

from torch import nn

from headcount.door.arguments import checks_arguments
from headcount.door.shape import Seed
from headcount.errors import TrainingError
from headcount.methods.method import Method
from headcount.training.session import Session
from headcount.units.budget import Budget


@checks_arguments
def attach(
    model: nn.Module, method: Method, budget: Budget, *, num_steps: int, seed: Seed = 0
) -> Session:
    """Put a method to work on a live model, to prune in your own training loop.

    Args:
        model: the model to train; it is gated in place and restored by ``Session.close``.
        method: for instance ``DSP()``.
        budget: what must remain; checked against the model now.
        num_steps: optimizer steps of the whole training; schedules are stretched over them.
        seed: seed of the method's generator (initial logits, noise); the method's own ``seed``
            comes first.

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
