"""Names that transformers' modules and configurations use for the same thing."""

HEAD_SIZE = (
    "head_dim",
    "attention_head_size",
    "head_size",
    "key_value_proj_dim",
    "dim_head",
    "d_head",
    "depth",
)
"""Attributes of attention modules with the size of a head."""

NUM_HEADS = (
    "num_heads",
    "num_attention_heads",
    "n_heads",
    "n_head",
    "num_attn_heads",
    "heads",
)
"""Attributes with the number of query heads."""

NUM_GROUPS = ("num_key_value_heads", "num_kv_heads", "num_k_heads")
"""Attributes with the number of key-value heads."""

HEADS_PER_GROUP = ("num_key_value_groups", "num_kv_groups")
"""Attributes with the number of query heads for each key-value head."""

ALL_HEADS_SIZE = (
    "all_head_size",
    "inner_dim",
    "split_size",
    "embed_dim",
    "hidden_size",
    "q_dim",
    "qkv_dim",
    "d_model_size",
    "hidden_size_output",
    "attn_dim",
    "dim_out",
    "head_size",
)
"""Attributes that may hold heads times head size: they do if that is their value."""

ALL_GROUPS_SIZE = ("kv_dim",)
"""Attributes that may hold key-value heads times head size."""

PER_HEAD = {
    "sinks": 0,
    "relative_position_bias_table": 1,
    "logit_scale": 0,
    "pos_bias_u": 0,
    "pos_bias_v": 0,
    "bias_u": 0,
    "bias_v": 0,
    "relative_attention_bias.weight": 1,
    "rel_attn_embed.weight": 1,
    "gru_rel_pos_const": 1,
    "relative_position_bias.relative_position_bias_table": 1,
    "q_bias": -1,
    "v_bias": -1,
}
"""Tensors of attention modules with a share for each head -> the dimension that counts heads."""

ALIKE = ("k_bias",)
"""Buffers of attention modules with a share for each key-value head, all shares equal."""

PER_HEAD_MAPS = (
    "relative_k_proj",
    "linear_pos",
    "pos_key_proj",
    "pos_query_proj",
    "pos_proj",
    "pos_q_proj",
    "g_proj",
    "gate",
    "gate_proj",
    "w2e_query",
    "e2w_query",
    "e2e_query",
    "query_global",
    "key_global",
    "value_global",
    "continuous_position_bias_mlp.2",
    "cpb_mlp.2",
)
"""Linear maps of attention modules whose outputs belong to heads, an equal share each."""

NORMS = (
    "q_norm",
    "k_norm",
    "v_norm",
    "q_layernorm",
    "k_layernorm",
    "query_layernorm",
    "key_layernorm",
    "qk_norm",
    "ln_q",
)
"""Norms of queries, keys and values: of each head alone, or of all heads together."""

PER_HEAD_LISTS = ("q_layernorm.norms", "k_layernorm.norms")
"""Lists inside attention with one norm for each query head, or for each key-value head."""

QUERY_NORMS = ("q_norm", "q_layernorm", "query_layernorm", "ln_q")
"""Those of ``NORMS`` that normalise queries."""

KEY_NORMS = ("k_norm", "k_layernorm", "key_layernorm")
"""Those of ``NORMS`` that normalise keys."""

NUM_NEURONS = (
    "intermediate_size",
    "intermediate_dim",
    "inner_dim",
    "ffn_dim",
    "hidden_features",
    "d_ff",
)
"""Attributes of feed-forward networks with the number of their neurons."""

SHARE_KEYS = ("is_kv_shared_layer", "store_full_length_kv")
"""Attributes that are true if a layer reads another layer's keys and values, or another its."""

UNTOUCHED = (
    "continuous_position_bias_mlp",
    "cpb_mlp",
    "rel_pos_h",
    "rel_pos_w",
    "per_dim_scale",
    "scaling",
    "distance_embedding",
    "rel_pos_emb",
    "emb_rel_k",
    "emb_rel_v",
    "lambda_1",
    "lambda_2",
)
"""Parts of attention modules that all heads share, and that are not cut."""

CROSS = (
    "crossattention",
    "cross_attention",
    "cross_attn",
    "encoder_attn",
    "encoder_attention",
    "EncDecAttention",
    "cross_attention_layer",
    "encoder_decoder_attention",
    "cross_attn_attn",
    "cross_attn_token_to_image",
    "cross_attn_image_to_token",
    "cross_attn_image",
)
"""Names in the path of a module that mark cross-attention."""

