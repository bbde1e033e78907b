"""The cost of units, counted from the tensors that are cut with them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from functools import cache

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention, outside, pair_size
from headcount.architectures.locations import Location, nearest_config
from headcount.architectures.maps import child, is_map, tensors, width
from headcount.architectures.match import resolve
from headcount.units.cost import Cost
from headcount.units.kinds import WHOLE
from headcount.units.site import Part, Site


def cost_of(model: nn.Module, parts: Iterable[Part], pair: int) -> Cost:
    """The cost of one unit.

    Args:
        model: the model with the tensors.
        parts: the unit's share of each tensor.
        pair: MACs for each pair of tokens.
    """
    params = macs = 0
    for part in parts:
        tensor = model.get_submodule(part.module).get_parameter(part.name)
        # Elements of one unit's slice. Of a stacked tensor, a unit has its slice in one expert.
        # Parts marked whole stay when the unit goes, so they cost it nothing.
        share = part.width * (math.prod(tensor.shape) // tensor.shape[part.dim])
        share //= tensor.shape[0] if part.stacked else 1
        params += 0 if part.whole else share
        macs += 0 if part.whole else int(share * uses(model, part.module, part.name))
    return Cost(params=params, macs_per_token=macs, macs_per_token_pair=pair)


def cost_of_heads(model: nn.Module, found: Attention) -> Cost:
    """The cost of all heads of an attention module together, including what they share.

    Without heads, only the output projection's bias is left.
    """
    # What goes with the last head: whole projections, norms and tensors. A sum over single heads
    # would miss what several heads share, such as norms.
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
            holder = resolve(found.name, module) if module else found.name
            macs += int(tensor.numel() * uses(model, holder, leaf))
    for path in outside(model, found.name, found.row):
        module, _, leaf = path.rpartition(".")
        params += model.get_submodule(module).get_parameter(leaf).numel()
    pair = found.num_heads * pair_size(found)
    return Cost(params=params, macs_per_token=macs, macs_per_token_pair=pair)


def _lies_in(parameter: str, path: str) -> bool:
    return parameter == path or parameter.startswith(f"{path}.")


def copied_rows(model: nn.Module, found: Iterable[tuple[Attention, Location]]) -> dict[str, int]:
    """Extra parameters of a head once the layers of its stack keep different heads (T5).

    Each layer then needs its own table of position biases, with one column for each of its heads.

    Args:
        model: the model with the tables.
        found: the attention modules and their places.

    Returns:
        Attention module without its own table -> rows of the first layer's table.
    """
    stacks: dict[tuple[str, str, str], list[Attention]] = defaultdict(list)
    for attention, place in found:
        if attention.row.bias_argument:
            stacks[place.tower, place.stack, place.branch].append(attention)
    rows = {}
    for members in stacks.values():
        tables = {
            member.name: child(model, f"{member.name}.{member.row.bias_table}")
            for member in members
        }
        # Only the layers without a table would need one: the first has its own already.
        sizes = [tensors(table)["weight"].shape[0] for table in tables.values() if table]
        rows |= {name: sizes[0] for name, table in tables.items() if table is None and sizes}
    return rows


def share_weights(model: nn.Module, sites: Iterable[Site]) -> bool:
    """Whether a tensor that belongs to units has two names, so that two sites share it."""
    names_of: dict[int, set[str]] = defaultdict(set)
    for site in sites:
        for part in site.parts:
            tensor = model.get_submodule(part.module).get_parameter(part.name)
            names_of[id(tensor)].add(part.parameter)
    return any(len(found) > 1 for found in names_of.values())


def uses(model: nn.Module, module: str, name: str) -> Fraction:
    """How often a token is multiplied with a tensor: 1 for a matrix, 0 for a bias or a norm.

    A token passes through some experts only. Their tensors count by the mean, 1/4 where each token
    passes through two of eight experts.

    Args:
        model: the model.
        module: qualified name of the module that holds the tensor.
        name: name of the tensor in it.

    Example:
        >>> import transformers
        >>> sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 8}
        >>> model = transformers.MixtralModel(transformers.MixtralConfig(**sizes))
        >>> uses(model, "layers.0.mlp.experts", "down_proj"), uses(model, "norm", "weight")
        (Fraction(1, 4), Fraction(0, 1))
    """
    holder = model.get_submodule(module)
    tensor = holder.get_parameter(name)
    experts = re.match(r"(.*\bexperts)(?:\.|$)", module)
    is_router = name == "weight" and re.search(names.ROUTERS, type(holder).__name__)
    # Outside of experts, each token meets a matrix once. A router's weight may be a bare parameter.
    if experts is None:
        is_matrix = name == "weight" and tensor.ndim > 1 and (is_map(holder) or bool(is_router))
        return Fraction(int(is_matrix))
    if tensor.ndim < (2 if module != experts.group(1) else 3):  # biases
        return Fraction(0)
    chosen, total = experts_of(model, experts.group(1))
    return Fraction(chosen, total) if total else Fraction(0)


def experts_of(model: nn.Module, path: str) -> tuple[int, int]:
    """(experts that process each token, experts in all); (0, 0) if not known.

    The numbers are attributes of the experts, their router, the module around them, or the
    configuration.
    """
    experts = model.get_submodule(path)
    block = model.get_submodule(path.rpartition(".")[0])
    config = nearest_config(model, path)
    # The nearest number wins: the configuration's may be about other layers.
    holders = [vars(module) for module in (experts, *block.children(), block)]
    holders += [vars(config)] if config is not None else []
    chosen, total = (
        next((n for holder in holders for key in keys if isinstance(n := holder.get(key), int)), 0)
        for keys in (names.CHOSEN_EXPERTS, names.NUM_EXPERTS)
    )
    if type(experts).__name__ in names.ALL_EXPERTS:
        return total, total
    return (chosen, total) if chosen and total else (0, 0)


def uncounted(model: nn.Module, site: Site) -> str:
    """Why the MACs of a site's units are not known exactly; empty if they are."""
    # All experts together have a known mean; one expert's neurons have not.
    if site.kind == "neuron" and any(_in_experts(part.module) for part in site.parts):
        return "which experts a token runs through depends on the token"
    if site.kind != "layer" and site.module.rpartition(".")[2] in names.POOLING:
        return "its queries are other tokens than its keys"
    for name, module in model.get_submodule(site.module).named_modules():
        path = f"{site.module}.{name}".strip(".")
        # A feed-forward network holds no attention, but its own class may be listed.
        reason = "" if site.branch == "ffn" and name else _unknown_attention(module)
        if site.kind in WHOLE:
            reason = reason or _unknown_network(model, path, module)
        if reason:
            return f"{reason} ({type(module).__name__})"
    return ""


