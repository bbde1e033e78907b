"""Budgets on the command line: a flag for each kind of unit and each cost."""

import ast
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from headcount.errors import BudgetError
from headcount.units.budget import Amount, Budget
from headcount.units.cost_budget import CURRENCIES
from headcount.units.kinds import BY_FIELD

AMOUNTS = (*BY_FIELD, *CURRENCIES)
"""The fields of a budget that say how much remains; each is a flag."""
_CEILINGS = {
    "params": "the most parameters, as a fraction of the model's, such as 0.6, or a number",
    "macs": "the most multiply-accumulates, as a fraction of those of the removable units, such "
    "as 0.5, or a number",
    "latency": "the greatest latency, as a fraction of the dense model's, such as 0.7. It is "
    "measured on this machine first",
}


def flag_of(name: str) -> str:
    """The flag for a field of a budget.

    Example:
        >>> flag_of("kv_heads")
        '--kv-heads'
    """
    return f"--{name.replace('_', '-')}"


FLAGS = ", ".join(map(flag_of, AMOUNTS))
"""All flags of amounts, for messages."""
ONE = {
    **{
        name: f"{kind.nouns.capitalize()} to keep: a number, such as 12; a fraction, such as 0.25; "
        "or one for each place, such as encoder=6,decoder.cross=2."
        for name, kind in BY_FIELD.items()
    },
    **{name: f"Instead of numbers of units: {text}." for name, text in _CEILINGS.items()},
}
"""What ``prune`` takes: field of a budget -> help of its flag."""
SEVERAL = {
    **{
        name: f"Numbers of {kind.nouns} to keep, such as 36,24,12, or fractions, such as 0.5,0.25."
        for name, kind in BY_FIELD.items()
    },
    **{
        name: f"Instead of numbers of units, several of: {_CEILINGS[name]}."
        for name in ("params", "macs")
    },
}
"""What ``compare`` takes, likewise; latency is refused."""


