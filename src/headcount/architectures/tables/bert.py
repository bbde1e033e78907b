"""BERT and the encoders that share its attention: query, key, value, and ``output.dense``."""

from headcount.architectures.layout import AttentionLayout, FeedForwardLayout

_PREFIXES = (
    "Bert",
    "BertGeneration",
    "Camembert",
    "Data2VecText",
    "Electra",
    "Ernie",
    "LayoutLM",
    "MegatronBert",
    "RoCBert",
    "Roberta",
    "RobertaPreLayerNorm",
    "Splinter",
    "XLMRoberta",
    "XLMRobertaXL",
    "Xmod",
)

ATTENTION = (
    # These layers accept attention without heads, so it need not be computed. Classes of the same
    # build that are not listed fit "bert-like" below.
    AttentionLayout(
        name="bert",
        classes=tuple(f"{p}{kind}Attention" for p in _PREFIXES for kind in ("Self", "Cross")),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
        skips=True,
    ),
    AttentionLayout(
        name="layoutlmv3",
        classes=("LayoutLMv3SelfAttention", "LayoutLMv2SelfAttention"),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
        slopes={"rel_pos": 1, "rel_2d_pos": 1},
    ),
    AttentionLayout(
        name="layoutlmv2",
        classes=("LayoutLMv2SelfAttention",),
        fused="qkv_linear",
        packing="stacked",
        output="..output.dense",
        slopes={"rel_pos": 1, "rel_2d_pos": 1},
    ),
    AttentionLayout(
        name="data2vec-vision",
        classes=("Data2VecVisionSelfAttention",),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
        slopes={"relative_position_bias": 1},
    ),
    AttentionLayout(
        name="perceiver",
        classes=("PerceiverSelfAttention",),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
        shared=("layernorm1", "layernorm2"),  # they normalise the inputs
    ),
    AttentionLayout(
        name="bert-like",
        query="query",
        key="key",
        value="value",
        output="..output.dense",
    ),
    AttentionLayout(
        name="albert",
        query="query",
        key="key",
        value="value",
        output="dense",
        shared=("LayerNorm", "layer_norm"),
    ),
    AttentionLayout(
        name="distilbert",
        query="q_lin",
        key="k_lin",
        value="v_lin",
        output="out_lin",
    ),
    AttentionLayout(
        name="mpnet",
        query="q",
        key="k",
        value="v",
        output="o",
        slopes={"position_bias": 1},
    ),
    AttentionLayout(
        name="deberta-v2",
        query="query_proj",
        key="key_proj",
        value="value_proj",
        output="..output.dense",
    ),
    AttentionLayout(
        name="deberta",
        fused="in_proj",
        packing="heads",
        output="..output.dense",
    ),
    AttentionLayout(
        name="grounding-dino",
        query="query",
        key="key",
        value="value",
        output="out_proj",
        slopes={"attention_mask": 1},  # a text's mask is repeated for every head
    ),
    AttentionLayout(name="vjepa2", query="query", key="key", value="value", output="proj"),
    AttentionLayout(name="modernbert", fused="Wqkv", packing="stacked", output="Wo"),
    AttentionLayout(
        name="modernbert-decoder", query="q_proj", key="k_proj", value="v_proj", output="Wo"
    ),
)

FEED_FORWARD = (
    FeedForwardLayout(up=("intermediate.dense",), down="output.dense"),
    FeedForwardLayout(up=("intermediate.dense",), down="intermediate.output.dense"),
    FeedForwardLayout(up=("ffn",), down="ffn_output"),
    FeedForwardLayout(up=("lin1",), down="lin2"),
    FeedForwardLayout(up=("dense1",), down="dense2"),
    FeedForwardLayout(up=("Wi",), down="Wo", fused=2),
)
