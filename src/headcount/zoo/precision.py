"""Make a model in float64 compute everything in float64."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Throughout(TorchDispatchMode):
    """Inside the block, conversions from float64 to float32 keep float64.

    Many models compute norms, softmax or a recurrence in float32, whatever their dtype. Sums in two
    orders then differ by 1e-7, so that two correct models may differ by as much.

    Example:
        >>> with Throughout():
        ...     torch.ones(1, dtype=torch.float64).float().dtype
        torch.float64
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; a conversion to float32 keeps float64."""
        del types
        options = dict(kwargs or {})
        rounds = func is torch.ops.aten._to_copy.default and options.get("dtype") is torch.float32
        if rounds and args[0].dtype is torch.float64:
            options["dtype"] = torch.float64
        return func(*args, **options)
