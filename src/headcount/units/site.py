"""Sites, the places of units in a model: names and numbers only, no tensors."""

from dataclasses import dataclass
from typing import Literal

from headcount.units.cost import NOTHING, Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The slices of one tensor that belong to a site's units.

    Unit ``i`` owns the indices ``starts[i]`` to ``starts[i] + width - 1`` along dimension ``dim``.

    Example:
        >>> part = Part(module="encoder.layer.0.attention.self.query", name="weight", dim=0,
        ...             role="query", width=64, starts=range(0, 768, 64))
        >>> part.starts[2]
        128
    """

    module: str
    """Qualified name of the module that holds the tensor."""
    name: str
    """Name of the parameter in that module: ``weight``, ``bias``, ``sinks``."""
    dim: int
    """The dimension that the units divide among them."""
    role: str
    """``query``, ``key``, ``value``, ``output``, ``up``, ``down``, or ``other``."""
    width: int
    """The number of consecutive indices of one unit."""
    starts: range | tuple[int, ...]
    """The first index of each unit of the site; for stacked experts, of each unit of one expert."""
    stacked: bool = False
    """Whether dimension 0 counts experts. Each has its own units; they are numbered expert after
    expert."""
    whole: bool = False
    """Whether the tensor is not cut, because a norm takes all units together. The output of the
    norm then drops the removed units."""

    @property
    def parameter(self) -> str:
        """Qualified name of the tensor."""
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A place where units of one kind are: one attention module has one site of heads.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1)
        >>> site = hc.units(transformers.BertModel(config), "head").sites[0]
        >>> site.module, site.num_units, site.width
        ('encoder.layer.0.attention.self', 12, 64)
    """

    module: str
    """Qualified name of the module that holds the units; with ``kind`` it names the site."""
    kind: str
    """``head``; ``kv_head``: a key-value head with the query heads that share it; ``neuron``: of a
    feed-forward network; ``sublayer``: attention or a feed-forward network; ``layer``."""
    layer: int
    """Index of the layer in its stack, from 0."""
    stack: str
    """``encoder`` or ``decoder``."""
    branch: str
    """The residual branch: ``self`` or ``cross`` attention, ``ffn``, or ``layer``."""
    num_units: int
    """The number of units in the site."""
    width: int
    """Size of one unit along the gated dimension, for a head the head size; 0 for sublayers and
    layers."""
    gate: str
    """Qualified name of the module at which the units are gated."""
    gated: Literal["input", "output", "residual", "weight"] = "input"
    """What the gates multiply. ``input``: the gate module's input, unit by unit. ``output``: its
    output. ``residual``: the difference between its output and its input. ``weight``: the weight
    of the projection behind the units, where one function computes both."""
    routed: bool = False
    """Whether the module gets only some tokens, those of all examples mixed (an expert). Then gates
    cannot differ from example to example."""
    parts: tuple[Part, ...]
    """All slices that are cut when a unit goes."""
    config_key: str
    """The configuration key for the number of units in a layer."""
    cost: Cost
    """The cost of one unit."""
    rest: Cost = NOTHING
    """Cost shared by all units (query and key norms, say), freed only with the last one. The output
    projection's bias is not in it: it stays."""
    copied: int = 0
    """Extra parameters per unit once the layers of the stack keep different units: each layer then
    needs its own copy of T5's position-bias columns."""
    left: int = 0
    """MACs per pair of tokens still spent when no unit is left: most models then run one head of
    zeros."""
    uncounted: str = ""
    """Why the MACs are not known exactly; empty if they are."""
    tower: str = ""
    """In composite models (text and vision), the tower, by the name of its module."""
    num_groups: int = 1
    """The number of groups that must keep equally many units: the query heads of each key-value
    head, or the neurons of each expert in one tensor. 1: any units may stay."""

    @property
    def key(self) -> tuple[str, str]:
        """The name of the site: (module, kind)."""
        return self.module, self.kind

    @property
    def configured(self) -> int:
        """The number that ``config_key`` holds: units of the site, or neurons of one expert."""
        return self.num_units // self.num_groups if self.kind == "neuron" else self.num_units

    @property
    def layer_key(self) -> tuple[str, str, int]:
        """The layer: tower, stack and index."""
        return self.tower, self.stack, self.layer
