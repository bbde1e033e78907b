"""Which row of the tables fits a module."""

from torch import nn

from headcount.architectures import names
from headcount.architectures.layout import AttentionLayout
from headcount.architectures.maps import child, is_map
from headcount.architectures.tables import ATTENTION, REFUSED


def layout_of(model: nn.Module, name: str, module: nn.Module) -> AttentionLayout | None:
    """The first row that fits a module, or None."""
    here = module._modules.keys()
    rows = [row for needed, row in _NEEDED if needed <= here]
    if not rows or why_refused(module):
        return None
    return next((row for row in rows if _fits(model, name, module, row)), None)


_NEEDED = tuple(
    (frozenset(path.partition(".")[0] for path in row.projections), row) for row in ATTENTION
)
"""Names of children without which a row cannot fit, and the row."""


_UNSEEN = "it multiplies with pieces of a weight, where units cannot be gated"


def why_refused(module: nn.Module) -> str:
    """Why a module is not cut although a row fits it; empty if nothing speaks against it."""
    for cls in type(module).__mro__:
        file = cls.__module__.rpartition(".")[2]
        reason = REFUSED.get(cls.__name__) or REFUSED.get(f"{file}.{cls.__name__}")
        if reason:
            return reason
    values = vars(module)
    if any(values.get(name) is True for name in names.SHARE_KEYS):
        return "its keys and values are those of another layer too"
    if values.get("slow_but_exact") is True and values.get("pretraining_tp", 1) > 1:
        return f"{_UNSEEN}: set config.slow_but_exact = False"
    return ""


def resolve(module: str, path: str) -> str:
    """The qualified name of a layout's path, seen from the attention module's qualified name.

    Example:
        >>> resolve("encoder.layer.0.attention.self", "..output.dense")
        'encoder.layer.0.attention.output.dense'
    """
    if path.startswith(".."):
        module, path = module.rpartition(".")[0], path[2:]
    return f"{module}.{path}" if module and path else module or path


def near_fit(model: nn.Module, name: str, module: nn.Module) -> AttentionLayout | None:
    """The first row whose parts a module has by name, whatever they are; None if there is none."""
    here = module._modules.keys()
    rows = (row for needed, row in _NEEDED if needed <= here)
    return next((row for row in rows if all(_maps(model, name, module, row))), None)


def _maps(
    model: nn.Module, name: str, module: nn.Module, row: AttentionLayout
) -> list[nn.Module | None]:
    """What a module has where a row has projections; nothing if the row is for other classes."""
    values = vars(module)
    if row.classes and not any(cls.__name__ in row.classes for cls in type(module).__mro__):
        return [None]
    if any(values.get(key, None) != value for key, value in row.conditions.items()):
        return [None]
    paths = [resolve(name, path) for path in (*row.projections, row.output)]
    return [child(model, path) for path in paths]


def _fits(model: nn.Module, name: str, module: nn.Module, row: AttentionLayout) -> bool:
    return all(map(is_map, _maps(model, name, module, row))) and not unexplained(module, row)


def unexplained(module: nn.Module, row: AttentionLayout) -> list[str]:
    """The parts of a module with weights that neither the row nor the tables of names know."""
    known = {*row.projections, row.output, *row.shared, row.bias_table}
    known |= {*names.NORMS, *names.UNTOUCHED, *names.PER_HEAD_MAPS}
    found = []
    for parameter, _ in module.named_parameters():
        top = parameter.split(".")[0]
        inside = any(parameter.startswith(f"{path}.") for path in known if path)
        if top not in known and not inside and parameter not in names.PER_HEAD:
            found.append(parameter)
    return found
