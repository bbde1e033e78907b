"""Norms of the weights as evidence."""

from typing import ClassVar, final

from torch import Tensor, nn

from headcount.architectures.weights import weight_norms
from headcount.evidence.collector import Collector, When
from headcount.units.table import UnitTable

ROLES = ("value", "output", "up", "down")
"""The projections that count: those that carry what a unit adds."""


@final
class WeightNorms(Collector):
    """The L2 norm of each unit's value and output weights, or of a neuron's, [N].

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> WeightNorms.take(model, hc.units(model, "head")).shape
        torch.Size([12])
    """

    field: ClassVar[str] = "weight_norms"
    when: ClassVar[When] = "once"

    @staticmethod
    def take(model: nn.Module, units: UnitTable) -> Tensor:
        """The norms, float64, [N]."""
        return weight_norms(model, units, roles=ROLES)
