"""Where units sit in a model: names and numbers only, no tensors."""

from dataclasses import dataclass
from typing import Literal

from headcount.units.cost import NOTHING, Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The share that a site's units have in one tensor of weights.

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
    """Name of the parameter in its module: ``weight``, ``bias``, ``sinks``."""
    dim: int
    """The dimension along which the units lie."""
    role: str
    """``query``, ``key``, ``value``, ``output``, ``up``, ``down``, or ``other``."""
    width: int
    """Consecutive indices of one unit."""
    starts: range | tuple[int, ...]
    """Where each unit begins; one number for each unit of the site, or of one expert."""
    stacked: bool = False
    """The first dimension counts experts, of which each has units of its own, one after another."""
    whole: bool = False
    """The tensor stays as it is, because its units are normalised together; the others are left
    out afterwards."""

    @property
    def parameter(self) -> str:
        """Qualified name of the tensor."""
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A place where units of one kind sit: one attention module has one site of heads.

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
    """``head``; ``kv_head``, a key-value head with the query heads that share it; ``neuron``, of a
    feed-forward network; ``sublayer``, attention or a feed-forward network; ``layer``."""
    layer: int
    """Index of the layer in its stack, from 0."""
    stack: str
    """``encoder`` or ``decoder``."""
    where: str
    """``self`` or ``cross`` attention, ``ffn``, or ``layer``."""
    num_units: int
    """Units in the site."""
    width: int
    """Size of one unit along the gated dimension: the head size; 0 for kinds without one."""
    gate: str
    """Qualified name of the module at which the units are gated."""
    gated: Literal["input", "output", "residual", "weight"] = "input"
    """What is multiplied: the gate module's input, unit by unit; its output; the difference
    between its output and its input; or the weight that projects the units back, where the code
    that computes them is one with what follows."""
    routed: bool = False
    """Whether only some tokens get there, those of all examples together: there are no gates for
    each example."""
    parts: tuple[Part, ...]
    """Everything that is cut when a unit goes."""
    config_key: str
    """The configuration's name for the number of units in a layer."""
    cost: Cost
    """What one unit costs."""
    rest: Cost = NOTHING
    """What goes on top when the last unit goes: all that the units share, but for the output
    projection's bias."""
    copied: int = 0
    """Parameters that a unit costs more as soon as the layers of its stack keep different units:
    those of its share in a table that the first layer has for all."""
    left: int = 0
    """Multiply-accumulates for each pair of tokens that stay when all units are gone: most models
    run on with one head of zeros."""
    uncounted: str = ""
    """Why the multiply-accumulates are not known exactly; empty if they are."""
    tower: str = ""
    """For models made of several (text and vision): which one, by its module's name."""
    num_groups: int = 1
    """Query heads share key-value heads, or neurons lie in the experts of one tensor: every group
    keeps equally many of its units."""

    @property
    def key(self) -> tuple[str, str]:
        """What names the site: module and kind."""
        return self.module, self.kind

    @property
    def configured(self) -> int:
        """The number that ``config_key`` stands for: units in all, neurons of one expert."""
        return self.num_units // self.num_groups if self.kind == "neuron" else self.num_units

    @property
    def place(self) -> tuple[str, str, int]:
        """The layer: tower, stack and index."""
        return self.tower, self.stack, self.layer
