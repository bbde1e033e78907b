"""Check a value against an annotation, and say where it does not fit.

Annotations are the schema, both of a file's plain values and of a call's arguments. ``Between``
bounds a number, ``Matching`` a text.
"""

import math
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

LARGEST = 2**63 - 1
"""The greatest count: the greatest size that a tensor can have."""


class Said(str):
    """Words that a message shows in place of a value, such as ``a folder``."""

    __slots__ = ()


class Misfit(Exception):  # noqa: N818 - it never leaves headcount
    """A value that does not fit, what was wanted, and its place in the whole.

    ``of_type`` tells a wrong type from a right type with a value that is not allowed.
    """

    def __init__(self, value: object, wanted: str, *, place: str = "", of_type: bool = True):
        super().__init__(wanted)
        self.value, self.wanted, self.place, self.of_type = value, wanted, place, of_type

    def below(self, place: str) -> "Misfit":
        """The same misfit, with ``place`` in front of its own: as seen from the value around."""
        return Misfit(self.value, self.wanted, place=place + self.place, of_type=self.of_type)

    def __str__(self) -> str:
        return f"{self.place.removeprefix('.') or 'it'} is {short(self.value)}, not {self.wanted}"


@dataclass(frozen=True, slots=True)
class Between:
    """The bounds of a number. Infinities and nan are outside of all bounds.

    Example:
        >>> fit(3, Annotated[int, Between(0, 4)])
        3
    """

    low: float = -math.inf
    """The least allowed."""
    high: float = math.inf
    """The greatest allowed."""

    def check(self, value: float) -> None:
        """Refuse a number outside of the bounds."""
        finite = isinstance(value, int) or math.isfinite(value)
        if not (finite and self.low <= value <= self.high):
            raise Misfit(value, self._in_words(), of_type=False)

    def _in_words(self) -> str:
        if self.high in (math.inf, LARGEST):
            return "a finite number" if self.low == -math.inf else f"a number of {self.low} or more"
        return f"a number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Matching:
    """The form of a text."""

    pattern: str
    """A regular expression for the whole text."""
    wanted: str
    """The form in words."""

    def check(self, value: str) -> None:
        """Refuse a text that does not match."""
        if not re.fullmatch(self.pattern, value):
            raise Misfit(value, self.wanted, of_type=False)


Seed = Annotated[int, Between(-(2**63), 2**64 - 1)]
"""A seed that PyTorch's random generators accept."""
Count = Annotated[int, Between(0, LARGEST)]
"""A whole number, 0 or more, that a tensor's size can hold."""
Finite = Annotated[float, Between()]
"""A number that is neither infinite nor NaN."""
Positive = Annotated[float, Between(0)]
"""A finite number, 0 or more."""


def fit(value: Any, wanted: Any, *, plain: bool = False) -> Any:
    """Check a value against an annotation, and return it.

    Args:
        value: the value from outside.
        wanted: the annotation: a class, a union, a container, ``Literal``, ``Annotated`` with
            bounds, a ``TypedDict``.
        plain: whether the value was read from a file. Then a list is converted to a tuple, and a
            mapping to a dataclass, where the annotation asks for these.

    Raises:
        Misfit: the value does not fit; the message says where.

    Example:
        >>> fit({"a": [1, 2]}, dict[str, tuple[int, ...]], plain=True)
        {'a': (1, 2)}
        >>> fit({"a": [1, None]}, dict[str, tuple[int, ...]], plain=True)
        Traceback (most recent call last):
            ...
        headcount.door.shape.Misfit: a[1] is None, not a whole number
    """
    if wanted is Any or wanted is object:
        return value
    if isinstance(wanted, TypeVar):
        return fit(value, wanted.__bound__ or Any, plain=plain)
    origin = get_origin(wanted)
    if origin is not None:
        return _fitting(origin)(value, wanted, plain)
    if is_typeddict(wanted):
        return _fit_keys(value, wanted, plain)
    if plain and isinstance(wanted, type) and is_dataclass(wanted):
        return _made(value, wanted)
    if not _is_a(value, wanted):
        raise Misfit(value, in_words(wanted))
    return value


