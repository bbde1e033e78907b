"""Vision transformers of timm. They return the context without attention maps."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

ATTENTION = (
    AttentionLayout(
        name="timm",
        classes=("attention.Attention", "attention.AttentionRope", "hiera.MaskUnitAttention"),
        fused="qkv",
        packing="stacked",
        output="proj",
        returns="context",
    ),
    AttentionLayout(
        name="timm-wide",
        classes=("eva.EvaAttention", "swin_transformer_v2.WindowAttention"),
        fused="qkv",
        packing="stacked",
        output="proj",
        width="C",
        returns="context",
    ),
    AttentionLayout(
        name="timm-beit",
        classes=("beit.Attention",),
        fused="qkv",
        packing="stacked",
        output="proj",
        slopes={"shared_rel_pos_bias": 0},
        width="C",
        returns="context",
    ),
    AttentionLayout(
        name="timm-swin",
        classes=("swin_transformer.WindowAttention",),
        fused="qkv",
        packing="stacked",
        output="proj",
        returns="context",
    ),
    AttentionLayout(
        name="timm-separate",
        classes=("attention.AttentionRope",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="proj",
        returns="context",
    ),
    AttentionLayout(
        name="timm-separate-wide",
        classes=("eva.EvaAttention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="proj",
        width="C",
        returns="context",
    ),
)

FEED_FORWARD = (
    FeedForwardLayout(up=("fc1",), down="fc2", fused=2),
    FeedForwardLayout(up=("fc1_g", "fc1_x"), down="fc2"),
)

LAYERS = (
    "beit.Block",
    "deit.Block",
    "eva.EvaBlock",
    "eva.EvaBlockPostNorm",
    "swin_transformer.SwinTransformerBlock",
    "swin_transformer_v2.SwinTransformerV2Block",
    "vision_transformer.Block",
    "vision_transformer.ParallelThingsBlock",
    "vision_transformer.ResPostBlock",
)
"""Layers, named with their file, that return hidden states of the shape of their input."""