CONFIG_HEADS = (
    "num_attention_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "attention_heads",
    "encoder_attention_heads",
)
"""Configuration keys for the number of heads."""

CONFIG_GROUPS = ("num_key_value_heads", "num_kv_heads")
"""Configuration keys for the number of key-value heads."""

CONFIG_HEAD_SIZE = ("head_dim", "d_kv", "attention_head_size", "kv_channels")
"""Configuration keys for the size of a head."""

CONFIG_NEURONS = (
    "intermediate_size",
    "d_ff",
    "ffn_dim",
    "encoder_ffn_dim",
    "hidden_dim",
    "n_inner",
    "ffn_hidden_size",
    "d_inner",
)
"""Configuration keys for the number of neurons of a feed-forward network."""

EXPERTS = "_experts_implementation"
"""Configuration attribute that says how experts are run: one by one, or as a grouped product."""

CONFIG_EXPERT_NEURONS = ("moe_intermediate_size", "expert_ffn_hidden_size", *CONFIG_NEURONS)
"""Configuration keys for the number of neurons of one expert."""

TUPLE_LAYERS = (
    "AutoformerDecoderLayer",
    "BambaDecoderLayer",
    "BarkBlock",
    "BloomBlock",
    "CanineLayer",
    "ChameleonDecoderLayer",
    "ChameleonSwinDecoderLayer",
    "CodeGenBlock",
    "DabDetrDecoderLayer",
    "DabDetrEncoderLayer",
    "Data2VecVisionLayer",
    "DebertaLayer",
    "DebertaV2Layer",
    "DeepseekV4DecoderLayer",
    "EdgeTamTwoWayAttentionBlock",
    "EdgeTamVideoTwoWayAttentionBlock",
    "EsmFold2DiffusionLayer",
    "EsmFold2PairUpdateLayer",
    "FalconDecoderLayer",
    "FalconH1DecoderLayer",
    "FlavaLayer",
    "FunAsrNanoEncoderLayer",
    "GPTJBlock",
    "GPTNeoBlock",
    "Gemma3nTextDecoderLayer",
    "Glm5NextTextDecoderLayer",
    "GlmMoeDsaDecoderLayer",
    "GraniteSpeech5EncoderSubsamplingBlock",
    "GraniteSpeech5EncoderSubsamplingBlock",
    "HYV4DecoderLayer",
    "ImageGPTBlock",
    "Inkling2VisionEncoderLayer",
    "LEDDecoderLayer",
    "LEDEncoderLayer",
    "LiltLayer",
    "Llama4VisionEncoderLayer",
    "LongT5Block",
    "LongformerLayer",
    "LukeLayer",
    "MT5Block",
    "Mask2FormerMaskedAttentionDecoderLayer",
    "MegatronBertLayer",
    "MistralLarge4TextDecoderLayer",
    "MobileViTLayer",
    "MobileViTV2Layer",
    "MptBlock",
    "MraLayer",
    "MusicgenMelodyDecoderLayer",
    "MvpDecoderLayer",
    "MvpEncoderLayer",
    "NeoMMEEncoderLayer",
    "NystromformerLayer",
    "OmDetTurboDeformableTransformerDecoderLayer",
    "PegasusXEncoderLayer",
    "Pix2StructTextBlock",
    "Pix2StructVisionLayer",
    "Pop2PianoBlock",
    "ProphetNetDecoderLayer",
    "ProphetNetEncoderLayer",
    "PvtV2EncoderLayer",
    "Qwen2_5OmniAudioEncoderLayer",
    "Qwen3ASRAudioEncoderLayer",
    "Qwen3OmniMoeAudioEncoderLayer",
    "RecurrentGemmaDecoderLayer",
    "RemBertLayer",
    "RoFormerLayer",
    "Sam2TwoWayAttentionBlock",
    "Sam2VideoTwoWayAttentionBlock",
    "Sam3TrackerTwoWayAttentionBlock",
    "Sam3TrackerVideoTwoWayAttentionBlock",
    "SegGptLayer",
    "SpeechT5DecoderLayer",
    "SpeechT5EncoderLayer",
    "SwinLayer",
    "SwitchTransformersBlock",
    "T5Block",
    "TableTransformerDecoderLayer",
    "TapasLayer",
    "TimesformerLayer",
    "TrOCRDecoderLayer",
    "TvpEncodeLayer",
    "UMT5Block",
    "UdopBlock",
    "VJEPA2Layer",
    "VJEPA2PoolerCrossAttentionLayer",
    "VJEPA2PoolerSelfAttentionLayer",
    "ViltLayer",
    "VisualBertLayer",
    "VitDetLayer",
    "VitsEncoderLayer",
    "WavLMEncoderLayer",
    "WavLMEncoderLayerStableLayerNorm",
    "XmodLayer",
    "YosoLayer",
    "ZayaDecoderLayer",
)
"""Layers that cannot be removed: they return more than the hidden states or change their shape, or
other modules read their attributes."""