def takes(flags: Mapping[str, str], hidden: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Give a command a flag for each entry, instead of its parameter ``asked``.

    Args:
        flags: field of a budget -> help of its flag.
        hidden: further flags, which the help does not show because the command refuses them.

    Returns:
        A decorator. The command gets ``asked``: field -> text, for the flags that are given.

    Example:
        >>> @takes({"heads": "Heads to keep.", "kv_heads": "Key-value heads to keep."})
        ... def command(asked, seed: int = 0):
        ...     return asked
        >>> [*inspect.signature(command).parameters]
        ['heads', 'kv_heads', 'seed']
        >>> command(heads="12", kv_heads=None)
        {'heads': '12'}
    """
    options = {name: typer.Option(flag_of(name), help=text) for name, text in flags.items()}
    options |= {name: typer.Option(flag_of(name), hidden=True) for name in hidden}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            asked = {name: given.pop(name, None) for name in options}
            return command(
                asked={n: text for n, text in asked.items() if text is not None}, **given
            )

        signature, parameters = inspect.signature(command), []
        for parameter in signature.parameters.values():
            if parameter.name != "asked":
                parameters.append(parameter)
                continue
            for name, option in options.items():
                annotation = Annotated[str | None, option]
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                parameters.append(
                    inspect.Parameter(name, kind, default=None, annotation=annotation)
                )
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        return run

    return decorate


def budget_of(asked: Mapping[str, str], **more: Any) -> Budget:
    """The budget that the options of the command line describe.

    Args:
        asked: field of a budget -> text of its flag, for the flags that are given.
        **more: further fields of the budget; ``kinds`` as text.

    Raises:
        BudgetError: nothing is asked, numbers of units and a cost are, or the budget is invalid.

    Example:
        >>> budget_of({"heads": "encoder=6,decoder.cross=0.5", "neurons": "0.5"})
        Budget(heads={'encoder': 6, 'decoder.cross': 0.5}, neurons=0.5)
        >>> budget_of({"params": "0.6"}, kinds="head,neuron")
        Budget(params=0.6, kinds=['head', 'neuron'])
    """
    if not asked:
        raise BudgetError(f"{FLAGS}: nothing is asked. Give one of them, such as --heads 12.")
    costs = [name for name in CURRENCIES if name in asked]
    if costs and len(asked) > 1:
        raise BudgetError(
            f"{' and '.join(map(flag_of, asked))}: give numbers of units, or one cost. --kinds "
            "says which kinds of unit may be removed for a cost."
        )
    amounts = {
        name: number(text, flag_of(name)) if name in costs else amount(text, flag_of(name))
        for name, text in asked.items()
    }
    return Budget(**amounts, **fields_of(**more))


def fields_of(kinds: str = "", **more: Any) -> dict[str, Any]:
    """The other fields of a budget, from the options of the command line.

    Example:
        >>> fields_of(kinds="head, neuron", length=64)
        {'kinds': ('head', 'neuron'), 'length': 64}
    """
    return {"kinds": tuple(words(kinds)) or None, **more}


def amount(text: str, flag: str) -> Amount | dict[str, Amount]:
    """A count, a fraction, or one of these for each of several places.

    Raises:
        BudgetError: the text is none of these, or names a place twice.

    Example:
        >>> amount("12", "--heads"), amount("encoder=6, decoder.cross=0.5", "--heads")
        (12, {'encoder': 6, 'decoder.cross': 0.5})
    """
    if "=" not in text:
        return number(text, flag)
    found: dict[str, Amount] = {}
    for part in text.split(","):
        place, equals, value = (piece.strip() for piece in part.partition("="))
        if not (place and equals) or place in found:
            twice = f"{place!r} stands twice" if place in found else f"{part.strip()!r} is none"
            raise BudgetError(
                f"{flag} {text!r}: {twice}. Give places with a number each, every place once, such "
                "as encoder=6,decoder.cross=2."
            )
        found[place] = number(value, f"{flag} {place}")
    return found


def amounts(text: str, flag: str) -> tuple[Amount, ...]:
    """The counts or fractions between commas.

    Raises:
        BudgetError: the text has something else.

    Example:
        >>> amounts("48,36", "--heads"), amounts("0.5", "--neurons")
        ((48, 36), (0.5,))
    """
    if "=" in text:
        raise BudgetError(
            f"{flag} {text!r}: a comparison takes numbers for the whole model, or with --place for "
            "one place. Give them as 36,24,12."
        )
    return tuple(number(word, flag) for word in words(text))


def words(text: str) -> list[str]:
    """The words between commas.

    Example:
        >>> words("dsp, random")
        ['dsp', 'random']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def number(text: str, flag: str = "--heads") -> Amount:
    """A count if the text is a whole number, else a fraction.

    Raises:
        BudgetError: the text is not a number.

    Example:
        >>> number("12"), number("0.25")
        (12, 0.25)
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise BudgetError(
            f"{flag} {text!r}: not a number. Give a count such as 12, or a fraction such as 0.25."
        ) from error


_CALL = re.compile(r"Budget\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)")


def in_flags(message: str) -> str:
    """A message in which budgets are written as flags, not as calls of the library.

    Example:
        >>> in_flags("Budget(heads=13): the model has 12 heads. Give 0 to 12.")
        '--heads 13: the model has 12 heads. Give 0 to 12.'
        >>> in_flags("Budget(heads={'encoder': 6}, min_per_layer=1): too few.")
        '--heads encoder=6 --min-per-layer 1: too few.'
    """
    return _CALL.sub(lambda found: _as_flags(found[0]), message)


def _as_flags(call: str) -> str:
    try:
        keywords = ast.parse(call, mode="eval").body.keywords  # pyright: ignore[reportAttributeAccessIssue]
    except SyntaxError:
        return call
    flags = [f"{flag_of(one.arg)} {_as_text(one.value)}" for one in keywords if one.arg]
    return " ".join(flags) or "the budget"


def _as_text(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return "..." if value.value is ... else str(value.value)
    if isinstance(value, ast.Tuple | ast.List):
        return ",".join(map(_as_text, value.elts))
    if isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        return ",".join(f"{_as_text(key)}={_as_text(one)}" for key, one in pairs if key)
    return ast.unparse(value)
