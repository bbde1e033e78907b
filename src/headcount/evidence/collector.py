"""The interface of collectors: evidence is taken once, for each batch, or around a pass."""

import abc
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.errors import ArchitectureError
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


def valid_tokens(call: Call, stack: str, shape: torch.Size) -> Tensor | None:
    """Which tokens of a pass are not padding, bool, [B, T]; None if there is no padding.

    Args:
        call: the call that began the pass.
        stack: ``encoder`` or ``decoder``. In an encoder-decoder, the decoder's mask is
            ``decoder_attention_mask``.
        shape: [B, T] of the tensor inside the model.

    Raises:
        ArchitectureError: the mask has padding and another shape, so that nobody can tell which of
            the tokens inside the model are padding.

    Example:
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> valid_tokens(Call(nn.Identity(), (), {"attention_mask": mask}), "encoder", mask.shape)
        tensor([[ True,  True, False]])
    """
    given = _by_name(call)
    decodes = stack == "decoder" and {"decoder_input_ids", "decoder_attention_mask"} & {*given}
    name = "decoder_attention_mask" if decodes else "attention_mask"
    mask = given.get(name)
    if not isinstance(mask, Tensor) or bool(mask.all()):
        return None
    if mask.shape != shape:
        raise ArchitectureError(
            f"evidence: the {name} has padding and is of shape {tuple(mask.shape)}, while the "
            f"model has {tuple(shape)} examples and tokens inside. Give inputs without padding, or "
            "another method."
        )
    return mask.bool()


def _by_name(call: Call) -> dict[str, Any]:
    """The arguments of a call by their names, also those that were given by position."""
    with suppress(TypeError, ValueError):  # a signature that cannot be told, or does not fit
        positions = inspect.signature(call.module.forward).bind_partial(*call.args).arguments
        return {**positions, **call.kwargs}
    return dict(call.kwargs)
