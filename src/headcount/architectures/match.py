"""Find the table row that fits a module."""

from collections.abc import Mapping

from torch import nn

from headcount.architectures import names
from headcount.architectures.layout import AttentionLayout
from headcount.architectures.maps import child, is_map
from headcount.architectures.sources import width_off_input
from headcount.architectures.tables import ATTENTION, REFUSED, REFUSED_WITH, RIGHT_WITH_ENCODER


def layout_of(model: nn.Module, name: str, module: nn.Module) -> AttentionLayout | None:
    """The first row that fits a module, or None."""
    # Most modules fail this comparison of names, which is cheap. It runs for every module.
    here = module._modules.keys()
    rows = [row for needed, row in _NEEDED if needed <= here]
    if not rows or why_refused(module):
        return None
    return next((row for row in rows if _fits(model, name, module, row)), None)


_NEEDED = tuple(
    (frozenset(path.partition(".")[0] for path in row.projections), row) for row in ATTENTION
)
"""The children that a row needs, by name, and the row."""


_UNSEEN = "it multiplies with pieces of a weight, where units cannot be gated"


def why_refused(module: nn.Module) -> str:
    """Why attention is not cut although a row fits; empty if it can be cut."""
    # A row that names the variable of the width has a wrapper for it.
    told = any(row.width and {*class_names(module)} & {*row.classes} for row in ATTENTION)
    if not told and not why_listed(module) and width_off_input(type(module)):
        return "it takes the width of its input for that of all its heads"
    return why_listed(module)


def why_entangled(model: nn.Module) -> str:
    """Why no unit of a model can be cut: a module of it uses the heads of others.

    Empty if there is no such module. MVP's prompts, say, are keys and values for all heads.
    """
    two_caches = getattr(vars(model).get("config"), "is_encoder_decoder", False)
    for name, module in model.named_modules():
        kind = type(module).__name__
        setting, reason = REFUSED_WITH.get(kind, ("", ""))
        # With a cache for self-attention and one for cross-attention, these cannot mix them up.
        if two_caches and kind in RIGHT_WITH_ENCODER:
            continue
        if reason and (not setting or (vars(module) | module._modules).get(setting)):
            return f"{name} is a {kind}: {reason}."
    return ""


def why_listed(module: nn.Module) -> str:
    """Why a table, or the module's own settings, forbid to cut it; empty if they do not."""
    refused = (REFUSED[name] for name in class_names(module) if name in REFUSED)
    return next(refused, "") or _why_set_so(vars(module))


def _why_set_so(values: Mapping[str, object]) -> str:
    """Why a module's attributes forbid to cut it; empty if they do not."""
    if any(values.get(name) is True for name in names.SHARE_KEYS):
        return "its keys and values are those of another layer too"
    # BLOOM's slow_but_exact multiplies slices of the output projection's weight by itself.
    pieces = values.get("pretraining_tp", 1)
    if values.get("slow_but_exact") is True and isinstance(pieces, int) and pieces > 1:
        return f"{_UNSEEN}: set config.slow_but_exact = False"
    return ""


def class_names(module: nn.Module) -> list[str]:
    """The names of a module's classes, plain and with their file: ``Attention, beit.Attention``."""
    classes = type(module).__mro__
    files = (f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for cls in classes)
    return [*(cls.__name__ for cls in classes), *files]


def resolve(module: str, path: str) -> str:
    """The qualified name of a layout's path, which starts at the module or, with "..", above it.

    Example:
        >>> resolve("encoder.layer.0.attention.self", "..output.dense")
        'encoder.layer.0.attention.output.dense'
    """
    if path.startswith(".."):
        module, path = module.rpartition(".")[0], path[2:]
    return f"{module}.{path}" if module and path else module or path


def near_fit(model: nn.Module, name: str, module: nn.Module) -> AttentionLayout | None:
    """The first row whose parts all exist by name, of whatever class; None if there is none."""
    here = module._modules.keys()
    rows = (row for needed, row in _NEEDED if needed <= here)
    return next((row for row in rows if all(_maps(model, name, module, row))), None)


def _maps(
    model: nn.Module, name: str, module: nn.Module, row: AttentionLayout
) -> list[nn.Module | None]:
    """The modules at the paths of a row's projections; [None] if the row is for other modules."""
    values = vars(module)
    if row.classes and not any(name in row.classes for name in class_names(module)):
        return [None]
    if any(values.get(key, None) != value for key, value in row.conditions.items()):
        return [None]
    paths = [resolve(name, path) for path in (*row.projections, row.output)]
    return [child(model, path) for path in paths]


def _fits(model: nn.Module, name: str, module: nn.Module, row: AttentionLayout) -> bool:
    return all(map(is_map, _maps(model, name, module, row))) and not unexplained(module, row)


def unexplained(module: nn.Module, row: AttentionLayout) -> list[str]:
    """The parts of a module that neither the row nor the tables of names know.

    Parts with weights count, and norms without: both could mix heads. Each known part is either
    cut with the heads or shared by all of them, so an unknown one must not be passed over.
    """
    known = {*row.projections, row.output, *row.shared, row.bias_table}
    known |= {*names.NORMS, *names.UNTOUCHED, *names.PER_HEAD_MAPS}
    weights = [name for name, _ in module.named_parameters()]
    norms = [name for name, sub in module.named_modules() if hasattr(sub, "normalized_shape")]
    found = []
    for part in (*weights, *norms):
        top = part.split(".")[0]
        inside = any(f"{part}.".startswith(f"{path}.") for path in known if path)
        if top not in known and not inside and part not in names.PER_HEAD:
            found.append(part)
    return found
