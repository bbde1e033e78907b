"""Hooks on a live model that can be taken off again, and put back."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.hooks import RemovableHandle


class Hooks(abc.ABC):
    """A set of hooks that come and go together."""

    def __init__(self) -> None:
        """Put them on; what they need has to be there already."""
        self._handles: list[RemovableHandle] = []
        self._attach()

    @abc.abstractmethod
    def _hooks(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one after the other."""

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        forget_compiled()

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the model."""
        return bool(self._handles)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Without the hooks for a while; those that were off before stay off."""
        before = self.attached
        self.remove()
        try:
            yield
        finally:
            if before:
                self._attach()

    def _attach(self) -> None:
        for handle in self._hooks():
            self._handles.append(handle)  # one by one: an error halfway leaves none unknown
        forget_compiled()


def forget_compiled() -> None:
    """Have compiled code compiled anew, because it has hooks and sizes written into it.

    Whether a module has hooks, compiled code does not ask again; and a model does not know that it
    was compiled. So all that this process has compiled is forgotten.
    """
    torch.compiler.reset()
