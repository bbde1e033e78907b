"""Models that cannot be cut as they are: quantised weights, or weights on several devices."""

import torch
from torch import nn

from headcount.errors import SurgeryError
from headcount.units.table import UnitTable


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