def _unknown_attention(module: nn.Module) -> str:
    own = {*module._modules, *module._parameters}
    if own & names.RELATIVE:
        return "relative positions are multiplied, too"
    told = (why for name, why in names.UNCOUNTED_IF.items() if vars(module).get(name) is True)
    if why := next(told, ""):
        return why
    return _unknown(type(module).__name__)


def _unknown_network(model: nn.Module, path: str, module: nn.Module) -> str:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "a convolution is in it"
    if path.rpartition(".")[2] == "experts" and not experts_of(model, path)[1]:
        return "it is not known how many experts a token runs through"
    return _unknown(type(module).__name__)


def _in_experts(path: str) -> bool:
    return "experts" in path.split(".")


@cache
def _unknown(class_name: str) -> str:
    matching = (why for known, why in names.UNCOUNTED.items() if re.fullmatch(known, class_name))
    return next(matching, "")


def num_runs(model: nn.Module, path: str) -> int:
    """How often one forward pass runs a module: ALBERT runs its only layer 12 times.

    Args:
        model: the model.
        path: qualified name of the module.

    Example:
        >>> import transformers
        >>> model = transformers.AlbertModel(transformers.AlbertConfig())
        >>> num_runs(model, "encoder.albert_layer_groups.0.albert_layers.0.attention")
        12
    """
    config = nearest_config(model, path)
    if config is None:
        return 1
    # Stacks that a model runs in cycles, such as Perceiver's blocks, are known by their name.
    for name, counts in names.CYCLES.items():
        if f".{name}." in f".{path}." and all(hasattr(config, count) for count in counts):
            return math.prod(getattr(config, count) for count in counts)
    found = re.match(rf"((?:.*\.)?(?:{'|'.join(names.REPEATED)}))\.(\d+)(?:\.|$)", path)
    if found is None:
        return 1
    # ALBERT's rule: turn t runs the group int(t / (turns / groups)).
    turns = config.num_hidden_layers
    each = turns / len(list(model.get_submodule(found.group(1)).children()))
    return sum(int(turn / each) == int(found.group(2)) for turn in range(turns))
