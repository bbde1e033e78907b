"""Modules that take the place of those that were cut."""

import copy
import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WithoutWeight(nn.Module):
    """What is left of a linear map whose inputs or outputs are gone.

    Stock code may ask for the weight's type, or initialise it; what it gets has no numbers.
    """

    def __init__(self, out_features: int) -> None:
        """Only the width is remembered."""
        super().__init__()
        self.out_features = out_features
        self._like = torch.empty(out_features, 0)

    def named_modules(
        self, *args: Any, **kwargs: Any
    ) -> Generator[tuple[str, nn.Module], None, None]:
        """Itself; nothing for PEFT, which would put an adapter on it, or cannot, by its name.

        What an adapter adds would not be there without it, and a map that is gone adds nothing.
        """
        if not _asked_by("inject_adapter", "peft."):
            yield from super().named_modules(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._like = fn(self._like)
        return super()._apply(fn, recurse)

    @property
    def weight(self) -> Tensor:
        """An empty tensor of the model's type; not a parameter, never initialised or saved."""
        self._like._is_hf_initialized = True  # pyright: ignore[reportAttributeAccessIssue]
        return self._like


def _asked_by(function: str, package: str) -> bool:
    """Whether a function of a package goes through a model's modules just now."""
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
        """As ``weight``: no numbers."""
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
    """A configuration with other values for some of its names.

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
        if name.startswith("__") or name == "_base":
            raise AttributeError(name)
        return getattr(self.__dict__["_base"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Overridden":
        values = {name: value for name, value in vars(self).items() if name != "_base"}
        return Overridden(copy.deepcopy(self._base, memo), values)
