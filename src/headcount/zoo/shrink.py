"""Make the configuration of any model type small, by rules on the names of its keys."""

import re
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from headcount.zoo.exceptions import EXCEPTIONS

VOCABULARY = 64
"""The number of tokens of a tiny model."""

NUMBERS: tuple[tuple[str, int | float], ...] = (
    (r"initializer_range|init_std", 0.15),
    (r"(.*_)?(num_)?(hidden|encoder|decoder)_layers|(.*_)?(num|n)_layers?|depth|layers", 2),
    (r"num_(encoder|decoder)_layers", 2),
    (r"(.*_)?(num_)?(attention|self_attention|cross_attention)_heads|n_heads?|num_heads", 4),
    (r"(.*_)?num_key_value_heads|num_kv_heads", 2),
    (r"qk_head_dim", 16),
    (r"(.*_)?(attention_)?head_dim|d_kv|(.*_)?kv_channels|attention_head_size|d_head|dim_head", 8),
    (r"qk_(nope|rope)_head_dim|v_head_dim", 8),
    (r"(.*_)?(num_)?filters|output_channels|neck_out_channels|base_channels", 32),
    (r"num_pos_feats", 16),
    (r"image_embedding_size", 8),
    (r"mm_tokens_per_image", 16),
    (r"hidden_size_global", 32),
    (r"q_lora_rank|kv_lora_rank", 16),
    (r"(.*_)?(intermediate|ffn|feed_?forward)_(size|dim)(_mlp)?|(.*_)?ffn_hidden_size", 64),
    (r"d_ff|n_inner|mlp_dim|dim_feedforward|(.*_)?feedforward_dim", 64),
    (r"(.*_)?(hidden|embedding|embed|projection|embeddings)_(size|dim)", 32),
    (r"(.*_)?d_model|n_embd|dim|output_dim|(.*_)?hidden_channels|latent_dim", 32),
    (r"n_positions|n_ctx|max_seq_len|max_(.*_)?position_embeddings", 64),
    (r"max_(source|target)_positions", 64),
    (r"(.*_)?image_size", 32),
    (r"temporal_patch_size", 2),
    (r"(.*_)?patch_size", 4),
    (r"(.*_)?(num_mel_bins|n_mels)", 16),
    (r"window_size|sliding_window", 4),
    (r"(num_|n_)?(local_|routed_|moe_num_)?experts|moe_num_experts", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"n_shared_experts|num_shared_experts", 1),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r"num_queries", 8),
)
"""(pattern, value): a number gets the value of the first pattern that its key matches; 0 stays 0.

Sizes that refer to each other get one value, whatever they are called: a width of 32, 4 heads, 2
layers. So the small parts still fit together.
"""

LISTS: tuple[tuple[str, int], ...] = (
    (r"depths|num_blocks|layers", 2),
    (r"(.*_)?(num_)?(attention_)?heads", 4),
)
"""(pattern, value): every number of a list, one for each stage, gets the value."""

SCALED = r"(.*_)?hidden_sizes|embed_dims?|channels|neck_hidden_sizes|conv_dim"
"""Keys of lists with the width of each stage. The first becomes 16; the others keep their ratio."""

TOKENS = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 1, "sep": 3, "cls": 4, "mask": 5, "unk": 6}
"""New numbers for special tokens whose number is outside the small vocabulary."""


def shrunk(config_class: type[PreTrainedConfig], given: dict[str, Any]) -> PreTrainedConfig:
    """Make a small configuration.

    Args:
        config_class: The class of the configuration.
        given: Settings that override every rule; a dictionary for the configuration of a part.

    Returns:
        The configuration.

    Example:
        >>> from transformers import BertConfig
        >>> shrunk(BertConfig, {"num_hidden_layers": 3}).num_hidden_layers
        3
    """
    return _shrunk(config_class, given, {})


def _shrunk(
    config_class: type[PreTrainedConfig], given: dict[str, Any], tokens: dict[str, int]
) -> PreTrainedConfig:
    """As ``shrunk``; ``tokens`` are the numbers given to special tokens, for all parts alike."""
    fixed = {**EXCEPTIONS.get(config_class.model_type, {}), **given}
    stock = _stock(config_class, fixed)
    # Lists by layer first: they also fix the number of layers, which no rule may then change.
    settings = _layer_lists(stock)
    for field in fields(config_class):
        name, value = field.name, vars(stock).get(field.name)
        if name in settings:
            continue
        if isinstance(value, PreTrainedConfig):
            given_part = fixed.pop(name, None) or {}
            kind = given_part.get("model_type")
            part_class = type(value) if kind is None else CONFIG_MAPPING[kind]
            part = {**_part(config_class, name, part_class), **given_part}
            settings[name] = _shrunk(part_class, part, tokens)
        elif (small := _small(name, value, tokens)) is not None:
            settings[name] = small
    fixed.pop("model_type", None)
    return config_class(**{**settings, **_grouped(stock, settings), **fixed})


