"""Attention that has the parts of a row, but is not cut, and why."""

_TIED = "encoder and decoder share its weights, and the decoder reads the encoder's keys"
_WIDE = "it takes the width of its input, or of all heads, for that of the heads it has"

REFUSED = {
    "GroundingDinoMultiheadAttention": _WIDE,
    "GroupViTAttention": _WIDE,
    "HieraMaskUnitAttention": _WIDE,
    "LEDDecoderAttention": _WIDE,
    "LxmertAttention": _WIDE,
    "MMGroundingDinoMultiheadAttention": _WIDE,
    "Mask2FormerAttention": _WIDE,
    "MgpstrAttention": _WIDE,
    "MoonshineStreamingAttention": _WIDE,
    "OneFormerAttention": _WIDE,
    "PegasusXGlobalLocalAttention": _WIDE,
    "PvtV2SelfAttention": _WIDE,
    "TimesformerSelfAttention": _WIDE,
    "TrOCRAttention": _WIDE,
    "UdopAttention": "its position biases are made for all heads, elsewhere",
    "DiffusionGemmaDecoderTextAttention": _TIED,
    "DiffusionGemmaEncoderTextAttention": _TIED,
    "HYV4Attention": "it hands its choice of tokens to the layers behind",
    "Zamba2MLP": "adapters make its neurons too, one for each place where it runs",
    "Gemma3nTextMLP": "its neurons are thresholded by the spread of all of them",
    "WavLMAttention": "it hands its weights to one function, where heads cannot be gated",
    "AutoformerAttention": "its heads choose their delays together",
    "BigBirdBlockSparseAttention": (
        "it is replaced by a dense module on short inputs: set "
        "config.attention_type = 'original_full'"
    ),
    "Blip2Attention": _WIDE,
    "InstructBlipAttention": _WIDE,
    "InstructBlipVideoAttention": _WIDE,
    "modeling_fsmt.Attention": _WIDE,
    "BlipAttention": _WIDE,
}
"""Name of a class, or file and class -> the reason."""
