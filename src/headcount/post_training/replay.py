"""Run a model up to some module again and again, without computing earlier layers anew."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

Call = tuple[tuple[Any, ...], Any]
"""The arguments and the output of one call of a module."""


class Reached(Exception):  # noqa: N818 - it ends a forward pass and is no error
    """Ends a forward pass early: all modules asked for have been called.

    Example:
        >>> issubclass(Reached, Exception)
        True
    """


def finishing_order(
    model: nn.Module, batch: Mapping[str, Any], names: Sequence[str]
) -> tuple[str, ...]:
    """The order in which modules finish in a forward pass, with an entry for each call.

    Args:
        model: the model.
        batch: keyword arguments of the model.
        names: qualified names of the modules.

    Example:
        >>> pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> finishing_order(pair, {"input": torch.ones(2)}, ["1", "0"])
        ('0', '1')
    """
    seen: list[str] = []
    with ExitStack() as hooks, torch.no_grad():
        for name in dict.fromkeys(names):
            hook = model.get_submodule(name).register_forward_hook(
                lambda *_, name=name: seen.append(name)
            )
            hooks.callback(hook.remove)
        model(**batch)
    return tuple(seen)


class Replay:
    """Inputs and outputs of modules, batch by batch, in the order of the model.

    A pass ends as soon as the modules asked for have been called. Earlier layers are not computed
    again: they return their outputs of an earlier pass, which are held in memory, one for each
    batch. So going through all modules costs a few passes through the model, not one for each
    module.

    Ask for modules in the model's order; with ``steady``, for each of them once. Between calls, the
    model (its gates, say) may change only at the module asked for last or behind it: outputs of
    layers before it are not renewed.

    Example:
        >>> import transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2)).eval()
        >>> batches = [{"input_ids": torch.tensor([[1, 2, 3]])}]
        >>> name, layers = "encoder.layer.1.output.dense", ["encoder.layer.0", "encoder.layer.1"]
        >>> order = finishing_order(model, batches[0], [name, *layers])
        >>> [((x, ), y)] = Replay(model, batches, order, layers).calls(0, name)[name]
        >>> x.shape, y.shape
        (torch.Size([1, 3, 3072]), torch.Size([1, 3, 768]))
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Mapping[str, Any]],
        order: Sequence[str],
        layers: Sequence[str],
        *,
        steady: bool = False,
    ) -> None:
        """Start without outputs.

        Args:
            model: the model, in evaluation mode.
            batches: keyword arguments of the model.
            order: the modules that will be asked for, and the layers; see ``finishing_order``.
            layers: layers in ``order``, whose outputs may be held. A layer that is called more
                than once is always computed.
            steady: whether the model never changes. Then the pass for the last module of a layer
                goes on to the end of the layer, which saves a pass for the layer's output.
        """
        self._steady = steady
        self._model, self._batches, self._order = model, batches, tuple(order)
        self._num_calls = Counter(order)
        self._layers = {name for name in layers if self._num_calls[name] == 1}
        self._held: list[dict[str, Any]] = [{} for _ in batches]
        self._done: list[list[str]] = [[] for _ in batches]

    def calls(self, index: int, *names: str) -> dict[str, list[Call]]:
        """All calls of modules in batch ``index``; each name must be in ``order``."""
        first = min(self._order.index(name) for name in names)
        before = [name for name in self._order[:first] if name in self._layers]
        # Layers before the modules are final by now: one pass holds the outputs that are missing.
        new = before[len(self._done[index]) :]
        if new:
            self._hold(index, self._run(index, new))
        if not self._steady:
            return self._run(index, names)
        # In a steady model the layer's output is final by now, so the same pass can fetch it.
        last = max(place for place, name in enumerate(self._order) if name in names)
        following = [name for name in self._order[last + 1 : last + 2] if name in self._layers]
        asked = list(dict.fromkeys([*names, *following]))
        seen = self._run(index, asked)
        for layer in self._layers.intersection(asked):
            # A held layer does not call its modules: hold it only if none is still to be asked for.
            if {*asked} >= {*self._order[first : self._order.index(layer)]}:
                self._hold(index, {layer: seen[layer]})
        return seen

    def _hold(self, index: int, seen: Mapping[str, list[Call]]) -> None:
        for layer in sorted(seen, key=self._order.index):
            [(_, output)] = seen[layer]
            self._held[index][_list_of(layer)] = output
            self._done[index].append(layer)

    def _run(self, index: int, names: Sequence[str]) -> dict[str, list[Call]]:
        seen: dict[str, list[Call]] = {name: [] for name in names}

        def note(name: str, args: tuple[Any, ...], output: Any) -> None:
            seen[name].append((args, _copy(output)))
            if all(len(calls) == self._num_calls[key] for key, calls in seen.items()):
                raise Reached

        with ExitStack() as hooks, torch.no_grad(), self._left_out(index):
            for name in seen:
                hook = self._model.get_submodule(name).register_forward_hook(
                    lambda _, args, output, name=name: note(name, args, output)
                )
                hooks.callback(hook.remove)
            with suppress(Reached):
                self._model(**self._batches[index])
        return seen

    @contextmanager
    def _left_out(self, index: int) -> Iterator[None]:
        """Skip the layers that are done: each returns the last output of its list of layers.

        Every one returns the same, so the next layer gets its input, and only one output is held.
        """
        modules = {name: vars(self._model.get_submodule(name)) for name in self._done[index]}
        own = {name: values.get("forward") for name, values in modules.items()}
        for name, values in modules.items():
            output = self._held[index][_list_of(name)]
            values["forward"] = lambda *_, output=output, **__: _copy(output)
        try:
            yield
        finally:
            for name, values in modules.items():
                del values["forward"]
                if own[name] is not None:  # others (accelerate, say) replace it too
                    values["forward"] = own[name]


def _list_of(layer: str) -> str:
    return layer.rpartition(".")[0]


def _copy(output: Any) -> Any:
    """A copy of an output: code may change its tensors in place."""
    if isinstance(output, tuple):
        return tuple(_copy(value) for value in output)
    return output.clone() if isinstance(output, Tensor) else output
