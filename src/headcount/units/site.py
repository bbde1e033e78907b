"""Where units sit in a model: names and numbers only, no tensors."""

from dataclasses import dataclass

from headcount.units.cost import Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The share that a site's units have in one linear map.

    Unit ``i`` owns the indices ``start + i * width`` to ``start + (i + 1) * width - 1`` along
    ``axis``: 0 for the outputs (rows of the weight and the bias), 1 for the inputs (columns).

    Example:
        >>> Part(module="encoder.layer.0.attention.self.query", role="query", axis=0, width=64).axis
        0
    """

    module: str
    """Qualified name of the linear map."""
    role: str
    """``query``, ``key``, ``value`` or ``output``."""
    axis: int
    """0: the units own outputs; 1: the units own inputs."""
    width: int
    """Consecutive indices of one unit."""
    start: int = 0
    """Index where the first unit begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A place where units of one kind sit: one attention module has one site of heads.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1)
        >>> site = hc.units(transformers.BertModel(config)).sites[0]
        >>> site.module, site.num_units, site.width
        ('encoder.layer.0.attention.self', 12, 64)
    """

    module: str
    """Qualified name of the module that holds the units; names the site."""
    kind: str
    """``head`` (later ``group``, ``row``, ``block``, ``module``, ``layer``)."""
    layer: int
    """Index of the layer in its stack, from 0."""
    stack: str
    """``encoder`` or ``decoder``."""
    where: str
    """``self`` or ``cross`` attention."""
    num_units: int
    """Units in the site."""
    width: int
    """Size of one unit along the gated dimension: the head size."""
    gate: str
    """Qualified name of the linear map whose *input* is multiplied by the gates."""
    parts: tuple[Part, ...]
    """Everything that is cut when a unit goes."""
    config_key: str
    """The configuration's name for the number of units in a layer."""
    cost: Cost
    """What one unit costs."""