STRIDES = ("query_stride", "q_stride")
"""Attributes that make a layer return fewer tokens than it gets."""

REPEATED = ("albert_layer_groups",)
"""Lists of groups of layers that run ``num_hidden_layers`` times in all, each equally often."""

CYCLES = {
    "L_module": ("H_cycles", "L_cycles"),
    "H_module": ("H_cycles",),
    "self_attends": ("num_blocks",),
}
"""Stacks that one forward pass runs several times -> configuration keys: the product of their
values is how often."""

ROUTERS = r"Router|TopK|Gating$"
"""Classes of routers, whose weight is multiplied with every token to choose its experts."""

CHOSEN_EXPERTS = (
    "top_k",
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_top_k",
    "moe_topk",
    "moe_k",
    "top_k_experts",
    "num_selected_experts",
)
"""Attributes with the number of experts that process each token."""

NUM_EXPERTS = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "moe_num_experts",
    "num_routed_experts",
)
"""Attributes with the number of experts to choose from."""

ALL_EXPERTS = ("Llama4TextExperts",)
"""Classes of experts that process every token, although the router weights only some."""

DROPPING = r"SwitchTransformersTop1Router|NllbMoeTop2Router|LongcatFlash\w*Router"
"""Routers that may send a token to fewer experts than usual, or to one that does nothing."""

UNCOUNTED = {
    r"MraSelfAttention": "attention is approximated",
    r"BrosSelfAttention": "boxes are multiplied, too",
    r"\w+Indexer(Scorer)?": "products of its own choose the tokens",
    r".*(Mamba|SSM).*": "a state-space model is in it",
    DROPPING: "how many experts a token runs through depends on the token",
    r"LukeSelfAttention": "words and entities have maps of their own",
    r"(LightGlue|MobileViT|PatchTST|Time[Ss]former|VideoPrism|Videomt|XCLIP)\w*Attention": (
        "an example is several sequences"
    ),
    r"T5Gemma2MergedAttention": "keys of the encoder and of the decoder are read at once",
    r"Perceiver\w*Attention": "queries and keys are of two lengths",
    r"InformerProbSparseAttention": "queries are chosen by samples",
    r"PegasusXEncoderLayer": "global tokens run through it, too",
    r"(Pvt|PvtV2|Segformer|GLPN)\w*Attention": "keys are of a smaller image",
    r"SpeechT5Attention": "relative positions are multiplied, too",
    r".*(Swin|Hiera|VitDet|MultiScale)\w*Attention|Clap\w*Attention|Sam\w*Vi[st]\w*Attention": (
        "attention stays within windows"
    ),
    r"(LED|Longformer|LongT5|RfDetrDinov2|Sam3ViT)\w*Attention": "attention stays within windows",
}
"""Patterns of class names whose MACs depend on more than the number of tokens -> the reason."""

UNCOUNTED_IF = {
    "relative_attention": "relative positions are multiplied, too",
    "use_bottleneck_attention": "a part of it does not run",
}
"""Attributes that, where true, make a module's MACs depend on more -> the reason."""

POOLING = ("x_attn",)
"""Names of attention modules whose queries and keys are different tokens."""

RELATIVE = frozenset(
    {
        "distance_embedding",
        "emb_rel_k",
        "gru_rel_pos_linear",
        "linear_pos",
        "pos_key_proj",
        "pos_proj",
        "pos_query_proj",
        "rel_pos_emb",
        "rel_pos_h",
        "relative_k_proj",
    }
)
"""Parts of attention modules with which queries or keys are multiplied for relative positions."""
