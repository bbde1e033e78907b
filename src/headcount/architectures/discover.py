"""Find the removable units of a live model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention, pair_size, skips
from headcount.architectures.costs import (
    copied_rows,
    cost_of,
    cost_of_heads,
    num_runs,
    share_weights,
    uncounted,
)
from headcount.architectures.layers import is_removable
from headcount.architectures.left_out import left_out, nothing_found, refuse_changed
from headcount.architectures.lists import cost_in_lists
from headcount.architectures.locations import Location, nearest_config
from headcount.architectures.maps import is_emptied, tensors, uncompiled
from headcount.architectures.match import why_entangled
from headcount.architectures.state import why_packed, why_scattered
from headcount.architectures.sublayers import Sublayer, find_sublayers
from headcount.door.arguments import checks_arguments
from headcount.errors import ArchitectureError
from headcount.units.cost import Cost
from headcount.units.kinds import KINDS
from headcount.units.site import Part, Site
from headcount.units.table import UnitTable


@checks_arguments
def units(model: nn.Module, *kinds: str) -> UnitTable:
    """Every removable unit of a model, counted from the shapes of its weights.

    Args:
        model: a transformers model, or any module that contains known attention. For a compiled
            model, the units of the model inside.
        kinds: list only these kinds: ``head``, ``kv_head``, ``neuron``, ``sublayer``, ``layer``.
            Without any, all are listed.

    Returns:
        The table of units: kind, site, layer, and cost in parameters and MACs. It is empty if the
        model has no units of these kinds. ``left_out`` names sublayers that no row describes.

    Raises:
        ArgumentError: ``model`` is not a module, but its name, say.
        ArchitectureError: the model has no known attention, or a kind is unknown; the message says
            what was looked for and what was found. Or the weights cannot be read: they are
            quantised, spread over processes, or in some layers wrapped or computed.

    Example:
        >>> import headcount as hc, transformers
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig()))
        >>> table.num("head"), table.num("neuron"), table.num("sublayer"), table.num("layer")
        (144, 36864, 24, 12)
        >>> hc.units(transformers.BertModel(transformers.BertConfig()), "head").sites[0].cost.params
        196800
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ArchitectureError(f"units(kinds={kinds}): give some of {', '.join(KINDS)}.")
    model = uncompiled(model)
    table = table_of(model, examined(model))
    return table.only(*kinds) if kinds else table


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one walk over a model has found: names and numbers, no modules.

    An operation walks once over a model and hands the result on: a walk matches every module with
    the tables, which takes longer than most of what follows. The result is about the model as it
    was. After a cut, discover again.
    """

    sublayers: tuple[Sublayer, ...]
    """Attention modules and feed-forward networks, in module order."""
    sites: tuple[Site, ...]
    """Sites in module order, including those without units."""


def discover(model: nn.Module) -> Discovery:
    """Walk over a model and find its sublayers and sites."""
    sublayers = find_sublayers(model)
    return Discovery(sublayers, _all_sites(model, sublayers))


def examined(model: nn.Module) -> Discovery:
    """As ``discover``, but refuse models whose units cannot be counted.

    Raises:
        ArchitectureError: as ``units``.
    """
    # Each check before what it protects: weights that are packed have no readable shapes, and of
    # a sublayer that was changed the sites cannot be read.
    reason = why_packed(model) or why_scattered(model) or why_entangled(model)
    if reason:
        raise ArchitectureError(f"units({type(model).__name__}): {reason}")
    sublayers = find_sublayers(model)
    refuse_changed(model, tuple(sublayer.found for sublayer in sublayers))
    sites = _all_sites(model, sublayers)
    known = any(site.kind == "head" for site in sites)
    if not known and not any(map(is_emptied, model.modules())):
        raise ArchitectureError(nothing_found(model))
    return Discovery(sublayers, sites)


def table_of(model: nn.Module, found: Discovery) -> UnitTable:
    """The table of all units of a model.

    Args:
        model: the model.
        found: the result of ``examined`` for it.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    return UnitTable(
        sites=tuple(site for site in found.sites if site.num_units),
        # Where sites share a tensor, its slices go only when both lose them: a sum over units
        # would count it twice, so budgets of parameters are refused.
        num_params=None if share_weights(model, found.sites) else total,
        left_out=left_out(model, tuple(sublayer.found for sublayer in found.sublayers)),
    )


