"""Hooks on a live model that can be removed and put back."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.hooks import RemovableHandle


class Hooks(abc.ABC):
    """A set of hooks that are added and removed together."""

    def __init__(self) -> None:
        """Add the hooks. A subclass first sets the attributes that ``_hooks`` reads."""
        self._handles: list[RemovableHandle] = []
        self._attach()

    @abc.abstractmethod
    def _hooks(self) -> Iterator[RemovableHandle]:
        """Add the hooks to the model, and yield the handle of each."""

    def remove(self) -> None:
        """Remove the hooks from the model."""
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
        """Remove the hooks for a while; hooks that were off before stay off."""
        before = self.attached
        self.remove()
        try:
            yield
        finally:
            if before:
                self._attach()

    def _attach(self) -> None:
        # One by one, so that remove() finds all hooks that were added before an error.
        for handle in self._hooks():
            self._handles.append(handle)
        forget_compiled()


def forget_compiled() -> None:
    """Forget all compiled code, so that it is compiled anew with the present hooks and sizes.

    Compiled code contains the hooks and does not check them again. A model does not know whether it
    was compiled. So everything that this process has compiled is forgotten.
    """
    torch.compiler.reset()
