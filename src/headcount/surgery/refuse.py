"""Refuse models that cannot be cut: quantised or scattered weights, tensors with two names."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from headcount.architectures.state import why_in_parts, why_packed, why_scattered
from headcount.errors import SurgeryError
from headcount.surgery.draft import Plan
from headcount.units.decision import Decision
from headcount.units.table import UnitTable


def refuse_torn(model: nn.Module, units: UnitTable, decision: Decision) -> None:
    """Refuse a decision that would cut one tensor, used by two sites, in two ways.

    Each site would need its own copy, so the cut model could have more weights than before.

    Raises:
        SurgeryError: two sites share a tensor under different names and keep different units.
    """
    keeps = {site.key: site.keep for site in decision.sites}
    # (tensor, dim) -> its names and what the decision keeps under each.
    users: dict[tuple[int, int], dict[str, tuple[bool, ...]]] = defaultdict(dict)
    for site in units.sites:
        # A sublayer or layer (one unit) is replaced, not sliced: its tensor stays for the others.
        for part in site.parts if site.key in keeps and site.num_units > 1 else ():
            tensor = model.get_submodule(part.module).get_parameter(part.name)
            users[id(tensor), part.dim][part.parameter] = tuple(keeps[site.key])
    for names in users.values():
        if len(set(names.values())) > 1:
            one, other, *_ = names
            raise SurgeryError(
                f"cut({type(model).__name__}): {one} and {other} are one tensor, of which the "
                "decision keeps different units. Cutting would make two of it. Keep the same units "
                "in all layers that share weights, or do not prune these kinds."
            )


def refuse_untied(model: nn.Module, planned: Plan) -> None:
    """Refuse a plan that slices a tensor under one name and not, or otherwise, under another.

    An example is a query projection whose weight another module uses as well.

    Raises:
        SurgeryError: the plan does so.
    """
    structure = planned.structure
    # What is replaced or deleted does not use the tensor any more, so it cannot disagree.
    replaced = [
        name for key in ("zeros", "bias_only", "removed") for name in structure.get(key, [])
    ]
    users: dict[int, list[str]] = defaultdict(list)
    for name, tensor in model.named_parameters(remove_duplicate=False):
        users[id(tensor)].append(name)
    for names in users.values():
        left = [
            name
            for name in names
            if not any(f"{name}.".startswith(f"{gone}.") for gone in replaced)
        ]
        for one, other in pairwise(left):
            if _alike(planned.index.get(one, {}), planned.index.get(other, {})):
                continue
            raise SurgeryError(
                f"cut({type(model).__name__}): {one} and {other} are one tensor, of which the "
                "cut model would need two different slices. Keep the same units wherever the "
                "tensor is used, do not prune these kinds, or untie the two: "
                "nn.Parameter(weight.clone())."
            )


def _alike(one: Mapping[int, Tensor], other: Mapping[int, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[dim], other[dim]) for dim in one)


def refuse(model: nn.Module) -> None:
    """Refuse a model whose weights cannot be sliced.

    Raises:
        SurgeryError: the weights are quantised, on several devices or processes, or not loaded.
    """
    call = f"cut({type(model).__name__})"
    reason = why_packed(model) or why_scattered(model) or why_in_parts(model)
    if reason:
        raise SurgeryError(f"{call}: {reason}")
    devices = {parameter.device for parameter in model.parameters()}
    if torch.device("meta") in devices and len(devices) > 1:
        raise SurgeryError(
            f"{call}: some weights are offloaded. Load the whole model on one device, then cut it."
        )
    if len(devices) > 1:
        shown = ", ".join(sorted(map(str, devices)))
        raise SurgeryError(
            f"{call}: the weights are on several devices ({shown}). Move the model to one device "
            "(device_map=None, model.to(...)), cut it, save it, and load the result with any "
            "device_map."
        )
