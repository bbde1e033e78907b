"""Notice when a model, or a part of it that is called by itself, begins to run."""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.errors import PruningError
from headcount.gates.attach import Gates
from headcount.gates.hooks import Hooks
from headcount.units.table import UnitTable

_autograd: Any = cast(Any, torch._C)._autograd

Begin = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Tensor]
"""Called with a module and its arguments when a pass begins; hands out the gates."""

HELD = "headcount"
"""Key under which a node of autograd's graph holds the passes it is a part of."""


class Passes(Hooks):
    """Sets the gates once for each forward pass, of the model or of a part called by itself.

    ``generate`` calls the encoder before the model itself, a model of two towers is asked for the
    features of one, and some wrappers call the inner model alone. Of what runs inside another, only
    the outermost counts.

    Gates belong to their pass. With gradient checkpointing, layers run again in the backward pass;
    other passes may have come between. A layer that runs again gets the gates of the pass whose
    gradient is being calculated.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> units = hc.units(model, "head")
        >>> gates = Gates(model, units)
        >>> def begin(module, args, kwargs):
        ...     print("begins")
        ...     return torch.ones(12)
        >>> passes = Passes(model, units, gates, begin)
        >>> _ = model(torch.tensor([[1, 2]]))
        begins
        >>> _ = model.encoder(torch.zeros(1, 2, 768))
        begins
        >>> passes.remove()
    """

    def __init__(
        self,
        model: nn.Module,
        units: UnitTable,
        gates: Gates,
        begin: Begin,
        end: Callable[[Any], None] = lambda output: None,
    ) -> None:
        """Attach.

        Args:
            model: the model.
            units: its units; the parts that hold them are found by their names.
            gates: the gates of the units, which are attached already.
            begin: the gates of a new pass, [N] or [B, N]; called before each with the module that
                is called, its arguments and its named arguments. It may run the module: gates are
                open meanwhile, and what runs is no pass.
            end: called after each pass with its output; with None if it failed.
        """
        self._model, self._gates = model, gates
        # Choosing is no part of a compiled model.
        self._begin = cast(Begin, torch.compiler.disable(begin))
        self._end = end
        self._preparing = False
        self._modules = {name: model.get_submodule(name) for name in _parts(units)}
        self._running: nn.Module | None = None
        self._current: Pass | None = None
        self._before_again: Tensor | None = None
        self._known: list[weakref.ref[Pass]] = []
        super().__init__()

    def _hooks(self) -> Iterator[RemovableHandle]:
        self._running = None
        for module in self._modules.values():  # first of all, for some are gated themselves
            yield module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
            yield module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._preparing:
            return
        if self._running is None or (module is self._model and not in_backward()):
            self._enter(module, args, kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._preparing:
            return
        if module is self._running:
            self._leave(output)  # pyright: ignore[reportAttributeAccessIssue]
        elif self._current is not None and not torch.compiler.is_compiling():
            self._current.hold(output)

    @torch.compiler.disable  # choosing is no part of a compiled model
    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if vars(module).get("_is_replica", False):
            raise PruningError(
                "gates: the model runs as a replica of nn.DataParallel, whose copies would draw "
                "gates of their own. Start one process a device with torchrun."
            )
        self._running = module
        found = self._differentiated() if in_backward() else None
        if found is not None:
            self._before_again = self._gates.value
            self._current, self._gates.value = found, found.again()
            return
        self._gates.value, self._preparing = None, True
        try:
            with _plainly_saved():
                value = self._begin(module, args, kwargs)
        finally:
            self._preparing = False
        self._current = Pass(value)
        self._gates.value = value
        alive = [known for known in self._known if known() is not None]
        self._known = [*alive, weakref.ref(self._current)]

    @torch.compiler.disable
    def _leave(self, output: Any) -> None:
        self._running = None
        if self._current is not None:
            self._current.hold(output)
            self._current.end()
        self._end(output)
        if self._before_again is not None:
            self._gates.value, self._before_again = self._before_again, None

    def _differentiated(self) -> "Pass | None":
        """The pass that the node belongs to at which autograd is at work."""
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        alive = (known() for known in reversed(self._known))
        return next((one for one in alive if one is not None and one.has_made(number)), None)


class Pass:
    """One forward pass: its gates, and which nodes of autograd's graph were made in it.

    Autograd numbers the nodes that a thread makes. A layer that runs again does so for a node that
    is looked up by its number.
    """

    def __init__(self, value: Tensor) -> None:
        """Begins now, with these gates, [N] or [B, N]."""
        self._value = value
        self._made: list[tuple[int, int]] = []
        self._first, self._thread = _autograd._get_sequence_nr(), threading.get_ident()
        self._grad: Tensor | None = None

    def end(self) -> None:
        """The pass, or a layer of it that ran again, has come to its end."""
        if threading.get_ident() == self._thread:
            self._made.append((self._first, _autograd._get_sequence_nr()))

    def has_made(self, number: int) -> bool:
        """Whether the node of this number was made in the pass."""
        return any(first <= number < end for first, end in self._made)

    def hold(self, output: Any) -> None:
        """Live as long as the graph of an output, for so long layers may run again."""
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                passes: list[Pass] = cast(Any, tensor.grad_fn).metadata.setdefault(HELD, [])
                if self not in passes:
                    passes.append(self)

    def again(self) -> Tensor:
        """The same gates for a layer that runs again, apart from their graph.

        Some checkpointing calculates the layer's gradient by a backward pass of its own. What
        arrives at the gates is summed, and handed on once, when the whole backward pass is over:
        each of their own graphs can be gone through only once.
        """
        self._first = _autograd._get_sequence_nr()
        leaf = self._value.detach()
        if self._value.requires_grad:
            leaf.requires_grad_()
            leaf.register_post_accumulate_grad_hook(self._collect)
            torch.autograd.Variable._execution_engine.queue_callback(self._hand_on)
        return leaf

    def _collect(self, leaf: Tensor) -> None:
        grad, leaf.grad = leaf.grad, None
        if grad is not None:
            self._grad = grad if self._grad is None else self._grad + grad

    def _hand_on(self) -> None:
        grad, self._grad = self._grad, None
        if grad is not None:
            self._value.backward(grad, retain_graph=True)


def in_backward() -> bool:
    """Whether autograd is at work in this thread, as when a checkpointed layer runs again."""
    return torch._C._current_graph_task_id() != -1


def _plainly_saved() -> AbstractContextManager[Any]:
    """Keep the tensors of a draw out of the hooks for saved tensors.

    Where a whole model is checkpointed, the draw is inside of what runs again, but is not repeated;
    checkpointing counts the tensors that are saved.
    """
    if _autograd._top_saved_tensors_default_hooks(False) is None:
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_same, _same)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _tensors(output: Any) -> Iterable[Tensor]:
    """The tensors of a module's output."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)


def _parts(units: UnitTable) -> list[str]:
    """The gated modules, and those around two or more of them.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> _parts(hc.units(model, "head"))[:3]
        ['', 'encoder', 'encoder.layer']
    """
    gates = {site.gate for site in units.sites}
    within = Counter(around for gate in gates for around in _around(gate))
    return sorted({"", *gates, *(name for name, num in within.items() if num > 1)})


def _around(name: str) -> list[str]:
    """A module's name, and the names of those around it.

    Example:
        >>> _around("encoder.layer.0")
        ['encoder', 'encoder.layer', 'encoder.layer.0']
    """
    return list(accumulate(name.split("."), lambda front, part: f"{front}.{part}"))
