"""What a method may look at."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was observed; a method names the fields that it needs in ``Method.evidence``.

    Each field has a collector in ``headcount.evidence``, which says when it is taken. Fields that
    a method does not name are None.

    Example:
        >>> Evidence().weight_norms is None
        True
    """

    weight_norms: Float[Tensor, " n"] | None = None
    """L2 norm of each unit's value and output weights; taken once."""
    gate_grads: Float[Tensor, "batch n"] | None = None
    """Gradient of each example's loss with respect to each unit's gate; taken for each batch that
    ``decide`` shows to a method of the phase "from data"."""
    attention_maps: Float[Tensor, "batch query key n"] | None = None
    """What each head attends to, rows sum to one; taken before a pass, from the whole model."""
    whole_outputs: Any = None
    """The output of the whole model for the same inputs, without gates and without a gradient;
    taken before a pass."""
    output_norms: Float[Tensor, " n"] | None = None
    """Mean norm of what each unit adds, before its gate; taken in a pass, with a gradient."""
    outputs: Any = None
    """The output of the gated model; taken after a pass, with a gradient."""
