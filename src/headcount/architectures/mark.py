"""Check the mark of a cut model's configuration before a model is built from it."""

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
"""The format of marks that this version writes."""

RENAMED = 2
"""The format before, which can still be read. Its kinds have other names."""

Left = dict[str, dict[str, int | list[int]]]
"""Module, relative to the base model -> kind -> number of units left, or their indices."""

EXTRAS = ("own_bias",)
"""Keys that may be used in place of a kind."""

GIVE = (
    "The configuration was changed by hand or is damaged: take the folder as it was saved. Or the "
    "class is another than the one it was saved from: load that one, and take the part you need."
)

_HALVES = ("encoder", "decoder")

_Kind = Annotated[str, Matching("|".join((*KINDS, *EXTRAS)), "a kind of unit")]


class Mark(TypedDict):
    """A mark as it is in config.json."""

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
    """Check the form of a mark and return what is left of each site.

    Whether it fits the model is checked later, by ``check_left``.

    Args:
        mark: the value of the configuration's key ``headcount``.
        call: the call that reads it, for the message.

    Raises:
        CheckpointError: the mark is of another version, or damaged.

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
    # The version first: a mark of another version would only seem damaged.
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
    """A mark of format 2 with today's names of kinds; any other mark as it is. Not checked.

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
    """Refuse a mark with an entry that does not fit the dense model.

    Args:
        left: the result of ``check_mark``.
        sites: the sites of the dense model, by (name relative to the base model, kind).
        parts: the names of the model's modules. Some classes are only one half of an
            encoder-decoder; entries about the other half are then skipped.
        call: the call that reads it, for the message.

    Raises:
        CheckpointError: an entry is about a site that the model does not have, or has more units
            than the site, or other numbers of query heads for its key-value heads.
    """
    # Entries that fit nothing must not be passed over: the layer they mean would be built dense,
    # and its missing weights would be random.
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
    """Refuse a number of query heads that cannot be equal for all key-value heads that are left."""
    heads = kinds.get("head")
    if site is None or site.num_groups < 2 or not isinstance(heads, int):
        return
    left = kinds.get("kv_head", site.num_groups)
    groups = len(left) if isinstance(left, list) else left
    most = groups * site.num_units // site.num_groups
    if heads > most or (heads % groups if groups else heads):
        wanted = f"equally many for each of {groups} key-value heads, {most} at most"
        raise Misfit(heads, wanted, place=place)
