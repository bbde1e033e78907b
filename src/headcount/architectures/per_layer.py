"""Renumber the entries of configurations that name single layers, once some layers are gone.

A configuration may have a list with one entry for each layer, the numbers of special layers, the
numbers of hidden states that are read, or a rule such as "every fourth layer". When layers are
taken out of their list, the others get new numbers, and each entry has to follow. An entry that
cannot follow is refused; the removed layers then stay in the list as stand-ins.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from headcount.architectures.alignment import KEY as ALIGNING
from headcount.architectures.alignment import is_pair
from headcount.architectures.locations import parts_of
from headcount.errors import ArchitectureError

ONE_EACH = (
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "layers_block_type",
    "attention_layers",
    "attn_layers",
    "indexer_types",
    "sliding_windows",
    "layer_rope_theta",
    "num_attention_heads_per_layer",
    "num_key_value_heads_per_layer",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "activation_sparsity_pattern",
)
"""Lists with one entry for each layer. Some of these keys may also hold a single number."""

NUMBERS = (
    "mlp_only_layers",
    "moe_layers",
    "full_attn_idxs",
    "attn_layer_indices",
    "hybrid_layer_ids",
    "cross_attention_layers",
    "rope_scaling_layers",
    "global_attn_indexes",
    "fullatt_block_indexes",
    "window_block_indexes",
    "window_block_indices",
    "residual_block_indices",
    "look_ahead_layers",
    "look_backward_layers",
)
"""Numbers of layers with a property. A removed layer's number is dropped."""

AFTER = ("deepstack_visual_indexes", "extract_layers")
"""Numbers of layers whose output is read. A removed layer's output is that of the one before it."""

STATES = (
    "out_indices",
    "_out_indices",
    "backbone_out_indices",
    "feature_layer",
    "vision_feature_layer",
    "vision_feature_layers",
    "vision_select_layer",
    "vision_feature_select_layer",
)
"""Numbers of hidden states: 0 is the input of the first layer, -1 the output of the last."""

FIRST = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "moe_layer_start_index")
"""Counts of the first layers that have a property."""

RULES: dict[str, tuple[int, tuple[str, ...]]] = {
    "attn_layer_period": (1, ()),
    "expert_layer_period": (1, ()),
    "decoder_sparse_step": (1, ()),
    "encoder_sparse_step": (1, ()),
    "cross_attention_frequency": (1, ()),
    "cross_layer_interval": (1, ()),
    "moe_layer_interval": (1, ()),
    "n_layers_per_attn_res_block": (1, ()),
    "interleave_moe_layer_step": (1, ("moe_layers",)),
    "no_rope_layer_interval": (0, ("no_rope_layers",)),
    "sliding_window_pattern": (1, ("layer_types",)),
    "_sliding_window_pattern": (1, ("layer_types",)),
    "global_attn_every_n_layers": (1, ("layer_types",)),
    "layer_group_size": (1, ("layer_types",)),
    "num_kv_shared_layers": (0, ()),
    "num_layers_per_stack": (0, ()),
    "scale_attn_by_inverse_layer_idx": (0, ()),
}
"""Rules by layer number -> the value that treats all layers alike, and the lists that transformers
reads instead of the rule if the configuration has them."""

COUNTING = (
    "albert",
    "bridgetower",
    "bridgetower_text_model",
    "bridgetower_vision_model",
    "d_fine",
    "deimv2",
    "eomt",
    "eomt_dinov3",
    "esmc",
    "evolla",
    "fun_asr_nano_encoder",
    "gpt_neox_japanese",
    "granite_speech",
    "granite_speech5_encoder",
    "granite_speech_encoder",
    "granite_speech_plus",
    "idefics",
    "lightglue",
    "minicpm3",
    "minimax",
)
"""Model types whose code computes with a layer's number, or with the number of layers."""

_SUSPECT = re.compile(r"layer|block|indices|indexes|_idxs?$|pattern|_types$|_ids$|depths|stages?_")
_HARMLESS = re.compile(
    r"token|bias|delay|norm|channel|kernel|stride|dilation|drop|feat|conv|tdnn|stage_names|_out_features"
    r"|spatial|resblock|hidden_sizes|dims?$|sizes?$|mtp_"
)


