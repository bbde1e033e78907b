"""Whisper's alignment heads, which its generation configuration names by number.

Whisper computes word timestamps from the attention maps of a few cross-attention heads.
``alignment_heads`` lists them as pairs (decoder layer, head).
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import GenerationConfig

from headcount.units.kinds import WHOLE
from headcount.units.nesting import holds
from headcount.units.site import Site

KEY = "alignment_heads"
"""Name in the generation configuration."""

Kept = Mapping[tuple[str, str], Tensor]
"""Site (module, kind) -> indices of the units that stay; other sites stay whole."""


def realigned(
    model: nn.Module, sites: Iterable[Site], kept: Kept, *, renumber: bool
) -> dict[str, GenerationConfig]:
    """The generation configurations that list alignment heads, adapted to the heads that stay.

    Pairs of removed heads are left out. If no pair is left, the list is deleted: transformers then
    refuses word timestamps with a clear error.

    Args:
        model: the model before the cut; not changed.
        sites: its sites.
        kept: the units that stay.
        renumber: use the head numbers of the cut model, for ``cut``; else keep this model's, for
            ``masked``.

    Returns:
        Module name -> its new generation configuration, for modules whose configuration has a list.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> config = transformers.WhisperConfig(decoder_layers=1, encoder_layers=1)
        >>> model = transformers.WhisperForConditionalGeneration(config)
        >>> model.generation_config.alignment_heads = [[0, 2], [0, 5]]
        >>> kept = {("model.decoder.layers.0.encoder_attn", "head"): torch.tensor([3, 4, 5])}
        >>> realigned(model, hc.units(model).sites, kept, renumber=True)[""].alignment_heads
        [[0, 2]]
    """
    sites, found = tuple(sites), {}
    for name, module in model.named_modules():
        generation = vars(module).get("generation_config")
        pairs = getattr(generation, KEY, None)
        if not isinstance(generation, GenerationConfig) or not isinstance(pairs, list | tuple):
            continue
        inside = [s for s in sites if not name or s.module.startswith(f"{name}.")]
        new = [*_renumbered(pairs, _layers(inside, kept), renumber=renumber)]
        found[name] = _with_pairs(generation, new)
    return found


def restored(generation: GenerationConfig, sites: Iterable[Site], kept: Kept) -> GenerationConfig:
    """A cut model's generation configuration with the head numbers of the dense model.

    Args:
        generation: of the cut model; not changed.
        sites: the dense model's sites.
        kept: the dense model's units that correspond to the units of the cut model.
    """
    pairs = getattr(generation, KEY, None)
    if not isinstance(pairs, list | tuple):
        return copy.deepcopy(generation)
    layers, new = _layers(sites, kept), []
    for pair in pairs:
        layer, head = _named(pair, layers) or (-1, -1)
        stays = layer in layers and head < len(layers[layer].left)
        new.append([layer, layers[layer].left[head]] if stays else pair)
    return _with_pairs(generation, new)


def is_pair(pair: Any) -> bool:
    """Whether an entry is a pair of two integers: layer and head."""
    return isinstance(pair, list | tuple) and [type(number) for number in pair] == [int, int]


@dataclass(frozen=True, slots=True)
class _Layer:
    """The cross-attention heads of a decoder layer: their number, and which of them stay."""

    num_heads: int
    left: list[int]


def _renumbered(
    pairs: Iterable[Any], layers: dict[int, _Layer], *, renumber: bool
) -> Iterator[Any]:
    """The pairs whose heads stay. A pair that names no head of the model is returned unchanged."""
    for pair in pairs:
        named = _named(pair, layers)
        if named is None:
            yield pair
            continue
        layer, head = named
        left = layers[layer].left
        if head in left:
            yield [layer, left.index(head) if renumber else head]


def _named(pair: Any, layers: dict[int, _Layer]) -> tuple[int, int] | None:
    """Layer and head of a pair, negative numbers counted from the end; None if there is none."""
    if not is_pair(pair):
        return None
    layer = pair[0] + (1 + max(layers, default=-1) if pair[0] < 0 else 0)
    if layer not in layers:
        return None
    head = pair[1] + (layers[layer].num_heads if pair[1] < 0 else 0)
    return (layer, head) if 0 <= head < layers[layer].num_heads else None


def _layers(sites: Iterable[Site], kept: Kept) -> dict[int, _Layer]:
    """Decoder layer -> its cross-attention heads."""
    # A cross-attention inside a removed sublayer or layer keeps no heads, whatever its entry says.
    found = {}
    gone = [key for key, index in kept.items() if key[1] in WHOLE and not len(index)]
    for site in sites:
        if site.kind != "head" or site.branch != "cross":
            continue
        index = kept.get(site.key)
        heads = [*range(site.num_units)] if index is None else index.tolist()
        if any(holds(name, kind, site.module) for name, kind in gone):
            heads = []
        found[site.layer] = _Layer(site.num_units, heads)
    return found


def _with_pairs(generation: GenerationConfig, pairs: list[Any]) -> GenerationConfig:
    new = copy.deepcopy(generation)
    new._from_model_config = False  # else transformers drops the pairs when it reads them back
    if pairs:
        setattr(new, KEY, pairs)
    else:
        delattr(new, KEY)
    return new
