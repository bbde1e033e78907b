"""How one attention module is built: a row of a family's table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionLayout:
    """Names of the parts of multi-head attention with separate projections.

    A path is relative to the attention module; a leading ``..`` starts at the module's parent.

    Example:
        >>> AttentionLayout(classes=("MySelfAttention",), query="q", key="k", value="v",
        ...                 output="..out.dense").where
        'self'
    """

    classes: tuple[str, ...]
    """Names of the attention classes built this way."""
    query: str
    """Path of the query projection."""
    key: str
    """Path of the key projection."""
    value: str
    """Path of the value projection."""
    output: str
    """Path of the output projection, whose input is gated."""
    num_heads: str | None = "num_attention_heads"
    """Attribute of the attention module with its number of heads, if the module has one."""
    head_size: str = "attention_head_size"
    """Attribute of the attention module with the size of a head."""
    all_head_size: str | None = "all_head_size"
    """Attribute with heads times head size, if the module has one."""
    config_key: str = "num_attention_heads"
    """The configuration's name for the number of heads."""
    config_head_size: str | None = None
    """The configuration's name for the size of a head, where the stock class reads one: then a
    model with the same number of heads in every layer is a stock checkpoint."""
    where: str = "self"
    """``self`` or ``cross`` attention."""
