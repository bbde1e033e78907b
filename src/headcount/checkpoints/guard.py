"""What makes transformers refuse a configuration that only headcount can build.

The guard is written wherever such a configuration is written, by ``to_dict``, and it is taken off
wherever one is read. It is a layer of ``per_layer_config`` whose number is a sentence: transformers
reads the numbers of layers as integers, fails, and shows the sentence.
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
"""Key of the marks of folders whose ``per_layer_config`` says again what the mark says."""


def guarding(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``to_dict`` or ``to_diff_dict`` that adds the guard to a configuration with a mark."""

    @wraps(original)
    def written(self: PreTrainedConfig) -> dict[str, Any]:
        plain = original(self)
        return guarded(plain) if mark_of(self) or vars(self).get(PART) else plain

    return written


def unguarding(original: Callable[..., None]) -> Callable[..., None]:
    """``__post_init__`` that takes the guard off before anything reads the numbers of layers.

    A guard without a mark means that the mark got lost: the stock class would build layers that
    have no weights.
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
    """``per_layer_config`` that leaves out what older folders say there of what the mark says."""
    assert stock.fset is not None
    write = stock.fset

    def setter(self: PreTrainedConfig, value: Any) -> None:
        if value is None or not (mark_of(self) or {}).get(OLD):
            write(self, value)

    return property(stock.fget, setter, stock.fdel, stock.__doc__)
