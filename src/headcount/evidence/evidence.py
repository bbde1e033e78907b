"""The evidence that a method may use."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The evidence for a method, which names the fields that it needs in ``Method.evidence``.

    The other fields are None. Each field has a collector in ``headcount.evidence``, which says when
    the evidence is taken.

    Example:
        >>> Evidence().weight_norms is None
        True
    """

    weight_norms: Float[Tensor, " n"] | None = None
    """L2 norm of each unit's value and output weights; taken once."""
    gate_grads: Float[Tensor, "batch n"] | None = None
    """Gradient of each example's loss with respect to each unit's gate; taken for each batch of
    ``decide`` if the method's phase is "from data"."""
    attention_maps: Float[Tensor, "batch query key n"] | None = None
    """Attention probabilities of each head, with sum one over the keys; taken before a pass, from
    the whole model."""
    whole_outputs: Any = None
    """The output of the whole model for the same inputs, without gates and without a gradient;
    taken before a pass."""
    output_norms: Float[Tensor, " n"] | None = None
    """Mean norm of each unit's contribution to the residual stream, before its gate; taken in a
    pass, with a gradient."""
    outputs: Any = None
    """The output of the gated model; taken after a pass, with a gradient."""
