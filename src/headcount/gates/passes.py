"""Notice when a model, or a part of it that is called by itself, begins to run."""

from collections.abc import Callable, Iterator
from itertools import accumulate, takewhile
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from headcount.gates.hooks import Hooks
from headcount.units.table import UnitTable


class Passes(Hooks):
    """Hooks on a model and the parts of it that hold whole layers, such as an encoder.

    ``generate`` calls the encoder before the model itself, and a model of two towers is asked for
    the features of one. Of what runs inside another, only the outermost counts.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> passes = Passes(model, hc.units(model), lambda: print("begins"))
        >>> _ = model(torch.tensor([[1, 2]]))
        begins
        >>> _ = model.encoder(torch.zeros(1, 2, 768))
        begins
        >>> passes.remove()
    """

    def __init__(self, model: nn.Module, units: UnitTable, begins: Callable[[], None]) -> None:
        """Attach.

        Args:
            model: the model.
            units: its units; the parts that hold them are found by their names.
            begins: called before each pass.
        """
        self._model = model
        self._begins = torch.compiler.disable(begins)  # choosing is no part of a compiled model
        names = {"", *(name for site in units.sites for name in _outside_layers(site.gate))}
        self._modules = [model.get_submodule(name) for name in sorted(names)]
        self._running: nn.Module | None = None
        super().__init__()

    def _hooks(self) -> Iterator[RemovableHandle]:
        self._running = None
        for module in self._modules:
            yield module.register_forward_pre_hook(self._before)
            yield module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        del args
        if module is not self._model and (self._running is not None or in_backward()):
            return  # inside a pass, or a part of one that is calculated again for its gradient
        self._running = module
        self._begins()

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args, output
        if module is self._running:
            self._running = None


def in_backward() -> bool:
    """Whether autograd is at work in this thread, as when a checkpointed layer runs again."""
    return torch._C._current_graph_task_id() != -1


def _outside_layers(name: str) -> list[str]:
    """The modules around the layer that a module lies in, but for the model itself.

    Example:
        >>> _outside_layers("bert.encoder.layer.0.output.dense")
        ['bert', 'bert.encoder', 'bert.encoder.layer']
    """
    *around, _ = name.split(".")
    parts = takewhile(lambda part: not part.isdigit(), around)
    return list(accumulate(parts, lambda front, part: f"{front}.{part}"))
