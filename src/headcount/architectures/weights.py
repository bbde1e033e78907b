"""Evidence about units that needs the weights only: their norms."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headcount.units.table import UnitTable


def weight_norms(
    model: nn.Module, units: UnitTable, *, roles: Sequence[str]
) -> Float[Tensor, " n"]:
    r"""The L2 norm of each unit's slices of the projections with the given roles.

    For sublayers and layers all their matrices count, whatever their role.

    Args:
        model: the model the table was made from.
        units: its units.
        roles: projections that count: ``query``, ``key``, ``value``, ``output``, ``up``, ``down``.

    Returns:
        ``sqrt(sum of squares)`` over each unit's weights (biases left out), float64, [N].

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> weight_norms(model, hc.units(model, "head"), roles=("value", "output")).shape
        torch.Size([12])
    """
    norms = []
    for site in units.sites:
        squares = torch.zeros(site.num_units, dtype=torch.float64)
        for part in site.parts:
            weight = model.get_submodule(part.module).get_parameter(part.name).detach()
            if weight.ndim < 2 or (part.role not in roles and site.branch != "layer"
                                   and site.kind != "sublayer"):  # fmt: skip
                continue
            # Squares are summed over all dimensions but the units' (and the experts').
            own = (0, part.dim) if part.stacked else (part.dim,)
            others = [dim for dim in range(weight.ndim) if dim not in own]
            per_index = weight.double().square().sum(others).cpu()
            index = torch.tensor(part.starts)[:, None] + torch.arange(part.width)
            squares += per_index[..., index].sum(-1).flatten()
        norms.append(squares.sqrt())
    return torch.cat(norms)
