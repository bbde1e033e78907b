"""One projection for query, key and value: GPT-2's Conv1D, BLOOM, GPT-NeoX, Falcon, vision."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

ATTENTION = (
    AttentionLayout(
        name="gpt-bigcode-multi-query",
        classes=("GPTBigCodeAttention",),
        conditions={"multi_query": True},
        fused="c_attn",
        packing="stacked",
        output="c_proj",
    ),
    AttentionLayout(
        name="gpt-bigcode",
        classes=("GPTBigCodeAttention",),
        conditions={"multi_query": False},
        fused="c_attn",
        packing="heads",
        output="c_proj",
    ),
    AttentionLayout(
        name="gpt2",
        conditions={"is_cross_attention": False},
        fused="c_attn",
        packing="stacked",
        output="c_proj",
    ),
    AttentionLayout(
        name="gpt2-cross",
        conditions={"is_cross_attention": True},
        query="q_attn",
        fused="c_attn",
        packing="stacked",
        output="c_proj",
    ),
    AttentionLayout(
        name="granite-speech",
        query="to_q",
        fused="to_kv",
        packing="stacked",
        output="to_out",
        shared=("pre_norm",),
    ),
    AttentionLayout(
        name="openai-gpt",
        classes=("Attention",),
        fused="c_attn",
        packing="stacked",
        output="c_proj",
    ),
    AttentionLayout(
        name="falcon-groups",
        conditions={"new_decoder_architecture": True},
        fused="query_key_value",
        packing="groups",
        output="dense",
        slopes={"alibi": 1, "attention_mask": 1},
    ),
    AttentionLayout(
        name="falcon-multi-query",
        conditions={"new_decoder_architecture": False, "multi_query": True},
        fused="query_key_value",
        packing="stacked",
        output="dense",
        slopes={"alibi": 1, "attention_mask": 1},
    ),
    AttentionLayout(
        name="falcon-heads",
        conditions={"new_decoder_architecture": False, "multi_query": False},
        fused="query_key_value",
        packing="heads",
        output="dense",
        slopes={"alibi": 1, "attention_mask": 1},
    ),
    AttentionLayout(
        name="bloom",
        fused="query_key_value",
        packing="heads",
        output="dense",
        slopes={"alibi": -1},
    ),
    AttentionLayout(
        name="phi3",
        fused="qkv_proj",
        packing="stacked",
        output="o_proj",
        config_counts=("num_attention_heads", "num_key_value_heads"),
    ),
    AttentionLayout(
        name="mpt",
        fused="Wqkv",
        packing="stacked",
        output="out_proj",
        slopes={"position_bias": -1},
    ),
    AttentionLayout(name="vision-fused", fused="qkv", packing="stacked", output="proj"),
    AttentionLayout(name="blip", fused="qkv", packing="stacked", output="projection"),
    AttentionLayout(name="timesformer", fused="qkv", packing="stacked", output="..output.dense"),
    AttentionLayout(name="bark", fused="att_proj", packing="stacked", output="out_proj"),
)

FEED_FORWARD = (
    FeedForwardLayout(up=("c_fc",), down="c_proj"),
    FeedForwardLayout(up=("dense_h_to_4h",), down="dense_4h_to_h"),
    FeedForwardLayout(up=("in_proj",), down="out_proj"),
)
