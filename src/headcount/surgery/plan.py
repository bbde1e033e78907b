"""Plan a cut: which slices of which tensors stay, and which modules are replaced."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from headcount.architectures import names
from headcount.architectures.attention import Attention
from headcount.architectures.discover import Discovery
from headcount.architectures.sublayers import Sublayer
from headcount.errors import SurgeryError
from headcount.surgery.biases import (
    OWN_BIAS,
    choose_norms,
    choose_slopes,
    own_biases,
    pick_from_lists,
    replace_forward,
)
from headcount.surgery.counts import choose_width, new_counts, new_neurons
from headcount.surgery.draft import Draft, Plan
from headcount.surgery.empty import empty
from headcount.units.nesting import holds
from headcount.units.site import Site

GROUPED = 8
"""Neurons of an expert must be a multiple of this for PyTorch's grouped matrix product.

Its rows must be a multiple of 16 bytes, which is eight numbers of two bytes.
"""

Kept = Mapping[tuple[str, str], Tensor]
"""Site (module, kind) -> indices of the units that stay, ascending. Sites not named stay whole."""


def plan(model: nn.Module, found: Discovery, kept: Kept) -> Plan:
    """Plan a cut.

    Args:
        model: the model; not changed.
        found: what was discovered in it.
        kept: the units that stay, site by site.

    Raises:
        SurgeryError: key-value heads would keep different numbers of query heads, or the experts
            of one tensor different numbers of neurons.
    """
    planner = _Planner(model, found, kept)
    # Layers first: what lies in a removed layer is emptied with it and needs no slices.
    planner.layers()
    for sublayer in planner.sublayers:
        if sublayer.name not in planner.gone:
            planner.sublayer(sublayer)
    # Last: whether T5's layers need their own bias tables depends on the heads of all layers.
    planner.shared_biases()
    return planner.draft.finish()


class _Planner:
    """Goes through a model and writes a draft.

    ``gone`` has the names of the sublayers in removed layers, ``heads`` the heads that each
    attention module keeps.
    """

    def __init__(self, model: nn.Module, found: Discovery, kept: Kept) -> None:
        self.model, self.kept, self.draft = model, kept, Draft(model)
        self.sublayers = found.sublayers
        self.sites = {site.key: site for site in found.sites}
        self.gone: set[str] = set()
        self.heads: dict[str, tuple[int, ...]] = {}

    def layers(self) -> None:
        """Turn each removed layer into a stand-in that returns its input."""
        for site in self.sites.values():
            if site.kind == "layer" and self._num_kept(site) == 0:
                found = [s for s in self.sublayers if holds(site.module, "layer", s.name)]
                inside = [s.name for s in found]
                crossing = [s.name for s in found if s.attention and s.location.branch == "cross"]
                # A decoder's stand-in still adds an entry per token to its layer of the cache:
                # generation asks the first layer's cache how many tokens it has seen.
                indices = [vars(self.model.get_submodule(n)).get("layer_idx") for n in inside]
                index = next((i for i in indices if isinstance(i, int)), None)
                decodes = index is not None and site.stack == "decoder"
                silent = [name.removeprefix(f"{site.module}.") for name in crossing]
                values = {"counts_tokens": decodes, "layer_idx": index, "skipped": True}
                values["silent"] = silent
                self.gone.update(inside)
                # Cross-attention stays as an empty module: generate collects its maps by hooks,
                # and Whisper finds the maps of a layer by their position in that list. It is
                # emptied first, since emptying the layer spares what is emptied already.
                for name in crossing:
                    self.draft.lose(name)
                    self.draft.wrap(name, "silent")
                self.draft.lose(site.module)
                self.draft.set(site.module, values)
                self.draft.wrap(site.module, "skipped")

    def sublayer(self, sublayer: Sublayer) -> None:
        """Plan one attention module or feed-forward network."""
        module = self.sites.get((sublayer.name, "sublayer"))
        whole = module is not None and module.num_units > 0 and self._num_kept(module) == 0
        if sublayer.attention is not None:
            # An earlier cut may have taken all heads: then only the output's bias can still go.
            if sublayer.attention.num_heads or whole:
                self._attention(sublayer, sublayer.attention, whole=whole)
        elif sublayer.feed_forward is not None:
            self._feed_forward(sublayer, sublayer.feed_forward.row.fused, whole=whole)

    def shared_biases(self) -> None:
        """Plan position biases that the first layer of a stack makes for the others (T5)."""
        stacks: dict[tuple[str, str, str], list[Attention]] = defaultdict(list)
        for sub in self.sublayers:
            if sub.attention is not None and sub.attention.row.bias_argument:
                location = sub.location
                stacks[location.tower, location.stack, location.branch].append(sub.attention)
        for members in stacks.values():
            # A reload knows how many heads each layer keeps, not which: layers that kept different
            # heads would look alike. The mark's own_bias then says that each has its own table.
            forced = any((found.name, OWN_BIAS) in self.kept for found in members)
            own_biases(self.draft, members, self.heads, self.gone, forced=forced)

    def _feed_forward(self, sublayer: Sublayer, fused: int, *, whole: bool) -> None:
        site = self.sites[sublayer.name, "neuron"]
        if site.num_groups > 1:
            self._experts(site)
        elif whole or (site.num_units and self._num_kept(site) == 0):
            # The code still runs: on one neuron of zeros, or one pair where gate and value are
            # fused, which code then splits in two.
            for name in sublayer.projections:
                self.draft.zeros(name, fused)
            self.draft.close(sublayer.gate, whole=whole)
        elif self._num_kept(site) < site.num_units:
            values = vars(self.model.get_submodule(sublayer.name))
            self.draft.remove(site.parts, self.kept[site.key].tolist())
            self.draft.set(sublayer.name, new_neurons(values, site.num_units, self._num_kept(site)))

    def _experts(self, site: Site) -> None:
        """Plan the neurons of experts that share one tensor."""
        kept = self.kept.get(site.key)
        if kept is None or len(kept) == site.num_units:
            return
        # Neurons are numbered expert after expert, so the quotient is the expert.
        each = site.configured
        counts = torch.bincount(kept.cpu() // each, minlength=site.num_groups)
        if len(counts.unique()) > 1:
            raise SurgeryError(
                f"cut: the experts of {site.module} would keep {counts.tolist()} neurons. They are "
                "in one tensor, so each must keep equally many. Keep the same number per expert."
            )
        if not len(kept):
            for name in dict.fromkeys(part.parameter for part in site.parts):
                self.draft.lose(name)
            self.draft.wrap(site.module, "without_neurons")
            return
        left = len(kept) // site.num_groups
        values = vars(self.model.get_submodule(site.module))
        self.draft.remove(site.parts, kept.tolist())
        self.draft.set(site.module, new_neurons(values, each, left))
        # transformers' grouped kernel raises at such sizes; "eager" loops over the experts.
        if left % GROUPED:
            self.draft.override(site.module, {names.EXPERTS: "eager"})

    def _attention(self, sublayer: Sublayer, found: Attention, *, whole: bool) -> None:
        heads = () if whole else self._heads_left(found)
        self.heads[found.name] = heads
        if heads and len(heads) == found.num_heads:
            return
        self._wrap(found, heads)
        if not heads:
            empty(self.draft, sublayer, found, whole=whole)
            return
        # Both kinds remove slices of the same tensors; the draft takes the union of what goes.
        for kind in ("kv_head", "head"):
            site = self.sites.get((found.name, kind))
            if site is not None and self._num_kept(site) < site.num_units:
                self.draft.remove(site.parts, self.kept[site.key].tolist())
        self._count(found, heads, self._num_groups_left(found, heads))

    def _wrap(self, found: Attention, heads: tuple[int, ...]) -> None:
        """Wrap attention whose stock code would fail, or be wrong, with fewer heads.

        An attention without heads runs on with one head of zeros, hence ``max(1, ...)``.
        """
        if found.row.width and found.num_heads:
            choose_width(self.draft, found, max(1, len(heads)))
        if found.row.slopes and found.num_heads:
            choose_slopes(self.draft, found, heads)
        if found.row.own_forward and found.num_heads:
            replace_forward(self.draft, found, heads)
        if found.row.rotates_inputs:
            self.draft.wrap(found.name, "whole_inputs", found.row.rotates_inputs)

    def _count(self, found: Attention, heads: tuple[int, ...], num_groups: int) -> None:
        """Plan what depends on the number of heads: attributes, buffers, norms, configuration."""
        # Modules inside of attention may count heads too, so all that hold parts of a head.
        inside = {p.module for p in found.heads if holds(found.name, "layer", p.module)}
        for path in sorted({found.name, *inside}):
            values = vars(self.model.get_submodule(path))
            self.draft.set(path, new_counts(values, found, len(heads), num_groups))
        for name, buffer in self.model.get_submodule(found.name).named_buffers(recurse=False):
            if name in names.ALIKE:
                length = len(buffer) * num_groups // found.num_groups
                self.draft.shorten(f"{found.name}.{name}", length)
        choose_norms(self.draft, found, heads)
        pick_from_lists(self.draft, found, heads)
        counts = {
            name: len(heads) if name in names.CONFIG_HEADS else num_groups
            for name in found.row.config_counts
        }
        if counts:
            self.draft.override(found.name, counts)

    def _heads_left(self, found: Attention) -> tuple[int, ...]:
        """Indices of the query heads that stay: kept themselves, and with a kept key-value head."""
        share = found.num_heads // found.num_groups if found.num_groups else 1
        heads = range(found.num_heads)
        kept_heads = set(self._kept_indices(found.name, "head", heads))
        kept_groups = set(self._kept_indices(found.name, "kv_head", range(found.num_groups)))
        return tuple(h for h in heads if h in kept_heads and h // share in kept_groups)

    def _num_groups_left(self, found: Attention, heads: tuple[int, ...]) -> int:
        """The number of key-value heads after the cut.

        Raises:
            SurgeryError: they would keep different numbers of query heads.
        """
        if found.num_groups == found.num_heads:
            return len(heads)
        share = found.num_heads // found.num_groups
        groups = self._kept_indices(found.name, "kv_head", range(found.num_groups))
        counts = [sum(head // share == group for head in heads) for group in groups]
        if len(set(counts)) > 1:
            raise SurgeryError(
                f"cut: {found.name} would keep {counts} query heads for its {len(counts)} "
                "key-value heads. Attention needs equally many for each: keep a multiple of the "
                "number of key-value heads, or remove whole key-value heads."
            )
        return len(counts)

    def _kept_indices(self, name: str, kind: str, everything: range) -> Iterable[int]:
        index = self.kept.get((name, kind))
        return everything if index is None else index.tolist()

    def _num_kept(self, site: Site) -> int:
        index = self.kept.get(site.key)
        return site.num_units if index is None else len(index)
