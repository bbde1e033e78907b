"""The interface of collectors: evidence is taken once, for each batch, or around a pass."""

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.gates.hooks import Hooks
from headcount.units.table import UnitTable

When = Literal["once", "each batch", "before a pass", "in a pass", "after a pass"]
"""When evidence is taken.

- ``once``: when the method is attached.
- ``each batch``: for each batch that ``decide`` gets.
- ``before a pass``: from an extra pass of the whole model, without gates, over the same inputs. It
  runs before the gates of the pass are drawn.
- ``in a pass``, ``after a pass``: from the gated pass itself.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """The call of a module that began a forward pass.

    Example:
        >>> Call(nn.Linear(1, 1), (torch.ones(1, 1),), {}).args[0].shape
        torch.Size([1, 1])
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Collector(abc.ABC):
    """Takes one field of ``Evidence`` from a model.

    Example:
        >>> from headcount.evidence.weights import WeightNorms
        >>> WeightNorms.field, WeightNorms.when
        ('weight_norms', 'once')
    """

    field: ClassVar[str]
    """The field of ``Evidence``."""
    when: ClassVar[When]
    """When it is taken."""
    by_unit: ClassVar[bool] = True
    """Whether the last dimension is units. The state of each quota then gets only its own units."""


class PassCollector(Collector, Hooks):
    """Takes evidence around a forward pass, with its own hooks.

    ``begin`` is called before the pass and ``end`` after it. The pass is that of the whole model if
    ``when`` is "before a pass", else the gated one. At other times the hooks do nothing.
    """

    def __init__(self, model: nn.Module, units: UnitTable) -> None:
        """Add the hooks.

        Args:
            model: the model.
            units: its units, in the order of the evidence.

        Raises:
            ArchitectureError: the model does not offer this evidence.
        """
        self._model, self._units = model, units
        super().__init__()

    def _hooks(self) -> Iterator[RemovableHandle]:
        yield from ()

    @abc.abstractmethod
    def begin(self, call: Call) -> None:
        """Get ready: a pass is about to begin."""

    @abc.abstractmethod
    def end(self, output: Any) -> Any:
        """Return the evidence of the pass that has just ended.

        Args:
            output: the output of the module that was called; None if the pass failed. The return
                value is then not used.
        """


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set every module of a model to evaluation mode for a while.

    Example:
        >>> model = nn.Dropout()
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # Not by train(), which would also switch modules that were in evaluation mode before.
        for module, mode in modes:
            module.training = mode


def valid_tokens(call: Call, stack: str, shape: torch.Size) -> Tensor | None:
    """Which tokens of a pass are not padding, bool, [B, T]; None if the call has no mask.

    Args:
        call: the call that began the pass.
        stack: ``encoder`` or ``decoder``. In an encoder-decoder, the decoder's mask is
            ``decoder_attention_mask``.
        shape: [B, T] of the tensor inside the model; a mask of another shape is not used.

    Example:
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> valid_tokens(Call(nn.Identity(), (), {"attention_mask": mask}), "encoder", mask.shape)
        tensor([[ True,  True, False]])
    """
    names = ["attention_mask"]
    if stack == "decoder" and {"decoder_input_ids", "decoder_attention_mask"} & {*call.kwargs}:
        names = ["decoder_attention_mask"]
    for name in names:
        mask = call.kwargs.get(name)
        if isinstance(mask, Tensor) and mask.shape == shape:
            return mask.bool()
    return None
