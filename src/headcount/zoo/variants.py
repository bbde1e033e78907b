"""Variants of a model type: switches that published configurations set and the default does not.

Most switches are found by the names of configuration keys, whatever the type. Switches that
published configurations set together are in the table `TYPES`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig

from headcount.zoo.exceptions import HALF_ROTARY

Settings = dict[str, Any]

TOGETHER = (
    r"attention(_out)?_bias|(qkv|qv|query|key|value|proj|mlp|norm|lm_head)_bias|bias|no_bias|"
    r"use(_qkv|_attention)?_bias|enable_bias|add_bias_linear|"
    r"tie_word_embeddings|scale_embedding|norm_topk_prob|scale_attn_by_inverse_layer_idx"
)
"""Flags that are flipped together, in one variant: most add biases, none changes the heads."""

APART = (
    r"alibi|causal|gating|legacy|is_moe|enable_moe_block|prefix_lm|self_attn|fast_qkv|relative_.*|"
    r"use_qk_norm|qk_layernorm|qk_layer_norms.*|swin_norm|use_(post|sandwich|task)_norm|pre_norm|"
    r"norm_after|(.*_)?normalize_before|do_(stable_layer_norm|layer_norm_before)|share_layernorm|"
    r"apply_residual_connection_post_layernorm|emb_layer_norm_before|layernorm_embedding|"
    r"use_(abs|rel)_pos|use_(absolute|relative|shared|learned|positional|rotary).*|learned_pos_emb|"
    r"has_(relative|spatial)_attention_bias|position_biased_input|rotary_value|use_mem_rope|"
    r"sinusoidal_(embeddings|pos_embds)|rope_interleave|share_att_key|attention_k_eq_v|multi_query|"
    r"use_parallel_residual|parallel_attn|new_decoder_architecture|linear_attention|"
    r"use_(swiglu_ffn|gated_mlp|double_wide_mlp|clipped_linears)|gated_attn|channel_attention|"
    r"use_(sliding_window|bidirectional_attention|attention_gate|entity_aware_attention|prompt)|"
    r"use_mean_pooling|use_cls_token|vision_use_head|use_head|use_query_residual|is_native|"
    r"use_bottleneck(_attention)?|key_query_shared_bottleneck|(ln_before_)?adapter_.*layer_norm|"
    r"use_(macaron_style|cnn)_in_conformer|share_(cross_modal_transformer|link_tower)_layers|"
    r"separate_cls|pool_q_only|cross_attn_all_layers|masked_unit_attention|stagger_local_blocks|"
    r"scale_attn_weights|attn_temperature_tuning|use_shared_.*adapter|"
    r"text_embed|visual_embed|use_layer_?scale"
)
"""Flags that are flipped one at a time, each in its own variant."""

VALUES: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("rotary", "learned", "rope"),
    "position_embeddings_type": ("rotary", "relative", "relative_key", None),
    "feed_forward_proj": ("relu", "gated-gelu"),
    "encoder_attention_type": ("local", "transient-global"),
    "normalization_type": ("no_norm", "layer_norm"),
    "qk_norm_type": ("olmo", "qwen3"),
    "cross_attention_shape_for_attention": ("q", "kv"),
    "clip_qkv": (0.5,),
    "q_lora_rank": (None,),
    "layer_scale_init_value": (0.0,),
    "attn_logit_softcapping": (5.0,),
    "num_kv_shared_layers": (1,),
    "sliding_window": (4,),
    "partial_rotary_factor": (0.5,),
}
"""Key -> the values it is set to, if the configuration has the key with another value."""

TIED = "tie_word_embeddings"
"""The flag of ``TOGETHER`` that makes no variant alone: it is only flipped with others."""

DECODER: Settings = {"is_decoder": True, "add_cross_attention": True}
DISENTANGLED: Settings = {
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["c2p", "p2c"],
}
STABLE: Settings = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
SHALLOW: Settings = {"encoder_layers": 3, "decoder_layers": 1}

TYPES: dict[str, tuple[Settings, ...]] = {
    "albert": ({"num_hidden_groups": 2}, {"inner_group_num": 2}),
    "bart": (SHALLOW,),
    "beit": ({"use_relative_position_bias": True, "layer_scale_init_value": 0.0},),
    "big_bird": ({"attention_type": "block_sparse"},),
    "bigbird_pegasus": ({"attention_type": "block_sparse"},),
    "deberta": (DISENTANGLED, {**DISENTANGLED, "pos_att_type": ["c2p"]}),
    "deberta-v2": (
        DISENTANGLED,
        {
            **DISENTANGLED,
            "share_att_key": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
        },
        {**DISENTANGLED, "share_att_key": True, "pos_att_type": ["p2c"], "conv_kernel_size": 3},
    ),
    "falcon": (
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": True},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "funnel": ({"attention_type": "factorized"},),
    "gpt2": ({"add_cross_attention": True},),
    "hubert": (STABLE,),
    "informer": ({"attention_type": "full"},),
    "internvl_vision": ({"norm_type": "rms_norm"},),
    "marian": (SHALLOW,),
    "mpt": ({"attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.5}},),
    "opt": (
        {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
        {"enable_bias": False, "layer_norm_elementwise_affine": False},
    ),
    "persimmon": (HALF_ROTARY,),
    "phi": (HALF_ROTARY,),
    "qwen2": ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},),
    "qianfan_ocr_vision": ({"norm_type": "rms_norm"},),
    "sew-d": ({"pos_att_type": ["c2p"]}, {"share_att_key": False, "norm_rel_ebd": "none"}),
    "squeezebert": ({"q_groups": 1, "k_groups": 1, "v_groups": 1, "post_attention_groups": 1},),
    "stablelm": ({"qk_layernorm": True, "use_parallel_residual": True, "use_qkv_bias": True},),
    "t5": ({"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},),
    "timesformer": ({"attention_type": "space_only"}, {"attention_type": "joint_space_time"}),
    "wav2vec2": (STABLE,),
    "wavlm": (STABLE,),
    "whisper": (SHALLOW,),
    "xlnet": ({"attn_type": "uni"},),
    "xlm": ({"causal": True, "is_encoder": False},),
}
"""Model type -> sets of switches, each set in one variant."""


def variants(config: PreTrainedConfig) -> tuple[str, ...]:
    """Name the variants of a type.

    Args:
        config: The configuration of its tiny model.

    Returns:
        Names such as ``"falcon[alibi=True]"``, without repeats. The type may refuse a variant, and
        a variant may turn out to equal the default.

    Example:
        >>> from headcount.zoo.tiny import tiny_config
        >>> variants(tiny_config("cohere"))[-1]
        'cohere[use_qk_norm=True]'
    """
    found = [*_switched(config), *TYPES.get(config.model_type, ())]
    return tuple(dict.fromkeys(named(config.model_type, switches) for switches in found))


def named(model_type: str, switches: Settings) -> str:
    """The name of a variant.

    Example:
        >>> named("t5", {"feed_forward_proj": "relu", "num_layers": 1})
        't5[feed_forward_proj=relu,num_layers=1]'
    """
    return f"{model_type}[{','.join(f'{key}={_text(switches[key])}' for key in switches)}]"


def switches_of(name: str) -> Settings:
    """The switches in the name of a variant.

    Raises:
        ValueError: The name does not have the form that `named` gives.

    Example:
        >>> switches_of("t5[feed_forward_proj=relu,num_layers=1]"), switches_of("t5")
        ({'feed_forward_proj': 'relu', 'num_layers': 1}, {})
    """
    _, bracket, inside = name.partition("[")
    if not bracket:
        return {}
    try:
        call = ast.parse(f"_({inside.removesuffix(']')})", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{name}: write a variant as falcon[alibi=True,bias=True]") from error
    assert isinstance(call, ast.Call)
    if call.args or not inside.endswith("]") or any(word.arg is None for word in call.keywords):
        raise ValueError(f"{name}: write a variant as falcon[alibi=True,bias=True]")
    return {str(word.arg): _value(word.value) for word in call.keywords}


def type_of(name: str) -> str:
    """The model type in a name, of a variant or of a type.

    Example:
        >>> type_of("falcon[alibi=True]"), type_of("bert")
        ('falcon', 'bert')
    """
    return name.partition("[")[0]


def split_names(text: str) -> tuple[str, ...]:
    """Split names at commas, but not at those inside brackets.

    Example:
        >>> split_names("t5, falcon[alibi=True,bias=True]")
        ('t5', 'falcon[alibi=True,bias=True]')
    """
    names, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            names.append("")
        else:
            names[-1] += letter
    return tuple(name.strip() for name in names)


def _text(value: Any) -> str:
    if isinstance(value, str) and value.isidentifier():
        return value
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_text(value[key])}' for key in value)}}}"
    return repr(value)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs if key is not None}
    return ast.literal_eval(node)


def _switched(config: PreTrainedConfig) -> Iterator[Settings]:
    """The switches of a configuration. None for composite ones: their parts are types as well."""
    if type(config).sub_configs:
        return
    values = vars(config)
    flags = {key: value for key, value in values.items() if isinstance(value, bool)}
    together = {key: not value for key, value in flags.items() if re.fullmatch(TOGETHER, key)}
    decodes = DECODER.keys() <= values.keys()
    if decodes:
        yield {**DECODER, **(together if together.keys() == {TIED} else {})}
    yield from _heads(values, together)
    for key, options in VALUES.items():
        yield from ({key: option} for option in options if _fits(config, key, option))
    yield from ({key: not flags[key]} for key in flags if re.fullmatch(APART, key))


def _fits(config: PreTrainedConfig, key: str, option: Any) -> bool:
    """Whether a configuration has a key with another value, and allows None if that is asked."""
    values = vars(config)
    if key not in values or values[key] == option:
        return False
    kinds = {field.name: str(field.type) for field in fields(type(config))}
    return option is not None or bool(re.search("None|Optional", kinds.get(key, "")))


def _heads(values: dict[str, Any], together: Settings) -> Iterator[Settings]:
    """Variants of grouped attention, and the flags of ``TOGETHER`` with the first of them.

    A key-value head for every query head; one for all; one for every two of eight.
    """
    if values.get("num_key_value_heads") != 2 or values.get("num_attention_heads") != 4:
        yield from [together] if together.keys() - {TIED} else []
        return
    wide = {"head_dim": 16} if "head_dim" in values else {}
    yield {**together, "num_key_value_heads": 4}
    yield {"num_key_value_heads": 1, **wide}
    yield {"num_attention_heads": 8, "num_key_value_heads": 4}
