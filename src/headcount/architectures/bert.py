"""BERT and the encoders that share its attention: query, key, value, and ``output.dense``."""

from headcount.architectures.layout import AttentionLayout

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

BERT = (
    AttentionLayout(
        classes=tuple(f"{prefix}SelfAttention" for prefix in _PREFIXES),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
    ),
    AttentionLayout(
        classes=tuple(f"{prefix}CrossAttention" for prefix in _PREFIXES),
        query="query",
        key="key",
        value="value",
        output="..output.dense",
        where="cross",
    ),
    AttentionLayout(
        classes=("DistilBertSelfAttention",),
        query="q_lin",
        key="k_lin",
        value="v_lin",
        output="out_lin",
        num_heads="n_heads",
        all_head_size=None,
        config_key="n_heads",
    ),
    AttentionLayout(
        classes=("JinaEmbeddingsV3Attention",),
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        num_heads=None,
        head_size="head_dim",
        all_head_size=None,
        config_head_size="head_dim",
    ),
)
