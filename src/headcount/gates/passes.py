"""Detect the forward passes of a model, or of a part that is called alone, and set their gates."""

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
"""Takes the module that is called and its arguments, and returns the gates of the new pass."""

HELD = "headcount"
"""Key in a graph node's metadata, for the passes that must live as long as the node."""


class Passes(Hooks):
    """Sets the gates once for each forward pass, of the model or of a part called alone.

    Parts are called alone in several cases: ``generate`` calls the encoder before the model itself,
    a model of two towers may compute the features of one, and some wrappers call the inner model.
    If one part runs inside another, only the outermost begins a pass.

    Gates belong to their pass. With gradient checkpointing, layers run again in the backward pass,
    perhaps after other passes. A layer that runs again gets the gates of the pass whose gradient is
    being computed.

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
        """Attach the hooks.

        Args:
            model: the model.
            units: its units; the parts with units are found by the names of their modules.
            gates: the gates of the units, which are attached already.
            begin: called before each pass with the module that is called, its arguments and its
                named arguments; returns the gates of the pass, [N] or [B, N]. It may run the module
                itself: that run is not a pass, and its gates are open.
            end: called after each pass with its output, or with None if the pass failed.
        """
        self._model, self._gates = model, gates
        # Compiled code does not contain the choice of gates.
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
        # Before all other hooks: some of these modules have a gate, which needs its value by then.
        for module in self._modules.values():
            yield module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
            yield module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._preparing:
            return
        # A module inside a running one begins no pass. The model itself always does, even if an
        # earlier pass was interrupted and left something in _running.
        if self._running is None or (module is self._model and not in_backward()):
            self._enter(module, args, kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._preparing:
            return
        if module is self._running:
            self._leave(output)  # pyright: ignore[reportAttributeAccessIssue]
        elif self._current is not None and not torch.compiler.is_compiling():
            self._current.hold(output)

    @torch.compiler.disable
    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if vars(module).get("_is_replica", False):
            raise PruningError(
                "gates: the model runs as a replica of nn.DataParallel, whose copies would draw "
                "gates of their own. Start one process a device with torchrun."
            )
        self._running = module
        # In a backward pass, a module runs only because checkpointing runs a layer again.
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
        """The pass that made the graph node whose gradient autograd is computing."""
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        alive = (known() for known in reversed(self._known))
        return next((one for one in alive if one is not None and one.has_made(number)), None)


class Pass:
    """One forward pass: its gates, and which nodes of autograd's graph were made in it.

    Autograd numbers the nodes that a thread makes, so the nodes of a pass are a range of numbers.
    When a layer runs again for the gradient of a node, the node's number tells the pass.
    """

    def __init__(self, value: Tensor) -> None:
        """Begin a pass now, with these gates, [N] or [B, N]."""
        self._value = value
        self._made: list[tuple[int, int]] = []
        self._first, self._thread = _autograd._get_sequence_nr(), threading.get_ident()
        self._grad: Tensor | None = None

    def end(self) -> None:
        """Note the end of the pass, or of a layer of it that ran again."""
        if threading.get_ident() == self._thread:
            self._made.append((self._first, _autograd._get_sequence_nr()))

    def has_made(self, number: int) -> bool:
        """Whether the node of this number was made in the pass."""
        return any(first <= number < end for first, end in self._made)

    def hold(self, output: Any) -> None:
        """Keep the pass alive as long as an output's graph: layers may run again until then."""
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                passes: list[Pass] = cast(Any, tensor.grad_fn).metadata.setdefault(HELD, [])
                if self not in passes:
                    passes.append(self)

    def again(self) -> Tensor:
        """The same gates for a layer that runs again, detached from their graph.

        With ``use_reentrant=True``, checkpointing computes a layer's gradient in a backward pass of
        its own, one for each layer. But the graph behind the gates can be traversed only once. So
        the gradients that arrive at the gates are summed, and passed on at the end of the whole
        backward pass.
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
    """Whether a backward pass runs in this thread, as when a checkpointed layer runs again."""
    return torch._C._current_graph_task_id() != -1


def _plainly_saved() -> AbstractContextManager[Any]:
    """Hide the tensors of a draw from the hooks for saved tensors.

    If a whole model is checkpointed, the gates are drawn within the first run, but not within the
    second. Checkpointing compares the tensors that are saved in both, and would raise an error.
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
    """The names of the modules that may begin a pass: gated ones, and those around two or more.

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
    """The names of the modules around a module, from the outermost, and its own name.

    Example:
        >>> _around("encoder.layer.0")
        ['encoder', 'encoder.layer', 'encoder.layer.0']
    """
    return list(accumulate(name.split("."), lambda front, part: f"{front}.{part}"))
