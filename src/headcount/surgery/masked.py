"""A decision in force on a live model, without cutting."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from headcount.architectures.discover import units as find_units
from headcount.gates.attach import Gates, gate_dtype
from headcount.units.decision import Decision


@contextmanager
def masked(model: nn.Module, decision: Decision) -> Iterator[nn.Module]:
    """The model with the removed units multiplied by zero; the twin of ``cut``.

    Args:
        model: the model the decision is about; as before when the block ends.
        decision: what stays.

    Yields:
        The same model.

    Raises:
        DecisionError: the decision is about another model.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=3))
        >>> with hc.masked(model, decision):
        ...     output = model(torch.tensor([[1, 2, 3]]))
    """
    units = decision.check(find_units(model))
    keep = decision.keep(units)
    gates = Gates(model, units)
    device = next(model.parameters()).device
    gates.value = keep.to(device=device, dtype=gate_dtype(model))
    try:
        yield model
    finally:
        gates.remove()
