"""Modules that a row would fit, but that are not cut, and why."""

_TIED = "encoder and decoder share its weights, and the decoder reads the encoder's keys"
_ONE_CACHE = "its cross-attention finds the keys of its self-attention in the cache"

REFUSED = {
    "PegasusXGlobalLocalAttention": "it takes the width of its input for that of the heads it has",
    "UdopAttention": "its position biases are made for all heads, elsewhere",
    "DiffusionGemmaDecoderTextAttention": _TIED,
    "DiffusionGemmaEncoderTextAttention": _TIED,
    "HYV4Attention": "it hands its choice of tokens to the layers behind",
    "GradiumPhononTTSAttention": (
        "its checkpoints hold queries, keys and values in three equal parts, in an order of heads"
    ),
    "Zamba2MLP": "adapters make its neurons too, one for each place where it runs",
    "Gemma3nTextMLP": "its neurons are thresholded by the spread of all of them",
    "AutoformerAttention": "its heads choose their delays together",
    "OpenAIPrivacyFilterExperts": "they compute in float32, whatever the model's type is",
    "XmodAdapter": "which of its kind runs depends on the language",
    "NystromformerSelfAttention": "its heads share the start of an approximate inverse",
    "BigBirdBlockSparseAttention": (
        "it is replaced by a dense module on short inputs: set "
        "config.attention_type = 'original_full'"
    ),
}
"""Name of a class, plain or with its file -> the reason."""

REFUSED_WITH = {
    "BigBirdLayer": ("add_cross_attention", _ONE_CACHE),
    "ProphetNetDecoderLayer": ("cross_attn", _ONE_CACHE),
    "RemBertLayer": ("add_cross_attention", _ONE_CACHE),
    "RoFormerLayer": ("add_cross_attention", _ONE_CACHE),
    "MvpPrompt": ("", "its prompts are keys and values of all heads"),
}
"""Name of a class -> (attribute, reason). A model with such a module is not cut at all if the
module's attribute is true or a module. An empty attribute: not cut in any case."""

RIGHT_WITH_ENCODER = ("ProphetNetDecoderLayer", "RemBertLayer", "RoFormerLayer")
"""Classes of ``REFUSED_WITH`` that are cut in encoder-decoder models, which have a cache for
self-attention and one for cross-attention."""
