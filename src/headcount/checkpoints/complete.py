"""Check that the weights of a checkpoint belong to the units that its mark lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from headcount.architectures.mark import GIVE
from headcount.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BUILT_BY = "_headcount_built_by"
"""Attribute of a model that was built from a mark: the mark's units, until weights are loaded."""


def completing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method by which transformers handles missing weights, and check these first.

    If the mark lists other units than the file has, transformers would load the model with random
    weights.
    """

    @wraps(original)
    def adjust(self: PreTrainedModel, loading_info: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, loading_info, *args, **kwargs)
        lefts = [vars(module).pop(BUILT_BY, None) for module in self.modules()]
        paths = [path for left in lefts if left for path in left]
        wrong = _wrong(self, paths, loading_info) if paths else []
        if wrong:
            # transformers raises an error of its own for these, which would hide ours.
            loading_info.mismatched_keys = set()
            loading_info.error_msgs = []
            raise CheckpointError(
                "from_pretrained: config.json lists other units than the weights have: "
                f"{wrong[0]}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}. {GIVE}"
            )
        return result

    return adjust


def _wrong(model: PreTrainedModel, paths: list[str], found: Any) -> list[str]:
    """Weights of units that are missing or have another shape, and weights of removed units."""
    from headcount.architectures.discover import discover

    # Only weights of units: a new task head may well be missing in the file. Mostly nothing is
    # amiss, and then the units need not be looked for.
    amiss = bool(found.missing_keys or found.mismatched_keys)
    sites = discover(model).sites if amiss else ()
    ours = {part.parameter for site in sites for part in site.parts}
    missing = [f"{name} is missing" for name in found.missing_keys if name in ours]
    shapes = [
        f"{name} is {list(saved)} instead of {list(wanted)}"
        for name, saved, wanted in found.mismatched_keys
        if name in ours
    ]
    more = [
        f"{name} is there"
        for name in found.unexpected_keys
        if any(f".{path}." in f".{name}" for path in paths)
    ]
    return [*sorted(shapes), *sorted(missing), *sorted(more)]