def renumbered(config: PreTrainedConfig, kept: Sequence[int], num_layers: int) -> dict[str, Any]:
    """The entries of a configuration that change when only some layers stay.

    Args:
        config: the configuration of the model that has the layers; not changed.
        kept: numbers of the layers that stay, ascending.
        num_layers: the number of layers before.

    Returns:
        Name -> new value. The number of layers is not among them.

    Raises:
        ArchitectureError: an entry cannot follow, or it is not known whether it has to.

    Example:
        >>> import transformers
        >>> config = transformers.Gemma2Config(num_hidden_layers=4)
        >>> renumbered(config, [0, 3], 4)["layer_types"]
        ['sliding_attention', 'full_attention']
    """
    # An entry that is not set names no layer.
    moves = Moves(type(config).__name__, kept, num_layers)
    values = {name: value for name, value in vars(config).items() if value is not None}
    if config.model_type in COUNTING:
        raise moves.refusal("model_type", config.model_type, "its code computes with layer numbers")
    found = {}
    for name, value in values.items():
        new = moves.new(name, value, values)
        if new is not value and new != value:
            found[name] = new
    if "attention_types" in values and "attention_layers" in found:  # GPT-Neo saves the short form
        found["attention_types"] = [[[kind], 1] for kind in found["attention_layers"]]
    return found


def renumbered_around(
    whole: PreTrainedConfig, part: PreTrainedConfig, kept: Sequence[int], num_layers: int
) -> list[tuple[PreTrainedConfig, dict[str, Any]]]:
    """The entries that name a tower's layers in the configurations around the tower's own.

    Args:
        whole: the configuration of a composite model.
        part: the configuration of the tower, inside of it.
        kept: numbers of the tower's layers that stay.
        num_layers: the number of its layers before.

    Returns:
        Configurations with their new entries.

    Raises:
        ArchitectureError: as ``renumbered``.
    """
    moves = Moves(type(whole).__name__, kept, num_layers)
    inside = [*map(id, parts_of(part))]
    is_text = _is_text(whole, part)
    found = []
    for config in parts_of(whole):
        if id(config) in inside:
            continue
        values = {name: value for name, value in vars(config).items() if value is not None}
        if any(one is part for one in parts_of(config)):
            for name in values.keys() - {*STATES}:
                moves.check(name, values[name], values)
        # These numbers are about an image or audio tower, never about the text tower.
        names = [name for name in STATES if name in values and not is_text]
        if names and not _sees(config, part):
            raise moves.refusal(names[0], values[names[0]], "it may be about these layers")
        new = {name: moves.new(name, values[name], values) for name in names}
        found.append((config, {k: v for k, v in new.items() if v != values[k]}))
        # Qwen3-VL adds one image feature after each of the first text layers, as many as listed.
        taken = len(values.get("deepstack_visual_indexes", ())) if is_text else 0
        if [*kept[:taken]] != [*range(taken)]:
            raise moves.refusal(AFTER[0], values[AFTER[0]], "images enter after the first layers")
    return [(config, new) for config, new in found if new]


def _is_text(whole: PreTrainedConfig, part: PreTrainedConfig) -> bool:
    """Whether a tower is the text model of a composite model."""
    try:
        return whole.get_text_config() is part
    except ValueError:  # several text models: the decoder is meant
        return whole.get_text_config(decoder=True) is part


def renumbered_generation(
    generation: GenerationConfig, kept: Sequence[int], num_layers: int
) -> dict[str, Any]:
    """The entries of a generation configuration that change when only some layers stay.

    Args:
        generation: the generation configuration of the model with the decoder; not changed.
        kept: numbers of the decoder's layers that stay, ascending.
        num_layers: the number of its layers before.

    Returns:
        Name -> new value; None for an entry that is deleted.

    Example:
        >>> import transformers
        >>> generation = transformers.GenerationConfig(alignment_heads=[[0, 5], [2, 1]])
        >>> renumbered_generation(generation, [1, 2], 3)
        {'alignment_heads': [[1, 1]]}
    """
    moves = Moves(type(generation).__name__, kept, num_layers)
    found: dict[str, Any] = {}
    # Word timestamps (Whisper), early exit, and DoLa each read one of these entries.
    pairs = getattr(generation, ALIGNING, None)
    if pairs is not None:
        found[ALIGNING] = [*_aligning(pairs, moves, num_layers)] or None
    early = getattr(generation, "assistant_early_exit", None)
    if early is not None:
        found["assistant_early_exit"] = moves.before(early) or None
    chosen = getattr(generation, "dola_layers", None)
    if isinstance(chosen, list):
        found["dola_layers"] = sorted({moves.before(number) for number in chosen})
    return {k: v for k, v in found.items() if v != getattr(generation, k)}


def _aligning(pairs: Sequence[Any], moves: "Moves", num_layers: int) -> Iterator[Any]:
    """Pairs (layer, head) with new layer numbers. Pairs without such a layer are not changed."""
    for pair in pairs:
        if not is_pair(pair) or not -num_layers <= pair[0] < num_layers:
            yield pair
        elif moves.stays(pair[0] % num_layers):
            yield [moves.number(pair[0] % num_layers), pair[1]]


