"""Put the guard on configurations as they are written, and take it off as they are read.

By the guard, transformers refuses a configuration that only headcount can build. It is an entry of
``per_layer_config`` with a sentence in place of the layer number. transformers reads layer numbers
as integers, fails, and shows the sentence. ``to_dict`` adds it, so it is in every file, whoever
writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from headcount.architectures.mark import MARK, is_mark, mark_of, renamed_mark
from headcount.errors import CheckpointError
from headcount.pieces.guard import GUARD, PART, PER_LAYER, guarded, unguarded

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

OLD = "per_layer_keys"
"""Key in marks of version 0.1, whose ``per_layer_config`` repeats what the mark says."""


def guarding(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wrap ``to_dict`` or ``to_diff_dict`` to add the guard to a configuration with a mark."""

    @wraps(original)
    def written(self: PreTrainedConfig) -> dict[str, Any]:
        plain = original(self)
        return guarded(plain) if mark_of(self) or vars(self).get(PART) else plain

    return written


def unguarding(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``__post_init__`` to take the guard off before anything reads the layer numbers.

    A guard without a mark is refused: the mark was lost, and the stock class would build layers for
    which there are no weights.
    """

    @wraps(original)
    def __post_init__(self: PreTrainedConfig, **kwargs: Any) -> None:
        layers = kwargs.get(PER_LAYER)
        if isinstance(layers, Mapping) and GUARD in layers:
            if not is_mark(kwargs.get(MARK)) and kwargs.get(PART) is not True:
                raise CheckpointError(
                    f"{type(self).__name__}: config.json says that headcount pruned the model, but "
                    f"its key {MARK!r}, which says how, is gone or damaged. Load the folder as it "
                    "was saved, or prune again."
                )
            kwargs = unguarded(kwargs)
        if isinstance(kwargs.get(MARK), dict) and is_mark(kwargs[MARK]):
            kwargs[MARK] = renamed_mark(kwargs[MARK])
        original(self, **kwargs)

    return __post_init__


def unrepeated(stock: property) -> property:
    """The property ``per_layer_config``, which ignores values if a mark of version 0.1 is there.

    Such values repeat the mark. With them every key would be ambiguous.
    """
    assert stock.fset is not None
    write = stock.fset

    def setter(self: PreTrainedConfig, value: Any) -> None:
        if value is None or not (mark_of(self) or {}).get(OLD):
            write(self, value)

    return property(stock.fget, setter, stock.fdel, stock.__doc__)
