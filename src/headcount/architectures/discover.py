"""Find the removable units of a live model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from headcount.architectures import names
from headcount.architectures.attention import Attention, attention_of, pair_size, skips
from headcount.architectures.costs import (
    copied_rows,
    cost_of,
    cost_of_heads,
    num_runs,
    share_weights,
    uncounted,
)
from headcount.architectures.experts import fused_experts_of
from headcount.architectures.feedforward import FeedForward, feed_forward_of
from headcount.architectures.layers import is_removable
from headcount.architectures.left_out import Found, left_out, nothing_found, refuse_changed
from headcount.architectures.lists import cost_in_lists
from headcount.architectures.maps import is_emptied, tensors, uncompiled
from headcount.architectures.match import resolve, why_entangled
from headcount.architectures.places import Place, layer_path, nearest_config, place_of
from headcount.architectures.state import why_packed, why_scattered
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
    reason = why_packed(model) or why_scattered(model) or why_entangled(model)
    if reason:
        raise ArchitectureError(f"units({type(model).__name__}): {reason}")
    sublayers = find_sublayers(model)
    found = tuple(sublayer.found for sublayer in sublayers)
    refuse_changed(model, found)
    sites = find_sites(model, sublayers)
    known = any(site.kind == "head" for site in sites)
    if not known and not any(map(is_emptied, model.modules())):
        raise ArchitectureError(nothing_found(model))
    total = sum(parameter.numel() for parameter in model.parameters())
    table = UnitTable(
        sites=tuple(site for site in sites if site.num_units),
        # Where sites share a tensor, its slices go only when both lose them: a sum over units
        # would count it twice, so budgets of parameters are refused.
        num_params=None if share_weights(model, sites) else total,
        left_out=left_out(model, found),
    )
    return table.only(*kinds) if kinds else table


@dataclass(frozen=True, slots=True)
class Sublayer:
    """An attention module or a feed-forward network, and its place in the model."""

    name: str
    attention: Attention | None
    feed_forward: FeedForward | None
    place: Place
    layer: int

    @property
    def gate(self) -> str:
        """Qualified name of the projection whose input is gated."""
        if self.attention is not None:
            return resolve(self.name, self.attention.row.output)
        assert self.feed_forward is not None
        if self.feed_forward.num_experts:
            return self.name
        return resolve(self.name, self.feed_forward.row.down)

    @property
    def hooked(self) -> str:
        """Qualified name of the module whose forward pass gets the hooks of the gates."""
        weight = self.attention is not None and self.attention.row.gated == "weight"
        return self.name if weight else self.gate

    @property
    def projections(self) -> tuple[str, ...]:
        """Qualified names of the projections before the gate."""
        if self.attention is not None:
            return tuple(resolve(self.name, path) for path in self.attention.row.projections)
        assert self.feed_forward is not None
        if self.feed_forward.num_experts:
            return ()
        return tuple(resolve(self.name, path) for path in self.feed_forward.row.up)

    @property
    def found(self) -> Found:
        """Its name and maps, for the check that looks for sublayers without a row."""
        return Found(self.name, (*self.projections, self.gate), self.attention is not None)


def find_sublayers(model: nn.Module) -> tuple[Sublayer, ...]:
    """The attention modules and feed-forward networks of a model, in module order."""
    found: list[tuple[str, Attention | None, FeedForward | None, Place]] = []
    # Attention first: a layer's attention output may look like the projection back of a network.
    claimed: set[str] = set()
    for name, module in model.named_modules():
        attention = attention_of(model, name, module)
        if attention is not None:
            found.append((name, attention, None, place_of(model, name, module)))
            claimed.add(resolve(name, attention.row.output))
    for name, module in model.named_modules():
        feed_forward = None
        if layer_path(name):
            feed_forward = fused_experts_of(name, module) or feed_forward_of(name, module)
        if feed_forward is not None and resolve(name, feed_forward.row.down) not in claimed:
            found.append((name, None, feed_forward, place_of(model, name, module)))
    return tuple(_numbered(model, found))


def find_sites(model: nn.Module, sublayers: tuple[Sublayer, ...] | None = None) -> tuple[Site, ...]:
    """The sites of a model in module order, including those without units.

    Args:
        model: the model.
        sublayers: the result of ``find_sublayers``, if it is there already.
    """
    sublayers = find_sublayers(model) if sublayers is None else sublayers
    attention = [(sub.attention, sub.place) for sub in sublayers if sub.attention is not None]
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


def _numbered(
    model: nn.Module, found: list[tuple[str, Attention | None, FeedForward | None, Place]]
) -> Iterator[Sublayer]:
    """Sublayers in module order, each with the number of its layer."""
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    found = sorted(found, key=lambda entry: order[entry[0]])
    # Only attention tells encoder from decoder (is_decoder, is_causal); a network takes the stack
    # of the attention in its layer.
    paths: dict[tuple[str, str], dict[str, int]] = {}
    stacks: dict[str, str] = {}
    for _, attention, _, place in found:
        if attention is not None:
            stacks.setdefault(place.layer_path, place.stack)
    for name, attention, feed_forward, place in found:
        stack = stacks.get(place.layer_path, place.stack) if attention is None else place.stack
        where = "ffn" if attention is None else place.where
        settled = replace(place, stack=stack, where=where)
        layers = paths.setdefault((place.tower, stack), {})
        layers.setdefault(place.layer_path, len(layers))
        yield Sublayer(name, attention, feed_forward, settled, _index(place, layers))


def _index(place: Place, layers: dict[str, int]) -> int:
    """The number in the layer's path if the stack is one list of layers; else a running number.

    Swin's stages, say, each count their layers from 0: there, paths do not number the layers.
    """
    prefix, _, number = place.layer_path.rpartition(".")
    lists = {path.rpartition(".")[0] for path in layers}
    plain = len(lists) == 1 and not re.search(r"(?:^|\.)\d+(?:\.|$)", prefix)
    return int(number) if plain and number else layers[place.layer_path]


def _sites(model: nn.Module, sublayer: Sublayer, copied: dict[str, int]) -> Iterator[Site]:
    """The sites of one sublayer: of its units, then of itself.

    ``copied`` has the parameters that a head costs more once layers keep different heads.
    """
    place = sublayer.place
    more = copied.get(sublayer.name, 0)
    common: dict[str, Any] = {
        "module": sublayer.name,
        "layer": sublayer.layer,
        "stack": place.stack,
        "tower": place.tower,
        "where": place.where,
        "gate": sublayer.hooked,
    }
    if sublayer.attention is not None:
        heads = cost_of_heads(model, sublayer.attention)
        common["left"] = 0 if skips(model, sublayer.attention) else pair_size(sublayer.attention)
        for site in _attention_sites(model, sublayer.attention, common, place):
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
    model: nn.Module, found: Attention, common: dict, place: Place
) -> Iterator[Site]:
    """The sites of key-value heads, if code allows fewer of them, and of query heads."""
    # Another key than self-attention's, so that the two counts are not mixed up.
    cross = "num_cross_attention_heads" if place.where == "cross" else ""
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
    for path in dict.fromkeys(sub.place.layer_path for sub in sublayers):
        inside = [sub for sub in sublayers if sub.place.layer_path == path]
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
            (sub for sub in inside if sub.attention is not None and sub.place.where == "self"),
            inside[0],
        )
        yield Site(
            module=path,
            kind="layer",
            layer=sub.layer,
            stack=sub.place.stack,
            tower=sub.place.tower,
            where="layer",
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
