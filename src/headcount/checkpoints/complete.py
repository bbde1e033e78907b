"""Whether the weights of a checkpoint are those that its mark tells of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from headcount.architectures.mark import GIVE
from headcount.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BUILT_BY = "_headcount_built_by"
"""Attribute of a model that was built by a mark, until its weights are loaded: what was left."""


def completing(original: Callable[..., Any]) -> Callable[..., Any]:
    """What transformers does with the names of missing weights, after a look at them.

    A mark that tells of other units than the weights have would be loaded with random ones.
    """

    @wraps(original)
    def adjust(self: PreTrainedModel, loading_info: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, loading_info, *args, **kwargs)
        lefts = [vars(module).pop(BUILT_BY, None) for module in self.modules()]
        paths = [path for left in lefts if left for path in left]
        wrong = _wrong(self, paths, loading_info) if paths else []
        if wrong:
            loading_info.mismatched_keys = set()  # transformers raises for them, and hides this
            loading_info.error_msgs = []
            raise CheckpointError(
                "from_pretrained: config.json tells of other units than the weights have: "
                f"{wrong[0]}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}. {GIVE}"
            )
        return result

    return adjust


def _wrong(model: PreTrainedModel, paths: list[str], found: Any) -> list[str]:
    """Weights of units that are missing, of another shape, or there although they were removed."""
    from headcount.architectures.discover import find_sites

    ours = {part.parameter for site in find_sites(model) for part in site.parts}
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
