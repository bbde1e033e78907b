"""Models that cannot be cut as they are: quantised weights, or weights on several devices."""

from collections import defaultdict

import torch
from torch import nn

from headcount.errors import SurgeryError
from headcount.units.decision import Decision
from headcount.units.table import UnitTable


def refuse_torn(model: nn.Module, units: UnitTable, decision: Decision) -> None:
    """Refuse to keep different slices of one tensor that two sites have under different names.

    Each would need a copy of its own, so that the smaller model had more weights.

    Raises:
        SurgeryError: the decision keeps different units at such sites.
    """
    keeps = {site.key: site.keep for site in decision.sites}
    users: dict[tuple[int, int], dict[str, tuple[bool, ...]]] = defaultdict(dict)
    for site in units.sites:
        for part in site.parts if site.key in keeps and site.num_units > 1 else ():
            tensor = model.get_submodule(part.module).get_parameter(part.name)
            users[id(tensor), part.dim][part.parameter] = tuple(keeps[site.key])
    for names in users.values():
        if len(set(names.values())) > 1:
            one, other, *_ = names
            raise SurgeryError(
                f"cut({type(model).__name__}): {one} and {other} are one tensor, of which the "
                "decision keeps different units. Cutting would make two of it. Decide for the same "
                "units in all layers that share weights, or leave these kinds whole."
            )


def refuse(model: nn.Module, units: UnitTable) -> None:
    """Refuse a model whose weights cannot be sliced.

    Raises:
        SurgeryError: weights that are quantised, or on more than one device, or not loaded.
    """
    call = f"cut({type(model).__name__})"
    names = {part.parameter for site in units.sites for part in site.parts}
    devices = set()
    for name, parameter in model.named_parameters():
        devices.add(parameter.device)
        if name in names and not parameter.dtype.is_floating_point:
            raise SurgeryError(
                f"{call}: {name} is quantised ({parameter.dtype}); packed weights cannot be "
                "sliced. Load the model unquantised, cut it, then quantise the result."
            )
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
