"""Modules that replace those whose units are all gone."""

import copy
import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WithoutWeight(nn.Module):
    """A linear map without inputs or outputs, and so without a weight.

    Stock code may read the weight's dtype, or initialise it. It gets an empty tensor.
    """

    def __init__(self, out_features: int) -> None:
        """Keep only the width of the output."""
        super().__init__()
        self.out_features = out_features
        # Not a parameter, but moved with the model by _apply: it has the model's dtype and device.
        self._like = torch.empty(out_features, 0)

    def named_modules(
        self, *args: Any, **kwargs: Any
    ) -> Generator[tuple[str, nn.Module], None, None]:
        """As for any module, but hidden from PEFT when it looks for modules to put adapters on.

        An adapter would add something to the output of a map that was removed, or PEFT would fail
        on a module that has a known name but is no linear map.
        """
        if not _asked_by("inject_adapter", "peft."):
            yield from super().named_modules(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._like = fn(self._like)
        return super()._apply(fn, recurse)

    @property
    def weight(self) -> Tensor:
        """An empty tensor of the model's dtype. It is no parameter: never initialised or saved."""
        # transformers initialises tensors without this flag, and some of its code divides by width.
        self._like._is_hf_initialized = True  # pyright: ignore[reportAttributeAccessIssue]
        return self._like


def _asked_by(function: str, package: str) -> bool:
    """Whether the caller that iterates over the modules is this function of this package."""
    # named_modules calls itself for every child; the first other frame is the caller.
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("_asked_by", "named_modules"):
        frame = frame.f_back
    where = "" if frame is None else str(frame.f_globals.get("__name__"))
    return frame is not None and frame.f_code.co_name == function and where.startswith(package)


class Zeros(WithoutWeight):
    """A linear map whose outputs are all zero.

    Example:
        >>> Zeros(2)(torch.ones(1, 3, 4)).shape
        torch.Size([1, 3, 2])
    """

    @property
    def bias(self) -> Tensor:
        """An empty tensor, like ``weight``."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Zeros at every position; [..., n] -> [..., out_features]."""
        return x.new_zeros((*x.shape[:-1], self.out_features))


class BiasOnly(WithoutWeight):
    """A linear map without inputs: its output is its bias.

    Example:
        >>> BiasOnly(2, torch.zeros(2))(torch.zeros(1, 3, 0)).shape
        torch.Size([1, 3, 2])
    """

    def __init__(self, out_features: int, bias: Tensor | None) -> None:
        """Keep the bias, if there is one."""
        super().__init__(out_features)
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias)
        self.bias: nn.Parameter | None = bias

    def forward(self, x: Tensor) -> Tensor:
        """The bias at every position; [..., n] -> [..., out_features]."""
        shape = (*x.shape[:-1], self.out_features)
        return x.new_zeros(shape) if self.bias is None else self.bias.expand(shape).clone()


class Overridden:
    """A view of a configuration in which some names have other values.

    A cut module reads its own counts there, while other modules read the original.

    Example:
        >>> from types import SimpleNamespace
        >>> view = Overridden(SimpleNamespace(heads=4, size=8), {"heads": 2})
        >>> view.heads, view.size
        (2, 8)
    """

    def __init__(self, base: Any, values: Mapping[str, Any]) -> None:
        """Look names up in ``values`` first, then in ``base``."""
        self.__dict__.update(values)
        self.__dict__["_base"] = base

    def __getattr__(self, name: str) -> Any:
        # Special names must not come from the base: copy and pickle would treat this as the base.
        if name.startswith("__") or name == "_base":
            raise AttributeError(name)
        return getattr(self.__dict__["_base"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Overridden":
        values = {name: value for name, value in vars(self).items() if name != "_base"}
        return Overridden(copy.deepcopy(self._base, memo), values)
