"""Check the arguments of a public call against its annotations, before anything else is done."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, get_args, get_origin

from headcount.door.shape import Misfit, fit, hints, in_words, short
from headcount.errors import ArgumentError, BudgetError, PruningError, check_argument

F = TypeVar("F", bound=Callable[..., Any])

GIVE = {
    "prune.model": "a hub id or folder; write a model of yours to one with save_pretrained",
    "decide.method": "an instance, such as hc.Magnitude()",
    "Module": "a model: AutoModel.from_pretrained(name)",
    "PreTrainedModel": "a model: AutoModel.from_pretrained(name)",
    "Method": "an instance, such as hc.DSP()",
    "Budget": "a budget, such as hc.Budget(heads=12)",
    "Decision": "what hc.decide or a trainer decided",
    "LatencyTable": "a table, such as hc.LatencyTable.load('latency.json')",
    "Options": "hc.Options(...)",
    "Recipe": "a recipe, such as hc.Recipe(epochs=1)",
    "Estimator": "an instance, such as hc.RelaxedTopK()",
    "Sizes": "an instance, such as hc.Shrinking()",
    "Pressure": "an instance, such as hc.Lagrangian()",
    "Distillation": "hc.Distillation()",
    "Iterable": "a list of batches: [batch]",
    "Path": "a path",
}
"""Class name, or function and argument -> what a message tells the user to give."""


def checks_arguments(function: F) -> F:
    """Decorate a public function so that it refuses arguments that do not fit its annotations.

    The contents of iterators are not checked, since reading would consume them.

    Raises:
        ArgumentError: raised by the function if an argument has another type.
        BudgetError: raised by the function if a number is out of bounds.

    Example:
        >>> @checks_arguments
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double("2")
        Traceback (most recent call last):
            ...
        headcount.errors.ArgumentError: double(number='2'): give a whole number.
    """
    signature = inspect.signature(function)
    # The values of *args are checked one by one, against the annotation of each.
    several = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL
    }
    name = function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        flat = {key: value for key, value in given.items() if key not in several}
        check_given(name, flat, of=function)
        for key in several & given.keys():
            for value in given[key]:
                check_value(name, key, value, hints(function)[key])
        return function(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


def check_given(call: str, given: dict[str, Any], *, of: Any) -> None:
    """Refuse arguments that do not fit the annotations of a function or class.

    Args:
        call: the name of the function or class in messages.
        given: the arguments.
        of: the function or class with the annotations.

    Raises:
        ArgumentError: an argument has another type.
        BudgetError: a number is out of bounds.
    """
    wanted = hints(of)
    for name, value in given.items():
        if name in wanted and name not in ("batches", "kwargs"):  # their functions check these
            check_value(call, name, value, wanted[name])


def check_fields(instance: Any, *, but: tuple[str, ...] = ()) -> None:
    """Refuse a dataclass whose fields do not fit their annotations.

    Args:
        instance: a dataclass, in its ``__post_init__``.
        but: fields that the dataclass checks itself.

    Raises:
        ArgumentError: a field has another type.
        BudgetError: a number is out of bounds.
    """
    cls = type(instance)
    given = {field.name: getattr(instance, field.name) for field in fields(instance)}
    check_given(cls.__name__, {k: v for k, v in given.items() if k not in but}, of=cls)


def check_value(call: str, name: str, value: Any, wanted: Any) -> None:
    """Refuse one argument that does not fit an annotation; see ``check_given``."""
    try:
        fit(value, wanted)
        return
    except Misfit as found:
        problem = found
    # The argument as a whole has the wrong class: say what to give instead, if that is known.
    if not problem.place and problem.of_type:
        classes = [cls for cls in _classes(wanted) if cls is not type(None)]
        give = GIVE.get(f"{call}.{name}")
        give = give or next((GIVE[c.__name__] for c in classes if c.__name__ in GIVE), None)
        if give is not None:
            check_argument(call, name, value, tuple(classes), give)
    error: type[PruningError] = ArgumentError if problem.of_type else BudgetError
    where = f" {problem.place} is {short(problem.value)}:" if problem.place else ""
    raise error(f"{call}({name}={short(value)}):{where} give {problem.wanted}.") from None


def _classes(wanted: Any) -> list[type]:
    """The classes of an annotation that is a class or a union of classes; [] for any other."""
    if isinstance(wanted, TypeVar):
        return _classes(wanted.__bound__)
    if isinstance(wanted, type) and get_origin(wanted) is None:
        return [wanted]
    origin = get_origin(wanted)
    if isinstance(origin, type) and origin.__name__ == "UnionType":
        found = [_classes(one) for one in get_args(wanted)]
        return [one for inner in found for one in inner] if all(found) else []
    return [origin] if isinstance(origin, type) and in_words(wanted) == "a list" else []
