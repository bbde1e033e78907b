"""The mark of a configuration, checked before anything is built by it."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from headcount.door.files import checked
from headcount.door.shape import Count, Matching, Misfit, fit
from headcount.errors import CheckpointError
from headcount.units.kinds import KINDS, new_name
from headcount.units.site import Site

MARK = "headcount"
"""Key of the configuration with what each site of a cut model has left."""

FORMAT = 3

RENAMED = 2
"""The format before it, which is read: it has other names of kinds."""

Left = dict[str, dict[str, int | list[int]]]
"""Module, relative to the base model -> kind -> how many units are left, or which."""

EXTRAS = ("own_bias",)
"""What may stand in place of a kind."""

GIVE = (
    "The configuration was changed by hand or is damaged: take the folder as it was saved. Or the "
    "class is another than the one it was saved from: load that one, and take the part you need."
)

_HALVES = ("encoder", "decoder")

_Kind = Annotated[str, Matching("|".join((*KINDS, *EXTRAS)), "a kind of unit")]


class Mark(TypedDict):
    """What stands in a configuration."""

    format: Literal[3]
    left: dict[str, dict[_Kind, Count | list[Count]]]
    per_layer_keys: NotRequired[bool]


def mark_of(config: object) -> dict[str, Any] | None:
    """The mark of a configuration.

    Returns:
        None if it has none. An attribute of the same name that is no mark belongs to somebody else.

    Example:
        >>> import transformers
        >>> mark_of(transformers.BertConfig()) is None
        True
    """
    from transformers.configuration_utils import PreTrainedConfig  # not while it is imported

    value = vars(config).get(MARK) if isinstance(config, PreTrainedConfig) else None
    return renamed_mark(value) if isinstance(value, dict) and is_mark(value) else None


def is_mark(value: object) -> bool:
    """Whether a value is a mark, right or damaged.

    Example:
        >>> is_mark({"format": 3, "left": {}}), is_mark(12)
        (True, False)
    """
    return isinstance(value, dict) and bool(value.keys() & {"format", "left"})


def check_mark(mark: Any, call: str = "from_pretrained: config.json") -> Left:
    """What a mark says is left, of the right shape; whether it fits a model is not known yet.

    Args:
        mark: the value of the configuration's key ``headcount``.
        call: what reads it, for the message.

    Raises:
        CheckpointError: a mark of another version, or none that headcount could have written.

    Example:
        >>> check_mark({"format": 3, "left": {"layer.0": {"head": 3}}})
        {'layer.0': {'head': 3}}
        >>> check_mark({"format": 2, "left": {"layer.0": {"row": 3}}})  # of an older version
        {'layer.0': {'neuron': 3}}
        >>> check_mark({"format": 3, "left": {"layer.0": {"head": -1}}})
        Traceback (most recent call last):
            ...
        headcount.errors.CheckpointError: ...: headcount.left['layer.0'].head is -1, not ...
    """
    found = mark.get("format") if isinstance(mark, dict) else None
    if found == RENAMED:
        mark, found = renamed_mark(mark), FORMAT
    whole = isinstance(mark, dict) and (found is None or isinstance(found, int))
    if whole and found != FORMAT:
        raise CheckpointError(
            f"{call} has headcount format {found!r}; this version of headcount reads {FORMAT}. "
            "Prune again with this version, or load with the version that wrote the folder."
        )
    with checked(call, give=GIVE):
        try:
            left = fit(mark, Mark)["left"]
            if not left:
                raise Misfit(left, "what is left of one site or more", place=".left")
            for path, kinds in left.items():
                for kind, units in kinds.items():
                    _check_order(units, f".left[{path!r}].{kind}")
        except Misfit as problem:
            raise problem.below("headcount") from None
    return left


def renamed_mark(mark: dict[str, Any]) -> dict[str, Any]:
    """A mark by the names of today, which nothing has looked at yet.

    Example:
        >>> renamed_mark({"format": 2, "left": {"layer.0.mlp": {"row": 3}}})
        {'format': 3, 'left': {'layer.0.mlp': {'neuron': 3}}}
    """
    if mark.get("format") != RENAMED:
        return mark
    left = mark.get("left")
    if isinstance(left, dict):
        left = {
            path: {new_name(kind): units for kind, units in kinds.items()}
            if isinstance(kinds, dict)
            else kinds
            for path, kinds in left.items()
        }
    return mark | {"format": FORMAT, "left": left}


def _check_order(units: int | list[int], place: str) -> None:
    if isinstance(units, list) and not all(a < b for a, b in pairwise(units)):
        raise Misfit(units, "a list in which each number is greater than the last", place=place)


def check_left(
    left: Left,
    sites: Mapping[tuple[str, str], Site],
    parts: Iterable[str],
    call: str = "from_pretrained: config.json",
) -> None:
    """Refuse a mark that does not fit the dense model, or not as a whole.

    Args:
        left: what ``check_mark`` gave.
        sites: the sites of the dense model, by name as seen from the base model, and kind.
        parts: the names of the model's parts. Some classes have one half of an encoder-decoder
            alone; what is said of the other half is not about them.
        call: what reads it, for the message.

    Raises:
        CheckpointError: a site that the model does not have, or more units than it has there.
    """
    halves = {*_HALVES} & {*parts}
    other = {*_HALVES} - halves if halves else set()
    with checked(call, give=GIVE):
        for path, kinds in left.items():
            if path.partition(".")[0] in other:
                continue
            own = {kind: site for (module, kind), site in sites.items() if module == path}
            for kind, units in kinds.items():
                place = f"headcount.left[{path!r}].{kind}"
                _check_units(place, own.get("head" if kind in EXTRAS else kind), kind, units)
            _check_shares(f"headcount.left[{path!r}].head", own.get("head"), kinds)


def _check_units(place: str, site: Site | None, kind: str, units: int | list[int]) -> None:
    if site is None:
        raise Misfit(units, f"about this model, which has no {kind} there", place=place)
    most = 1 if kind in EXTRAS else site.num_units
    top = (units[-1] + 1 if units else 0) if isinstance(units, list) else units
    if top > most:
        raise Misfit(units, f"a part of the {most} of the dense model", place=place)


def _check_shares(place: str, site: Site | None, kinds: Mapping[str, int | list[int]]) -> None:
    """Query heads that share key-value heads: equally many for each that is left."""
    heads = kinds.get("head")
    if site is None or site.num_groups < 2 or not isinstance(heads, int):
        return
    left = kinds.get("kv_head", site.num_groups)
    groups = len(left) if isinstance(left, list) else left
    most = groups * site.num_units // site.num_groups
    if heads > most or (heads % groups if groups else heads):
        wanted = f"equally many for each of {groups} key-value heads, {most} at most"
        raise Misfit(heads, wanted, place=place)
