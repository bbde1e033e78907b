"""Norms of the weights as evidence."""

from typing import ClassVar, final

from torch import Tensor, nn

from headcount.architectures.weights import weight_norms
from headcount.evidence.collector import Collector, When
from headcount.units.table import UnitTable

ROLES = ("value", "output", "up", "down")
"""The projections that count: those on the way of a unit's contribution, not queries and keys."""


@final
class WeightNorms(Collector):
    """The L2 norm of each unit's weights in these projections, [N].

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