def _all_sites(model: nn.Module, sublayers: tuple[Sublayer, ...]) -> tuple[Site, ...]:
    """The sites of a model in module order, including those without units."""
    attention = [(sub.attention, sub.location) for sub in sublayers if sub.attention is not None]
    copied = copied_rows(model, attention)
    inner = [site for sublayer in sublayers for site in _sites(model, sublayer, copied)]
    return tuple(
        _as_often_as_run(model, site) for site in (*inner, *_layer_sites(model, sublayers))
    )


def _as_often_as_run(model: nn.Module, site: Site) -> Site:
    """A site with its MACs counted once for each run: ALBERT runs one layer 12 times."""
    times = num_runs(model, site.module)
    return replace(
        site,
        cost=site.cost.run(times),
        rest=site.rest.run(times),
        left=times * site.left,
        uncounted=uncounted(model, site),
    )


def _sites(model: nn.Module, sublayer: Sublayer, copied: dict[str, int]) -> Iterator[Site]:
    """The sites of one sublayer: of its units, then of itself.

    ``copied`` has the parameters that a head costs more once layers keep different heads.
    """
    location = sublayer.location
    more = copied.get(sublayer.name, 0)
    common: dict[str, Any] = {
        "module": sublayer.name,
        "layer": sublayer.layer,
        "stack": location.stack,
        "tower": location.tower,
        "branch": location.branch,
        "gate": sublayer.hooked,
    }
    if sublayer.attention is not None:
        heads = cost_of_heads(model, sublayer.attention)
        common["left"] = 0 if skips(model, sublayer.attention) else pair_size(sublayer.attention)
        for site in _attention_sites(model, sublayer.attention, common, location):
            # What all heads together cost beyond n times one head: the part that they share.
            rest = heads.less(site.cost, site.num_units)
            yield replace(site, rest=rest, copied=more if site.kind == "head" else 0)
        copied_heads = more * sublayer.attention.num_heads
        yield replace(_module_site(model, sublayer, common, heads), copied=copied_heads)
    elif sublayer.feed_forward is not None:
        found = sublayer.feed_forward
        # An expert that is a module gets some tokens only; whole, it cannot go, since the router
        # still sends tokens to it.
        routed = ".experts." in f".{sublayer.name}."
        options = names.CONFIG_EXPERT_NEURONS if routed else names.CONFIG_NEURONS
        yield Site(
            **common,
            kind="neuron",
            num_units=found.num_neurons,
            width=1,
            parts=found.neurons,
            config_key=_config_name(model, sublayer.name, options),
            cost=cost_of(model, found.neurons, 0),
            gated="weight" if found.num_experts else "input",
            routed=routed,
            num_groups=max(1, found.num_experts),
        )
        if not routed:
            yield _module_site(model, sublayer, common, None)


def _attention_sites(
    model: nn.Module, found: Attention, common: dict, location: Location
) -> Iterator[Site]:
    """The sites of key-value heads, if code allows fewer of them, and of query heads."""
    # Another key than self-attention's, so that the two counts are not mixed up.
    cross = "num_cross_attention_heads" if location.branch == "cross" else ""
    heads_key = cross or _config_name(model, found.name, names.CONFIG_HEADS)
    grouped = 0 < found.num_groups < found.num_heads
    share = found.num_heads // found.num_groups if found.num_groups else 1
    if found.shares_keys:
        yield Site(
            **common,
            kind="kv_head",
            gated=found.row.gated,
            num_units=found.num_groups,
            width=share * found.head_size,
            parts=found.groups,
            config_key=_config_name(model, found.name, names.CONFIG_GROUPS),
            cost=cost_of(model, found.groups, share * pair_size(found)).plus(
                cost_in_lists(model, found, "kv_head")
            ),
        )
    yield Site(
        **common,
        kind="head",
        gated=found.row.gated,
        num_units=found.num_heads,
        width=found.head_size,
        parts=found.heads,
        config_key=heads_key,
        num_groups=found.num_groups if grouped else 1,
        cost=cost_of(model, found.heads, pair_size(found)).plus(
            cost_in_lists(model, found, "head")
        ),
    )


