"""Find the removable units of a live model."""

import re

from torch import nn

from headcount.architectures.bert import BERT
from headcount.architectures.layout import AttentionLayout
from headcount.errors import ArchitectureError
from headcount.units.cost import Cost
from headcount.units.site import Part, Site
from headcount.units.table import UnitTable

LAYOUTS: dict[str, AttentionLayout] = {name: row for row in (*BERT,) for name in row.classes}
"""Name of an attention class -> how that class is built."""

CROSS_KEY = "num_cross_attention_heads"
"""The configuration's name for the heads of a layer's cross-attention; transformers has none."""


def units(model: nn.Module) -> UnitTable:
    """Every removable unit of a model, counted from the shapes of its weights.

    Args:
        model: a transformers model, or any module that contains known attention classes.

    Returns:
        The table of units: kind, site, layer, and cost in parameters and MACs.

    Raises:
        ArchitectureError: no known attention in the model; the message says what was looked for
            and what was found.

    Example:
        >>> import headcount as hc, transformers
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig()))
        >>> table.num("head"), table.sites[0].cost.params
        (144, 196800)
    """
    sites = find_sites(model)
    if not sites:
        raise ArchitectureError(_nothing_found(model))
    return UnitTable(sites=tuple(site for site in sites if site.num_units))


def find_sites(model: nn.Module) -> tuple[Site, ...]:
    """The sites of a model in module order, those without any unit left included."""
    found = ((name, module, layout_of(module)) for name, module in model.named_modules())
    return tuple(_site(model, name, mod, row) for name, mod, row in found if row is not None)


def layout_of(module: nn.Module) -> AttentionLayout | None:
    """The table's row for a module's class or the class it was made from; None if there is none."""
    rows = (LAYOUTS.get(cls.__name__) for cls in type(module).__mro__)
    return next((row for row in rows if row is not None), None)


def resolve(module: str, path: str) -> str:
    """The qualified name of a layout's path, seen from the attention module's qualified name.

    Example:
        >>> resolve("encoder.layer.0.attention.self", "..output.dense")
        'encoder.layer.0.attention.output.dense'
    """
    if path.startswith(".."):
        module, path = module.rpartition(".")[0], path[2:]
    return f"{module}.{path}" if module else path


def _site(model: nn.Module, name: str, module: nn.Module, row: AttentionLayout) -> Site:
    size = int(getattr(module, row.head_size))
    crosses = row.where == "cross" or "crossattention" in name.split(".")
    has_heads = row.query in dict(module.named_children())
    parts = _parts(name, row, size) if has_heads else ()
    maps = [_linear(model, name, part) for part in parts]
    widths = {m.weight.shape[part.axis] for part, m in zip(parts, maps, strict=True)}
    num_heads, rest = divmod(max(widths, default=0), size)
    if rest or len(widths) > 1:
        raise ArchitectureError(
            f"units(model): the projections of {name} are {sorted(widths)} wide, not one multiple "
            f"of the head size {size}. Grouped and packed heads are not supported yet."
        )
    return Site(
        module=name,
        kind="head",
        layer=_layer(name),
        stack="decoder" if crosses or vars(module).get("is_decoder", False) else "encoder",
        where="cross" if crosses else "self",
        num_units=num_heads,
        width=size,
        gate=resolve(name, row.output),
        parts=parts,
        config_key=CROSS_KEY if crosses else row.config_key,
        cost=_cost(parts, maps, size),
    )


def _parts(name: str, row: AttentionLayout, size: int) -> tuple[Part, ...]:
    return (
        Part(module=resolve(name, row.query), role="query", axis=0, width=size),
        Part(module=resolve(name, row.key), role="key", axis=0, width=size),
        Part(module=resolve(name, row.value), role="value", axis=0, width=size),
        Part(module=resolve(name, row.output), role="output", axis=1, width=size),
    )


def _linear(model: nn.Module, name: str, part: Part) -> nn.Linear:
    module = model.get_submodule(part.module)
    if not isinstance(module, nn.Linear):
        raise ArchitectureError(
            f"units(model): {part.module}, the {part.role} projection of {name}, is a "
            f"{type(module).__name__}; a torch.nn.Linear is needed. Load the model unquantised."
        )
    return module


def _cost(parts: tuple[Part, ...], maps: list[nn.Linear], size: int) -> Cost:
    weights = sum(
        part.width * linear.weight.shape[1 - part.axis]
        for part, linear in zip(parts, maps, strict=True)
    )
    biases = sum(
        part.width
        for part, linear in zip(parts, maps, strict=True)
        if part.axis == 0 and linear.bias is not None
    )
    return Cost(params=weights + biases, macs_per_token=weights, macs_per_token_pair=2 * size)


def _layer(name: str) -> int:
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(number.group(1)) if number else 0


def _nothing_found(model: nn.Module) -> str:
    classes = sorted({type(module).__name__ for module in model.modules()})
    attention = [name for name in classes if "attention" in name.lower()]
    known = ", ".join(sorted(LAYOUTS))
    if attention:
        return (
            f"units({type(model).__name__}): its attention is built by {', '.join(attention)}, "
            f"which no table describes. Looked for: {known}. To add it, write a row in "
            "headcount/architectures/."
        )
    return (
        f"units({type(model).__name__}): the model has no attention heads. Looked for modules of "
        f"the classes {known}; found {', '.join(classes[:12])}."
    )
