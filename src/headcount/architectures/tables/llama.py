"""Four projections in one module (query, key, value, output): Llama, BART, CLIP and most others."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

ATTENTION = (
    # The mask comes with a dimension of heads, as large as in the dense model.
    AttentionLayout(
        name="eomt",
        classes=("EomtAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="out_proj",
        slopes={"attention_mask": 1},
    ),
    AttentionLayout(
        name="sam3",
        classes=("Sam3Attention", "Sam3LiteTextAttention"),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        slopes={"attention_mask": 1},
    ),
    AttentionLayout(
        name="eomt-dinov3",
        classes=("EomtDinov3Attention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        slopes={"attention_mask": 1},
    ),
    AttentionLayout(
        name="parakeet",
        classes=(
            "ParakeetEncoderAttention",
            "NemotronAsrStreamingEncoderAttention",
            "GraniteSpeech5EncoderAttention",
        ),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        config_counts=("num_attention_heads",),
    ),
    AttentionLayout(
        name="moonshine",
        classes=("MoonshineAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        config_counts=("num_key_value_heads",),
    ),
    AttentionLayout(
        name="blt-cross",
        classes=("BltCrossAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        shared=("q_norm", "k_norm"),  # they normalise the inputs, not queries and keys
    ),
    # The parent module adds a table of biases, for the heads of this layer, to the mask. The mask
    # may hold biases that all layers share.
    AttentionLayout(
        name="beit",
        classes=("BeitAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        slopes={"attention_mask": 1},
        slopes_at="..",
        outside={"..relative_position_bias.relative_position_bias_table": 1},
    ),
    # Gemma 4: without a value projection, the keys before their norm are the values.
    AttentionLayout(
        name="keys-are-values",
        conditions={"use_alternative_attention": True},
        query="q_proj",
        key="k_proj",
        value="k_proj",
        output="o_proj",
    ),
    AttentionLayout(name="llama", query="q_proj", key="k_proj", value="v_proj", output="o_proj"),
    AttentionLayout(name="bart", query="q_proj", key="k_proj", value="v_proj", output="out_proj"),
    AttentionLayout(name="phi", query="q_proj", key="k_proj", value="v_proj", output="dense"),
    AttentionLayout(name="vision", query="q_proj", key="k_proj", value="v_proj", output="proj"),
    AttentionLayout(
        name="internvl", query="q_proj", key="k_proj", value="v_proj", output="projection_layer"
    ),
    AttentionLayout(
        name="prophetnet",
        query="query_proj",
        key="key_proj",
        value="value_proj",
        output="out_proj",
    ),
    AttentionLayout(
        name="conformer-rotary",
        conditions={"position_embeddings_type": "rotary"},
        query="linear_q",
        key="linear_k",
        value="linear_v",
        output="linear_out",
        rotates_inputs="_apply_rotary_embedding",
    ),
    AttentionLayout(
        name="conformer", query="linear_q", key="linear_k", value="linear_v", output="linear_out"
    ),
    AttentionLayout(name="qwen-omni", query="q", key="k", value="v", output="proj"),
    # DeepSeek's latent attention: kv_b_proj makes key and value of every head from a compressed
    # vector, which all heads share.
    AttentionLayout(
        name="latent",
        query="q_b_proj",
        key="kv_b_proj",
        value="kv_b_proj",
        output="o_proj",
        keys_per_head=True,
        shared=("q_a_proj", "q_a_layernorm", "kv_a_proj_with_mqa", "kv_a_layernorm", "indexer"),
    ),
    # The same without compressed queries.
    AttentionLayout(
        name="latent-direct",
        query="q_proj",
        key="kv_b_proj",
        value="kv_b_proj",
        output="o_proj",
        keys_per_head=True,
        shared=("kv_a_proj_with_mqa", "kv_a_layernorm", "indexer"),
    ),
    AttentionLayout(
        name="cpmant",
        query="project_q",
        key="project_k",
        value="project_v",
        output="attention_out",
        slopes={"position_bias": 1},
    ),
    AttentionLayout(name="ctrl", query="Wq", key="Wk", value="Wv", output="dense"),
    AttentionLayout(name="dbrx", query="Wq", key="Wk", value="Wv", output="out_proj"),
)

FEED_FORWARD = (
    FeedForwardLayout(up=("gate_proj", "up_proj"), down="down_proj"),
    FeedForwardLayout(up=("up_proj",), down="down_proj"),
    FeedForwardLayout(up=("gate_up_proj",), down="down_proj", fused=2),
    FeedForwardLayout(up=("fc1",), down="fc2"),
    FeedForwardLayout(up=("w1", "w3"), down="w2"),
    FeedForwardLayout(up=("linear_fc1",), down="linear_fc2"),
    FeedForwardLayout(up=("linear1",), down="linear2"),
    FeedForwardLayout(up=("linear_1",), down="linear_2"),
    FeedForwardLayout(up=("fc_in",), down="fc_out"),
    FeedForwardLayout(up=("intermediate_dense",), down="output_dense"),
    FeedForwardLayout(up=("weights_in",), down="weights_out", fused=2),
)