def _module_site(model: nn.Module, sublayer: Sublayer, common: dict, heads: Cost | None) -> Site:
    """The site of a sublayer: one unit, which costs its heads or neurons and the output's bias."""
    gate = model.get_submodule(sublayer.gate)
    parts = tuple(
        Part(
            module=name,
            name=tensor,
            dim=0,
            role="other",
            width=value.shape[0],
            starts=range(1),
        )
        for name in (*sublayer.projections, sublayer.gate)
        for tensor, value in tensors(model.get_submodule(name)).items()
    )
    # Without weights, and without an output bias, the sublayer was removed by an earlier cut.
    alive = bool(tensors(gate)) or any(part.name == "weight" for part in parts)
    bias = [part for part in parts if part.module == sublayer.gate and part.name != "weight"]
    cost = cost_of(model, parts, 0) if heads is None else heads.plus(cost_of(model, bias, 0))
    return Site(
        **common,
        kind="sublayer",
        gated="output",
        num_units=int(alive),
        width=0,
        parts=parts,
        config_key="skip",
        cost=cost,
    )


def _pair_size(sublayer: Sublayer) -> int:
    found = sublayer.attention
    return 0 if found is None else found.num_heads * pair_size(found)


def _layer_sites(model: nn.Module, sublayers: tuple[Sublayer, ...]) -> Iterator[Site]:
    """The sites of layers, one unit each."""
    for path in dict.fromkeys(sub.location.layer_path for sub in sublayers):
        inside = [sub for sub in sublayers if sub.location.layer_path == path]
        if not path or all(sub.attention is None for sub in inside):  # a list of networks, say
            continue
        layer = model.get_submodule(path)
        if not is_removable(model, path, layer):
            continue
        parts = tuple(
            Part(
                module=f"{path}.{name.rpartition('.')[0]}".rstrip("."),
                name=name.rpartition(".")[2],
                dim=0,
                role="other",
                width=value.shape[0],
                starts=range(1),
            )
            for name, value in layer.named_parameters()
            if value.ndim
        )
        # The layer's number and stack are those of its self-attention.
        sub = next(
            (sub for sub in inside if sub.attention is not None and sub.location.branch == "self"),
            inside[0],
        )
        yield Site(
            module=path,
            kind="layer",
            layer=sub.layer,
            stack=sub.location.stack,
            tower=sub.location.tower,
            branch="layer",
            gate=path,
            gated="residual",
            num_units=int(bool(parts)),
            width=0,
            parts=parts,
            config_key="skip",
            # Parts leave out scalars, so the parameters are counted from the layer itself.
            cost=replace(
                cost_of(model, parts, sum(map(_pair_size, inside))),
                params=sum(parameter.numel() for parameter in layer.parameters()),
            ),
        )


def _config_name(model: nn.Module, name: str, options: tuple[str, ...]) -> str:
    """The first of some names that a module's configuration has; the first of all if it has none.

    Names with a value go before names that are mapped to others, and these before names without
    a value. ``encoder_ffn_dim`` becomes ``decoder_ffn_dim`` in a decoder.
    """
    config = nearest_config(model, name)
    plain = vars(config) if config is not None else {}
    mapped = config.attribute_map if config is not None else {}
    stack = "decoder" if "decoder" in name.split(".") else "encoder"
    own = tuple(option.replace("encoder_", f"{stack}_") for option in options)
    known = [option for option in own if plain.get(option) is not None]
    mapped_to = [option for option in own if option in mapped]
    unset = [option for option in own if option in plain]
    return next(iter((*known, *mapped_to, *unset, options[0])))
