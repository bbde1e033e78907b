"""Position biases that the first layer makes for all: T5 and its kin."""

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
)

FEED_FORWARD = (
    FeedForwardLayout(up=("wi_0", "wi_1"), down="wo"),
    FeedForwardLayout(up=("wi",), down="wo"),
)