def _stock(config_class: type[PreTrainedConfig], fixed: dict[str, Any]) -> PreTrainedConfig:
    """The default configuration. Some classes refuse their own defaults without the exceptions."""
    try:
        return config_class()
    except Exception:
        return config_class(**fixed)


def _part(config_class: type[PreTrainedConfig], name: str, part_class: type) -> dict[str, Any]:
    """The settings that a composite configuration makes in a part, made small.

    If it reads hidden states of a backbone, the backbone gets as many layers as are read, and the
    last ones are read.
    """
    spec = getattr(config_class, "sub_configs_defaults", {}).get(name)
    settings = {} if spec is None else dict(spec.init_kwargs)
    for key, value in settings.items():
        small = _small(key, value, {})
        settings[key] = value if small is None else small
    outputs = settings.get("out_features") or settings.get("out_indices")
    if outputs and isinstance(vars(_stock(part_class, {})).get("num_hidden_layers"), int):
        count = max(2, len(outputs))
        settings["num_hidden_layers"] = count
        if "out_features" in settings:
            settings["out_features"] = [f"stage{i + 1}" for i in range(count - len(outputs), count)]
        if "out_indices" in settings:
            settings["out_indices"] = [i + 1 for i in range(count - len(outputs), count)]
    return settings


def _grouped(stock: PreTrainedConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that follow from others: key-value heads, and the sections of rotary embeddings.

    Latent attention has a key for every query head. The sections must sum to half the rotated part
    of a head, which is 8 wide.
    """
    more: dict[str, Any] = {}
    stocked = vars(stock)
    if "kv_lora_rank" in stocked and "num_key_value_heads" in settings:
        more["num_key_value_heads"] = 4
    rope = stocked.get("rope_parameters")
    if isinstance(rope, dict) and "mrope_section" in rope:
        half = int(8 * rope.get("partial_rotary_factor", 1.0)) // 2
        sections = [half - 2 * (half // 3), half // 3, half // 3]
        more["rope_parameters"] = {**rope, "mrope_section": sections}
    return more


def _layer_lists(stock: PreTrainedConfig) -> dict[str, Any]:
    """If lists name the kind of each layer, settings with one layer of each kind, two at least.

    Several such lists are read together, so that every combination that occurs stays.
    """
    layers = stock.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    count = vars(stock).get(layers)
    lists: dict[str, list[str]] = {}
    for field in fields(stock):
        value = vars(stock).get(field.name)
        if not isinstance(value, (list, tuple)) or not value or len(value) != count:
            continue
        if all(isinstance(item, str) for item in value):
            lists[field.name] = list(value)
    if not lists:
        return {}
    kinds = list(dict.fromkeys(zip(*lists.values(), strict=True)))
    kinds = kinds if len(kinds) > 1 else kinds * 2
    columns = zip(*kinds, strict=True)
    small = {name: list(column) for name, column in zip(lists, columns, strict=True)}
    return {**small, layers: len(kinds)}


def _small(name: str, value: Any, tokens: dict[str, int]) -> Any:
    """The small value of one key; None to keep the stock value."""
    if re.fullmatch(r".*token_(id|index|ids)", name):
        return _token(name, value, tokens)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)) and value:
        return _number(name, value)
    if isinstance(value, (list, tuple)) and value:
        return _list(name, value)
    return None


def _token(name: str, value: Any, tokens: dict[str, int]) -> Any:
    """A token number inside the small vocabulary. Unknown tokens count down from its end."""
    if isinstance(value, (list, tuple)):
        return [_token(name, item, tokens) for item in value[:1]]
    if not isinstance(value, int):
        return None
    if 0 <= value < VOCABULARY:
        return value
    stem = re.sub(r"_token_(id|index|ids)$", "", name)
    if stem in TOKENS:
        return TOKENS[stem]
    return tokens.setdefault(stem, VOCABULARY - 1 - len(tokens))


def _number(name: str, value: float) -> int | float | None:
    if "vocab_size" in name:
        return min(value, VOCABULARY)
    for pattern, small in NUMBERS:
        if re.fullmatch(pattern, name):
            return small
    return None


def _list(name: str, value: list | tuple) -> list | tuple | None:
    if not all(isinstance(item, int) for item in value):
        return None
    if re.fullmatch(SCALED, name):
        return type(value)(max(4, round(item * 4 / value[0]) * 4) for item in value)
    if name in ("image_size", "patch_size"):
        return type(value)(32 if name == "image_size" else 4 for _ in value)
    for pattern, small in LISTS:
        if re.fullmatch(pattern, name):
            return type(value)(small for _ in value)
    return None
