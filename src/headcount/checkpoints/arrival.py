"""Do something to a module of somebody else's as soon as it is imported, and not before.

A module that is there already is changed at once. For one that is not, a finder stands first on
``sys.meta_path``: it lets the others find the module, and wraps the loader that they give, so that
the change follows the module's own code. A module that is being imported at this moment is past its
finder; then its specification says when that is over.

The finder stays where it is. To take it from the list while another thread goes through the list
would make that thread skip a finder; and a module that is reloaded has new classes, which need the
change again.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


def when_imported(name: str, holds: str, change: Change) -> None:
    """Change a module now if it is imported, else as soon as it is, and after each reload.

    Args:
        name: the full name of the module.
        holds: a name in it that the change is about. Without it, the module is not ready.
        change: gets the module; is called again for one that was changed before.

    Example:
        >>> seen = []
        >>> when_imported("json", "loads", lambda module: seen.append(module.__name__))
        >>> seen
        ['json']
    """
    finder = _finder()
    finder.wanted[name] = (holds, change)
    finder.waiting.add(name)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if _is_running(spec) and type(spec) is ModuleSpec:
        spec.__class__ = _Begun
    finder.look(name)  # after that: it may have ended just now, in another thread


class _Finder(MetaPathFinder):
    """First of the finders; finds nothing by itself."""

    def __init__(self) -> None:
        self.wanted: dict[str, tuple[str, Change]] = {}
        self.waiting: set[str] = set()
        """The modules that have not been changed yet."""
        self._asking = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders behind this one find, of the modules that are to be changed."""
        for name in tuple(self.waiting):  # one may have got past this finder, in another thread
            self.look(name)
        asked: set[str] = vars(self._asking).setdefault("names", set())
        if fullname not in self.wanted or fullname in asked:
            return None
        asked.add(fullname)  # others may ask all finders in their turn
        try:
            spec = self._found_behind(fullname, path, target)
        finally:
            asked.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changing(spec.loader, self)
        return spec

    def _found_behind(self, *asked: Any) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else finders
        ways = (getattr(finder, "find_spec", None) for finder in behind)
        found = (find(*asked) for find in ways if find is not None)
        return next((spec for spec in found if spec is not None), None)

    def look(self, name: str) -> None:
        """Change a module if it is there and its code has run."""
        module = sys.modules.get(name)
        if module is not None and not _is_running(module.__spec__):
            self.change(module, name)

    def change(self, module: ModuleType, name: str) -> None:
        """Change a module if it has what the change is about."""
        holds, change = self.wanted[name]
        if holds in vars(module):
            self.waiting.discard(name)  # before: the change itself may import, and come here
            change(module)

    def invalidate_caches(self) -> None:
        """There are none."""


def _is_running(spec: object) -> bool:
    """Whether a module's code is running, as Python's import system notes it."""
    return bool(getattr(spec, "_initializing", False))


def _finder() -> _Finder:
    """The finder on ``sys.meta_path``; also that of an earlier import of this module."""
    for finder in sys.meta_path:
        kind = type(finder)
        if (kind.__module__, kind.__qualname__) == (__name__, _Finder.__qualname__):
            return finder  # pyright: ignore[reportReturnType]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder


class _Changing(Loader):
    """A loader with a change behind it. When the module's code runs, it has given way already."""

    def __init__(self, stock: Loader, finder: _Finder) -> None:
        self._stock, self._finder = stock, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the stock loader does it."""
        return self._stock.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then change the module."""
        spec, values = vars(module).get("__spec__"), vars(module)
        if spec is not None and spec.loader is self:
            spec.loader = self._stock
        if values.get("__loader__") is self:
            values["__loader__"] = self._stock
        self._stock.exec_module(module)
        self._finder.change(module, module.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_stock"], name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._stock,)


def _itself(loader: Loader) -> Loader:
    return loader


class _Begun(ModuleSpec):
    """The specification of a module whose code runs already: it is told when that is over."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_initializing" and not value:
            setattr(self, "__class__", ModuleSpec)
            _finder().look(self.name)
