"""How a sublayer is built: a row of a family's table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionLayout:
    """Names of the parts of multi-head attention.

    A row fits a module that has all the named parts, and otherwise only parts that the tables
    know how to treat. A path is relative to the attention module; a leading ``..`` starts at the
    module's parent.

    Example:
        >>> AttentionLayout(name="my", query="q", key="k", value="v", output="..out").packing
        'separate'
    """

    name: str
    """What messages call the row."""
    output: str
    """Path of the output projection, whose input is gated."""
    query: str = ""
    """Path of the query projection."""
    key: str = ""
    """Path of the key projection."""
    value: str = ""
    """Path of the value projection."""
    fused: str = ""
    """Path of the projection that makes query, key and value at once; where a query projection is
    named too, key and value."""
    packing: Literal["separate", "stacked", "heads", "groups"] = "separate"
    """How the fused projection's outputs are ordered. ``stacked``: all queries, all keys, all
    values. ``heads``: query, key, value of the first head, then of the second. ``groups``: the
    queries of a key-value head, its key, its value; then the next."""
    classes: tuple[str, ...] = ()
    """Names of the only classes the row is for, alone or behind their file's (``beit.Attention``);
    empty: any class with these parts."""
    bias_argument: str = ""
    """Name of the argument that brings a position bias of all heads from the first layer."""
    bias_table: str = ""
    """Path of the embedding that the first layer makes that bias of, the heads along dim 1."""
    slopes: Mapping[str, int] = field(default_factory=dict)
    """Arguments that bring biases for all heads that are made outside (ALiBi), and the dimension
    along which the heads lie; -1: the first, with the batch."""
    slopes_at: str = ""
    """Path of the module around attention that takes these arguments, where it adds to them what
    it has for the heads of this attention alone; empty: attention itself."""
    outside: Mapping[str, int] = field(default_factory=dict)
    """Paths of tensors outside of attention with a share for each head of it, and the dimension
    along which the heads lie; each in a module of its own that is None where there is none."""
    rotates_inputs: str = ""
    """Name of the method that rotates what goes into the projections, in as many parts as there
    are heads; after a cut, in as many as there were."""
    config_counts: tuple[str, ...] = ()
    """Counts of heads that the module reads from its configuration as it runs."""
    shared: tuple[str, ...] = ()
    """Paths of parts that all heads share, beside those in ``names.UNTOUCHED``."""
    keys_per_head: bool = False
    """Whether every query head has keys of its own whatever their width (latent attention)."""
    width: str = ""
    """Variable of the forward method that is read off the width of the input, and stands for that
    of all heads."""
    width_at: Literal["first", "last"] = "first"
    """Whether all uses of that variable mean the heads, or the last one only."""
    gated: Literal["input", "weight"] = "input"
    """What is multiplied by gates: what goes into the output projection; or its weight, where stock
    code hands all weights to one function."""
    own_forward: str = ""
    """The wrapper that a module without some of its heads gets, because stock code does not run
    with fewer heads; it knows which are left."""
    returns: Literal["context and map", "context", "context, map and bias"] = "context and map"
    """What the forward method returns."""
    not_counts: tuple[str, ...] = ()
    """Attributes that have the width of all heads as their value, but mean that of the input."""
    skips: bool = False
    """Whether ``(context, attention map)`` may be returned for a module without heads, where
    context has no width if the output projection lies outside."""
    conditions: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the module that have to have these values."""

    @property
    def projections(self) -> tuple[str, ...]:
        """Paths of all projections that make queries, keys and values, each once."""
        paths = (self.query, self.key, self.value, self.fused)
        return tuple(dict.fromkeys(path for path in paths if path))


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForwardLayout:
    """Names of the parts of a feed-forward network.

    Example:
        >>> FeedForwardLayout(up=("gate_proj", "up_proj"), down="down_proj").fused
        1
    """

    up: tuple[str, ...]
    """Paths of the projections that make the neurons."""
    down: str
    """Path of the projection back, whose input is gated."""
    fused: int = 1
    """Outputs of an up projection for each neuron, stacked: 2 where gate and value are one."""
