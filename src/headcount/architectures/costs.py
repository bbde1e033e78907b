"""What the units of a model cost: counted from the tensors that go with them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention, outside
from headcount.architectures.maps import child, is_map, tensors, width
from headcount.architectures.match import resolve
from headcount.architectures.places import Place, nearest_config
from headcount.units.cost import Cost
from headcount.units.site import Part, Site


def cost_of(model: nn.Module, parts: Iterable[Part], pair: int) -> Cost:
    """The cost of one unit.

    Args:
        model: holds the tensors.
        parts: the unit's share of each.
        pair: multiply-accumulates for each pair of tokens.
    """
    params = macs = 0
    for part in parts:
        tensor = model.get_submodule(part.module).get_parameter(part.name)
        share = part.width * (math.prod(tensor.shape) // tensor.shape[part.dim])
        params += 0 if part.whole else share
        is_matrix = part.name == "weight" and is_map(model.get_submodule(part.module))
        macs += share if is_matrix and not part.whole else 0
    return Cost(params=params, macs_per_token=macs, macs_per_token_pair=pair)


def cost_of_heads(model: nn.Module, found: Attention) -> Cost:
    """The cost of all heads of an attention module together, with what they share.

    Only the output projection's bias is left when they are gone.
    """
    attention = model.get_submodule(found.name)
    lost = {*found.row.projections, *names.NORMS, *names.PER_HEAD}
    for path in names.PER_HEAD_MAPS:
        mapping = child(attention, path)
        if mapping is not None and width(mapping, 0):
            lost.add(path)
    output = tensors(model.get_submodule(resolve(found.name, found.row.output)))
    weights = [output["weight"]] if "weight" in output else []
    params = macs = sum(weight.numel() for weight in weights)
    for name, tensor in attention.named_parameters():
        if any(_lies_in(name, path) for path in lost):
            module, _, leaf = name.rpartition(".")
            params += tensor.numel()
            is_matrix = leaf == "weight" and is_map(attention.get_submodule(module))
            macs += tensor.numel() if is_matrix else 0
    for path in outside(model, found.name, found.row):
        module, _, leaf = path.rpartition(".")
        params += model.get_submodule(module).get_parameter(leaf).numel()
    pair = 2 * found.num_heads * found.head_size
    return Cost(params=params, macs_per_token=macs, macs_per_token_pair=pair)


def _lies_in(parameter: str, path: str) -> bool:
    return parameter == path or parameter.startswith(f"{path}.")


def copied_rows(model: nn.Module, found: Iterable[tuple[Attention, Place]]) -> dict[str, int]:
    """What a head costs more once the layers of its stack keep different heads.

    Args:
        model: holds the tables.
        found: the attention modules and where they are.

    Returns:
        Attention modules that take the position bias of the first layer -> rows of its table, of
        which each head then has a column of its own.
    """
    stacks: dict[tuple[str, str, str], list[Attention]] = defaultdict(list)
    for attention, place in found:
        if attention.row.bias_argument:
            stacks[place.tower, place.stack, place.where].append(attention)
    rows = {}
    for members in stacks.values():
        tables = {
            member.name: child(model, f"{member.name}.{member.row.bias_table}")
            for member in members
        }
        sizes = [tensors(table)["weight"].shape[0] for table in tables.values() if table]
        rows |= {name: sizes[0] for name, table in tables.items() if table is None and sizes}
    return rows


def share_weights(model: nn.Module, sites: Iterable[Site]) -> bool:
    """Whether one tensor, under two names, belongs to units of two sites."""
    names_of: dict[int, set[str]] = defaultdict(set)
    for site in sites:
        for part in site.parts:
            tensor = model.get_submodule(part.module).get_parameter(part.name)
            names_of[id(tensor)].add(part.parameter)
    return any(len(found) > 1 for found in names_of.values())


def num_runs(model: nn.Module, path: str) -> int:
    """How often one pass runs a module: ALBERT runs its only layer as often as others have layers.

    Args:
        model: the model.
        path: qualified name of the module.

    Example:
        >>> import transformers
        >>> model = transformers.AlbertModel(transformers.AlbertConfig())
        >>> num_runs(model, "encoder.albert_layer_groups.0.albert_layers.0.attention")
        12
    """
    found = re.match(rf"((?:.*\.)?(?:{'|'.join(names.REPEATED)}))\.(\d+)(?:\.|$)", path)
    config = nearest_config(model, path) if found else None
    if found is None or config is None:
        return 1
    turns = config.num_hidden_layers
    each = turns / len(list(model.get_submodule(found.group(1)).children()))
    return sum(int(turn / each) == int(found.group(2)) for turn in range(turns))
