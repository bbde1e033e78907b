"""Scale tuning the long way: one column for each unit, from whole forward passes."""

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from headcount.gates.attach import Gates
from headcount.units.table import UnitTable


def passed(model: nn.Module, batch: Mapping[str, Tensor], places: Mapping[str, str]) -> Tensor:
    """What goes into or comes out of a module in a whole forward pass, flat."""
    seen: list[Tensor] = []

    def note(_, args, output, side):
        value = args if side == "input" else output
        seen.append((value[0] if isinstance(value, tuple) else value).clone())

    with ExitStack() as hooks, torch.no_grad():
        for name, side in places.items():
            hook = model.get_submodule(name).register_forward_hook(
                lambda *call, side=side: note(*call, side)
            )
            hooks.callback(hook.remove)
        model(**batch)
    (found,) = seen
    return found


def tuned(
    model: nn.Module,
    units: UnitTable,
    keep: Tensor,
    batches: list[Mapping[str, Tensor]],
    order: Mapping[str, tuple[str, str]],
    *,
    damping: float,
) -> Tensor:
    """Scales of all kept units.

    Args:
        model: in float64, in evaluation mode.
        units: of the decision.
        keep: what stays.
        batches: with ``attention_mask``.
        order: projection -> module and side of its sum, as the model runs them.
        damping: relative.
    """
    scales = keep.double()
    gates = Gates(model, units)

    def summed(gate: str, value: Tensor | None) -> Tensor:
        gates.value = value
        module, side = order[gate]
        parts = [
            passed(model, batch, {module: side})[batch["attention_mask"].bool()]
            for batch in batches
        ]
        return torch.cat(parts).flatten()

    for gate in order:
        for site, span in zip(units.sites, units.slices, strict=True):
            kept = [i for i in range(span.start, span.stop) if keep[i]]
            if site.gate != gate or not kept:
                continue
            masked = summed(gate, scales)
            columns = []
            for unit in kept:
                without = scales.clone()
                without[unit] = 0
                columns.append(masked - summed(gate, without))
            matrix, target = torch.stack(columns, 1), summed(gate, None) - masked
            weight = (damping * matrix.square().sum(0).mean()).sqrt()
            damped = torch.cat([matrix, weight * torch.eye(len(kept)).double()])
            right = torch.cat([target, torch.zeros(len(kept)).double()])
            scales[kept] = 1 + torch.linalg.lstsq(damped, right[:, None]).solution[:, 0]
    gates.remove()
    return scales