def _fitting(origin: Any) -> Callable[[Any, Any, bool], Any]:
    """The function that checks values for an annotation with arguments, such as ``list[int]``."""
    if origin in _FITTING:
        return _FITTING[origin]
    return _fit_mapping if issubclass(origin, Mapping) else _fit_items


def _is_a(value: object, wanted: Any) -> bool:
    if wanted is None or wanted is type(None):
        return value is None
    if wanted in (int, float):
        return isinstance(value, Integral if wanted is int else Real) and not isinstance(
            value, bool
        )
    array = getattr(wanted, "array_type", None)  # jaxtyping's; functions check shapes themselves
    return isinstance(value, wanted if array is None else array)


def _fit_annotated(value: Any, wanted: Any, plain: bool) -> Any:
    inner, *rules = get_args(wanted)
    value = fit(value, inner, plain=plain)
    for rule in rules:
        rule.check(value)
    return value


def _fit_literal(value: Any, wanted: Any, plain: bool) -> Any:
    del plain
    if not any(value == one and type(value) is type(one) for one in get_args(wanted)):
        raise Misfit(value, in_words(wanted), of_type=not isinstance(value, str))
    return value


def _fit_callable(value: Any, wanted: Any, plain: bool) -> Any:
    del plain
    if not callable(value):
        raise Misfit(value, in_words(wanted))
    return value


def _instance(value: Any, wanted: Any, cls: Any) -> Any:
    if not isinstance(value, cls):
        raise Misfit(value, in_words(wanted))
    return value


def _fit_one_of(value: Any, wanted: Any, plain: bool) -> Any:
    problems = []
    for one in get_args(wanted):
        try:
            return fit(value, one, plain=plain)
        except Misfit as problem:
            problems.append(problem)
    # If one option of the union failed deep inside, that is the likely one, and says more.
    told = [p for p in problems if p.place or not p.of_type]
    raise told[0] if len(told) == 1 else Misfit(value, in_words(wanted))


def _fit_mapping(value: Any, wanted: Any, plain: bool) -> Any:
    inner = get_args(wanted)
    _instance(value, wanted, get_origin(wanted))
    for key, entry in value.items():
        with _inside(_key(key)):
            fit(key, inner[0], plain=plain)
            new = fit(entry, inner[1], plain=plain)
        if new is not entry:  # only values from files are converted, never a caller's mapping
            value[key] = new
    return value


def _fit_items(value: Any, wanted: Any, plain: bool) -> Any:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is tuple and isinstance(value, list):  # a call takes a list for a tuple as well
        if not plain:
            origin = list
        else:
            value = tuple(value)
    if isinstance(value, str | bytes | Mapping):  # iterable as well, but never meant as a list
        raise Misfit(value, in_words(wanted))
    _instance(value, wanted, origin)
    if not isinstance(value, Sequence | set | frozenset):  # a generator: reading would consume it
        return value
    same = get_origin(wanted) is not tuple or (len(inner) == 2 and inner[1] is ...)
    if not same and len(value) != len(inner):
        raise Misfit(value, f"a list of {len(inner)}")
    new = []
    for index, (entry, one) in enumerate(
        zip(value, (inner[0],) * len(value) if same else inner, strict=True)
    ):
        try:
            new.append(fit(entry, one, plain=plain))
        except Misfit as problem:
            raise problem.below(f"[{index}]") from None
    return cast(Any, type(value))(new) if plain else value


