"""Attention that has the parts of a row, but is not cut, and why."""

REFUSED = {
    "Gemma3nTextAttention": "some layers take the keys and values of others",
    "Gemma3nTextMLP": "its neurons are thresholded by the spread of all of them",
    "AutoformerAttention": "its heads choose their delays together",
    "BigBirdBlockSparseAttention": (
        "it is replaced by a dense module on short inputs: set "
        "config.attention_type = 'original_full'"
    ),
    "Blip2Attention": "it reads the size of a head off the width of its input",
    "InstructBlipAttention": "it reads the size of a head off the width of its input",
    "InstructBlipVideoAttention": "it reads the size of a head off the width of its input",
    "modeling_fsmt.Attention": "it takes the width of its input for that of its heads",
    "BlipAttention": "it reads the size of a head off the width of its input",
}
"""Name of a class, or file and class -> the reason."""
