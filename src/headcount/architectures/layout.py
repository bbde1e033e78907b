"""A row of the tables: how an attention module or a feed-forward network is built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionLayout:
    """Names of the parts of multi-head attention.

    A row fits a module that has all parts that the row names, and otherwise only parts that
    ``names.py`` knows. Paths start at the attention module; with a leading ``..``, at its parent.

    Example:
        >>> AttentionLayout(name="my", query="q", key="k", value="v", output="..out").packing
        'separate'
    """

    name: str
    """Name of the row in messages."""
    output: str
    """Path of the output projection. Gates multiply its input."""
    query: str = ""
    """Path of the query projection."""
    key: str = ""
    """Path of the key projection."""
    value: str = ""
    """Path of the value projection."""
    fused: str = ""
    """Path of a projection that makes query, key and value at once. If ``query`` is given too,
    this one makes key and value."""
    packing: Literal["separate", "stacked", "heads", "groups"] = "separate"
    """The order of the fused projection's outputs. ``stacked``: all queries, all keys, all values.
    ``heads``: query, key and value of head 0, then of head 1. ``groups``: the queries, the key and
    the value of key-value head 0, then of key-value head 1."""
    classes: tuple[str, ...] = ()
    """The row is for these classes only: names, plain or with their file (``beit.Attention``).
    Empty: any class with these parts."""
    bias_argument: str = ""
    """Name of the argument by which the first layer hands its position bias to the others (T5)."""
    bias_table: str = ""
    """Path of the embedding from which the first layer makes that bias: [buckets, heads]."""
    slopes: Mapping[str, int] = field(default_factory=dict)
    """Arguments with biases for all heads that are made outside of attention (ALiBi) -> dimension
    of the heads. -1: dimension 0 holds batch x heads."""
    slopes_at: str = ""
    """Path of the module around attention that takes these arguments. Empty: attention itself.
    BEiT's module adds biases of its own to them, which are cut with the heads."""
    outside: Mapping[str, int] = field(default_factory=dict)
    """Paths of tensors outside of attention that its heads share out -> dimension of the heads.
    Each is in a module of its own, which is None in models without it."""
    rotates_inputs: str = ""
    """Name of the method that rotates the input of the projections, split into as many parts as
    there are heads. In a cut model the number of parts stays that of the dense model."""
    config_counts: tuple[str, ...] = ()
    """Counts of heads that the module reads from its configuration at run time."""
    shared: tuple[str, ...] = ()
    """Paths of parts that all heads share, in addition to ``names.UNTOUCHED``."""
    keys_per_head: bool = False
    """Whether every query head has its own key, whatever its width (latent attention)."""
    width: str = ""
    """Variable of the forward method that is set to the input's width but used as the width of all
    heads."""
    width_at: Literal["first", "last"] = "first"
    """Which uses of that variable mean the heads: all from the first on, or only the last."""
    gated: Literal["input", "weight"] = "input"
    """What the gates multiply: the output projection's input; or its weight, where stock code
    passes all weights to one function."""
    own_forward: str = ""
    """Name of a wrapper for cut modules whose stock code fails with fewer heads. It is told which
    heads are left."""
    returns: Literal["context and map", "context", "context, map and bias"] = "context and map"
    """What the forward method returns."""
    not_counts: tuple[str, ...] = ()
    """Attributes whose value happens to be the width of all heads, but which mean the input's."""
    skips: bool = False
    """Whether a module without heads may return ``(context, attention map)`` without computing.
    The context has width 0 if the output projection is outside of the module."""
    conditions: Mapping[str, object] = field(default_factory=dict)
    """Attributes that the module must have with these values."""

    @property
    def projections(self) -> tuple[str, ...]:
        """Paths of the projections that make queries, keys and values, without repeats."""
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
    """Paths of the up projections, whose outputs make the neurons."""
    down: str
    """Path of the down projection. Gates multiply its input."""
    fused: int = 1
    """Outputs of an up projection for each neuron: 2 where one projection makes gates and values,
    in two halves."""