class _inside:  # noqa: N801 - read as a word
    """Inside the block, a misfit gets this place in front of its own."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if isinstance(problem, Misfit):
            raise problem.below(self.place) from None


def _key(name: object) -> str:
    return f".{name}" if isinstance(name, str) and name.isidentifier() else f"[{short(name)}]"


@cache
def hints(of: Any) -> dict[str, Any]:
    """The annotations of a class or a function, with names resolved."""
    return get_type_hints(of, include_extras=True)


def _with_keys(value: Mapping[Any, Any]) -> Said:
    names = ", ".join(sorted(map(str, value)))
    return Said(f"a mapping with the keys {short(names)}" if names else "an empty mapping")


def _fit_keys(value: Any, wanted: Any, plain: bool) -> Any:
    """Check a ``TypedDict``. Unknown keys pass, since later versions may write more of them."""
    if not isinstance(value, dict):
        raise Misfit(value, "a mapping")
    for name, one in hints(wanted).items():
        if name in value:
            with _inside(_key(name)):
                value[name] = fit(value[name], one, plain=plain)
        elif name in wanted.__required_keys__:
            raise Misfit(_with_keys(value), f"a mapping with the key {name!r}")
    return value


def _made(value: Any, wanted: Any) -> Any:
    """A dataclass, built from a mapping of its fields."""
    if not isinstance(value, dict):
        raise Misfit(value, "a mapping")
    known = {field.name: field for field in fields(wanted) if field.init}
    unknown = [name for name in value if name not in known]
    if unknown:
        raise Misfit(unknown[0], f"one of its keys, which are {', '.join(known)}")
    made = {}
    for name, field in known.items():
        if name in value:
            with _inside(_key(name)):
                made[name] = fit(value[name], hints(wanted)[name], plain=True)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Misfit(_with_keys(value), f"a mapping with the key {name!r}")
    return cast(Any, wanted)(**made)


_FITTING: dict[Any, Callable[[Any, Any, bool], Any]] = {
    Annotated: _fit_annotated,
    Union: _fit_one_of,
    types.UnionType: _fit_one_of,
    Literal: _fit_literal,
    Callable: _fit_callable,
    type: lambda value, wanted, plain: _instance(value, wanted, type),
    NotRequired: lambda value, wanted, plain: fit(value, get_args(wanted)[0], plain=plain),
}

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "None",
    None: "None",
    dict: "a mapping",
    Mapping: "a mapping",
    list: "a list",
    tuple: "a list",
    Sequence: "a list",
    Collection: "a list",
    Iterable: "a list",
    Callable: "a function",
    type: "a class",
}


def in_words(wanted: Any) -> str:
    """An annotation in words.

    Example:
        >>> in_words(dict[str, int] | None), in_words(list[str])
        ('a mapping or None', 'a list')
    """
    if isinstance(wanted, TypeVar):
        return in_words(wanted.__bound__)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(one) for one in inner))
    if origin in (Annotated, NotRequired):
        return in_words(inner[0])
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    return _WORDS.get(origin if origin is not None else wanted) or _class_in_words(wanted)


def _class_in_words(wanted: Any) -> str:
    if is_typeddict(wanted):
        return "a mapping"
    if hasattr(wanted, "array_type"):  # of jaxtyping
        return f"a tensor [{wanted.dim_str.strip()}]"
    return getattr(wanted, "__name__", str(wanted))


def short(value: object) -> str:
    """A value in a short form for messages. No more of a large value is read than is shown.

    Example:
        >>> short("a" * 100), short([1] * 1000), short(None)
        ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...", 'a list of 1000', 'None')
    """
    if isinstance(value, Said):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return _short_plain(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    box = value if isinstance(value, list | tuple | dict | set) else None
    size = "" if box is None else f" of {len(box)}"
    text = repr(box) if box is not None and len(box) <= 4 and _is_flat(box) else ""
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return text if 0 < len(text) <= 60 else f"{article} {name}{size}"


def _short_plain(value: Any) -> str:
    if isinstance(value, str | bytes):
        text = repr(value[:57])
        return text if len(value) <= 57 and len(text) <= 60 else f"{text[:53]}..."
    if isinstance(value, int) and abs(value) >= 2**64:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def _is_flat(value: Any) -> bool:
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return all(
        one is None
        or isinstance(one, bool | float)
        or (isinstance(one, str | int) and len(str(one)[:61]) <= 60)
        for one in inside
    )