class Moves:
    """New numbers for layers when some are taken out of their list.

    Example:
        >>> moves = Moves("LlamaConfig", [0, 2, 3], 4)
        >>> [moves.before(state) for state in range(5)], moves.stays(1), moves.number(2)
        ([0, 1, 1, 2, 3], False, 1)
    """

    def __init__(self, where: str, kept: Sequence[int], num_layers: int) -> None:
        """``where`` names the configuration in error messages."""
        self._where, self._kept, self._num = where, [*kept], num_layers
        self._ways: tuple[tuple[Sequence[str], Callable[[str, Any], Any]], ...] = (
            (ONE_EACH, self._one_each),
            (NUMBERS, self._numbers),
            (AFTER, self._after),
            (STATES, self._states),
            (FIRST, lambda name, value: self.before(value)),
        )

    def stays(self, layer: int) -> bool:
        """Whether the layer exists and stays."""
        return layer in self._kept

    def number(self, layer: int) -> int:
        """The new number of a layer that stays."""
        return self._kept.index(layer)

    def before(self, state: int) -> int:
        """How many of the first ``state`` layers stay: the new number of hidden state ``state``."""
        return sum(layer < state for layer in self._kept)

    def new(self, name: str, value: Any, values: dict[str, Any]) -> Any:
        """The new value of the entry ``name``; ``values`` are all entries."""
        way = next((way for names, way in self._ways if name in names), None)
        if way is not None:
            return way(name, value)
        if name in ("stage_names", "_out_features"):
            return self._stages(name, value)
        self.check(name, value, values)
        return value

    def check(self, name: str, value: Any, values: dict[str, Any]) -> None:
        """Refuse an entry that depends on layer numbers in a way that cannot follow, or may."""
        if name == "_heterogeneity_spec":
            raise self.refusal("per_layer_config", value, "it has settings of its own for a layer")
        # A rule is harmless if it treats all layers alike, or if a list is read in its place.
        alike, lists = RULES.get(name, (None, ()))
        if name in RULES and value != alike and not any(values.get(other) for other in lists):
            raise self.refusal(name, value, "a rule that depends on layer numbers")
        # An unknown list that is named after layers would go wrong silently, so it is refused.
        known = name == "attention_types" or _HARMLESS.search(name)
        if isinstance(value, list | tuple) and value and _SUSPECT.search(name) and not known:
            raise self.refusal(name, value, "a list that may be about single layers")

    def refusal(self, name: str, value: Any, why: str) -> ArchitectureError:
        """The error for an entry that cannot follow."""
        gone = sorted({*range(self._num)} - {*self._kept})
        shown = textwrap.shorten(repr(value), 60)
        return ArchitectureError(
            f"{self._where}: {name}={shown} cannot follow when the layers {gone} of {self._num} "
            f"go and the others move together: {why}. Keep stand-ins for them."
        )

    def _one_each(self, name: str, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) != self._num:
            raise self.refusal(name, value, f"it has {len(value)} entries")
        return [value[layer] for layer in self._kept]

    def _numbers(self, name: str, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise self.refusal(name, value, "it is no list")
        return [self.number(layer) for layer in value if self.stays(layer)]

    def _after(self, name: str, value: Any) -> Any:
        if any(not 0 <= layer < self._num for layer in value):
            raise self.refusal(name, value, "it names layers that are not there")
        # The output of layer l is hidden state l + 1.
        return self._distinct(name, value, [self.before(layer + 1) - 1 for layer in value])

    def _states(self, name: str, value: Any) -> Any:
        several = [value] if isinstance(value, int) else [*value]
        new = [*self._moved(name, several)]
        # A backbone returns each hidden state once: two of them must not become one.
        if name in STATES[:3]:
            self._distinct(name, value, new)
        return new[0] if isinstance(value, int) else new

    def _moved(self, name: str, states: list[int]) -> Iterator[int]:
        last = len(self._kept)
        for state in states:
            counted = state + self._num + 1 if state < 0 else state
            new = self.before(counted)
            if not 0 <= counted <= self._num:
                raise self.refusal(name, states, "it names hidden states that are not there")
            # The last hidden state may have gone through a final norm, which others have not.
            if new == last and counted != self._num:
                raise self.refusal(name, states, "it would be the last hidden state")
            yield new - last - 1 if state < 0 else new

    def _stages(self, name: str, value: Any) -> Any:
        if name == "stage_names":
            return value[: len(self._kept) + 1] if len(value) == self._num + 1 else value
        states = [int(stage.removeprefix("stage")) if stage != "stem" else 0 for stage in value]
        new = self._distinct(name, value, [*self._moved(name, states)])
        return [f"stage{state}" if state else "stem" for state in new]

    def _distinct(self, name: str, value: Any, new: list[int]) -> list[int]:
        if len({*new}) < len(new) or min(new, default=0) < 0:
            raise self.refusal(name, value, "two of the places would be one")
        return new


def _sees(config: PreTrainedConfig, part: PreTrainedConfig) -> bool:
    """Whether a configuration's numbers of hidden states are about this part of it."""
    names = ("vision_config", "backbone_config", "audio_config")
    return any(vars(config).get(name) is part for name in names)
