"""Settings that are written NAME=VALUE on the command line."""

from collections.abc import Callable, Sequence
from typing import Any

from headcount.door.files import parse_yaml
from headcount.door.shape import Misfit
from headcount.errors import PruningError


def named_values(
    words: Sequence[str] | None,
    *,
    flag: str,
    example: str,
    is_text: Callable[[str], bool],
    error: type[PruningError],
) -> dict[str, Any]:
    """Name -> value of each word.

    Args:
        words: texts such as ``bf16=true``; values are YAML or JSON.
        flag: the flag in front of each, for messages.
        example: a good word, for messages.
        is_text: whether the setting of a name is a text: its value may look like a number.
        error: the class of the errors.

    Raises:
        PruningError: of the class ``error``: a word has no name or value, or a name comes twice.

    Example:
        >>> named_values(["bf16=true", "run_name=7"], flag="--set", example="bf16=true",
        ...              is_text=lambda name: name == "run_name", error=PruningError)
        {'bf16': True, 'run_name': '7'}
    """
    values: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise error(f"{flag} {word!r}: give NAME=VALUE, such as {example}.")
        if name in values:
            raise error(f"{flag} {word!r}: {name} is given twice. Give it once.")
        try:
            value = parse_yaml(text, Any)
        except Misfit as problem:
            if not is_text(name):
                raise error(
                    f"{flag} {word!r}: the value is {problem.value}. Give a plain value such as 4, "
                    "true or cosine, or JSON."
                ) from None
            value = text
        # A text may look like a number, or be null, which is no text at all.
        values[name] = value if isinstance(value, str | None) or not is_text(name) else text
    return values
