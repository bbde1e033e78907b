"""The kinds of unit, as one table that budgets, nesting, wording, flags and checks read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of unit: its names, and its properties.

    Example:
        >>> KIND["kv_head"].plural, KIND["kv_head"].nouns
        ('kv_heads', 'key-value heads')
    """

    name: str
    """The name in calls and files."""
    noun: str
    """The singular in sentences."""
    holds: Literal["all below", "the same module", "a share of the heads", "nothing"]
    """Which units of inner kinds are removed with a unit: those of all modules below its own, those
    of its own module, its query heads, or none."""
    scaled: bool
    """Whether a unit is a slice of a projection's input, so that it can have a scale."""
    usual: bool
    """Whether a budget of a cost may remove units of this kind by default."""
    drawn: bool
    """Whether the figure of a model shows each unit: only for kinds with few units."""

    @property
    def plural(self) -> str:
        """The field of a budget and, with dashes, the flag of the command line."""
        return f"{self.name}s"

    @property
    def nouns(self) -> str:
        """The plural in sentences."""
        return f"{self.noun}s"

    @property
    def whole(self) -> bool:
        """Whether a unit is a module of the model, with all that lies in it."""
        return self.holds in ("all below", "the same module")


ALL = (
    Kind(name="layer", noun="layer", holds="all below", scaled=False, usual=False, drawn=False),
    Kind(
        name="sublayer",
        noun="sublayer",
        holds="the same module",
        scaled=False,
        usual=False,
        drawn=False,
    ),
    Kind(
        name="kv_head",
        noun="key-value head",
        holds="a share of the heads",
        scaled=True,
        usual=True,
        drawn=True,
    ),
    Kind(name="head", noun="head", holds="nothing", scaled=True, usual=True, drawn=True),
    Kind(name="neuron", noun="neuron", holds="nothing", scaled=True, usual=True, drawn=False),
)
"""From the outermost to the innermost. A new kind needs a row here, a field of ``Budget``, and code
that finds its sites (docs/architecture.md, "Adding a kind")."""

KIND = {kind.name: kind for kind in ALL}
"""Name -> kind."""

BY_FIELD = {kind.plural: kind for kind in reversed(ALL)}
"""Field of a budget -> its kind, from the innermost to the outermost."""

KINDS = tuple(KIND)
"""The names of all kinds, from the outermost to the innermost."""

WHOLE = tuple(kind.name for kind in ALL if kind.whole)
"""The kinds whose units are whole modules and contain other units."""

SCALED = tuple(kind.name for kind in ALL if kind.scaled)
"""The kinds whose units can have a scale."""

SLICES = tuple(kind.name for kind in ALL if not kind.whole)
"""The kinds whose units are slices of weights."""


def counted(number: int, kind: str) -> str:
    """A number of units in words.

    Example:
        >>> counted(1, "kv_head"), counted(2, "neuron")
        ('1 key-value head', '2 neurons')
    """
    return f"{number} {KIND[kind].noun if number == 1 else KIND[kind].nouns}"


def in_words(kinds: Iterable[str]) -> str:
    """Kinds in words, from the outermost to the innermost.

    Example:
        >>> in_words({"neuron", "kv_head"}), in_words(SLICES)
        ('key-value heads and neurons', 'key-value heads, heads and neurons')
    """
    chosen = {*kinds}
    *first, last = [kind.nouns for kind in ALL if kind.name in chosen] or [""]
    return f"{', '.join(first)} and {last}" if first else last


OLD_NAMES = {"module": "sublayer", "group": "kv_head", "row": "neuron"}
"""Names in files of headcount 0.1 and of development versions of 0.2 -> names of today."""


def new_name(kind: Any) -> Any:
    """The name of today for an old name of a kind; any other value unchanged.

    Example:
        >>> new_name("row"), new_name("head"), new_name(3)
        ('neuron', 'head', 3)
    """
    return OLD_NAMES.get(kind, kind) if isinstance(kind, str) else kind


def renamed_budget(described: Any) -> Any:
    """The fields of a budget in an old file, with the names of today.

    Example:
        >>> renamed_budget({"rows": 0.5, "scope": "layer"})
        {'neurons': 0.5, 'scope': 'layer'}
        >>> renamed_budget({"macs": 0.5, "kinds": ["group", "row"]})
        {'macs': 0.5, 'kinds': ['kv_head', 'neuron']}
    """
    if not isinstance(described, Mapping):
        return described
    plurals = {f"{old}s": KIND[new].plural for old, new in OLD_NAMES.items()}
    fields = plurals | {"where": "place"}
    renamed = {fields.get(name, name): value for name, value in described.items()}
    if isinstance(renamed.get("kinds"), list):
        renamed["kinds"] = [new_name(kind) for kind in renamed["kinds"]]
    return renamed
