"""Have a model in float64 compute in float64 throughout."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Throughout(TorchDispatchMode):
    """While it is active, what is in float64 is not rounded to float32.

    Many models take norms, softmax or a whole recurrence in float32, whatever their own type. Two
    orders of adding up the same numbers then differ by 1e-7, as two right models may.

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
        """Run an operation; the one that rounds keeps float64."""
        del types
        options = dict(kwargs or {})
        rounds = func is torch.ops.aten._to_copy.default and options.get("dtype") is torch.float32
        if rounds and args[0].dtype is torch.float64:
            options["dtype"] = torch.float64
        return func(*args, **options)
