"""Hooks on a live model that can be taken off again, and put back."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


class Hooks(abc.ABC):
    """A set of hooks that come and go together."""

    def __init__(self) -> None:
        """Put them on; what they need has to be there already."""
        self._handles = [*self._attached()]

    @abc.abstractmethod
    def _attached(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one after the other."""

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Without the hooks for a while."""
        self.remove()
        try:
            yield
        finally:
            self._handles = [*self._attached()]
