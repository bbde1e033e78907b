"""One projection makes query, key and value: GPT-2, BLOOM, GPT-NeoX, Falcon, vision models."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

ATTENTION = (
    # The same class orders its outputs in two ways. With one key-value head for all: all queries,
    # then the key, then the value. Otherwise: query, key and value of each head in turn.
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
    # GPT-2's cross-attention is the same class: c_attn then makes key and value only.
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
    # Falcon's class has three orders of outputs. ALiBi comes as an argument, or added to the mask.
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
    # Splits its outputs by counts that it reads from the configuration at run time.
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
