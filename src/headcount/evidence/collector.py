"""How evidence is taken: once, for each batch, or around a forward pass."""

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
- ``each batch``: for each batch that ``decide`` shows.
- ``before a pass``: from a pass of the whole model, without gates, over the same inputs. It runs
  before the gates of the pass are drawn.
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
    """Whether the last dimension counts units, so that each quota gets its share."""


class PassCollector(Collector, Hooks):
    """Takes evidence around a forward pass, by hooks of its own.

    ``begin`` and ``end`` enclose the pass: that of the whole model if ``when`` is "before a pass",
    else the gated pass. Between passes, and in passes that nobody watches, the hooks do nothing.
    """

    def __init__(self, model: nn.Module, units: UnitTable) -> None:
        """Put the hooks on.

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
        """A pass begins."""

    @abc.abstractmethod
    def end(self, output: Any) -> Any:
        """The pass is over; hand out what was seen.

        Args:
            output: the output of the module that was called; None if the pass failed. Then what is
                handed out is not used.
        """


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module of a model in evaluation mode for a while.

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
        for module, mode in modes:
            module.training = mode


def valid_tokens(call: Call, stack: str, shape: torch.Size) -> Tensor | None:
    """Which tokens of a pass are no padding, bool, [B, T]; None if the call has no mask.

    Args:
        call: the call that began the pass.
        stack: ``encoder`` or ``decoder``; a decoder's mask has a name of its own beside an encoder.
        shape: batch and tokens, as a tensor inside the model has them.

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
