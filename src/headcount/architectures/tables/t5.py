"""T5 and its relatives, and WavLM: the first layer computes the position biases for all layers."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

ATTENTION = (
    AttentionLayout(
        name="t5",
        classes=(
            "T5Attention",
            "MT5Attention",
            "LongT5Attention",
            "LongT5LocalAttention",
            "Pop2PianoAttention",
            "SwitchTransformersAttention",
            "UMT5Attention",
        ),
        query="q",
        key="k",
        value="v",
        output="o",
        bias_argument="position_bias",
        bias_table="relative_attention_bias",
    ),
    AttentionLayout(
        name="wavlm",
        classes=("WavLMAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="out_proj",
        shared=("gru_rel_pos_linear",),
        bias_argument="position_bias",
        bias_table="rel_attn_embed",
        gated="weight",
        own_forward="gated_bias",
        returns="context, map and bias",
    ),
)

FEED_FORWARD = (
    FeedForwardLayout(up=("wi_0", "wi_1"), down="wo"),
    FeedForwardLayout(up=("wi",), down="wo"),
)
